#ifndef CONCORDAT_COMMON_PROCESS_H_
#define CONCORDAT_COMMON_PROCESS_H_

#include "common/status.h"

namespace concordat {

/// For a process that holds keys or records: no core dumps, not readable through /proc by others of the same
/// user (PR_SET_DUMPABLE 0), files created without group and world bits.
Status HardenProcess();

/// The exit code of a daemon, the same for all: 0 for OK; 2 for InvalidArgument and NotFound, which its
/// files, folders and keys give; 3 for PermissionDenied, which the charter or a policy gives; 1 for the rest.
int DaemonExitCode(const Status& status);

/// What came of opening or checking a file or folder of this node's own: PermissionDenied, by the system or
/// for a mode that lets others read a key, becomes InvalidArgument. No border rule has refused anything.
Status OfOwnFile(const Status& status);
template <typename T>
StatusOr<T> OfOwnFile(StatusOr<T> read) {
  if (read.ok()) return read;
  return OfOwnFile(read.status());
}

/// As many open files as the system lets this process have: a hundred sites come with five connections each.
/// A limit that cannot be raised stays.
void RaiseFileLimit();

}  // namespace concordat

#endif  // CONCORDAT_COMMON_PROCESS_H_
