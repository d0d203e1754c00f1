#ifndef CONCORDAT_WORKER_SANDBOX_SYSTEM_CALLS_H_
#define CONCORDAT_WORKER_SANDBOX_SYSTEM_CALLS_H_

#include "common/status.h"

namespace concordat::sandbox {

/// Leaves this process (and all threads made afterwards) a closed list of system calls for good: memory,
/// threads of its own, clocks, randomness, reading and writing files (which ones: Landlock), messages over
/// what it inherited. What can be turned against others is let through only with harmless arguments:
///   tgkill          to itself (abort needs it);
///   prlimit64       to read its own limits;
///   clone           for threads, in no new namespace;
///   sched_setaffinity of the calling thread;
///   prctl           names and questions; not the signal that ends it with its parent, not dumpability;
///   fcntl, ioctl    no signals to others (F_SETOWN, FIOSETOWN, leases), no attributes of files;
///   open            no O_TRUNC on a file opened for reading, which an old Landlock does not see;
///   sendto          without an address.
/// Known ways out answer EPERM; everything else, also calls that are newer than this list, answers ENOSYS, on
/// which the C library falls back to what it did before. Nothing ends the process but a foreign
/// architecture's calls. \param accelerator lets the commands of NVIDIA's device files through ioctl \return
/// Internal when the kernel or the library refuses. Call it while the process has one thread, and
///   after no_new_privs.
Status ApplySystemCallFilter(bool accelerator);

}  // namespace concordat::sandbox

#endif  // CONCORDAT_WORKER_SANDBOX_SYSTEM_CALLS_H_
