#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "tests/support/child_process.h"
#include "tests/support/relay/link.h"

// The relay itself, with datagrams.
namespace concordat::testing {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kPort = 4000;

class RelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = Link::Missing(); !missing.empty())
      GTEST_SKIP() << "needs " << missing << ": the relay of tests/links is not tried on this machine";
    NetworkSpace::Enter();
  }

  void Make(const LinkShape& shape, uint64_t seed = 1) {
    Link::Options options;
    options.shape = shape;
    options.seed = seed;
    link_ = std::make_unique<Link>(options);
    near_ = FileDescriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Bind(near_.get(), link_->near_address());
    link_->far().Run([&] {
      far_ = FileDescriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      Bind(far_.get(), link_->far_address());
    });
    const int room = 4 << 20;
    ::setsockopt(near_.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  }

  static sockaddr_in At(const std::string& address) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(kPort);
    ::inet_pton(AF_INET, address.c_str(), &out.sin_addr);
    return out;
  }
  static void Bind(int socket, const std::string& address) {
    const sockaddr_in at = At(address);
    ASSERT_EQ(::bind(socket, reinterpret_cast<const sockaddr*>(&at), sizeof at), 0) << strerror(errno);
  }
  void SendUp(uint32_t number, size_t bytes = 100) {
    std::vector<uint8_t> data(std::max<size_t>(bytes, 4));
    memcpy(data.data(), &number, 4);
    const sockaddr_in to = At(link_->near_address());
    ASSERT_EQ(
        ::sendto(far_.get(), data.data(), data.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to),
        static_cast<ssize_t>(data.size()));
  }
  /// The numbers that arrive until `count` are there or nothing has come for a while.
  std::vector<uint32_t> Arrived(size_t count) {
    const timeval patience{2, 0};
    ::setsockopt(near_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::vector<uint32_t> out;
    std::vector<uint8_t> data(65536);
    while (out.size() < count && ::recv(near_.get(), data.data(), data.size(), 0) >= 4) {
      out.emplace_back();
      memcpy(&out.back(), data.data(), 4);
    }
    return out;
  }

  std::unique_ptr<Link> link_;
  FileDescriptor near_, far_;
};

TEST_F(RelayTest, CarriesPacketsInOrderAndNotBeforeTheirDelay) {
  LinkShape shape;
  shape.delay = 80ms;
  Make(shape);
  const auto began = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < 50; ++i) SendUp(i);
  const auto arrived = Arrived(50);
  EXPECT_GE(std::chrono::steady_clock::now() - began, 80ms);
  ASSERT_EQ(arrived.size(), 50u);
  for (uint32_t i = 0; i < 50; ++i) EXPECT_EQ(arrived[i], i);
  EXPECT_GE(link_->Up().bytes, 50 * 128u);
}

TEST_F(RelayTest, LosesAboutAsManyAsItIsTold) {
  LinkShape shape;
  shape.loss = 0.25;
  Make(shape, 99);
  for (uint32_t i = 0; i < 2000; ++i) SendUp(i);
  const size_t arrived = Arrived(2000).size();
  // Six standard deviations of a binomial: one false alarm in 5e8 seeds.
  EXPECT_NEAR(static_cast<double>(arrived), 1500, 6 * 19.4);
  EXPECT_GE(link_->Up().lost, 2000 - arrived);
}

TEST_F(RelayTest, TheQueueIsBoundedAndTheWireTakesItsTime) {
  LinkShape shape;
  shape.bits_per_second = 800'000;  // 100 kB a second
  shape.queue_bytes = 20'000;
  Make(shape);
  const auto began = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < 100; ++i) SendUp(i, 972);  // 1000 with headers: 100 kB at once
  const size_t arrived = Arrived(100).size();
  EXPECT_GE(arrived, 20u);
  EXPECT_GE(std::chrono::steady_clock::now() - began, 190ms) << "20 packets of 10 ms";
  EXPECT_GT(link_->Up().overflowed, 0u);
  EXPECT_EQ(arrived + link_->Up().overflowed, 100u);
}

TEST_F(RelayTest, NothingPassesWhileItIsCutNotEvenWhatWasUnderWay) {
  LinkShape shape;
  shape.delay = 500ms;
  Make(shape);
  for (uint32_t i = 0; i < 10; ++i) SendUp(i);
  link_->Cut();
  for (uint32_t i = 10; i < 20; ++i) SendUp(i);
  EXPECT_TRUE(Await([&] { return link_->Up().cut + link_->Up().packets >= 20; }));
  link_->Mend();
  SendUp(20);
  const auto arrived = Arrived(21);
  ASSERT_FALSE(arrived.empty());
  EXPECT_EQ(arrived.back(), 20u);
  EXPECT_EQ(link_->Up().cut, 20u) << "those before the cut had 500 ms to go";
}

}  // namespace
}  // namespace concordat::testing
