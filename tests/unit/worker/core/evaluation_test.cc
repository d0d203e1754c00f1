#include "tests/unit/worker/core/federation.h"
#include "worker/core/worker_core.h"

namespace concordat::worker {
namespace {

using testing::Federation;
using testing::Region;

EvaluationRequest Ask(const Federation& f, std::string_view name, std::vector<Digest> adapters) {
  return {crypto::Sha256(AsBytes(name)), f.job.id, std::move(adapters), 100, 0};
}

TEST(EvaluationTest, ReleasesAClippedNoisedChargedAndReceiptedCell) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {Digest{}, f.adapter_hash}));
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(cells[0].state, CellState::kReleased);
  ASSERT_EQ(cells[0].values.size(), 4u);
  // Standard deviation 0.01 bits per byte: ten of them is a false alarm of 1e-23 a value.
  EXPECT_NEAR(static_cast<double>(cells[0].values[0]) / kCellUnits, 1.25, 0.1);
  EXPECT_NEAR(static_cast<double>(cells[0].values[1]) / kCellUnits, 0.02, 0.1);
  EXPECT_NE(cells[0].values[0], cells[0].values[2]) << "each figure has noise of its own";
  EXPECT_GT(cells[0].epsilon_charged, 0);
  ASSERT_EQ(region.ledger->entries().size(), 1u);
  EXPECT_EQ(region.ledger->entries()[0].charge.kind, ChargeKind::kEvaluation);
  ASSERT_EQ(region.receipts.size(), 1u);
  EXPECT_EQ(region.receipts[0].kind, policy::ArtefactKind::kEvaluation);
  EXPECT_EQ(region.receipts[0].bytes, 32u);
  EXPECT_EQ(region.receipts[0].ledger_head, region.ledger->head());
}

TEST(EvaluationTest, AFigureBeyondTheBoundIsClippedToIt) {
  Federation f;
  f.regions[0]->bits_per_byte = 1e9;
  f.StartAll();
  f.Notify();
  f.regions[0]->Receive(Ask(f, "one", {Digest{}}));
  const auto cells = f.regions[0]->Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_NEAR(static_cast<double>(cells[0].values[0]) / kCellUnits, 8, 0.1);
}

TEST(EvaluationTest, WithoutPermissionTheCellIsWithheldAndNothingIsEvaluatedOrCharged) {
  Federation f;
  f.regions[0]->policy.artefacts.evaluation.release = false;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {Digest{}}));
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(cells[0].state, CellState::kWithheld);
  EXPECT_EQ(cells[0].rule, policy::RuleCode::kArtefactEvaluation);
  EXPECT_TRUE(cells[0].values.empty());
  EXPECT_TRUE(region.ledger->entries().empty());
  EXPECT_TRUE(region.receipts.empty());
  for (const auto& m : region.told) EXPECT_FALSE(std::holds_alternative<sandbox::Evaluate>(m));
}

TEST(EvaluationTest, ARepeatedRequestGetsTheSameNumbersForOneCharge) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {Digest{}}));
  region.Receive(Ask(f, "one", {Digest{}}));
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 2u);
  EXPECT_EQ(cells[0].values, cells[1].values);
  EXPECT_EQ(region.ledger->entries().size(), 1u);
}

TEST(EvaluationTest, RequestsBeyondThePolicysNumberAreWithheld) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  for (const char* name : {"one", "two", "three", "four"}) region.Receive(Ask(f, name, {Digest{}}));
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 4u);
  EXPECT_EQ(cells[2].state, CellState::kReleased);
  EXPECT_EQ(cells[3].state, CellState::kWithheld);
  EXPECT_EQ(cells[3].rule, policy::RuleCode::kEvaluationRequests);
}

TEST(EvaluationTest, ASpentBudgetWithholdsTheCell) {
  Federation f;
  f.regions[0]->card.privacy.epsilon = 1;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {Digest{}}));
  ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].state, CellState::kWithheld);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].rule, policy::RuleCode::kDatasetBudget);
  EXPECT_TRUE(region.ledger->entries().empty());
}

TEST(EvaluationTest, AChargeThatCannotBeWrittenReleasesNothing) {
  Federation f;
  f.regions[0]->ledger_fails = true;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {Digest{}}));
  ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].state, CellState::kFailed);
  EXPECT_TRUE(region.Sent<EvaluationCell>()[0].values.empty());
  EXPECT_TRUE(region.receipts.empty());
}

TEST(EvaluationTest, AnAdapterOfAnotherJobOrNoneAtAllFails) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(Ask(f, "one", {crypto::Sha256(AsBytes("nothing"))}));
  AdapterBlob foreign = f.adapter;
  foreign.job.bytes[0] ^= 1;
  const Bytes bytes = EncodeAdapterBlob(foreign);
  f.blobs[AdapterHash(bytes)] = bytes;
  region.Receive(Ask(f, "two", {AdapterHash(bytes)}));
  EvaluationRequest unknown = Ask(f, "three", {Digest{}});
  unknown.job = crypto::Sha256(AsBytes("no job"));
  region.Receive(unknown);
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 3u);
  for (const EvaluationCell& cell : cells) EXPECT_EQ(cell.state, CellState::kFailed);
  EXPECT_TRUE(region.ledger->entries().empty());
}

TEST(EvaluationTest, AJobThatIsBeingEvaluatedIsNotForgottenForManyPlans) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_fetch = true;
  region.Receive(Ask(f, "one", {crypto::Sha256(AsBytes("another adapter"))}));
  region.Receive(JobEnded{f.job.id, JobEnded::State::kDone, f.adapter_hash});
  for (uint32_t i = 0; i < 400; ++i) region.Receive(JobNotice{f.OtherJob(i), false, 0});
  region.FinishFetch();
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(cells[0].state, CellState::kFailed);
}

