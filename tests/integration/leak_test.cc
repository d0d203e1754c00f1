#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

// `concordat eval --leak` on adapters that real regions trained with canaries among their records.
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
  void Make(const std::string& unit) {
    FederationOptions options;
    options.unit = unit;
    federation_ = std::make_unique<Federation>(options);
    for (const std::string& region : federation_->jurisdictions()) {
      const auto folder = federation_->Region(region);
      ASSERT_EQ(federation_->Concordat({"region", "canaries", folder.string(), "--count", "64"}).code, 0);
      Federation::Edit(folder / "dataset-card.yaml", "split_key: split.key\n",
                       "split_key: split.key\ncanaries: {key: canary.key, count: 64}\n");
    }
  }
  void Train(const std::string& unit) {
    JobOptions options;
    options.unit = unit;
    federation_->Start();
    const std::string job = federation_->Submit(federation_->WriteJob(options));
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

// What it finds in adapters with and without protection, and where noise or clip are left out, is tested
// where training is long enough to be remembered: tests/unit/worker/train/, experiments/leak. Here: that what
// is said is of this job.
TEST_F(LeakJobTest, AnAdapterIsAuditedInItsRegionAndNoCanaryIsWrittenAnywhere) {
  Make("site");
  Train("site");
  const json found = Audit();
  ASSERT_TRUE(found.contains("canaries"));
  EXPECT_EQ(found.at("canaries"), 64);
  EXPECT_EQ(found.at("references"), 256);
  EXPECT_EQ(found.at("rounds_here"), 2);
  EXPECT_EQ(found.at("region"), "spiffe://de.example/worker/site");
  EXPECT_TRUE(found.at("epsilon_claimed").is_null()) << "a site's promise is none for its records";
  EXPECT_THAT(FilesThatHold(federation_->root(), "sealed note"), ::testing::IsEmpty());
}

TEST_F(LeakJobTest, TheBoundStandsBesideWhatRecordsWerePromised) {
  Make("record");
  Train("record");
  const json found = Audit();
  ASSERT_TRUE(found.contains("epsilon_claimed"));
  EXPECT_GT(found.at("epsilon_claimed"), 2) << "nearly all guesses would have to be right by chance";
  EXPECT_EQ(found.at("above_claim"), false) << found.dump(2);
}

}  // namespace
}  // namespace concordat
