#include <algorithm>
#include <set>

#include "tests/unit/worker/core/federation.h"

// A worker that is killed goes on where it was, or is lost in the attempt: never two answers, never two
// vectors under one mask, never a second charge.
namespace concordat::worker::testing {
namespace {

using secagg::CoordinatorPhase;
using secagg::Signed;

/// One body for every step, whatever was sent how often.
template <typename T>
void ExpectOneAnswer(const Region& region) {
  const auto sent = region.Sent<Signed<T>>();
  for (const auto& message : sent) {
    EXPECT_EQ(secagg::Canonical(message.body), secagg::Canonical(sent[0].body));
    EXPECT_EQ(message.signature, sent[0].signature);
  }
}

void ExpectOneOfEach(const Region& region) {
  ExpectOneAnswer<secagg::Advert>(region);
  ExpectOneAnswer<secagg::Shares>(region);
  ExpectOneAnswer<secagg::InputHeader>(region);
  ExpectOneAnswer<secagg::Agreement>(region);
  ExpectOneAnswer<secagg::Unmask>(region);
  EXPECT_LE(region.encoded.size(), 1u);
  EXPECT_LE(region.ledger->entries().size(), 1u);
}

void ExpectDoneWithAll(Federation& f) {
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors().size(), 4u);
  for (const auto& region : f.regions) {
    ExpectOneOfEach(*region);
    EXPECT_EQ(region->Sent<ResultAck>().back().new_adapter, f.adapter_hash);
    EXPECT_TRUE(region->sealed.empty()) << "keys outlive the attempt";
  }
}

std::set<std::string> KeptNames(const Region& region) {
  std::set<std::string> out;
  for (const Evidence& evidence : region.evidence) out.insert(evidence.name);
  return out;
}

TEST(WorkerResumeTest, KilledWhileTrainingItTrainsAgainAndIsASurvivor) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kInput);
  region.hold_training = false;
  f.Restart(2);
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, EndedInGoodOrderItGoesOnLikeOneThatWasKilled) {
  for (const bool trained : {false, true}) {
    Federation f;
    Region& region = *f.regions[1];
    (trained ? region.hold_uploaded : region.hold_training) = true;
    f.PlayFirstAttempt();
    ASSERT_EQ(f.round().phase(), CoordinatorPhase::kInput);
    region.Apply(region.core->OnShutdown(region.now));
    EXPECT_TRUE(region.Sent<Dropout>().empty());
    EXPECT_EQ(region.cancelled_uploads, 0);
    EXPECT_EQ(region.sealed.size(), 1u);
    region.hold_training = false;
    f.Restart(2);
    f.Run();
    ExpectDoneWithAll(f);
  }
}

TEST(WorkerResumeTest, KilledBeforeTheOthersHaveAdvertisedItKeepsItsKeys) {
  Federation f;
  f.regions[1]->hold_training = true;
  f.StartAll();
  f.Notify();
  f.cut = {3};
  f.Begin(0, 0);
  f.Run();
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kAdverts);
  f.regions[1]->hold_training = false;
  f.Restart(2);
  EXPECT_EQ(f.regions[1]->Sent<Signed<secagg::Advert>>().size(), 2u) << "the offer was repeated";
  f.cut = {};
  f.Restart(3);
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, KilledWhileItsStoredVectorWasOnTheWayItSendsTheSameVector) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_uploaded = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kInput);
  ASSERT_EQ(region.outbox.size(), 1u);
  f.Restart(2);
  f.Run();
  ExpectDoneWithAll(f);
  EXPECT_TRUE(region.outbox.empty());
}

TEST(WorkerResumeTest, KilledBeforeItsVectorWasWholeItIsLostAndEncodesNothingAgain) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_upload = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(region.encoded.size(), 1u);
  region.hold_upload = false;
  f.Restart(2);
  f.Run();
  EXPECT_EQ(region.encoded.size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kShuttingDown);
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors(), (std::vector<SiteIndex>{1, 3, 4}));
  EXPECT_EQ(region.ledger->entries().size(), 1u) << "what was charged stays charged";
  EXPECT_TRUE(region.sealed.empty());
}

