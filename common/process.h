#ifndef CONCORDAT_COMMON_PROCESS_H_
#define CONCORDAT_COMMON_PROCESS_H_

#include "common/status.h"

namespace concordat {

/// For a process that holds keys or records: no core dumps, not readable through /proc by others of the same
/// user (PR_SET_DUMPABLE 0), files created without group and world bits.
Status HardenProcess();

/// As many open files as the system lets this process have: a hundred sites come with five connections each.
/// A limit that cannot be raised stays.
void RaiseFileLimit();

}  // namespace concordat

#endif  // CONCORDAT_COMMON_PROCESS_H_
