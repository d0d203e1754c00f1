#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "tests/sim/simulation.h"

// Both pure cores under losses, delays, repeats, reorderings, disconnections and crashes with torn writes,
// all by a seed. Every test prints the seed of what failed; CONCORDAT_SIM_SEED=N runs that one alone, with
// everything that happened in it.
namespace concordat::sim {
namespace {

struct Tally {
  uint32_t runs = 0;
  uint32_t finished = 0;
  uint32_t crashes = 0;
};

Tally RunSeeds(uint64_t from, uint64_t count, bool pairwise = false) {
  Tally tally;
  for (uint64_t seed = from; seed < from + count; ++seed) {
    const Report report = Simulate({.seed = seed, .pairwise = pairwise});
    ++tally.runs;
    tally.finished += report.finished ? 1 : 0;
    tally.crashes += report.crashes;
    EXPECT_TRUE(report.violations.empty()) << report.Describe();
  }
  return tally;
}

// 1,000 seeds in parts, so that several cores can share them.
class SecAggSimTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(SecAggSimTest, NoSeedBreaksAnInvariant) {
  const Tally tally = RunSeeds(1 + 100 * GetParam(), 100);
  fmt::print("{} of {} runs had a sum, with {} crashes\n", tally.finished, tally.runs, tally.crashes);
  RecordProperty("finished", static_cast<int>(tally.finished));
  EXPECT_GT(tally.finished, tally.runs / 2);  // about 9 in 10 do
  EXPECT_GT(tally.crashes, tally.runs / 2);
}
INSTANTIATE_TEST_SUITE_P(Hundreds, SecAggSimTest, ::testing::Range<uint64_t>(0, 10));

TEST(SecAggSimPairwiseTest, NoSeedBreaksAnInvariantWithPairwiseKeys) {
  const Tally tally = RunSeeds(1, 150, true);
  fmt::print("{} of {} runs had a sum, with {} crashes\n", tally.finished, tally.runs, tally.crashes);
  EXPECT_GT(tally.finished, tally.runs / 2);
  EXPECT_GT(tally.crashes, tally.runs / 2);
}

TEST(SecAggSimReplayTest, TheSeedFromTheEnvironmentRunsWithItsTrace) {
  const char* seed = std::getenv("CONCORDAT_SIM_SEED");
  if (seed == nullptr) GTEST_SKIP() << "no CONCORDAT_SIM_SEED";
  const Report report = Simulate({.seed = std::strtoull(seed, nullptr, 10), .trace = true});
  fmt::print("{}\n", report.Describe());
  EXPECT_TRUE(report.violations.empty());
}

TEST(SecAggSimReplayTest, OneSeedGivesTheSameRunTwice) {
  for (uint64_t seed : {3u, 14u, 159u}) {
    const Report a = Simulate({.seed = seed, .trace = true});
    const Report b = Simulate({.seed = seed, .trace = true});
    EXPECT_EQ(a.trace, b.trace);
    EXPECT_EQ(a.events, b.events);
    EXPECT_EQ(a.writes, b.writes);
  }
}

TEST(SecAggSimCalmTest, WithoutFaultsEveryNumberOfSitesHasItsSumInTheFirstAttempt) {
  for (uint32_t n = 3; n <= 8; ++n) {
    const Report report = Simulate({.seed = n, .sites = n, .weather = Weather{}, .trace = true});
    EXPECT_TRUE(report.violations.empty()) << report.Describe();
    EXPECT_TRUE(report.finished && report.attempts == 1) << report.Describe();
  }
}

TEST(SecAggSimCalmTest, AnAbsentSiteIsTimedOutAndTheOthersGoOn) {
  const Report report = Simulate({.seed = 1, .sites = 4, .weather = Weather{}, .absent = {2}});
  EXPECT_TRUE(report.violations.empty() && report.finished && report.attempts == 1) << report.Describe();
}

TEST(SecAggSimCalmTest, TooManyAbsentSitesSpendEveryAttemptAndEndCleanly) {
  const Report report =
      Simulate({.seed = 1, .sites = 4, .attempts = 3, .weather = Weather{}, .absent = {2, 3}});
  EXPECT_TRUE(report.violations.empty()) << report.Describe();
  EXPECT_FALSE(report.finished);
}

// Lost messages and long outages decide whether a run has its sum; without them it has, whatever else
// happens.
TEST(SecAggSimCalmTest, ShortOutagesCutsAndLateMessagesAloneCostNoRound) {
  Options options{.attempts = 3};
  options.weather = Weather{.repeat = 0.1,
                            .slow = 0.02,
                            .disconnect = 0.01,
                            .worker_crash = 0.01,
                            .coordinator_crash = 0.03,
                            .crashes_of_a_node = 1,
                            .sudden_deaths = 1};
  uint32_t finished = 0;
  for (options.seed = 1; options.seed <= 40; ++options.seed) {
    const Report report = Simulate(options);
    EXPECT_TRUE(report.violations.empty()) << report.Describe();
    finished += report.finished ? 1 : 0;
  }
  fmt::print("{} of 40 runs had a sum\n", finished);
  EXPECT_GE(finished, 39u);
}

// ---- A crash at every write.

/// One crash at each write of `node`, in each manner, in otherwise calm weather.
void CrashAtEveryWrite(Options options, SiteIndex node) {
  options.weather = Weather{};
  options.attempts = 3;
  const uint64_t writes = Simulate(options).writes.at(node);
  ASSERT_GT(writes, 10u);
  for (uint64_t write = 0; write < writes; ++write) {
    for (const CrashMode mode : {CrashMode::kBefore, CrashMode::kTorn, CrashMode::kAfter}) {
      for (const bool power_cut : {false, true}) {
        options.crashes = {{node, write, mode, power_cut}};
        const Report report = Simulate(options);
        const auto where = fmt::format("write {} of node {}, mode {}{}", write, int{node},
                                       static_cast<int>(mode), power_cut ? ", power cut" : "");
        EXPECT_EQ(report.crashes, 1u) << where;
        EXPECT_TRUE(report.violations.empty()) << where << "\n" << report.Describe();
        EXPECT_TRUE(report.finished) << where;  // now or in a later attempt
      }
    }
  }
}

TEST(SecAggSimCrashTest, TheCoordinatorOfThreeSitesDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 1, .sites = 3, .elements = 12}, 0);
}
TEST(SecAggSimCrashTest, TheCoordinatorOfFourSitesOneAbsentDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 2, .sites = 4, .elements = 12, .absent = {3}}, 0);
}
TEST(SecAggSimCrashTest, AWorkerOfThreeDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 1, .sites = 3, .elements = 12}, 2);
}
TEST(SecAggSimCrashTest, AWorkerOfFourDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 2, .sites = 4, .elements = 12}, 1);
}

