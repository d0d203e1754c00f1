#include "worker/sandbox/lockdown.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <thread>

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

TEST_F(LockdownTest, ThreadsAndMemoryFilesStillWork) {
  EXPECT_TRUE(InLockdown(paths_, [] {
    bool ran = false;
    std::thread([&] { ran = true; }).join();
    return ran && ::memfd_create("delta", MFD_ALLOW_SEALING) >= 0;
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
