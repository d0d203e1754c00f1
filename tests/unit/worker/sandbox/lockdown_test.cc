#include "worker/sandbox/lockdown.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

#include "common/random.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::sandbox {
namespace {

using concordat::testing::TempDir;

/// Runs `attempt` in a locked-down child; true when it came back true.
bool InLockdown(const LockdownPaths& paths, const std::function<bool()>& attempt) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto state = LockDown(paths);
    if (!state.ok()) ::_exit(3);
    if (*state != Ready::Lockdown::kFull) ::_exit(4);
    ::_exit(attempt() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "the child was killed";
  EXPECT_LE(WEXITSTATUS(status), 1) << "the lockdown itself failed with " << WEXITSTATUS(status)
                                    << " (this test needs a kernel with Landlock and seccomp)";
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class LockdownTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(dir_ / "data.txt") << "a record";
    std::ofstream(dir_ / "other.txt") << "not for the trainer";
    std::filesystem::create_directory(dir_ / "scratch");
    paths_.read_only = {dir_ / "data.txt"};
    paths_.read_write = {dir_ / "scratch"};
  }
  static bool CanOpen(const std::filesystem::path& path, int flags) {
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
  TempDir dir_;
  LockdownPaths paths_;
};

TEST_F(LockdownTest, ReadsWhatItWasGiven) {
  EXPECT_TRUE(InLockdown(paths_, [&] { return CanOpen(dir_ / "data.txt", O_RDONLY); }));
}

TEST_F(LockdownTest, DoesNotReadTheFileBeside) {
  EXPECT_FALSE(InLockdown(paths_, [&] { return CanOpen(dir_ / "other.txt", O_RDONLY); }));
}

TEST_F(LockdownTest, DoesNotWriteWhatItMayRead) {
  EXPECT_FALSE(InLockdown(paths_, [&] { return CanOpen(dir_ / "data.txt", O_WRONLY); }));
}

TEST_F(LockdownTest, WritesInItsScratchFolderOnly) {
  EXPECT_TRUE(InLockdown(paths_, [&] { return CanOpen(dir_ / "scratch" / "a", O_WRONLY | O_CREAT); }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return CanOpen(dir_ / "a", O_WRONLY | O_CREAT); }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return CanOpen("/tmp/concordat-escape", O_WRONLY | O_CREAT); }));
}

TEST_F(LockdownTest, OpensNoSocketOfAnyFamily) {
  for (int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET}) {
    EXPECT_FALSE(InLockdown(paths_, [&] { return ::socket(family, SOCK_DGRAM, 0) >= 0; }))
        << "family " << family;
  }
}

