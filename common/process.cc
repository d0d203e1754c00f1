#include "common/process.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>

#include "common/files.h"

namespace concordat {

Status HardenProcess() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) return ErrnoStatus(errno, "cannot turn off core dumps", "");
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return ErrnoStatus(errno, "cannot make the process undumpable", "");
  ::umask(0077);
  return OkStatus();
}

int DaemonExitCode(const Status& status) {
  if (status.ok()) return 0;
  if (status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound) return 2;
  return status.code() == StatusCode::kPermissionDenied ? 3 : 1;
}

Status OfOwnFile(const Status& status) {
  if (status.code() != StatusCode::kPermissionDenied) return status;
  return MakeStatus(StatusCode::kInvalidArgument, Message(status));
}

void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace concordat