TEST(SecAggSimCrashTest, WithPairwiseKeysAWorkerOfFourDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 2, .sites = 4, .elements = 12, .pairwise = true}, 1);
}
TEST(SecAggSimCrashTest, WithPairwiseKeysTheCoordinatorOfFourSitesOneAbsentDiesAtEveryWrite) {
  CrashAtEveryWrite({.seed = 2, .sites = 4, .elements = 12, .absent = {3}, .pairwise = true}, 0);
}

TEST(SecAggSimCrashTest, BothSidesDieAtEveryPairOfWrites) {
  Options options{.seed = 1, .sites = 3, .elements = 8, .attempts = 3, .weather = Weather{}};
  const std::vector<uint64_t> writes = Simulate(options).writes;
  for (uint64_t ours = 0; ours < writes[0]; ours += 2) {
    for (uint64_t theirs = 0; theirs < writes[2]; theirs += 2) {
      const auto mode = static_cast<CrashMode>((ours / 2 + theirs / 2) % 3);
      options.crashes = {{0, ours, mode, true}, {2, theirs, mode, true}};
      const Report report = Simulate(options);
      EXPECT_TRUE(report.violations.empty()) << ours << ", " << theirs << "\n" << report.Describe();
      EXPECT_TRUE(report.finished) << ours << ", " << theirs;
    }
  }
}

// ---- Controls: a simulation that could not fail would show nothing.

/// The kinds of violations that `sabotage` leads to within `seeds` runs, `wanted` at the latest.
std::set<std::string> Found(Sabotage sabotage, const std::string& wanted, uint64_t seeds) {
  std::set<std::string> kinds;
  for (uint64_t seed = 1; seed <= seeds && !kinds.contains(wanted); ++seed) {
    const Report report = Simulate({.seed = seed, .sabotage = sabotage, .stop_at_violation = false});
    for (const Violation& v : report.violations) kinds.insert(v.kind);
  }
  return kinds;
}

struct Control {
  const char* name;
  Sabotage sabotage;
  const char* kind;
};

class SecAggSimControlTest : public ::testing::TestWithParam<Control> {};

TEST_P(SecAggSimControlTest, TheMistakeIsFound) {
  const std::set<std::string> kinds = Found(GetParam().sabotage, GetParam().kind, 300);
  EXPECT_TRUE(kinds.contains(GetParam().kind)) << ::testing::PrintToString(kinds);
}
INSTANTIATE_TEST_SUITE_P(
    Sabotage, SecAggSimControlTest,
    ::testing::Values(
        Control{"AWorkerThatForgetsItsJournalAnswersTwice", Sabotage::kWorkerForgetsJournal, "double-answer"},
        Control{"AWorkerThatForgetsThatItBeganUsesAMaskTwice", Sabotage::kWorkerForgetsBegun, "mask-reuse"},
        Control{"AWorkerThatSendsBeforeItWritesAnswersTwice", Sabotage::kWorkerSendsFirst, "double-answer"},
        Control{"AWorkerThatChargesLateIsSeen", Sabotage::kWorkerChargesLate, "charge-late"},
        Control{"ACoordinatorThatForgetsItsLogAsksTwice", Sabotage::kCoordinatorForgetsLog, "two-questions"},
        Control{"ACoordinatorThatSendsBeforeItWritesIsSeen", Sabotage::kCoordinatorSendsFirst,
                "not-written-ahead"}),
    [](const auto& info) { return std::string(info.param.name); });

// Site 1 dies when its vector is whole and unsigned, and comes back after U3 was fixed without it; the
// coordinator dies at some write after that. One that remembers says the same U3 again.
TEST(SecAggSimControlTest, ACoordinatorThatForgetsItsLogHasTwoSurvivorSetsAndOneThatReadsItHasOne) {
  Options options{.sites = 4, .elements = 8, .attempts = 1, .stop_at_violation = false};
  options.weather = Weather{.patience = Millis(0)};
  bool two = false;
  for (options.seed = 1; options.seed <= 20 && !two; ++options.seed) {
    for (uint64_t write = 24; write < 36; ++write) {
      options.crashes = {{1, 8, CrashMode::kBefore, false, Millis(12'000)},
                         {0, write, CrashMode::kBefore, false, Millis(500)}};
      options.sabotage = Sabotage::kNone;
      const Report honest = Simulate(options);
      EXPECT_TRUE(honest.violations.empty()) << write << " " << honest.Describe();
      options.sabotage = Sabotage::kCoordinatorForgetsLog;
      for (const Violation& v : Simulate(options).violations) two = two || v.kind == "two-survivors";
    }
  }
  EXPECT_TRUE(two);
}

}  // namespace
}  // namespace concordat::sim