TEST(WorkerResumeTest, KilledAfterItsHeaderItAgreesAndOpensShares) {
  Federation f;
  f.regions[2]->hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kInput);
  f.Restart(2);
  f.regions[2]->FinishTraining();
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, KilledAfterItSignedTheSurvivorsItSignsTheSameSet) {
  Federation f;
  f.regions[2]->hold_training = true;
  f.PlayFirstAttempt();
  f.cut = {1, 4};  // two of four: the agreement cannot end
  f.regions[2]->FinishTraining();
  f.Run();
  ASSERT_EQ(f.round().phase(), CoordinatorPhase::kAgreement);
  ASSERT_EQ(f.regions[1]->Sent<Signed<secagg::Agreement>>().size(), 1u);
  f.Restart(2);
  EXPECT_EQ(f.regions[1]->Sent<Signed<secagg::Agreement>>().size(), 2u) << "a repeat gets the same bytes";
  f.cut = {};
  f.Restart(1);
  f.Restart(4);
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, ASealedStateThatWasRolledBackIsNotUsed) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_GE(region.seal_history.size(), 2u);
  region.sealed[region.seal_history[0].first] = region.seal_history[0].second;
  f.Restart(2);
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kShuttingDown);
  EXPECT_TRUE(region.sealed.empty());
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerResumeTest, AStateOneStepAheadOfTheJournalIsUsed) {
  // The process died between the sealed file and the journal: nothing of that step has left.
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  const auto last = std::find_if(region.journal.rbegin(), region.journal.rend(),
                                 [](const Record& r) { return std::holds_alternative<StepTaken>(r); });
  region.journal.erase(std::next(last).base());
  region.hold_training = false;
  f.Restart(2);
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, AStateThatTheJournalDoesNotKnowIsNotUsed) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.journal.clear();
  region.Start();
  EXPECT_TRUE(region.sealed.empty());
}

TEST(WorkerResumeTest, WhatWasPaidForBeforeTheKillIsNotPaidForAgain) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_OK(region.ledger->Charge(region.now, *policy::RoundCharge(f.job.spec, f.round().offer())));
  region.hold_training = false;
  f.Restart(2);
  f.Run();
  ExpectDoneWithAll(f);
}

TEST(WorkerResumeTest, AnotherOfferForTheSameAttemptAfterARestartIsRefusedWithBothAsEvidence) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.Start();
  secagg::Offer other = f.MakeOffer(0, 0);
  other.deadlines.input_ms += 1;
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.Receive(secagg::Sign(f.coordinator.key, other));
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kRepeatDiffers);
  const auto named = [&](std::string_view name) {
    return std::ranges::any_of(region.evidence, [&](const Evidence& e) { return e.name == name; });
  };
  EXPECT_TRUE(named("offer"));
  EXPECT_TRUE(named("offer-refused"));
  EXPECT_TRUE(region.sealed.empty());
}

TEST(WorkerResumeTest, ANewerAttemptEndsTheOneThatWaited) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_uploaded = true;
  f.PlayFirstAttempt();
  region.Start();
  EXPECT_TRUE(region.core->WaitsToUpload({f.job.id, 0, 0}));
  region.Receive(AttemptAborted{{f.job.id, 0, 0}, 9});
  EXPECT_EQ(region.recovered, (std::vector<AttemptId>{{f.job.id, 0, 0}}));
  EXPECT_TRUE(region.sealed.empty());
  region.hold_uploaded = false;
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.Receive(f.SignedOffer(0, 1));
  EXPECT_EQ(region.core->status().attempt, (AttemptId{f.job.id, 0, 1}));
}

