#include <set>

#include "privacy/secagg/worker_round.h"
#include "privacy/secagg/worker_state.h"
#include "tests/unit/privacy/secagg/harness.h"

// A worker that restarts from its last record goes on as if nothing had happened, and never answers a step
// twice in different ways.
namespace concordat::secagg::testing {
namespace {

TEST(WorkerSnapshotTest, AttemptEndsExactlyWhenAWorkerRestartsBetweenAnyTwoSteps) {
  for (CoordinatorPhase phase :
       {CoordinatorPhase::kShares, CoordinatorPhase::kInput, CoordinatorPhase::kAgreement,
        CoordinatorPhase::kUnmask, CoordinatorPhase::kSummed}) {
    World world(4);
    Attempt attempt(world);
    attempt.LoseAt(4, CoordinatorPhase::kInput);
    attempt.RunUntil(phase);
    auto restored = attempt.RestoreWorker(2, attempt.snapshot(2));
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(restored->phase(), attempt.worker(2).phase());
    attempt.ReplaceWorker(2, *std::move(restored));
    ASSERT_TRUE(attempt.Run()) << CoordinatorPhaseName(phase);
    EXPECT_EQ(attempt.sum(), attempt.PlainSum());
    EXPECT_EQ(attempt.worker(2).phase(), WorkerPhase::kDone);
  }
}

TEST(WorkerSnapshotTest, ARestartedWorkerRepeatsItsSharesByteForByte) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kShares);
  const auto keys = attempt.Waiting<Keys>(1);
  const auto first = attempt.AtWorker(1, keys);
  ASSERT_TRUE(first.ok());
  auto restored = attempt.RestoreWorker(1, first->persist->snapshot.view());
  ASSERT_TRUE(restored.ok());
  const auto again = restored->OnKeys(keys, attempt.now());
  ASSERT_TRUE(again.ok());
  const auto& a = std::get<Signed<Shares>>(*first->send);
  const auto& b = std::get<Signed<Shares>>(*again->send);
  EXPECT_EQ(a.body.ciphertexts, b.body.ciphertexts);
  EXPECT_EQ(a.body.commitments, b.body.commitments);
  EXPECT_EQ(a.signature, b.signature);
}

TEST(WorkerSnapshotTest, MasksAreGoneAfterARestartInStepFive) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  ASSERT_TRUE(attempt.AtWorker(1, attempt.Waiting<Delivery>(1)).ok());
  const auto begun = attempt.worker(1).BeginInput(attempt.now());
  ASSERT_TRUE(begun.ok());
  auto restored = attempt.RestoreWorker(1, begun->persist->snapshot.view());
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored->phase(), WorkerPhase::kInputBegun);
  ExpectRefused(restored->TakeMasks(), RefusalCode::kMaskSpent);
  ExpectRefused(restored->BeginInput(attempt.now()), RefusalCode::kMaskSpent);
  // With every chunk readable in its spool it may still sign the header of the one vector it wrote.
  EXPECT_TRUE(restored->OnInput(37, DigestFor("spooled"), attempt.now()).ok());
}

TEST(WorkerSnapshotTest, ASnapshotHoldsNoKeyThatHasNoFurtherUse) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  ASSERT_TRUE(attempt.AtWorker(1, attempt.Waiting<Delivery>(1)).ok());
  // The same random stream gives the secrets again: channel key, mask key, seed, 32 bytes each, first of all.
  crypto::CtrRandom same(SeedFor("attempt 0"));
  const Secret32 secrets[] = {same.Seed(), same.Seed(), same.Seed()};
  const auto begun = attempt.worker(1).BeginInput(attempt.now());
  ASSERT_TRUE(begun.ok());
  const auto masks = attempt.worker(1).TakeMasks();
  const std::string early(AsText(attempt.snapshot(1)));
  const std::string late(AsText(begun->persist->snapshot.view()));
  for (const Secret32& secret : secrets) {
    EXPECT_NE(early.find(AsText(secret.view())), std::string::npos);  // shows that the search finds them
    EXPECT_EQ(late.find(AsText(secret.view())), std::string::npos);
  }
  for (const MaskKey& mask : *masks) EXPECT_EQ(late.find(AsText(mask.key.view())), std::string::npos);
}

TEST(WorkerSnapshotTest, RefusesEveryTruncationAndBytesLeftOver) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kUnmask);
  Bytes snapshot = attempt.snapshot(1);
  for (size_t n = 0; n < snapshot.size(); ++n) {
    const auto got = attempt.RestoreWorker(1, ByteView(snapshot).first(n));
    ASSERT_FALSE(got.ok()) << n;
    EXPECT_EQ(got.status().code(), StatusCode::kDataLoss);
  }
  snapshot.push_back(0);
  EXPECT_FALSE(attempt.RestoreWorker(1, snapshot).ok());
}

TEST(WorkerSnapshotTest, SurvivesEveryChangedByteWithoutACrash) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kUnmask);
  const auto bundle = attempt.Waiting<AgreementBundle>(1);
  for (size_t n = 0; n < attempt.snapshot(1).size(); n += 3) {
    Bytes changed = attempt.snapshot(1);
    changed[n] ^= 0x55;
    auto got = attempt.RestoreWorker(1, changed);
    if (got.ok())
      (void)got->OnAgreementBundle(bundle, attempt.now());  // sealed on disk, yet it must not crash
  }
}

TEST(WorkerSnapshotTest, RefusesAStateThatNoWorkerWrote) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  const auto state = DecodeWorkerState(attempt.snapshot(1));
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_EQ(state->phase, WorkerPhase::kShared);
  const auto expect_refused = [&](const char* what, auto change) {
    WorkerState changed = *state;
    change(changed);
    const auto got = DecodeWorkerState(EncodeWorkerState(changed).view());
    ASSERT_FALSE(got.ok()) << what;
    EXPECT_EQ(got.status().code(), StatusCode::kDataLoss) << what;
  };
  expect_refused("a ciphertext less", [](WorkerState& s) { s.shares->body.ciphertexts.pop_back(); });
  expect_refused("not in U1 itself", [](WorkerState& s) { s.peers.erase(s.site); });
  // A duration added to it would overflow.
  expect_refused("input for ever", [](WorkerState& s) { s.input_until = Instant::max(); });
  expect_refused("input before 1970", [](WorkerState& s) { s.input_until = Instant(Millis(-1)); });
}

TEST(WorkerSnapshotTest, RefusesAnotherAttemptsAnotherWorkersAndAnotherVersionsSnapshot) {
  World world(3);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  EXPECT_EQ(attempt.RestoreWorker(2, attempt.snapshot(1)).status().code(), StatusCode::kDataLoss);
  Bytes other_version = attempt.snapshot(1);
  other_version[0] = 2;
  EXPECT_EQ(attempt.RestoreWorker(1, other_version).status().code(), StatusCode::kDataLoss);
  world.bounds.id.attempt += 1;
  EXPECT_EQ(attempt.RestoreWorker(1, attempt.snapshot(1)).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace concordat::secagg::testing
