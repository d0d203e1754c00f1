#include <algorithm>
#include <bit>
#include <random>

#include "tests/unit/privacy/secagg/harness.h"

// Laws of a whole attempt: the masked sum is the plain integer sum of the survivors, exactly, whoever is lost
// at whatever step, as long as enough are left; otherwise the attempt ends with the reason and no sum.
namespace concordat::secagg::testing {
namespace {

using enum CoordinatorPhase;

constexpr CoordinatorPhase kSteps[] = {kAdverts, kShares, kInput, kAgreement, kUnmask};

// What must happen when `lost[k]` sites are lost at step k.
struct Expected {
  std::optional<Aborted::Code> abort;
  size_t survivors = 0;
};

Expected Predict(const World& world, const std::array<uint32_t, 5>& lost) {
  uint32_t alive = world.n();
  Expected out;
  for (size_t k = 0; k < 5; ++k) {
    alive -= lost[k];
    if (kSteps[k] == kInput) out.survivors = alive;
    const uint32_t needed = kSteps[k] <= kInput ? world.offer.min_survivors : world.offer.threshold;
    if (alive < needed) {
      out.abort = static_cast<Aborted::Code>(static_cast<uint8_t>(kSteps[k]));
      return out;
    }
  }
  return out;
}

void CheckPattern(World& world, const std::map<SiteIndex, CoordinatorPhase>& losses, bool seen,
                  std::string_view seed) {
  Attempt attempt(world, seed);
  attempt.set_losses_are_seen(seen);
  std::array<uint32_t, 5> lost{};
  for (const auto& [site, step] : losses) {
    attempt.LoseAt(site, step);
    ++lost[static_cast<size_t>(step) - 1];
  }
  const Expected expected = Predict(world, lost);
  const bool done = attempt.Run();
  if (expected.abort.has_value()) {
    EXPECT_FALSE(done);
    ASSERT_TRUE(attempt.aborted().has_value());
    EXPECT_EQ(AbortName(attempt.aborted()->code), AbortName(*expected.abort));
    EXPECT_EQ(attempt.coordinator().phase(), kAborted);
    return;
  }
  ASSERT_TRUE(done) << (attempt.aborted() ? attempt.aborted()->message : "no abort either");
  EXPECT_EQ(attempt.coordinator().survivors().size(), expected.survivors);
  EXPECT_EQ(attempt.sum(), attempt.PlainSum());
  for (SiteIndex site : attempt.coordinator().survivors()) {
    if (losses.contains(site)) continue;
    EXPECT_EQ(attempt.worker(site).phase(), WorkerPhase::kDone);
  }
}

void CheckEveryPattern(World& world) {
  const uint32_t n = world.n();
  uint32_t patterns = 1;
  for (uint32_t i = 0; i < n; ++i) patterns *= 6;  // five steps at which a site may go, or never
  for (uint32_t p = 0; p < patterns; ++p) {
    std::map<SiteIndex, CoordinatorPhase> losses;
    uint32_t rest = p;
    for (uint32_t i = 0; i < n; ++i, rest /= 6) {
      if (rest % 6 != 5) losses[static_cast<SiteIndex>(i + 1)] = kSteps[rest % 6];
    }
    // One site more than may go, to see the attempt end; further losses say nothing new.
    if (losses.size() > n - ThresholdFor(n) + (n < 5 ? 1 : 0)) continue;
    SCOPED_TRACE(fmt::format("n = {}, pattern {}", n, p));
    CheckPattern(world, losses, p % 2 == 0, "exhaustive");
  }
}

TEST(SecAggSimulationTest, SumIsExactForEveryPlaceOfEveryLossWithThreeToFiveSites) {
  for (uint32_t n : {3u, 4u, 5u}) {
    World world(n);
    CheckEveryPattern(world);
  }
}

TEST(SecAggSimulationTest, WithPairwiseKeysTheSumIsExactForEveryPlaceOfEveryLoss) {
  for (uint32_t n : {3u, 4u}) {
    World world(n);
    world.CarryPairwiseKeys();
    CheckEveryPattern(world);
  }
}

TEST(SecAggSimulationTest, WithPairwiseKeysTheSumIsExactWhenTenSitesLoseSomeAtSeveralSteps) {
  std::mt19937 order(13);  // seed fixed
  World world(10);
  world.CarryPairwiseKeys();
  for (int trial = 0; trial < 20; ++trial) {
    std::map<SiteIndex, CoordinatorPhase> losses;
    for (uint32_t c = 0; c < 3; ++c) losses[static_cast<SiteIndex>(1 + order() % 10)] = kSteps[order() % 5];
    SCOPED_TRACE(fmt::format("trial {}", trial));
    CheckPattern(world, losses, trial % 2 == 0, fmt::format("pairwise {}", trial));
  }
}

TEST(SecAggSimulationTest, SumIsExactForEveryNumberOfLossesAtEveryStepWithFiveToTenSites) {
  std::mt19937 order(20170281);  // only chooses which sites are lost; the seed is fixed and named here
  for (uint32_t n = 5; n <= 10; ++n) {
    World world(n);
    const uint32_t allowed = n - ThresholdFor(n);
    for (size_t k = 0; k < 5; ++k) {
      for (uint32_t count = 0; count <= allowed + 1; ++count) {  // one more than allowed must end cleanly
        if (count == 0 && k > 0) continue;
        std::vector<SiteIndex> sites(n);
        for (uint32_t i = 0; i < n; ++i) sites[i] = static_cast<SiteIndex>(i + 1);
        std::shuffle(sites.begin(), sites.end(), order);
        std::map<SiteIndex, CoordinatorPhase> losses;
        for (uint32_t c = 0; c < count; ++c) losses[sites[c]] = kSteps[k];
        SCOPED_TRACE(fmt::format("n = {}, {} lost at step {}", n, count, k));
        CheckPattern(world, losses, count % 2 == 0, "systematic");
      }
    }
  }
}

TEST(SecAggSimulationTest, SumIsExactWhenTenSitesLoseSomeAtSeveralSteps) {
  std::mt19937 order(7);  // seed fixed
  World world(10);
  for (int trial = 0; trial < 40; ++trial) {
    std::map<SiteIndex, CoordinatorPhase> losses;
    for (uint32_t c = 0; c < 3; ++c) losses[static_cast<SiteIndex>(1 + order() % 10)] = kSteps[order() % 5];
    SCOPED_TRACE(fmt::format("trial {}", trial));
    CheckPattern(world, losses, trial % 2 == 0, fmt::format("mixed {}", trial));
  }
}

TEST(SecAggSimulationTest, SeveralSitesOfOneJurisdictionCanTakePart) {
  World world(10, 37, 5);
  CheckPattern(world, {{2, kInput}, {7, kUnmask}}, true, "jurisdictions");
}

TEST(SecAggSimulationTest, ASiteThatComesBackInTimeIsNotDropped) {
  World world(4);
  Attempt attempt(world);
  attempt.RunUntil(kShares);
  attempt.Absorb(attempt.coordinator().OnLost(2, attempt.now()));
  attempt.Absorb(attempt.coordinator().OnRejoined(2, attempt.now()));  // the keys come a second time
  ASSERT_TRUE(attempt.Run());
  EXPECT_EQ(attempt.coordinator().survivors(), (std::vector<SiteIndex>{1, 2, 3, 4}));
  EXPECT_EQ(attempt.sum(), attempt.PlainSum());
}

TEST(SecAggSimulationTest, AMaskedVectorAloneLooksLikeNoise) {
  World world(3, 1 << 16);
  Attempt attempt(world);
  ASSERT_TRUE(attempt.Run());
  for (SiteIndex site : {1, 2, 3}) {
    // Bits of y − x: 2^21 fair coins. A share outside 0.5 ± 0.0025 is over seven standard deviations away:
    // false alarm below 1e-12 for each site.
    const auto x = world.Plain(site);
    uint64_t ones = 0;
    for (size_t e = 0; e < x.size(); ++e) ones += std::popcount(attempt.sent_vector(site)[e] - x[e]);
    EXPECT_NEAR(static_cast<double>(ones) / (32.0 * (1 << 16)), 0.5, 0.0025);
  }
}

}  // namespace
}  // namespace concordat::secagg::testing
