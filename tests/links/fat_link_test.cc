#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "proto/tls.h"
#include "tests/links/taker.h"
#include "tests/support/federation.h"
#include "tests/support/relay/link.h"
#include "tests/support/status_matchers.h"

// A long fat link: the worker's uploading code in a network of its own, the coordinator's storing code here.
namespace concordat {
namespace {

using namespace std::chrono_literals;
using concordat::testing::After;
using concordat::testing::ChildProcess;
using concordat::testing::Federation;
using concordat::testing::Link;
using concordat::testing::NetworkSpace;
using concordat::testing::Taker;
using concordat::testing::TempDir;

/// What the link carried up in each tenth of a second, from the first large packet on.
class Meter {
 public:
  explicit Meter(const Link& link) : thread_([this, &link] { Run(link); }) {}
  std::vector<uint64_t> End() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return tenths_;
  }
  ~Meter() { End(); }

 private:
  static constexpr uint64_t kUploading = 30'000;  // more than handshakes
  void Run(const Link& link) {
    uint64_t before = 0;
    auto next = std::chrono::steady_clock::now();
    while (!stopping_) {
      std::this_thread::sleep_until(next += 100ms);
      const uint64_t now = link.Up().bytes;
      if (now > kUploading) tenths_.push_back(now - before);
      before = now;
    }
  }

  std::atomic<bool> stopping_{false};
  std::vector<uint64_t> tenths_;
  std::thread thread_;
};

constexpr uint64_t kElements = 80'000'000;
constexpr double kTenth = 6'250'000;  // bytes of 500 Mbit/s in a tenth of a second
constexpr int kTries = 3;

Link MakeLink() {
  Link::Options options;
  options.shape.delay = 50ms;
  options.shape.bits_per_second = 500'000'000;
  options.shape.queue_bytes = 6'250'000;  // what the link holds in one round trip
  options.mtu = 9000;
  if (const char* other = std::getenv("CONCORDAT_LINK_CONGESTION_CONTROL"))
    options.congestion_control = other;
  return Link(options);
}

/// The share of the link that one upload uses from its second second on.
double Use(const Federation& federation, const Link& link) {
  Taker taker(federation, "es.example", 4 * kElements);
  const TempDir folder;
  Meter meter(link);
  const char* other = std::getenv("CONCORDAT_UPLOAD_PROBE");
  ChildProcess::Options probe;
  probe.argv = {other != nullptr ? other : CONCORDAT_UPLOAD_PROBE_PATH,
                fmt::format("{}:{}", link.near_address(), taker.port()),
                federation.root().string(),
                "es.example",
                std::to_string(kElements),
                folder.path().string()};
  probe.error_file = folder / "probe.log";
  probe.read_output = true;
  probe.network = link.far().fd();
  ChildProcess process(probe);
  const auto digest = process.ReadLine(After(std::chrono::seconds(180)));
  const std::vector<uint64_t> tenths = meter.End();
  EXPECT_EQ(process.Wait(), 0) << ReadTextFile(folder / "probe.log").value_or("");
  EXPECT_EQ(digest, taker.DigestOf(0));
  if (tenths.size() <= 30) return 0;
  // The last second is the upload's end, not the link's.
  const auto bytes = std::accumulate(tenths.begin() + 10, tenths.end() - 10, uint64_t{0});
  const double use = static_cast<double>(bytes) / (kTenth * static_cast<double>(tenths.size() - 20));
  std::string shares;
  for (const uint64_t tenth : tenths) shares += fmt::format("{:.2f} ", static_cast<double>(tenth) / kTenth);
  fmt::print("use from the second second on: {:.3f}, {} packets overflowed, in tenths: {}\n{}", use,
             link.Up().overflowed, shares, ReadTextFile(folder / "probe.log").value_or(""));
  return use;
}

TEST(FatLinkTest, AnUploadFillsALinkOf100MillisecondsAnd500MegabitsFromTheSecondSecondOn) {
  if (std::getenv("CONCORDAT_QUIET_MACHINE") == nullptr)
    GTEST_SKIP() << "a rate, not a law: set CONCORDAT_QUIET_MACHINE=1 on a machine that does nothing else";
  if (const std::string missing = Link::Missing(); !missing.empty())
    GTEST_SKIP() << "needs " << missing
                 << ": that an upload fills a long fat link is not shown on this machine";
  NetworkSpace::Enter();
  tls::RequireTls13();
  const Federation federation;
  // Sender, receiver and the link itself share this machine with whatever else it does: the best of a few.
  double best = 0;
  for (int i = 0; i < kTries && best < 0.8; ++i) best = std::max(best, Use(federation, MakeLink()));
  EXPECT_GE(best, 0.8);
}

}  // namespace
}  // namespace concordat