TEST(WorkerResumeTest, AnAttemptThatNobodyGoesOnWithIsGivenUpInTime) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_uploaded = true;
  f.PlayFirstAttempt();
  region.Start();
  ASSERT_TRUE(region.wake.has_value());
  region.Tick(*region.wake);
  EXPECT_TRUE(region.sealed.empty());
  EXPECT_EQ(region.recovered.size(), 1u);
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kShuttingDown);
}

// ---- A journal that was put back from a copy, or wiped: the ledger still knows what was paid for.

TEST(WorkerResumeTest, AnAttemptThatOnlyTheLedgerRemembersIsNotEnteredAgain) {
  Federation f;
  f.PlayFirstAttempt();
  Region& region = *f.regions[1];
  ASSERT_EQ(region.encoded.size(), 1u);
  region.journal.clear();
  region.sealed.clear();
  region.Start();
  region.sent.clear();
  region.Receive(JobNotice{f.signed_job, true, 0});
  f.Publish(*FirstAdapter(f.layout, f.job.id, f.job.spec.seed));
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_TRUE(region.Sent<Signed<secagg::Advert>>().empty());
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kShuttingDown);
  EXPECT_EQ(region.encoded.size(), 1u) << "a second vector for one charge";
}

TEST(WorkerResumeTest, AttemptsThatOnlyTheLedgerRemembersCountAgainstTheRound) {
  Federation f;
  f.StartAll();
  Region& region = *f.regions[1];
  // As many as the job allows, under numbers that no offer can have now: only the count speaks against another.
  for (const AttemptIndex attempt : {3u, 4u, 5u})
    ASSERT_OK(region.ledger->Charge(region.now, *policy::RoundCharge(f.job.spec, f.MakeOffer(0, attempt))));
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.Receive(f.SignedOffer(0, 2));
  EXPECT_TRUE(region.Sent<Signed<secagg::Advert>>().empty());
  ASSERT_FALSE(region.Sent<Dropout>().empty());
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kAttempts);
}

TEST(WorkerResumeTest, WhatWasPaidForAndGoneOnWithCountsOnce) {
  Federation f;
  Region& region = *f.regions[1];
  region.hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_OK(region.ledger->Charge(region.now, *policy::RoundCharge(f.job.spec, f.round().offer())));
  ASSERT_OK(region.ledger->Charge(region.now, *policy::RoundCharge(f.job.spec, f.MakeOffer(0, 1))));
  region.hold_training = false;
  f.Restart(2);
  region.FinishTraining();
  region.Receive(AttemptAborted{{f.job.id, 0, 0}, 9});
  region.Receive(f.SignedOffer(0, 2));  // the third that is paid for, of three
  EXPECT_EQ(region.core->status().attempt, (AttemptId{f.job.id, 0, 2}));
}

// ---- A round has one result.

TEST(WorkerResumeTest, AFinishedRoundIsNotEnteredAgainAfterARestart) {
  Federation f;
  const AdapterBlob first = f.adapter;
  f.PlayFirstAttempt();
  Region& region = *f.regions[0];
  ASSERT_EQ(region.Sent<ResultAck>().size(), 1u);
  // The result itself is forgotten, as that of a round further back is; the adapter that was verified is not.
  std::erase_if(region.journal, [](const Record& r) { return std::holds_alternative<ResultSaid>(r); });
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.sent.clear();
  f.Publish(first);
  region.Receive(f.SignedOffer(0, 1));
  EXPECT_TRUE(region.Sent<Signed<secagg::Advert>>().empty());
  ASSERT_FALSE(region.Sent<Dropout>().empty());
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kWrongAttempt);
  EXPECT_EQ(region.encoded.size(), 1u);
}

