#include "tests/sim/monitor.h"

#include <gtest/gtest.h>

#include "tests/sim/disk.h"

// The instruments themselves: each violation is seen, what is allowed is not taken for one, and the disk
// loses what a disk may lose.
namespace concordat::sim {
namespace {

using namespace secagg;

class SimMonitorTest : public ::testing::Test {
 protected:
  Monitor monitor_;
  std::vector<std::string> Kinds() const {
    std::vector<std::string> kinds;
    for (const Violation& v : monitor_.violations()) kinds.push_back(v.kind);
    return kinds;
  }
  using Names = std::vector<std::string>;
};

AttemptId Id(AttemptIndex attempt) { return {JobId{}, 0, attempt}; }

Signed<Agreement> AgreementOf(SiteIndex site, std::vector<SiteIndex> u3, AttemptIndex attempt = 0) {
  return {{Id(attempt), site, Digest{}, std::move(u3)}, {}};
}

Signed<Survivors> SurvivorsOf(const std::vector<SiteIndex>& u3) {
  Signed<Survivors> out{{Id(0), Digest{}, {}}, {}};
  for (const SiteIndex site : u3) out.body.headers.push_back({{Id(0), site, Digest{}, 8, Digest{}}, {}});
  return out;
}

Signed<Unmask> UnmaskOf(SiteIndex site, std::vector<SiteIndex> seeds, std::vector<SiteIndex> keys) {
  Signed<Unmask> out{{Id(0), site, Digest{}, {}, {}}, {}};
  for (const SiteIndex j : seeds) out.body.seed_shares.push_back({j, Secret32(), Secret32()});
  for (const SiteIndex j : keys) out.body.mask_key_shares.push_back({j, Secret32(), Secret32()});
  return out;
}

TEST_F(SimMonitorTest, TheSameAnswerMayGoOutAgainAndAnotherMayNot) {
  monitor_.WorkerSends(1, AgreementOf(1, {1, 2, 3}));
  monitor_.WorkerSends(1, AgreementOf(1, {1, 2, 3}));
  monitor_.WorkerSends(2, AgreementOf(2, {1, 2, 3}));
  monitor_.WorkerSends(1, AgreementOf(1, {1, 2, 3, 4}, 1));  // the next attempt
  EXPECT_EQ(Kinds(), Names{});
  monitor_.WorkerSends(1, AgreementOf(1, {1, 2, 4}));
  EXPECT_EQ(Kinds(), Names{"double-answer"});
}

TEST_F(SimMonitorTest, TheSameSignatureCountsWithTheAnswer) {
  auto again = AgreementOf(1, {1, 2, 3});
  monitor_.WorkerSends(1, again);
  again.signature[0] ^= 1;
  monitor_.WorkerSends(1, again);
  EXPECT_EQ(Kinds(), Names{"double-answer"});
}

TEST_F(SimMonitorTest, BothKindsOfShareForOneSiteAreSeenWithinAnAnswerAndAcrossSites) {
  monitor_.WorkerSends(1, UnmaskOf(1, {1, 2}, {3}));
  monitor_.WorkerSends(2, UnmaskOf(2, {1, 2}, {3}));
  EXPECT_EQ(Kinds(), Names{});
  monitor_.WorkerSends(3, UnmaskOf(3, {3}, {}));
  EXPECT_EQ(Kinds(), Names{"both-kinds"});
  Monitor other;
  other.WorkerSends(1, UnmaskOf(1, {2}, {2}));
  EXPECT_EQ(other.violations().at(0).kind, "both-kinds");
}

TEST_F(SimMonitorTest, TwoSurvivorSetsAndOneThatIsNotDurableAreSeen) {
  monitor_.CoordinatorSends(1, SurvivorsOf({1, 2, 3}), {1, 2, 3});
  monitor_.CoordinatorSends(2, SurvivorsOf({1, 2, 3}), {1, 2, 3});
  EXPECT_EQ(Kinds(), Names{});
  monitor_.CoordinatorSends(3, SurvivorsOf({1, 2, 4}), {1, 2, 4});
  EXPECT_EQ(Kinds(), (Names{"two-questions", "two-survivors"}));
  Monitor early;
  early.CoordinatorSends(1, SurvivorsOf({1, 2, 3}), {});
  EXPECT_EQ(early.violations().at(0).kind, "not-written-ahead");
}

TEST_F(SimMonitorTest, AMaskOverTwoVectorsIsSeenAtTheFirstByteThatDiffers) {
  const Bytes piece{1, 2, 3};
  monitor_.VectorLeaves(1, Digest{}, 0, piece, true, true);
  monitor_.VectorLeaves(1, Digest{}, 1, ByteView(piece).subspan(1), true,
                        true);  // the same bytes, cut elsewhere
  monitor_.VectorLeaves(2, Digest{}, 0, Bytes{9}, true, true);
  EXPECT_EQ(Kinds(), Names{});
  monitor_.VectorLeaves(1, Digest{}, 2, Bytes{4}, true, true);
  EXPECT_EQ(Kinds(), Names{"mask-reuse"});
  monitor_.MasksTaken(1, Digest{});
  EXPECT_EQ(Kinds().size(), 1u);
  monitor_.MasksTaken(1, Digest{});
  EXPECT_EQ(Kinds().size(), 2u);
}

TEST_F(SimMonitorTest, LateAndReturnedChargesAreSeen) {
  monitor_.VectorLeaves(1, Digest{}, 0, Bytes{1}, false, true);
  monitor_.VectorLeaves(1, Digest{}, 0, Bytes{1}, true, false);
  EXPECT_EQ(Kinds(), (Names{"charge-late", "charge-late"}));
  monitor_.LedgerHolds(1, {0});
  monitor_.LedgerHolds(1, {0, 1});
  EXPECT_EQ(Kinds().size(), 2u);
  monitor_.LedgerHolds(1, {1});
  EXPECT_EQ(Kinds().back(), "charge-returned");
}

TEST_F(SimMonitorTest, AWrongSumAndOneOverASiteWithoutAVectorAreSeen) {
  monitor_.Encoded(1, 0, {1, 0xffffffff});
  monitor_.Encoded(2, 0, {5, 1});
  monitor_.Finished(0, {1, 2}, {6, 0});
  EXPECT_EQ(Kinds(), Names{});
  monitor_.Finished(0, {1, 2}, {6, 1});
  monitor_.Finished(0, {1, 2, 3}, {6, 0});
  monitor_.Finished(1, {1, 2}, {6, 0});
  EXPECT_EQ(Kinds(), (Names{"wrong-sum", "wrong-sum", "wrong-sum"}));
}

// ---- The disk.

class SimDiskTest : public ::testing::Test {
 protected:
  Rng rng_{1};
  std::optional<CrashMode> next_;
  Disk disk_{rng_, [this](uint64_t) { return std::exchange(next_, std::nullopt); }};
  const Bytes a_{1, 2, 3}, b_{4, 5};
};

TEST_F(SimDiskTest, ACrashLosesTheRecordBeforeTheWriteAndKeepsItAfter) {
  disk_.Append("f", a_, true);
  next_ = CrashMode::kBefore;
  EXPECT_THROW(disk_.Append("f", b_, true), NodeCrashed);
  disk_.Crash(true);
  EXPECT_EQ(disk_.Read("f"), (std::vector<Bytes>{a_}));
  next_ = CrashMode::kAfter;
  EXPECT_THROW(disk_.Append("f", b_, true), NodeCrashed);
  disk_.Crash(true);
  EXPECT_EQ(disk_.Read("f"), (std::vector<Bytes>{a_, b_}));
}

TEST_F(SimDiskTest, ATornRecordIsNotReadAndTheNextOneIs) {
  for (int i = 0; i < 50; ++i) {  // torn at many places
    disk_.Append("f", a_, true);
    const size_t before = disk_.Read("f").size();
    next_ = CrashMode::kTorn;
    EXPECT_THROW(disk_.Append("f", b_, true), NodeCrashed);
    disk_.Crash(i % 2 == 0);
    EXPECT_EQ(disk_.Read("f").size(), before);
    EXPECT_EQ(disk_.Read("f").back(), a_);
  }
}

TEST_F(SimDiskTest, APowerCutTakesSomeOfWhatWasNotSyncedAndNothingElse) {
  size_t kept = 0, lost = 0;
  for (int i = 0; i < 50; ++i) {
    const auto file = std::to_string(i);
    disk_.Append(file, a_, true);
    disk_.Append(file, b_, false);
    EXPECT_EQ(disk_.ReadDurable(file).size(), 1u);
    disk_.Crash(false);
    EXPECT_EQ(disk_.Read(file).size(), 2u);  // the process alone: the system has it
    disk_.Crash(true);
    const auto left = disk_.Read(file);
    ASSERT_GE(left.size(), 1u);
    EXPECT_EQ(left[0], a_);
    (left.size() == 2 ? kept : lost) += 1;
  }
  EXPECT_GT(kept, 0u);
  EXPECT_GT(lost, 0u);
  disk_.Append("synced", a_, false);
  disk_.Sync("synced");
  disk_.Crash(true);
  EXPECT_EQ(disk_.Read("synced").size(), 1u);
}

}  // namespace
}  // namespace concordat::sim