TEST_F(LockdownTest, CannotConnectASocketThatItInherited) {
  const int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(server, 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(::getsockname(server, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int client = ::socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_FALSE(InLockdown(paths_, [&] {
    return ::connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }));
  ::close(client);
  ::close(server);
}

TEST_F(LockdownTest, KeepsTheSocketpairThatItInherited) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  EXPECT_TRUE(InLockdown(paths_, [&] { return ::send(pair[1], "x", 1, 0) == 1; }));
  char byte = 0;
  EXPECT_EQ(::recv(pair[0], &byte, 1, MSG_DONTWAIT), 1);
  ::close(pair[0]);
  ::close(pair[1]);
}

TEST_F(LockdownTest, StartsNoProgramAndNoProcess) {
  EXPECT_FALSE(InLockdown(paths_, [] { return ::execl("/bin/true", "true", nullptr) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [] {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    return child > 0;
  }));
}

TEST_F(LockdownTest, HasNoIoUringAndNoTracing) {
  EXPECT_FALSE(
      InLockdown(paths_, [] { return ::syscall(SYS_io_uring_setup, 8, nullptr) >= 0 || errno != EPERM; }));
  EXPECT_FALSE(
      InLockdown(paths_, [] { return ::ptrace(PTRACE_ATTACH, ::getppid(), 0, 0) == 0 || errno != EPERM; }));
}

TEST_F(LockdownTest, ANumericProgramsPathsShowTheMachineButNeitherTheNetworkNorOtherPeoplesFiles) {
  paths_.read_only = RuntimePaths();
  EXPECT_TRUE(InLockdown(paths_, [] { return CanOpen("/proc/cpuinfo", O_RDONLY); }));
  EXPECT_FALSE(InLockdown(paths_, [] { return CanOpen("/proc/self/net/tcp", O_RDONLY); }));
  EXPECT_FALSE(InLockdown(paths_, [] { return CanOpen("/proc/1/maps", O_RDONLY); }));
  EXPECT_FALSE(InLockdown(paths_, [] { return CanOpen("/etc/passwd", O_RDONLY); }));
}

TEST_F(LockdownTest, HasNoQueueToOtherProcessesAndNoSignals) {
  EXPECT_FALSE(InLockdown(paths_, [] { return ::syscall(SYS_msgget, 0, 0600) >= 0 || errno != EPERM; }));
  EXPECT_FALSE(
      InLockdown(paths_, [] { return ::syscall(SYS_shmget, 0, 4096, 0600) >= 0 || errno != EPERM; }));
  EXPECT_FALSE(InLockdown(paths_, [] { return ::kill(::getppid(), 0) == 0; }));
}

TEST_F(LockdownTest, ChangesNoModeOwnerAttributeOrTimeOfAFile) {
  // Landlock leaves all of these alone; what counts is that a file outside stays as it is.
  const std::string file = dir_ / "other.txt";
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  const int held = ::open(file.c_str(), O_RDONLY);  // as if inherited
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::chmod(file.c_str(), 0644) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::fchmod(held, 0644) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::fchmodat(AT_FDCWD, file.c_str(), 0644, 0) == 0; }));
  constexpr long kFchmodat2 = 452;  // Linux 6.6
  EXPECT_FALSE(
      InLockdown(paths_, [&] { return ::syscall(kFchmodat2, AT_FDCWD, file.c_str(), 0644, 0) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::chown(file.c_str(), ::getuid(), ::getgid()) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::lchown(file.c_str(), ::getuid(), ::getgid()) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::fchown(held, ::getuid(), ::getgid()) == 0; }));
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::setxattr(file.c_str(), "user.concordat", "x", 1, 0) == 0 || errno != EPERM; }));
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::removexattr(file.c_str(), "user.concordat") == 0 || errno != EPERM; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::utimensat(AT_FDCWD, file.c_str(), nullptr, 0) == 0; }));
  struct stat info {};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ::close(held);
}

TEST_F(LockdownTest, EmptiesNoFileThatItMayOnlyRead) {
  EXPECT_FALSE(InLockdown(paths_, [&] { return CanOpen(dir_ / "data.txt", O_RDONLY | O_TRUNC); }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::truncate((dir_ / "data.txt").c_str(), 0) == 0; }));
  EXPECT_EQ(std::filesystem::file_size(dir_ / "data.txt"), 8u);
  EXPECT_TRUE(
      InLockdown(paths_, [&] { return CanOpen(dir_ / "scratch" / "a", O_WRONLY | O_CREAT | O_TRUNC); }));
}

TEST_F(LockdownTest, ReachesNeitherLimitsNorPriorityNorCoresOfItsWorker) {
  const pid_t worker = ::getpid();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit less{before.rlim_cur, before.rlim_max};
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::syscall(SYS_prlimit64, worker, RLIMIT_NOFILE, &less, nullptr) == 0; }));
  // Also one's own: a limit that the trainer was started with stays.
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::setrlimit(RLIMIT_NOFILE, &less) == 0; }));
  EXPECT_TRUE(InLockdown(paths_, [&] {
    rlimit own{};
    return ::getrlimit(RLIMIT_NOFILE, &own) == 0 && own.rlim_cur == before.rlim_cur;
  }));
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::setpriority(PRIO_PROCESS, worker, ::getpriority(PRIO_PROCESS, 0)) == 0; }));
  cpu_set_t cores;
  ASSERT_EQ(::sched_getaffinity(0, sizeof cores, &cores), 0);
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::sched_setaffinity(worker, sizeof cores, &cores) == 0; }));
  EXPECT_TRUE(InLockdown(paths_, [&] { return ::sched_setaffinity(0, sizeof cores, &cores) == 0; }));
  const sched_param ordinary{};
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::sched_setscheduler(worker, SCHED_OTHER, &ordinary) == 0; }));
}

