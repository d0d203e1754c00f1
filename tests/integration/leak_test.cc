#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

// `concordat eval --leak` on adapters that real regions trained with canaries among their records: found
// without protection, and found where DP-SGD is claimed and its noise left out.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::FilesThatHold;
using concordat::testing::JobOptions;
using concordat::testing::Ran;
using nlohmann::json;

constexpr const char* kRegion = "de.example";

class LeakJobTest : public ::testing::Test {
 protected:
  /// A federation whose regions plant 64 canaries each.
  void Make(const std::string& unit, const std::string& trainer = "") {
    FederationOptions options;
    options.unit = unit;
    if (!trainer.empty()) options.trainer = trainer;
    federation_ = std::make_unique<Federation>(options);
    for (const std::string& region : federation_->jurisdictions()) {
      const auto folder = federation_->Region(region);
      ASSERT_EQ(federation_->Concordat({"region", "canaries", folder.string(), "--count", "64"}).code, 0);
      Federation::Edit(folder / "dataset-card.yaml", "split_key: split.key\n",
                       "split_key: split.key\ncanaries: {key: canary.key, count: 64}\n");
    }
  }
  /// Runs a job that reads every record some forty times, with an adapter that can remember them.
  void Train(const std::string& unit, const std::string& noise) {
    JobOptions options;
    options.unit = unit;
    options.unit_noise = noise;
    options.noise = false;  // of unit site
    options.rounds = 12;
    options.local_steps = 30;
    options.batch_sequences = 8;
    options.sequence_tokens = 160;
    options.learning_rate = "0.005";
    options.clip = "10";
    const std::string file = federation_->WriteJob(options);
    Federation::Edit(file, "{method: ffa, rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj]}",
                     "{method: fedit, rank: 16, alpha: 32, targets: [q_proj, k_proj, v_proj, o_proj, "
                     "gate_proj, up_proj, down_proj]}");
    if (unit != "site") Federation::Edit(file, "unit_clip: 0.5", "unit_clip: 0.001");
    federation_->Start();
    const std::string job = federation_->Submit(file);
    auto watch = federation_->WatchJob(job);
    ASSERT_EQ(watch.End(std::chrono::seconds(600)), 0) << watch.last().dump(2);
    ASSERT_EQ(federation_->Concordat({"adapter", "pull", job, "--out", Adapter()}).code, 0);
    federation_->StopAll();
  }
  std::string Adapter() const { return (federation_->root() / "adapter").string(); }
  /// What it found; its exit code must say the same.
  json Audit() {
    const Ran ran = federation_->Concordat(
        {"eval", "--leak", Adapter(), "--worker", (federation_->Region(kRegion) / "worker.yaml").string()},
        std::chrono::seconds(600));
    json said = json::parse(ran.out, nullptr, false);
    EXPECT_TRUE(said.is_object()) << ran.err;
    if (!said.contains("canaries_found")) return json::object();
    EXPECT_EQ(ran.code, said["canaries_found"] == true || said["above_claim"] == true ? 1 : 0) << ran.err;
    return said;
  }
  std::unique_ptr<Federation> federation_;
};

TEST_F(LeakJobTest, WithoutProtectionCanariesAreFoundAndWrittenNowhere) {
  Make("site");
  Train("site", "");
  const json found = Audit();
  EXPECT_EQ(found.at("canaries_found"), true) << found.dump(2);
  EXPECT_EQ(found.at("canaries"), 64);
  EXPECT_EQ(found.at("references"), 256);
  EXPECT_EQ(found.at("rounds_here"), 12);
  EXPECT_EQ(found.at("region"), "spiffe://de.example/worker/site");
  EXPECT_TRUE(found.at("epsilon_claimed").is_null()) << "a site's promise is none for its records";
  EXPECT_THAT(FilesThatHold(federation_->root(), "sealed note"), ::testing::IsEmpty());
}

TEST_F(LeakJobTest, AClaimWhoseNoiseWasLeftOutIsContradicted) {
  Make("record", CONCORDAT_TRAINER_WITHOUT_NOISE_PATH);
  Train("record", "40");
  const json found = Audit();
  EXPECT_EQ(found.at("canaries_found"), true) << found.dump(2);
  EXPECT_EQ(found.at("above_claim"), true) << found.dump(2);
}

}  // namespace
}  // namespace concordat
