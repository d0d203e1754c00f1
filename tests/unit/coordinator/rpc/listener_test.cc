#include "coordinator/rpc/listener.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <mutex>

#include "tests/support/status_matchers.h"

namespace concordat::coordinator {
namespace {

constexpr int kPatienceMs = 30'000;

/// A client's socket, connected over loopback; not valid when there is no descriptor left.
FileDescriptor Connect(uint16_t port, bool v6 = false) {
  FileDescriptor fd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fd;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 to6{};
  to6.sin6_family = AF_INET6;
  to6.sin6_port = htons(port);
  to6.sin6_addr = in6addr_loopback;
  const int done = v6 ? ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to6), sizeof to6)
                      : ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to);
  EXPECT_EQ(done, 0);
  return fd;
}

/// What the other side says first: a byte, or "" when it closed the connection or is silent for `at_most_ms`.
std::string First(const FileDescriptor& fd, int at_most_ms = kPatienceMs) {
  pollfd wait{fd.get(), POLLIN, 0};
  if (::poll(&wait, 1, at_most_ms) != 1) return "";
  char byte = 0;
  return ::recv(fd.get(), &byte, 1, 0) == 1 ? std::string(1, byte) : "";
}

/// Greets every connection with one byte and keeps it.
class ListenerTest : public ::testing::Test {
 protected:
  void Open(const std::string& address, size_t most_of_one_address = 1000) {
    auto listener = Listener::Open(address, most_of_one_address);
    ASSERT_OK(listener);
    listener_ = std::move(*listener);
    listener_->Start([this](int fd) {
      (void)!::send(fd, "!", 1, MSG_NOSIGNAL);
      const std::lock_guard lock(mutex_);
      taken_.emplace_back(fd);
    });
  }
  void CloseTaken() {
    const std::lock_guard lock(mutex_);
    taken_.clear();
  }
  void TearDown() override {
    if (listener_) listener_->Stop();
  }

  std::unique_ptr<Listener> listener_;
  std::mutex mutex_;
  std::vector<FileDescriptor> taken_;  // guarded by mutex_
};

TEST_F(ListenerTest, HandsConnectionsOnAndSaysWhichPortItGot) {
  Open("127.0.0.1:0");
  ASSERT_NE(listener_->port(), 0);
  EXPECT_EQ(First(Connect(listener_->port())), "!");
}

TEST_F(ListenerTest, TakesIpv6) {
  auto probe = Listener::Open("[::1]:0", 10);
  if (!probe.ok()) GTEST_SKIP() << "no IPv6 here";
  Open("[::1]:0");
  EXPECT_EQ(First(Connect(listener_->port(), true)), "!");
}

TEST_F(ListenerTest, TheAddressOfAllTakesIpv4AsWell) {
  auto probe = Listener::Open("[::]:0", 10);
  if (!probe.ok()) GTEST_SKIP() << "no IPv6 here";
  Open("[::]:0");
  EXPECT_EQ(First(Connect(listener_->port())), "!");
}

TEST_F(ListenerTest, TwoDoNotShareAPort) {
  Open("127.0.0.1:0");
  EXPECT_THAT(Listener::Open(fmt::format("127.0.0.1:{}", listener_->port()), 10),
              concordat::testing::HasStatus(StatusCode::kUnavailable, "cannot listen on 127.0.0.1"));
  EXPECT_THAT(Listener::Open(fmt::format("127.0.0.1:{}", listener_->port()), 10),
              concordat::testing::HasStatus(StatusCode::kUnavailable, "set another port in `listen`"));
}

TEST_F(ListenerTest, RefusesAnAddressOfAnotherForm) {
  for (const char* bad : {"", "127.0.0.1", "127.0.0.1:70000", ":7443", "no host:1"}) {
    EXPECT_FALSE(Listener::Open(bad, 10).ok()) << bad;
  }
}

TEST_F(ListenerTest, OneAddressHasTheMostThatItMayHaveAndOnlyOpenOnesCount) {
  Open("127.0.0.1:0", 3);
  std::vector<FileDescriptor> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Connect(listener_->port()));
    EXPECT_EQ(First(clients.back()), "!");
  }
  EXPECT_EQ(First(Connect(listener_->port())), "") << "the fourth";
  CloseTaken();
  EXPECT_EQ(First(Connect(listener_->port())), "!") << "the three are gone";
}

TEST_F(ListenerTest, GoesOnAfterThereWereNoDescriptorsLeft) {
  Open("127.0.0.1:0");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{std::min<rlim_t>(120, before.rlim_cur), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<FileDescriptor> clients;
  clients.push_back(Connect(listener_->port()));
  EXPECT_EQ(First(clients.front()), "!");
  for (;;) {
    FileDescriptor next = Connect(listener_->port());
    if (!next.valid()) break;
    clients.push_back(std::move(next));
  }
  // Those beyond were closed or wait; nothing of that is for ever.
  clients.clear();
  CloseTaken();
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); ++i) {
    CloseTaken();  // those that had waited
    answer = First(Connect(listener_->port()), 500);
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(answer, "!");
}

TEST_F(ListenerTest, LeavesDescriptorsForFilesHoweverManyConnect) {
  Open("127.0.0.1:0");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{std::min<rlim_t>(120, before.rlim_cur), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  // Each client closes its own end only once the other is served or refused: descriptors are the listener's.
  std::string answer;
  int served = 0;
  do {
    FileDescriptor client = Connect(listener_->port());
    ASSERT_TRUE(client.valid()) << "after " << served;
    answer = First(client);
    served += answer.empty() ? 0 : 1;
  } while (!answer.empty());
  EXPECT_GT(served, 10);
  std::vector<FileDescriptor> files;
  for (int i = 0; i < 20; ++i) {
    files.emplace_back(::dup(0));
    EXPECT_TRUE(files.back().valid()) << i;
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace concordat::coordinator