TEST_F(LockdownTest, SendsNoSignalInAnyWayButToItself) {
  const pid_t worker = ::getpid();
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::syscall(SYS_tgkill, worker, worker, 0) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::syscall(SYS_tkill, worker, 0) == 0; }));
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::syscall(SYS_rt_sigqueueinfo, worker, 0, &info) == 0 || errno != EPERM; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::syscall(SYS_pidfd_open, worker, 0) >= 0; }));
  // A file's owner gets its signals: another way to send one.
  const int file = ::open((dir_ / "scratch" / "a").c_str(), O_RDWR | O_CREAT, 0600);
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::fcntl(file, F_SETOWN, worker) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::fcntl(file, F_SETLEASE, F_RDLCK) == 0; }));
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::ioctl(pair[0], FIOSETOWN, &worker) == 0; }));
  // The kernel takes the lower half of the number only; the filter must not be led astray by the upper one.
  EXPECT_FALSE(InLockdown(
      paths_, [&] { return ::syscall(SYS_ioctl, pair[0], (1ul << 32) | FIOSETOWN, &worker) == 0; }));
  paths_.accelerator = true;
  EXPECT_FALSE(InLockdown(paths_, [&] {
    return ::ioctl(pair[0], FIOSETOWN, &worker) == 0 ||
           ::syscall(SYS_ioctl, pair[0], (1ul << 32) | FIOSETOWN, &worker) == 0;
  }));
  for (const int fd : {file, pair[0], pair[1]}) ::close(fd);
  EXPECT_TRUE(InLockdown(paths_, [] { return ::raise(0) == 0; }));
}

TEST_F(LockdownTest, StaysInItsGroupAndTiedToItsWorker) {
  EXPECT_FALSE(InLockdown(paths_, [] { return ::setpgid(0, 0) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [] { return ::setsid() >= 0; }));
  EXPECT_FALSE(InLockdown(paths_, [] { return ::prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [] { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0; }));
  EXPECT_TRUE(InLockdown(paths_, [] { return ::prctl(PR_SET_NAME, "loader", 0, 0, 0) == 0; }));
}

TEST_F(LockdownTest, HasNoCapabilityEvenAsRootAndLeavesTheMachineAlone) {
  // What a process of root starts with is not a matter of this test: afterwards there is nothing.
  EXPECT_TRUE(InLockdown(paths_, [] {
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capget, &header, have) != 0) return false;
    for (const auto& part : have)
      if ((part.effective | part.permitted | part.inheritable) != 0) return false;
    return true;
  }));
  char name[256] = {};
  ASSERT_EQ(::gethostname(name, sizeof name - 1), 0);
  EXPECT_FALSE(InLockdown(paths_, [&] { return ::sethostname(name, std::strlen(name)) == 0; }));
  EXPECT_FALSE(InLockdown(paths_, [] {
    timex nothing{};
    return ::syscall(SYS_adjtimex, &nothing) >= 0 || errno != EPERM;
  }));
  EXPECT_FALSE(InLockdown(paths_, [] {
    return ::syscall(SYS_reboot, 0, 0, 0, nullptr) >= 0 || errno != EPERM;  // wrong magic: harmless anywhere
  }));
  EXPECT_FALSE(InLockdown(
      paths_, [] { return ::syscall(SYS_kexec_file_load, -1, -1, 0, nullptr, 0) >= 0 || errno != EPERM; }));
}

TEST_F(LockdownTest, ACallThatNobodyKnowsIsNotThereAndEndsNothing) {
  EXPECT_TRUE(InLockdown(paths_, [] { return ::syscall(463, 0, 0, 0, 0) == -1 && errno == ENOSYS; }));
  EXPECT_TRUE(InLockdown(paths_, [] { return ::syscall(SYS_inotify_init1, 0) == -1 && errno == ENOSYS; }));
}

TEST_F(LockdownTest, ThreadsAndMemoryFilesStillWork) {
  EXPECT_TRUE(InLockdown(paths_, [] {
    bool ran = false;
    std::thread([&] { ran = true; }).join();
    return ran && ::memfd_create("delta", MFD_ALLOW_SEALING) >= 0;
  }));
}

// Noise and sampling of DP-SGD come from there; a source that gives nothing ends the process.
TEST_F(LockdownTest, TheOperatingSystemStillGivesRandomBytes) {
  EXPECT_TRUE(InLockdown(paths_, [] {
    OsRandom random;
    const Secret32 one = random.Seed(), other = random.Seed();
    return !(one == Secret32()) && !(one == other);
  }));
}

TEST_F(LockdownTest, HoldsForThreadsMadeAfterwards) {
  EXPECT_FALSE(InLockdown(paths_, [&] {
    bool opened = false;
    std::thread([&] {
      opened = CanOpen(dir_ / "other.txt", O_RDONLY) || ::socket(AF_INET, SOCK_STREAM, 0) >= 0;
    }).join();
    return opened;
  }));
}

}  // namespace
}  // namespace concordat::sandbox
