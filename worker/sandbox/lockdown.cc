#include "worker/sandbox/lockdown.h"

#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "common/files.h"
#include "worker/sandbox/system_calls.h"

namespace concordat::sandbox {
namespace {

// Debian 12's headers know Landlock up to ABI 2; the numbers below are of the kernel's stable interface.
struct RulesetAttributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;  // ABI 4
  uint64_t scoped;              // ABI 6
};
constexpr uint64_t kFsTruncate = uint64_t{1} << 14;  // ABI 3
constexpr uint64_t kFsIoctlDev = uint64_t{1} << 15;  // ABI 5
constexpr uint64_t kNetAll = 3;                      // bind and connect TCP
constexpr uint64_t kScopeAll = 3;                    // abstract unix sockets, signals
constexpr uint64_t kFsAbi1 = (uint64_t{1} << 13) - 1;
constexpr uint64_t kFsRefer = uint64_t{1} << 13;  // ABI 2
constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kReadFolder = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

long CreateRuleset(const RulesetAttributes* attributes, size_t size, uint32_t flags) {
  return ::syscall(SYS_landlock_create_ruleset, attributes, size, flags);
}

Status AllowBelow(int ruleset, const std::filesystem::path& path, uint64_t folder_access,
                  uint64_t file_access) {
  const FileDescriptor fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid()) return errno == ENOENT ? OkStatus() : ErrnoStatus(errno, "cannot open", path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "cannot stat", path);
  const landlock_path_beneath_attr rule{.allowed_access = S_ISDIR(info.st_mode) ? folder_access : file_access,
                                        .parent_fd = fd.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return ErrnoStatus(errno, "Landlock refuses a rule for", path);
  }
  return OkStatus();
}

/// True when enforced, false when the kernel has no Landlock.
StatusOr<bool> ApplyLandlock(const LockdownPaths& paths) {
  const long abi = CreateRuleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) return false;
  uint64_t handled = kFsAbi1;
  if (abi >= 2) handled |= kFsRefer;
  if (abi >= 3) handled |= kFsTruncate;
  if (abi >= 5) handled |= kFsIoctlDev;
  const RulesetAttributes attributes{handled, abi >= 4 ? kNetAll : 0, abi >= 6 ? kScopeAll : 0};
  const size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const FileDescriptor ruleset(static_cast<int>(CreateRuleset(&attributes, size, 0)));
  if (!ruleset.valid()) return ErrnoStatus(errno, "Landlock refuses the ruleset", "");
  for (const auto& path : paths.read_only)
    RETURN_IF_ERROR(AllowBelow(ruleset.get(), path, kReadFolder, kReadFile));
  const uint64_t file_write =
      handled & (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | kFsTruncate | kFsIoctlDev);
  const uint64_t folder_write = handled & ~uint64_t{LANDLOCK_ACCESS_FS_EXECUTE};
  for (const auto& path : paths.read_write) {
    RETURN_IF_ERROR(AllowBelow(ruleset.get(), path, folder_write, file_write));
  }
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return ErrnoStatus(errno, "Landlock cannot restrict this process", "");
  }
  return true;
}

/// Gives up every capability, as root too: file modes, other people's files, the machine's name and clock are
/// then as far away as for anybody. The bounding set can be emptied only by one who has a right to it, and
/// matters only at the start of a program, which is refused anyway.
Status DropCapabilities() {
  for (unsigned long capability = 0; capability < 64; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) break;  // EINVAL: past the last, EPERM: no right
  }
  (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return ErrnoStatus(errno, "cannot give up capabilities", "");
  return OkStatus();
}

}  // namespace

StatusOr<Ready::Lockdown> LockDown(const LockdownPaths& paths) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return ErrnoStatus(errno, "cannot give up new privileges", "");
  ASSIGN_OR_RETURN(const bool landlock, ApplyLandlock(paths));
  RETURN_IF_ERROR(DropCapabilities());
  if (::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) return Ready::Lockdown::kNone;
  RETURN_IF_ERROR(ApplySystemCallFilter(paths.accelerator));
  return landlock ? Ready::Lockdown::kFull : Ready::Lockdown::kSeccompOnly;
}

std::vector<std::filesystem::path> RuntimePaths() {
  std::set<std::filesystem::path> folders = {"/etc/ld.so.cache",
                                             "/proc/cpuinfo",
                                             "/proc/meminfo",
                                             "/proc/self/maps",
                                             "/proc/self/status",
                                             "/proc/self/stat",
                                             "/proc/self/statm",
                                             "/proc/self/cgroup",
                                             "/proc/self/mountinfo",
                                             "/proc/self/task",
                                             "/sys/devices/system",
                                             "/usr/lib",
                                             "/lib",
                                             "/usr/share/zoneinfo",
                                             "/proc/sys/vm",
                                             "/sys/fs/cgroup",
                                             "/dev/urandom",
                                             "/sys/kernel/mm"};
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        const std::filesystem::path path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
        // A library that lies in "/" must not open the whole machine.
        if (path.is_absolute() && path.parent_path() != path.root_path())
          static_cast<std::set<std::filesystem::path>*>(out)->insert(path.parent_path());
        return 0;
      },
      &folders);
  return {folders.begin(), folders.end()};
}

}  // namespace concordat::sandbox