TEST(EvaluationTest, ACellMadeWhileTheConnectionIsDownIsSentWhenItIsBack) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));  // keeps the trainer busy
  region.Receive(Ask(f, "one", {Digest{}}));
  region.Apply(region.core->OnDisconnected(region.now));
  region.FinishTraining();
  EXPECT_TRUE(region.Sent<EvaluationCell>().empty());
  region.Apply(region.core->OnConnected(region.now));
  ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].state, CellState::kReleased);
}

TEST(EvaluationTest, AJobThatWaitsForApprovalReleasesNothing) {
  Federation f;
  f.regions[0]->policy.approval = policy::ApprovalMode::kManual;
  f.StartAll();
  f.Notify();
  f.regions[0]->Receive(Ask(f, "one", {Digest{}}));
  ASSERT_EQ(f.regions[0]->Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(f.regions[0]->Sent<EvaluationCell>()[0].rule, policy::RuleCode::kApprovalDenied);
}

TEST(EvaluationTest, AJobThatTheRulesRefuseIsNotEvaluatedUnaskedEither) {
  Federation f;
  Region& region = *f.regions[0];
  region.policy.approval = policy::ApprovalMode::kManual;
  region.policy.adapters.max_rank = 1;
  f.StartAll();
  f.Notify();
  ASSERT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  region.Receive(Ask(f, "one", {Digest{}}));
  ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].rule, policy::RuleCode::kApprovalDenied);
  EXPECT_TRUE(region.ledger->entries().empty());
}

// Whatever a failure depends on: the trainer has read the region's text.
TEST(EvaluationTest, WhatTheTrainerCannotAnswerCountsAsARequest) {
  Federation f;
  Region& region = *f.regions[0];
  region.policy.artefacts.evaluation.max_requests = 2;
  region.evaluating_fails = true;
  f.StartAll();
  f.Notify();
  for (const char* name : {"one", "two", "three"}) region.Receive(Ask(f, name, {f.adapter_hash}));
  const auto cells = region.Sent<EvaluationCell>();
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(cells[0].state, CellState::kFailed);
  EXPECT_EQ(cells[1].state, CellState::kFailed);
  EXPECT_EQ(cells[2].state, CellState::kWithheld);
  EXPECT_EQ(cells[2].rule, policy::RuleCode::kEvaluationRequests);
}

TEST(EvaluationTest, HowFarAnEvaluationIsStaysInTheRegion) {
  std::vector<Progress> told[2];
  for (uint32_t documents : {7U, 12U}) {
    Federation f;
    f.StartAll();
    f.Notify();
    Region& region = *f.regions[0];
    region.documents_told = documents;
    region.hold_training = true;
    region.Apply(region.core->OnMessage(Ask(f, "one", {Digest{}}), region.now));
    region.Receive(f.SignedOffer(0, 0));
    ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
    for (const Progress& p : region.Sent<Progress>())
      if (p.phase == Phase::kEvaluating) told[documents == 12].push_back(p);
  }
  EXPECT_EQ(told[0].size(), told[1].size()) << "not even how often it moves";
  for (const auto& each : told)
    for (const Progress& p : each) EXPECT_EQ(p.permille, 0u);
}

void Decide(Region& region, const JobId& job, Decision decision) {
  auto reply = region.core->OnDecision(job, decision, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  region.Settle();
}

TEST(EvaluationTest, APausedJobIsNotEvaluated) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  Decide(region, f.job.id, Decision::kPause);
  region.Receive(Ask(f, "one", {Digest{}}));
  ASSERT_EQ(region.Sent<EvaluationCell>().size(), 1u);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].state, CellState::kWithheld);
  EXPECT_EQ(region.Sent<EvaluationCell>()[0].rule, policy::RuleCode::kApprovalPaused);
  EXPECT_TRUE(region.ledger->entries().empty());
  Decide(region, f.job.id, Decision::kResume);
  region.Receive(Ask(f, "one", {Digest{}}));
  EXPECT_EQ(region.Sent<EvaluationCell>().back().state, CellState::kReleased);
}

TEST(EvaluationTest, ADecisionWhileAnEvaluationIsUnderWayWithholdsItAndLeavesNothingBehind) {
  for (const Decision decision : {Decision::kPause, Decision::kDeny}) {
    Federation f;
    f.StartAll();
    f.Notify();
    Region& region = *f.regions[0];
    region.hold_fetch = true;
    for (int i = 0; i < 20; ++i) {  // more than may be under way at once
      region.Receive(Ask(f, fmt::format("number {}", i), {f.adapter_hash}));
      ASSERT_EQ(region.Sent<EvaluationCell>().size(), static_cast<size_t>(i)) << "it waits for its adapter";
      Decide(region, f.job.id, decision);
      const auto cells = region.Sent<EvaluationCell>();
      ASSERT_EQ(cells.size(), static_cast<size_t>(i) + 1);
      EXPECT_EQ(cells.back().state, CellState::kWithheld);
      EXPECT_EQ(cells.back().rule, decision == Decision::kPause ? policy::RuleCode::kApprovalPaused
                                                                : policy::RuleCode::kApprovalDenied);
      Decide(region, f.job.id, decision == Decision::kPause ? Decision::kResume : Decision::kApprove);
    }
    region.FinishFetch();
    EXPECT_EQ(region.Sent<EvaluationCell>().size(), 20u);
    EXPECT_TRUE(region.ledger->entries().empty());
  }
}

}  // namespace
}  // namespace concordat::worker
