#include "tests/unit/worker/core/federation.h"

// Jobs with pairwise keys: what a region answers without them, and rounds with them, through losses and
// restarts.
namespace concordat::worker {
namespace {

using testing::Federation;
using testing::Region;

constexpr std::string_view kNoise = "noise_multiplier: 0.05";
constexpr std::string_view kRequired = "secure_aggregation: {pairwise_keys: required}";

TEST(PairwiseTest, AJobWithPairwiseKeysRunsAndASiteLostAfterItsSharesCostsNothing) {
  Federation f(kNoise, kRequired);
  ASSERT_TRUE(f.job.spec.secure_aggregation.pairwise_keys);
  f.CarryPairwiseKeys();
  f.StartAll();
  f.Notify();
  f.Begin(0, 0);
  f.Run();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors().size(), 4u);
  EXPECT_NEAR(f.Decoded().mean_delta[0], 0.01, 0.2);
  f.regions[2]->hold_upload = true;
  f.Begin(1, 0);
  f.Run();
  f.Timeout();
  f.Run();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors(), (std::vector<SiteIndex>{1, 2, 4}));
  EXPECT_NEAR(f.Decoded().mean_delta[0], 0.01, 0.2) << "the lost site's masks are off";
}

TEST(PairwiseTest, ARegionWithoutAnyRefusesTheJobByItsRule) {
  Federation f(kNoise, kRequired);
  f.CarryPairwiseKeys();
  f.regions[1]->pairwise.clear();
  f.StartAll();
  f.Notify();
  EXPECT_EQ(f.regions[0]->Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  const auto answer = f.regions[1]->Sent<JobAnswer>().back();
  EXPECT_EQ(answer.verdict, Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kPairwiseKeysAbsent});
}

TEST(PairwiseTest, ARegionThatDemandsThemRefusesAJobWithout) {
  Federation f;
  f.regions[0]->policy.secure_aggregation.pairwise_keys_required = true;
  f.StartAll();
  f.Notify();
  const auto answer = f.regions[0]->Sent<JobAnswer>().back();
  EXPECT_EQ(answer.verdict, Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kPairwiseKeysRequired});
}

TEST(PairwiseTest, ARegionWithoutTheKeyOfOneSiteStaysOutNamesItAndBlamesNobody) {
  Federation f(kNoise, kRequired);
  f.CarryPairwiseKeys();
  Region& region = *f.regions[0];
  const SpiffeId peer = f.regions[3]->party().id;
  region.pairwise.erase(peer);
  f.StartAll();
  f.Notify();
  region.Receive(f.SignedOffer(0, 0));
  const auto dropouts = region.Sent<Dropout>();
  ASSERT_EQ(dropouts.size(), 1u);
  EXPECT_EQ(dropouts[0].code, DropoutCode::kPolicyRefused);
  EXPECT_EQ(dropouts[0].refusal, secagg::RefusalCode::kPairwiseKey);
  EXPECT_TRUE(region.Sent<secagg::Signed<secagg::Advert>>().empty());
  EXPECT_TRUE(region.evidence.empty()) << "the coordinator has done nothing wrong";
  const auto named = [&](const LogLine& line) {
    return line.text.find(peer.ToString()) != std::string::npos;
  };
  EXPECT_TRUE(std::ranges::any_of(region.log, named));
}

TEST(PairwiseTest, RegionsWithDifferentKeysComplainByNameAndNothingIsChargedOrSent) {
  Federation f(kNoise, kRequired);
  f.CarryPairwiseKeys();
  const SpiffeId peer = f.regions[1]->party().id;
  f.regions[0]->pairwise[peer] = testing::SeedFor("an older key");
  f.PlayFirstAttempt();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kAborted);
  const auto complaints = f.regions[0]->Sent<secagg::Signed<secagg::Complaint>>();
  ASSERT_EQ(complaints.size(), 1u);
  EXPECT_EQ(complaints[0].body.accused, 2);
  EXPECT_EQ(complaints[0].body.code, secagg::Complaint::Code::kOtherPairwiseKey);
  const auto named = [&](const LogLine& line) {
    return line.text.find(peer.ToString() + " holds another pairwise key") != std::string::npos;
  };
  EXPECT_TRUE(std::ranges::any_of(f.regions[0]->log, named));
  EXPECT_TRUE(f.regions[0]->uploads.empty());
  EXPECT_TRUE(f.regions[0]->ledger->entries().empty());
}

TEST(PairwiseTest, ARegionThatRestartsGoesOnWithTheSameKeysAndNotWithOthers) {
  for (const bool same : {true, false}) {
    Federation f(kNoise, kRequired);
    f.CarryPairwiseKeys();
    for (auto& region : f.regions) region->hold_training = true;
    f.PlayFirstAttempt();
    ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kInput);
    Region& region = *f.regions[1];
    if (!same) region.pairwise[f.regions[0]->party().id] = testing::SeedFor("a newer key");
    f.Restart(2);
    for (auto& r : f.regions) r->FinishTraining();
    f.Run();
    if (same) {
      ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
      EXPECT_EQ(f.round().survivors().size(), 4u);
    } else {
      EXPECT_TRUE(region.uploads.empty());
      EXPECT_FALSE(std::ranges::binary_search(f.round().survivors(), SiteIndex{2}));
    }
  }
}

TEST(PairwiseTest, NoKeyIsInTheLogOrInASealedState) {
  Federation f(kNoise, kRequired);
  f.CarryPairwiseKeys();
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  const Region& region = *f.regions[0];
  ASSERT_FALSE(region.seal_history.empty());
  for (const auto& [peer, key] : region.pairwise) {
    const auto secret = key.view();
    for (const auto& [id, state] : region.seal_history)
      EXPECT_TRUE(std::ranges::search(state, secret).empty()) << peer.Brief();
    const std::string hex = ToHex(secret);
    for (const LogLine& line : region.log) EXPECT_EQ(line.text.find(hex.substr(0, 16)), std::string::npos);
  }
}

}  // namespace
}  // namespace concordat::worker
