#ifndef CONCORDAT_WORKER_SANDBOX_LOCKDOWN_H_
#define CONCORDAT_WORKER_SANDBOX_LOCKDOWN_H_

#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"
#include "worker/sandbox/channel.h"

namespace concordat::sandbox {

/// What the trainer may still reach once it is locked down.
struct LockdownPaths {
  std::vector<std::filesystem::path> read_only;   // files or folders: model, dataset, libraries, /proc, /sys
  std::vector<std::filesystem::path> read_write;  // scratch folder, /dev/nvidia* on a GPU
  bool accelerator = false;                       // the commands of NVIDIA's device files too
};

/// Locks this process (all threads made afterwards) down for good:
///   no new privileges (prctl);
///   Landlock (kernel 5.13 and newer, docs: Documentation/userspace-api/landlock.rst): file access only below
///     `paths`, no TCP bind or connect (ABI 4), no abstract unix sockets or signals outward (ABI 6);
///   capabilities: none is left, also of a process of root: model and data must be readable without them;
///   seccomp: the closed list of worker/sandbox/system_calls.h. What was inherited stays usable.
/// Call it while the process has one thread. Paths that do not exist are left out.
/// \return how much the kernel enforces: kFull, kSeccompOnly when it has no Landlock, kNone when neither.
///   Capabilities go in each case. Internal when a part that the kernel claims to have fails.
/// Does not protect against: a flaw of the kernel, reading files that were opened before, timing channels,
/// what the worker itself lets through the socketpair.
StatusOr<Ready::Lockdown> LockDown(const LockdownPaths& paths);

/// Folders from which this process's libraries were loaded, and what a numeric program reads about its
/// machine.
std::vector<std::filesystem::path> RuntimePaths();

}  // namespace concordat::sandbox

#endif  // CONCORDAT_WORKER_SANDBOX_LOCKDOWN_H_