TEST(WorkerResumeTest, AnotherAttemptOfARoundWhoseResultIsSignedDoesNotEndTheCheckOfItsSum) {
  for (const bool restart : {false, true}) {
    Federation f;
    f.lie_about_result = true;
    Region& region = *f.regions[0];
    region.hold_fetch = true;
    const AdapterBlob first = f.adapter;
    f.PlayFirstAttempt();
    ASSERT_EQ(region.JournalCount<ResultSaid>(), 1u);
    const AdapterBlob next = f.adapter;
    if (restart) {
      region.Start();
      region.Receive(JobNotice{f.signed_job, true, 0});
    }
    region.sent.clear();
    f.Publish(first);
    region.Receive(f.SignedOffer(0, 1));
    EXPECT_TRUE(region.Sent<Signed<secagg::Advert>>().empty()) << restart;
    ASSERT_FALSE(region.Sent<Dropout>().empty()) << restart;
    EXPECT_EQ(region.Sent<Dropout>()[0].refusal, secagg::RefusalCode::kWrongAttempt) << restart;
    EXPECT_EQ(KeptNames(region), (std::set<std::string>{"offer", "result"})) << "both as evidence";
    f.Publish(next);
    region.FinishFetch();
    if (restart) region.Receive(f.SignedOffer(0, 0));
    EXPECT_EQ(region.JournalCount<JobHalted>(), 1u) << "the lie is found all the same: " << restart;
  }
}

// ---- A result was signed, and the process died before its sum was checked.

/// Region 1 has the signed result of round 0 and not yet its sum.
Region& KilledBeforeTheSum(Federation& f, bool gently = false) {
  Region& region = *f.regions[0];
  region.hold_fetch = true;
  f.PlayFirstAttempt();
  EXPECT_EQ(f.round().phase(), CoordinatorPhase::kDone);
  EXPECT_EQ(region.JournalCount<ResultSaid>(), 1u);
  EXPECT_TRUE(region.Sent<ResultAck>().empty());
  region.hold_fetch = false;
  if (gently) region.Apply(region.core->OnShutdown(region.now));
  region.Start();
  return region;
}

TEST(WorkerResumeTest, ASumThatWasOnItsWayIsRecomputedAfterTheRestartAndTheNextRoundFollows) {
  Federation f;
  Region& region = KilledBeforeTheSum(f);
  region.Receive(JobNotice{f.signed_job, true, 1});
  region.Receive(f.SignedOffer(1, 0));
  ASSERT_EQ(region.Sent<ResultAck>().size(), 1u);
  EXPECT_EQ(region.Sent<ResultAck>()[0].new_adapter, f.adapter_hash);
  EXPECT_EQ(region.JournalCount<AdapterVerified>(), 1u);
  EXPECT_EQ(region.JournalCount<ResultSaid>(), 1u) << "on record once";
  EXPECT_EQ(region.Sent<Signed<secagg::Advert>>().back().body.id.round, 1u);
}

TEST(WorkerResumeTest, ALieAboutTheSumIsFoundAfterTheRestartAndTheJobStaysHalted) {
  Federation f;
  f.lie_about_result = true;
  Region& region = KilledBeforeTheSum(f);
  const size_t adverts = region.Sent<Signed<secagg::Advert>>().size();
  region.Receive(JobNotice{f.signed_job, true, 1});
  region.Receive(f.SignedOffer(1, 0));
  EXPECT_EQ(region.JournalCount<JobHalted>(), 1u);
  EXPECT_EQ(region.Sent<Signed<secagg::Advert>>().size(), adverts);
  const std::set<std::string> kept = KeptNames(region);
  EXPECT_TRUE(kept.contains("result") && kept.contains("offer")) << "what it started from and what it made";
  for (int process = 0; process < 2; ++process) {
    region.Start();
    region.Receive(JobNotice{f.signed_job, true, 1});
    EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
    region.Receive(f.SignedOffer(1, 1));
    EXPECT_EQ(region.Sent<Signed<secagg::Advert>>().size(), adverts);
  }
}

