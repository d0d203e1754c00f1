#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "tests/support/federation.h"
#include "tests/support/relay/link.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

// One of three regions behind a bad link; all processes are real.
namespace concordat {
namespace {

using namespace std::chrono_literals;
using concordat::testing::After;
using concordat::testing::Await;
using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::Link;
using concordat::testing::NetworkSpace;
using nlohmann::json;

constexpr std::chrono::seconds kPatience{300};
constexpr const char* kFar = "es.example";
/// Narrow and many layers: a large adapter on a small model.
constexpr ModelShape kShape{32, 64, 128, 4, 2, 16};

class BadLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = Link::Missing(); !missing.empty())
      GTEST_SKIP() << "needs " << missing
                   << ": that a round outlives a lossy, slow or cut link is not shown on this machine";
    NetworkSpace::Enter();
    Link::Options link;
    link.shape.delay = 100ms;  // 200 ms there and back
    link.shape.loss = 0.05;
    link.shape.bits_per_second = 2'000'000;
    link.shape.queue_bytes = 100'000;  // 400 ms
    link.congestion_control = "reno";  // what loss slows most, and every kernel has
    link.seed = std::random_device{}();
    std::printf("seed of the link: %llu\n", static_cast<unsigned long long>(link.seed));
    link_ = std::make_unique<Link>(link);

    FederationOptions options;
    options.model = model_folder_ / "deep.gguf";
    options.model_name = "deep";
    options.shape = kShape;
    testing::WriteTinyModel(options.model, kShape);
    options.networks[kFar] = link_->far().fd();
    federation_ = std::make_unique<Federation>(options);
    Federation::Edit(federation_->coordinator_folder() / "coordinator.yaml",
                     "listen: 127.0.0.1:", "listen: 0.0.0.0:");
    const std::string port = federation_->address().substr(federation_->address().rfind(':'));
    Federation::Edit(federation_->Region(kFar) / "worker.yaml", "state: state\n",
                     fmt::format("coordinator_address: {}{}\nstate: state\n", link_->near_address(), port));
    federation_->Start();
  }

  /// A job of one round whose vector has about 1.9 MB: 8 s of this link.
  std::string Submit() {
    JobOptions options;
    options.rounds = 1;
    options.local_steps = 1;
    options.input_deadline = "4m";
    const std::string file = federation_->WriteJob(options);
    Federation::Edit(file, "{method: ffa, rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj]}",
                     "{method: fedit, rank: 16, alpha: 16, targets: [q_proj, k_proj, v_proj, o_proj, "
                     "gate_proj, up_proj, down_proj]}");
    return federation_->Submit(file);
  }

  /// What the far worker says it sent again, of how much.
  struct Sent {
    uint64_t bytes = 0, again = 0;
  };
  Sent SentByFar() const {
    const std::string log = ReadTextFile(federation_->WorkerLog(kFar)).value_or("");
    std::smatch found;
    if (!std::regex_search(log, found,
                           std::regex(R"((\d+) bytes are up in .*, (\d+) bytes were sent again)")))
      return {};
    return {std::stoull(found[1]), std::stoull(found[2])};
  }

  void ExpectAllThree(const json& state) {
    const json round = state.at("rounds").at(0);
    EXPECT_EQ(round.at("attempt"), 0) << state.dump(2);
    EXPECT_EQ(round.at("survivors").size(), 3u) << state.dump(2);
  }

  const testing::TempDir model_folder_;
  std::unique_ptr<Link> link_;
  std::unique_ptr<Federation> federation_;
};

TEST_F(BadLinkTest, ASiteThatLosesEveryTwentiethPacketIsInTheSum) {
  auto watch = federation_->WatchJob(Submit());
  ASSERT_EQ(watch.End(kPatience), 0) << watch.last().dump(2);
  ExpectAllThree(watch.last());
  const Sent sent = SentByFar();
  EXPECT_GT(sent.bytes, 1'000'000u);
  EXPECT_EQ(sent.again, 0u) << "TCP repeats what is lost; nothing else does";
  EXPECT_GT(link_->Up().lost, 20u);
  std::printf("up %llu bytes on the wire, %llu packets lost by chance\n",
              static_cast<unsigned long long>(link_->Up().bytes),
              static_cast<unsigned long long>(link_->Up().lost));
  federation_->StopAll();
}

TEST_F(BadLinkTest, ACutOf30SecondsInTheMiddleOfAnUploadCostsAtMostOneChunk) {
  auto watch = federation_->WatchJob(Submit());
  // All else that the far region sends is far less than half of its vector.
  ASSERT_TRUE(Await([&] { return link_->Up().bytes > 900'000; }, After(kPatience)));
  link_->Cut();
  const auto cut = std::chrono::steady_clock::now();
  // The cut itself, not a wait for something: nothing but time ends it.
  Await([] { return false; }, After(30s));
  link_->Mend();
  ASSERT_EQ(watch.End(kPatience), 0) << watch.last().dump(2);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - cut;
  ExpectAllThree(watch.last());
  const Sent sent = SentByFar();
  EXPECT_GT(sent.bytes, 1'000'000u);
  EXPECT_LE(sent.again, 1u << 20) << "the schema's largest chunk";
  EXPECT_GT(link_->Up().cut, 0u);
  std::printf("%.1f s from the cut to the job's end; %llu of %llu bytes were sent again\n", took.count(),
              static_cast<unsigned long long>(sent.again), static_cast<unsigned long long>(sent.bytes));
  federation_->StopAll();
}

}  // namespace
}  // namespace concordat