TEST(WorkerResumeTest, ALieAboutTheSumIsFoundAfterAnOrderlyEndToo) {
  Federation f;
  f.lie_about_result = true;
  Region& region = KilledBeforeTheSum(f, true);
  region.Receive(JobNotice{f.signed_job, true, 1});
  EXPECT_EQ(region.JournalCount<JobHalted>(), 1u);
}

TEST(WorkerResumeTest, CallingTheAttemptOffDoesNotSaveTheLie) {
  Federation f;
  f.lie_about_result = true;
  Region& region = KilledBeforeTheSum(f);
  region.Receive(AttemptAborted{{f.job.id, 0, 0}, 9});
  region.Receive(JobNotice{f.signed_job, true, 1});
  EXPECT_EQ(region.JournalCount<JobHalted>(), 1u);
}

TEST(WorkerResumeTest, AnOfferOfAnotherAdapterThanWasSignedIsRefusedAfterARestartWithBothAsEvidence) {
  for (const bool verified : {true, false}) {
    Federation f;
    Region& region = *f.regions[0];
    // The sum never comes, so that nothing but the coordinator's word names the next adapter.
    if (!verified) region.fetch_error = PermissionDenied("the certificate has expired");
    f.PlayFirstAttempt();
    ASSERT_EQ(region.Sent<ResultAck>().size(), verified ? 1u : 0u);
    const size_t adverts = region.Sent<Signed<secagg::Advert>>().size();
    region.fetch_error = OkStatus();
    region.Start();
    region.Receive(JobNotice{f.signed_job, true, 1});
    AdapterBlob other = f.adapter;
    other.weights[0] += 1;
    f.Publish(other);
    region.Receive(f.SignedOffer(1, 0));
    EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kModel) << verified;
    EXPECT_EQ(region.Sent<Signed<secagg::Advert>>().size(), adverts) << verified;
    EXPECT_EQ(KeptNames(region), (std::set<std::string>{"offer", "result"})) << verified;
    region.Start();
    region.Receive(JobNotice{f.signed_job, true, 1});
    region.Receive(f.SignedOffer(1, 1));
    EXPECT_EQ(region.Sent<Signed<secagg::Advert>>().size(), adverts) << "refused again: " << verified;
  }
}

TEST(WorkerResumeTest, ASecondSignedResultOfOneAttemptHaltsTheJobWithBothAsEvidenceAlsoAfterARestart) {
  for (const bool restart : {false, true}) {
    Federation f;
    f.PlayFirstAttempt();
    Region& region = *f.regions[0];
    ASSERT_EQ(region.Sent<ResultAck>().size(), 1u);
    secagg::Result other;
    for (const Record& record : region.journal)
      if (const auto* said = std::get_if<ResultSaid>(&record)) other = said->message.body;
    if (restart) {
      region.Start();
      region.Receive(JobNotice{f.signed_job, true, 1});
    }
    const auto first = secagg::Sign(f.coordinator.key, other);
    other.new_adapter.bytes[0] ^= 1;
    region.Receive(secagg::Sign(region.party().key, other));
    EXPECT_EQ(region.JournalCount<JobHalted>(), 0u) << "nobody signed that";
    region.Receive(first);
    EXPECT_EQ(region.JournalCount<JobHalted>(), 0u) << "the same again says nothing";
    region.Receive(secagg::Sign(f.coordinator.key, other));
    EXPECT_EQ(region.JournalCount<JobHalted>(), 1u);
    EXPECT_EQ(KeptNames(region), (std::set<std::string>{"result", "result-refused"}));
    const size_t kept = region.evidence.size();
    other.new_adapter.bytes[1] ^= 1;
    region.Receive(secagg::Sign(f.coordinator.key, other));
    EXPECT_EQ(region.evidence.size(), kept) << "one pair is proof enough";
    region.Receive(f.SignedOffer(1, 0));
    EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kPolicyRefused);
  }
}

}  // namespace
}  // namespace concordat::worker::testing
