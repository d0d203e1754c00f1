#include "worker/core/worker_core.h"

#include <cmath>
#include <functional>

#include "tests/unit/worker/core/federation.h"

namespace concordat::worker {
namespace {

using testing::At;
using testing::Federation;
using testing::Region;

TEST(WorkerCoreTest, AWholeJobRunsAndEveryRegionMakesTheSameAdapters) {
  Federation f;
  f.StartAll();
  f.Notify();
  for (RoundIndex r = 0; r < 3; ++r) {
    f.Begin(r, 0);
    f.Run();
    ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
    ASSERT_EQ(f.round().survivors().size(), 4u);
    EXPECT_NEAR(f.Decoded().mean_delta[0], 0.01, 0.2);
    for (auto& region : f.regions) {
      const auto acks = region->Sent<ResultAck>();
      ASSERT_EQ(acks.size(), r + 1);
      EXPECT_EQ(acks.back().new_adapter, f.adapter_hash);
    }
  }
  for (auto& region : f.regions) {
    EXPECT_EQ(region->ledger->entries().size(), 3u);
    EXPECT_EQ(region->JournalCount<AttemptEntered>(), 3u);
    EXPECT_EQ(region->JournalCount<InputBegun>(), 3u);
    EXPECT_EQ(region->trainer_starts, 1);
    EXPECT_TRUE(region->evidence.empty());
  }
}

TEST(WorkerCoreTest, EveryUploadHasReceiptsThatCountItsBytes) {
  Federation f;
  f.PlayFirstAttempt();
  Region& region = *f.regions[1];
  ASSERT_EQ(region.receipts.size(), 2u);
  const Bytes& y = region.uploads.at({f.job.id, 0, 0});
  EXPECT_EQ(region.receipts[0].kind, policy::ArtefactKind::kDelta);
  EXPECT_EQ(region.receipts[1].kind, policy::ArtefactKind::kMetrics);
  EXPECT_EQ(region.receipts[0].bytes + region.receipts[1].bytes, y.size());
  EXPECT_EQ(region.receipts[0].sha256, crypto::Sha256(y));
  EXPECT_EQ(region.receipts[0].ledger_head, region.ledger->head());
  EXPECT_GT(region.receipts[0].epsilon_charged, 0);
  EXPECT_EQ(region.receipts[0].sandbox, policy::SandboxState::kEnforced);
  EXPECT_EQ(region.receipts[0].from, "b.example");
  EXPECT_EQ(region.receipts[0].to, "neutral.example");
}

TEST(WorkerCoreTest, TrainingGoesOnWhileKeysAndSharesAreExchanged) {
  Federation f;
  for (auto& region : f.regions) region->hold_training = true;
  f.PlayFirstAttempt();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kInput);
  for (auto& region : f.regions) {
    EXPECT_TRUE(region->ledger->entries().empty()) << "charged before anything could leave";
    region->FinishTraining();
    EXPECT_EQ(region->ledger->entries().size(), 1u);
  }
  f.Run();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
}

TEST(WorkerCoreTest, ANewAttemptTakesTheSameDeltaButAFreshChargeAndFreshNoise) {
  Federation f;
  f.regions[3]->hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kInput);
  const AttemptId first{f.job.id, 0, 0};
  for (auto& region : f.regions) region->Receive(AttemptAborted{first, 3});
  f.regions[3]->FinishTraining();
  f.Begin(0, 1);
  f.Run();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.regions[0]->ledger->entries().size(), 2u);
  EXPECT_EQ(f.regions[3]->ledger->entries().size(), 1u) << "nothing of the first attempt had left there";
  ASSERT_EQ(f.regions[0]->encoded.size(), 2u);
  EXPECT_NE(f.regions[0]->encoded[0], f.regions[0]->encoded[1]) << "the same integers before the masks";
  size_t trainings = 0;
  for (const auto& m : f.regions[0]->told) trainings += std::holds_alternative<sandbox::Train>(m);
  EXPECT_EQ(trainings, 1u);
}

TEST(WorkerCoreTest, ARepeatedOfferGetsTheSameAdvert) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  const auto offer = f.SignedOffer(0, 0);
  region.Receive(offer);
  region.Receive(offer);
  const auto adverts = region.Sent<secagg::Signed<secagg::Advert>>();
  ASSERT_EQ(adverts.size(), 2u);
  EXPECT_EQ(secagg::Canonical(adverts[0].body), secagg::Canonical(adverts[1].body));
  EXPECT_EQ(adverts[0].signature, adverts[1].signature);
  EXPECT_EQ(region.JournalCount<AttemptEntered>(), 1u);
}

TEST(WorkerCoreTest, ASecondOfferForTheSameAttemptEndsItAndKeepsBothAsEvidence) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  secagg::Offer other = f.MakeOffer(0, 0);
  other.deadlines.input_ms += 1;
  region.Receive(secagg::Sign(f.coordinator.key, other));
  const auto drops = region.Sent<Dropout>();
  ASSERT_EQ(drops.size(), 1u);
  EXPECT_EQ(drops[0].code, DropoutCode::kProtocolViolation);
  EXPECT_EQ(drops[0].refusal, secagg::RefusalCode::kRepeatDiffers);
  ASSERT_EQ(region.evidence.size(), 2u);
  EXPECT_NE(region.evidence[0].body, region.evidence[1].body);
  for (const Evidence& e : region.evidence)
    EXPECT_OK(f.coordinator.key.Public().Verify(secagg::Offer::kDomain, e.body, e.signature));
}

TEST(WorkerCoreTest, AWorkerThatLostItsSealedStateNeverEntersTheSameAttemptAgain) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  ASSERT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 1u);
  region.sealed.clear();
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 1u);
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kShuttingDown);
  // The next attempt is a new one.
  region.Receive(f.SignedOffer(0, 1));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 2u);
}

TEST(WorkerCoreTest, ARoundCompletesWithoutTheRegionThatDiesBeforeItsUpload) {
  Federation f;
  f.regions[2]->hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kInput);
  f.cut = {3};
  f.Timeout();
  f.Run();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors(), (std::vector<SiteIndex>{1, 2, 4}));
  // The one that missed the round downloads its adapter and follows it back to what it knows.
  f.cut = {};
  f.regions[2]->Start();
  f.regions[2]->hold_training = false;
  f.regions[2]->Receive(JobNotice{f.signed_job, true, 1});
  f.Begin(1, 0);
  f.Run();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors().size(), 4u);
  EXPECT_EQ(f.regions[2]->Sent<ResultAck>().back().new_adapter, f.adapter_hash);
}

TEST(WorkerCoreTest, ALateWorkerFollowsSeveralRoundsBackAndRefusesAForkedChain) {
  Federation f;
  f.StartAll();
  f.Notify();
  for (RoundIndex r = 0; r < 2; ++r) {
    f.Begin(r, 0);
    f.Run();
  }
  ASSERT_EQ(f.adapter.round, 2u);
  Region& late = *f.regions[3];
  late.journal.clear();
  late.Start();
  late.Receive(JobNotice{f.signed_job, true, 2});
  late.Receive(f.SignedOffer(2, 0));
  EXPECT_TRUE(late.Sent<Dropout>().empty());
  EXPECT_EQ(late.Sent<secagg::Signed<secagg::Advert>>().size(), 3u);

  // The same adapter under another history: its parent is not what follows from the first adapter.
  AdapterBlob parent = f.adapter;
  parent.round = 1;
  parent.parent = crypto::Sha256(AsBytes("another first adapter"));
  const Bytes parent_bytes = EncodeAdapterBlob(parent);
  f.blobs[AdapterHash(parent_bytes)] = parent_bytes;
  AdapterBlob forked = f.adapter;
  forked.parent = AdapterHash(parent_bytes);
  f.Publish(forked);
  late.Start();
  late.Receive(JobNotice{f.signed_job, true, 2});
  late.Receive(f.SignedOffer(2, 1));
  ASSERT_EQ(late.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(late.Sent<Dropout>()[0].refusal, secagg::RefusalCode::kModel);
}

TEST(WorkerCoreTest, WhatPeersHaveSignedForIsHowFarTheLedgerHadComeWhenItWasAdvertised) {
  Federation f;
  f.PlayFirstAttempt();
  f.Begin(1, 0);
  f.Run();
  for (auto& region : f.regions) {
    std::vector<LedgerWitness> signed_for;
    for (const Record& record : region->journal)
      if (const auto* said = std::get_if<LedgerWitness>(&record); said && !said->signatures.empty())
        signed_for.push_back(*said);
    ASSERT_EQ(signed_for.size(), 2u) << "once for each attempt";
    const auto adverts = region->Sent<secagg::Signed<secagg::Advert>>();
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(signed_for[i].id, adverts[i].body.id);
      EXPECT_EQ(signed_for[i].mark.head, adverts[i].body.ledger_head);
      EXPECT_EQ(signed_for[i].mark.count, i);
      EXPECT_GE(signed_for[i].signatures.size(), 3u) << "t of four";
      EXPECT_TRUE(region->ledger->Holds(signed_for[i].mark));
    }
    EXPECT_EQ(region->ledger->entries().size(), 2u);
  }
}

TEST(WorkerCoreTest, EveryChargeIsOnRecordWithItsPriceBeforeAnythingLeaves) {
  Federation f;
  f.regions[0]->hold_upload = true;
  f.PlayFirstAttempt();
  Region& region = *f.regions[0];
  ASSERT_EQ(region.ledger->entries().size(), 1u);
  const LedgerWitness* own = nullptr;
  for (const Record& record : region.journal)
    if (const auto* said = std::get_if<LedgerWitness>(&record)) own = said;
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(own->mark.head, region.ledger->head());
  EXPECT_EQ(own->mark.count, 1u);
  EXPECT_EQ(own->mark.totals.at(0).price.curve().terms(),
            region.ledger->entries()[0].charge.price.curve().terms());
}

TEST(WorkerCoreTest, TheCountersignedHeadIsOnRecordBeforeAnyShareIsOpened) {
  Federation f;
  f.PlayFirstAttempt();
  for (auto& region : f.regions) {
    bool on_record = false;
    for (const Record& record : region->journal) {
      const auto* said = std::get_if<LedgerWitness>(&record);
      on_record |= said != nullptr && !said->signatures.empty();
      const auto* step = std::get_if<StepTaken>(&record);
      if (step != nullptr && step->phase == static_cast<uint8_t>(secagg::WorkerPhase::kUnmasked)) {
        EXPECT_TRUE(on_record);
      }
    }
    EXPECT_TRUE(on_record);
  }
}

TEST(WorkerCoreTest, TheLastResultIsCheckedEvenIfTheJobEndsWhileItsSumIsOnTheWay) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_fetch = true;
  f.PlayFirstAttempt();
  region.Receive(JobEnded{f.job.id, JobEnded::State::kDone, f.adapter_hash});
  EXPECT_TRUE(region.Sent<ResultAck>().empty());
  region.FinishFetch();
  ASSERT_EQ(region.Sent<ResultAck>().size(), 1u);
  EXPECT_EQ(region.Sent<ResultAck>()[0].new_adapter, f.adapter_hash);
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerCoreTest, TheNextOfferWaitsForTheSumThatItStartsFrom) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_fetch = true;
  f.PlayFirstAttempt();
  const size_t adverts = region.Sent<secagg::Signed<secagg::Advert>>().size();
  region.Receive(f.SignedOffer(1, 0));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), adverts);
  region.FinishFetch();
  EXPECT_EQ(region.Sent<ResultAck>().size(), 1u);
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), adverts + 1);
}

TEST(WorkerCoreTest, AResultThatDoesNotRecomputeHaltsTheJobInThisRegion) {
  Federation f;
  f.lie_about_result = true;
  f.PlayFirstAttempt();
  for (auto& region : f.regions) {
    EXPECT_TRUE(region->Sent<ResultAck>().empty());
    ASSERT_EQ(region->Sent<Dropout>().size(), 1u);
    EXPECT_EQ(region->Sent<Dropout>()[0].code, DropoutCode::kResultMismatch);
    EXPECT_EQ(region->JournalCount<JobHalted>(), 1u);
    EXPECT_FALSE(region->evidence.empty());
  }
  Region& region = *f.regions[0];
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 1});
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  region.Receive(f.SignedOffer(1, 0));
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kPolicyRefused);
}

TEST(WorkerCoreTest, NothingThatIsSaidAfterASignedResultKeepsItsSumFromBeingRecomputed) {
  for (const int what : {0, 1, 2}) {
    Federation f;
    f.lie_about_result = true;
    Region& region = *f.regions[0];
    region.hold_fetch = true;
    f.PlayFirstAttempt();
    ASSERT_EQ(region.JournalCount<ResultSaid>(), 1u);
    secagg::Keys keys;
    keys.id = {f.job.id, 0, 0};
    if (what == 0) region.Receive(secagg::Sign(region.party().key, keys));  // nobody's
    if (what == 1) region.Receive(secagg::Sign(f.coordinator.key, keys));
    if (what == 2) region.Receive(f.SignedOffer(0, 0));
    region.FinishFetch();
    EXPECT_EQ(region.JournalCount<JobHalted>(), 1u) << what;
    ASSERT_FALSE(region.Sent<Dropout>().empty());
    EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kResultMismatch) << what;
  }
}

TEST(WorkerCoreTest, ASecondSignedResultWhileTheFirstOnesSumIsFetchedHaltsTheJob) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_fetch = true;
  f.PlayFirstAttempt();
  secagg::Result other;
  for (const Record& record : region.journal)
    if (const auto* said = std::get_if<ResultSaid>(&record)) other = said->message.body;
  other.new_adapter.bytes[0] ^= 1;
  region.Receive(secagg::Sign(f.coordinator.key, other));
  EXPECT_EQ(region.JournalCount<JobHalted>(), 1u);
}

TEST(WorkerCoreTest, ASumThatIsNotWhatItsDigestSaysHaltsTheJob) {
  Federation f;
  f.StartAll();
  f.Notify();
  f.regions[0]->blobs = new std::map<Digest, Bytes>();  // serves nothing
  f.Begin(0, 0);
  f.Run();
  EXPECT_EQ(f.regions[0]->Sent<Dropout>().back().code, DropoutCode::kResultMismatch);
  EXPECT_EQ(f.regions[1]->Sent<ResultAck>().size(), 1u);
  delete f.regions[0]->blobs;
}

TEST(WorkerCoreTest, ASumThatDoesNotArriveEndsTheAttemptButNotTheJob) {
  Federation f;
  Region& region = *f.regions[0];
  region.fetch_error = PermissionDenied("the certificate has expired");
  f.PlayFirstAttempt();
  EXPECT_TRUE(region.Sent<ResultAck>().empty());
  EXPECT_EQ(region.JournalCount<JobHalted>(), 0u);
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
  region.fetch_error = OkStatus();
  region.Receive(f.SignedOffer(1, 0));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 2u) << "it follows the chain and goes on";
}

TEST(WorkerCoreTest, AnOfferThatIsNotTheCoordinatorsIsRefused) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  auto offer = f.SignedOffer(0, 0);
  offer.signature[5] ^= 1;
  region.Receive(offer);
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].refusal, secagg::RefusalCode::kBadSignature);
  EXPECT_EQ(region.JournalCount<AttemptEntered>(), 0u);
  EXPECT_TRUE(region.evidence.empty()) << "anyone could have made it";
  // The right one is still welcome.
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 1u);
}

struct BadOffer {
  const char* name;
  void (*spoil)(secagg::Offer&);
  secagg::RefusalCode code;
};
class BadOfferTest : public ::testing::TestWithParam<BadOffer> {};

TEST_P(BadOfferTest, IsRefusedBeforeAnythingIsMade) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  secagg::Offer offer = f.MakeOffer(0, 0);
  GetParam().spoil(offer);
  region.Receive(secagg::Sign(f.coordinator.key, offer));
  EXPECT_TRUE(region.Sent<secagg::Signed<secagg::Advert>>().empty());
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kProtocolViolation);
  EXPECT_EQ(region.Sent<Dropout>()[0].refusal, GetParam().code);
  EXPECT_EQ(region.JournalCount<AttemptEntered>(), 0u);
  EXPECT_EQ(region.evidence.size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(
    Offers, BadOfferTest,
    ::testing::Values(BadOffer{"OfAnotherAdapter", [](secagg::Offer& o) { o.adapter.bytes[0] ^= 1; },
                               secagg::RefusalCode::kModel},
                      BadOffer{"OfAnotherBaseModel", [](secagg::Offer& o) { o.base_model.bytes[0] ^= 1; },
                               secagg::RefusalCode::kModel},
                      BadOffer{"OfAnotherCharter", [](secagg::Offer& o) { o.charter.bytes[0] ^= 1; },
                               secagg::RefusalCode::kCharter},
                      BadOffer{"OfAnotherLength", [](secagg::Offer& o) { o.elements += 1; },
                               secagg::RefusalCode::kElements},
                      BadOffer{"WithTooLowAThreshold", [](secagg::Offer& o) { o.threshold -= 1; },
                               secagg::RefusalCode::kThreshold},
                      BadOffer{"WithoutColluders", [](secagg::Offer& o) { o.assumed_colluding = 0; },
                               secagg::RefusalCode::kColluding},
                      BadOffer{"WithTwoSites", [](secagg::Offer& o) { o.roster.resize(2); },
                               secagg::RefusalCode::kCohortTooSmall},
                      BadOffer{"WithTooShortADeadline", [](secagg::Offer& o) { o.deadlines.input_ms = 1; },
                               secagg::RefusalCode::kDeadlines},
                      BadOffer{"WithTooManyAttempts", [](secagg::Offer& o) { o.attempts_allowed = 100; },
                               secagg::RefusalCode::kAttempts},
                      BadOffer{"PastTheLastRound", [](secagg::Offer& o) { o.id.round = 3; },
                               secagg::RefusalCode::kWrongAttempt},
                      // Within the region's bounds, but not what the signed job says.
                      BadOffer{"WithAnotherDeadlineThanTheJobs",
                               [](secagg::Offer& o) { o.deadlines.input_ms += 1000; },
                               secagg::RefusalCode::kDeadlines}),
    [](const auto& info) { return info.param.name; });

TEST(WorkerCoreTest, AnOfferForAJobThatWasNotAnnouncedIsRefused) {
  Federation f;
  f.StartAll();
  Region& region = *f.regions[0];
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kPolicyRefused);
  f.Notify(/*run=*/false);
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>()[1].code, DropoutCode::kPolicyRefused);
  EXPECT_EQ(region.trainer_starts, 0) << "a plan starts nothing";
}

TEST(WorkerCoreTest, ARefusedKeyMessageEndsTheAttemptWithEvidence) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  secagg::Keys keys;
  keys.id = {f.job.id, 0, 0};
  region.Receive(secagg::Sign(f.coordinator.key, keys));
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kProtocolViolation);
  ASSERT_EQ(region.evidence.size(), 2u);
  EXPECT_EQ(region.evidence[0].name, "offer");
  EXPECT_EQ(region.evidence[1].name, "keys-refused");
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerCoreTest, AMessageThatTheCoordinatorDidNotSignIsNoEvidenceAgainstIt) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  secagg::Keys keys;
  keys.id = {f.job.id, 0, 0};
  auto message = secagg::Sign(f.coordinator.key, keys);
  message.signature[0] ^= 1;
  region.Receive(message);
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kBadSignature);
  EXPECT_TRUE(region.evidence.empty());
}

TEST(WorkerCoreTest, AJobsEvidenceHasAnEnd) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  uint64_t bytes = 0;
  for (AttemptIndex i = 0; i < 3; ++i) {
    region.Receive(f.SignedOffer(0, i));
    secagg::Keys keys;
    keys.id = {f.job.id, 0, i};
    keys.chains = {std::string(12 << 20, 'x')};
    region.Receive(secagg::Sign(f.coordinator.key, keys));
    ASSERT_EQ(region.Sent<Dropout>().size(), i + 1u);
  }
  for (const Evidence& e : region.evidence) bytes += e.body.size();
  EXPECT_GT(bytes, uint64_t{20} << 20) << "the first ones are kept";
  EXPECT_LE(bytes, uint64_t{32} << 20);
}

TEST(WorkerCoreTest, MessagesOfAttemptsThatAreNotOpenChangeNothing) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  const size_t before = region.sent.size();
  secagg::Keys keys;
  keys.id = {f.job.id, 0, 0};
  region.Receive(secagg::Sign(f.coordinator.key, keys));
  region.Receive(AttemptAborted{{f.job.id, 0, 0}, 1});
  ASSERT_EQ(region.sent.size(), before + 1);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kShuttingDown) << "nobody should wait";
  EXPECT_TRUE(region.journal.empty());
  EXPECT_TRUE(region.evidence.empty());
}

TEST(WorkerCoreTest, OffersThatAreRefusedAgainAndAgainDoNotFillTheDiskWithEvidence) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  secagg::Offer offer = f.MakeOffer(0, 0);
  for (uint32_t attempt = 0; attempt < 1000; ++attempt) {
    offer.id = {f.job.id, 1000, attempt};  // of a job of three rounds
    region.Receive(secagg::Sign(f.coordinator.key, offer));
  }
  EXPECT_EQ(region.Sent<Dropout>().size(), 1000u);
  EXPECT_EQ(region.evidence.size(), 256u);
}

TEST(WorkerCoreTest, ASpentBudgetIsAHardStop) {
  Federation f;
  f.regions[0]->card.privacy.epsilon = 1;  // far less than a round costs
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  const auto answer = region.Sent<JobAnswer>().back();
  EXPECT_EQ(answer.verdict, Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kDatasetBudget});
  EXPECT_GT(answer.epsilon_after, answer.epsilon_budget);
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kPolicyRefused);
  EXPECT_TRUE(region.ledger->entries().empty());
}

TEST(WorkerCoreTest, ABudgetThatEndsBetweenAttemptsStopsBeforeAnythingLeaves) {
  Federation f;
  const auto charge = policy::RoundCharge(f.job.spec, f.MakeOffer(0, 0));
  ASSERT_OK(charge);
  // Enough for the job as planned, when nothing fails: three rounds. A fourth attempt does not fit.
  Region& region = *f.regions[0];
  region.card.privacy.epsilon = *policy::PlanEpsilon(f.job.spec, 3, 4) * 1.0001;
  f.StartAll();
  f.Notify();
  ASSERT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  for (AttemptIndex a = 0; a < 3; ++a)
    ASSERT_OK(region.ledger->Charge(
        region.now,
        {ChargeKind::kDelta, PrivacyUnit::kSite, Neighbour::kZeroOut, {f.job.id, 9, a}, charge->price}));
  region.Receive(f.SignedOffer(0, 0));
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kBudgetSpent);
  EXPECT_TRUE(region.uploads.empty());
}

TEST(WorkerCoreTest, ABudgetSpentWhileTrainingStopsTheUpload) {
  Federation f;
  const auto charge = policy::RoundCharge(f.job.spec, f.MakeOffer(0, 0));
  Region& region = *f.regions[0];
  region.card.privacy.epsilon = *policy::PlanEpsilon(f.job.spec, 3, 4) * 1.0001;
  region.hold_training = true;
  f.PlayFirstAttempt();
  for (AttemptIndex a = 0; a < 3; ++a)
    ASSERT_OK(region.ledger->Charge(
        region.now,
        {ChargeKind::kDelta, PrivacyUnit::kSite, Neighbour::kZeroOut, {f.job.id, 9, a}, charge->price}));
  region.FinishTraining();
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kBudgetSpent);
  EXPECT_TRUE(region.uploads.empty());
  EXPECT_EQ(region.ledger->entries().size(), 3u);
}

TEST(WorkerCoreTest, ADeltaThatIsReadyAfterTheTimeForInputIsNotChargedFor) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.now = region.now + Millis(f.job.spec.deadlines.input_ms) + Millis(1);
  region.FinishTraining();
  EXPECT_TRUE(region.ledger->entries().empty());
  EXPECT_TRUE(region.uploads.empty());
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerCoreTest, ALedgerThatCannotBeWrittenLetsNothingLeave) {
  Federation f;
  f.regions[0]->ledger_fails = true;
  f.PlayFirstAttempt();
  Region& region = *f.regions[0];
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kStorageFull);
  EXPECT_TRUE(region.uploads.empty());
  EXPECT_TRUE(region.receipts.empty());
}

TEST(WorkerCoreTest, AJournalThatCannotBeWrittenKeepsTheAdvertHome) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.storage_fails = true;
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_TRUE(region.Sent<secagg::Signed<secagg::Advert>>().empty());
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kStorageFull);
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerCoreTest, ADiskThatTakesNeitherTheChargeNorTheGoodbyesRecordStillLetsTheGoodbyeOut) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.ledger_fails = true;
  region.storage_fails = true;
  region.FinishTraining();
  f.Run();
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kStorageFull);
  EXPECT_TRUE(region.uploads.empty());
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone) << "nobody waits for it";
}

TEST(WorkerCoreTest, AFullDiskDuringTheUploadEndsTheAttempt) {
  Federation f;
  f.regions[0]->upload_fails = true;
  f.PlayFirstAttempt();
  EXPECT_EQ(f.regions[0]->Sent<Dropout>().back().code, DropoutCode::kStorageFull);
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone) << "the others are enough";
  EXPECT_EQ(f.round().survivors(), (std::vector<SiteIndex>{2, 3, 4}));
}

TEST(WorkerCoreTest, AJobThatNeedsApprovalWaitsForThePerson) {
  Federation f;
  Region& region = *f.regions[0];
  region.policy.approval = policy::ApprovalMode::kManual;
  f.StartAll();
  f.Notify();
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kWaitsForApproval);
  EXPECT_EQ(region.trainer_starts, 0);
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kPolicyRefused);
  auto reply = region.core->OnDecision(f.job.id, Decision::kApprove, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  region.Settle();
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  // The yes outlives the process.
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
}

TEST(WorkerCoreTest, ADeniedJobIsRefusedAndStaysSo) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  auto reply = region.core->OnDecision(f.job.id, Decision::kDeny, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kApprovalDenied});
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
}

TEST(WorkerCoreTest, WithdrawalBeforeAnythingLeftCostsNothing) {
  Federation f;
  for (auto& region : f.regions) region->hold_training = true;
  f.PlayFirstAttempt();
  Region& region = *f.regions[0];
  auto reply = region.core->OnDecision(f.job.id, Decision::kWithdraw, region.now);
  ASSERT_OK(reply);
  EXPECT_NE(reply->text.find("nothing had left"), std::string::npos) << reply->text;
  region.Apply(std::move(reply->effects));
  region.FinishTraining();
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kWithdrawn);
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kWithdrawn);
  EXPECT_TRUE(region.ledger->entries().empty());
  EXPECT_TRUE(region.uploads.empty());
  EXPECT_EQ(region.core->OnDecision(f.job.id, Decision::kApprove, region.now).status().code(),
            StatusCode::kFailedPrecondition);
  for (auto& other : f.regions) other->FinishTraining();
  f.Run();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
}

TEST(WorkerCoreTest, WithdrawalDuringTheUploadCancelsItAndReceiptsWhatLeft) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_upload = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(region.ledger->entries().size(), 1u);
  auto reply = region.core->OnDecision(f.job.id, Decision::kWithdraw, region.now);
  ASSERT_OK(reply);
  EXPECT_NE(reply->text.find("charge stands"), std::string::npos) << reply->text;
  region.Apply(std::move(reply->effects));
  region.Settle();
  EXPECT_EQ(region.cancelled_uploads, 1);
  ASSERT_EQ(region.receipts.size(), 1u);
  EXPECT_EQ(region.receipts[0].bytes, 100u);
}

TEST(WorkerCoreTest, APausedJobSitsOutUntilItIsResumed) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  auto reply = region.core->OnDecision(f.job.id, Decision::kPause, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kPaused);
  region.Receive(f.SignedOffer(0, 0));
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kPaused);
  reply = region.core->OnDecision(f.job.id, Decision::kResume, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
}

TEST(WorkerCoreTest, StatusSaysWhetherAJobWasOnlyPlannedRunsOrHasEnded) {
  Federation f;
  f.StartAll();
  Region& region = *f.regions[0];
  const auto stage = [&] { return region.core->status().jobs.at(0).stage; };
  region.Receive(JobNotice{f.signed_job, false, 0});
  EXPECT_EQ(stage(), JobStage::kPlannedOnly);
  region.Receive(JobNotice{f.signed_job, true, 0});
  EXPECT_EQ(stage(), JobStage::kRunning);
  region.Apply(region.core->OnDisconnected(region.now));
  region.Apply(region.core->OnConnected(region.now));
  EXPECT_EQ(stage(), JobStage::kUnknown) << "not named since it connected";
  region.Receive(JobNotice{f.signed_job, true, 0});
  EXPECT_EQ(stage(), JobStage::kRunning);
  region.Receive(JobEnded{f.job.id, JobEnded::State::kCancelled, {}});
  EXPECT_EQ(stage(), JobStage::kEnded);
}

TEST(WorkerCoreTest, AJobThatHasEndedIsNotPaused) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.Receive(JobEnded{f.job.id, JobEnded::State::kDone, f.adapter_hash});
  const size_t records = region.journal.size();
  EXPECT_EQ(region.core->OnDecision(f.job.id, Decision::kPause, region.now).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(region.journal.size(), records);
}

TEST(WorkerCoreTest, ADecisionOnAnUnknownJobChangesNothing) {
  Federation f;
  f.StartAll();
  EXPECT_EQ(f.regions[0]->core->OnDecision(f.job.id, Decision::kApprove, At(0)).status().code(),
            StatusCode::kNotFound);
  EXPECT_TRUE(f.regions[0]->journal.empty());
}

TEST(WorkerCoreTest, AJobWithAForgedSignatureOrAMalformedFileIsRefusedWithItsRule) {
  Federation f;
  f.StartAll();
  Region& region = *f.regions[0];
  policy::SignedJob forged = f.signed_job;
  forged.file += "\n";
  region.Receive(JobNotice{forged, true, 0});
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kSubmitterSignature});
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  EXPECT_EQ(region.core->status().jobs.size(), 0u);
}

TEST(WorkerCoreTest, ARegionWithAnotherBaseModelSaysThatItIsAbsent) {
  Federation f;
  f.regions[0]->base_model = crypto::Sha256(AsBytes("another model"));
  f.StartAll();
  f.Notify();
  EXPECT_EQ(f.regions[0]->Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kBaseModelAbsent});
}

TEST(WorkerCoreTest, AJobThatStatesAnotherShapeThanItsBaseModelHasIsRefused) {
  Federation f;
  f.regions[0]->base_shape.hidden = 64;
  f.StartAll();
  f.Notify();
  EXPECT_EQ(f.regions[0]->Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  EXPECT_EQ(f.regions[0]->Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kBaseModelShape});
  ASSERT_EQ(f.regions[0]->core->status().jobs.size(), 1u);
  EXPECT_EQ(f.regions[0]->trainer_starts, 0) << "nothing is made of a size that is not believed";
  const std::string& line = f.regions[0]->log.back().text;
  EXPECT_NE(line.find("job " + f.job.id.brief()), std::string::npos) << line;
  EXPECT_NE(line.find("base_models.shape"), std::string::npos) << line;
}

TEST(WorkerCoreTest, ATrainerThatIsNotLockedDownGetsNoTask) {
  Federation f;
  Region& region = *f.regions[0];
  region.lockdown = sandbox::Ready::Lockdown::kSeccompOnly;
  f.StartAll();
  f.Notify();
  EXPECT_FALSE(region.trainer_running);
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kSandboxRequired});
  // Where the policy says advisory it works, and receipts say so.
  Region& lax = *f.regions[1];
  lax.lockdown = sandbox::Ready::Lockdown::kSeccompOnly;
  lax.policy.sandbox = policy::SandboxMode::kAdvisory;
  lax.Start();
  f.Notify();
  f.Begin(0, 0);
  f.Run();
  ASSERT_FALSE(lax.receipts.empty());
  EXPECT_EQ(lax.receipts[0].sandbox, policy::SandboxState::kAdvisory);
}

TEST(WorkerCoreTest, AKilledTrainerIsStartedAgainAndTheRoundGoesOn) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.KillTrainer();
  EXPECT_TRUE(region.Sent<Dropout>().empty());
  ASSERT_TRUE(region.wake.has_value());
  region.hold_training = false;
  region.Tick(*region.wake);
  EXPECT_EQ(region.trainer_starts, 2);
  f.Run();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors().size(), 4u);
}

TEST(WorkerCoreTest, ATrainerThatDiesAgainAndAgainCostsTheAttempt) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_training = true;
  f.PlayFirstAttempt();
  for (int i = 0; i < 3; ++i) {
    region.KillTrainer();
    if (region.wake) region.Tick(*region.wake);
  }
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kTrainerFailed);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kTrainerFails});
}

std::vector<policy::RuleCode> TrainerFails() { return {policy::RuleCode::kTrainerFails}; }

TEST(WorkerCoreTest, ATrainerThatRefusesCostsOneAttemptAndTheJobIsRefusedUntilTheOperatorHasLooked) {
  Federation f;
  Region& region = *f.regions[0];
  region.training_fails = true;
  f.PlayFirstAttempt();
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kTrainerFailed);
  EXPECT_TRUE(region.ledger->entries().empty());
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kRefused);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  const size_t adverts = region.Sent<secagg::Signed<secagg::Advert>>().size();
  region.Receive(f.SignedOffer(0, 1));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), adverts) << "the others would pay again";
  EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kTrainerFailed);
  region.Receive(JobNotice{f.signed_job, true, 0});  // the connection broke and came back
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  region.training_fails = false;
  auto reply = region.core->OnDecision(f.job.id, Decision::kResume, region.now);
  ASSERT_OK(reply);
  region.Apply(std::move(reply->effects));
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  f.Begin(1, 0);
  f.Run();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  EXPECT_EQ(f.round().survivors().size(), 4u);
}

TEST(WorkerCoreTest, ATrainerThatCannotPrepareTheJobRefusesItBeforeAnyOffer) {
  Federation f;
  Region& region = *f.regions[0];
  region.preparing_fails = true;
  f.StartAll();
  f.Notify();
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  region.preparing_fails = false;
  region.Start();  // a restart tries again
  region.Receive(JobNotice{f.signed_job, true, 0});
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
}

TEST(WorkerCoreTest, ATrainerThatDoesNotStartRefusesEveryJobUntilItSaysThatItIsReady) {
  Federation f;
  Region& region = *f.regions[0];
  region.starting_fails = true;
  f.StartAll();
  f.Notify();
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  for (int i = 0; i < 2; ++i) region.Tick(*region.wake);
  EXPECT_EQ(region.trainer_starts, 3);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  const size_t answers = region.Sent<JobAnswer>().size();
  region.Tick(*region.wake);
  EXPECT_EQ(region.trainer_starts, 4) << "it is tried again";
  EXPECT_EQ(region.Sent<JobAnswer>().size(), answers) << "nothing new was said";
  region.starting_fails = false;
  region.Tick(*region.wake);
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  f.Begin(0, 0);
  f.Run();
  EXPECT_EQ(f.round().survivors().size(), 4u);
}

// In the meantime the others would begin attempts that this region can only break.
TEST(WorkerCoreTest, MalformedDataRefusesEveryJobAtTheFirstStart) {
  Federation f;
  Region& region = *f.regions[0];
  region.starting_fails = true;
  region.starting_error = StatusCode::kInvalidArgument;
  f.StartAll();
  f.Notify();
  EXPECT_EQ(region.trainer_starts, 1);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  region.starting_fails = false;
  region.Tick(*region.wake);
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible) << "it was mended";
}

TEST(WorkerCoreTest, AWarmTrainerThatStopsStartingCostsTheOpenAttemptAndNoOther) {
  Federation f;
  Region& region = *f.regions[0];
  region.hold_training = true;
  f.PlayFirstAttempt();
  region.starting_fails = true;
  region.KillTrainer();
  for (int i = 0; i < 3; ++i) region.Tick(*region.wake);
  ASSERT_EQ(region.Sent<Dropout>().size(), 1u);
  EXPECT_EQ(region.Sent<Dropout>()[0].code, DropoutCode::kTrainerFailed);
  EXPECT_EQ(region.Sent<JobAnswer>().back().rules, TrainerFails());
  region.starting_fails = false;
  region.hold_training = false;
  region.Tick(*region.wake);
  EXPECT_EQ(region.Sent<JobAnswer>().back().verdict, Verdict::kEligible);
}

TEST(WorkerCoreTest, ADeltaThatIsNotFiniteIsNeitherChargedNorSent) {
  Federation f;
  f.regions[0]->delta_value = std::nanf("");
  f.PlayFirstAttempt();
  EXPECT_EQ(f.regions[0]->Sent<Dropout>().back().code, DropoutCode::kTrainerFailed);
  EXPECT_TRUE(f.regions[0]->ledger->entries().empty());
}

TEST(WorkerCoreTest, AnAttemptWithoutAnAnswerInTimeIsErased) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  ASSERT_NE(region.core->status().attempt, AttemptId{});
  region.Tick(region.now + Millis(60'000 + 29'999));
  EXPECT_NE(region.core->status().attempt, AttemptId{});
  region.Tick(region.now + Millis(1));
  EXPECT_EQ(region.core->status().attempt, AttemptId{});
}

TEST(WorkerCoreTest, AttemptsThatFailAfterTheUploadCannotBurnTheLedger) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  f.regions[3]->hold_training = true;  // never uploads
  for (AttemptIndex a = 0; a < 3; ++a) {
    f.Begin(0, a);
    f.Run();
    for (auto& r : f.regions) r->Receive(AttemptAborted{{f.job.id, 0, a}, 3});
  }
  EXPECT_EQ(region.ledger->entries().size(), 3u);
  // Not even after a restart, and not under a number that the job allows.
  region.Start();
  region.Receive(JobNotice{f.signed_job, true, 0});
  region.entered_before = region.Sent<secagg::Signed<secagg::Advert>>().size();
  secagg::Offer offer = f.MakeOffer(0, 7);
  offer.attempts_allowed = 8;
  region.Receive(secagg::Sign(f.coordinator.key, offer));
  EXPECT_EQ(region.Sent<Dropout>().back().refusal, secagg::RefusalCode::kAttempts);
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), region.entered_before);
}

TEST(WorkerCoreTest, AnOrderlyEndSaysNoGoodbyeTakesNoOfferAndKeepsWhatIsSealed) {
  Federation f;
  f.StartAll();
  f.Notify();
  Region& region = *f.regions[0];
  region.hold_training = true;
  region.Receive(f.SignedOffer(0, 0));
  region.Apply(region.core->OnShutdown(region.now));
  EXPECT_TRUE(region.Sent<Dropout>().empty()) << "the others would pay for another attempt";
  EXPECT_EQ(region.JournalCount<AttemptLeft>(), 0u);
  EXPECT_EQ(region.sealed.size(), 1u);
  EXPECT_NE(region.log.back().text.find("goes on when this worker is started again"), std::string::npos);
  EXPECT_FALSE(region.core->status().attempt.job == f.job.id);
  EXPECT_FALSE(region.trainer_running);
  region.Receive(f.SignedOffer(0, 1));
  EXPECT_EQ(region.Sent<secagg::Signed<secagg::Advert>>().size(), 1u);
}

TEST(WorkerCoreTest, AnswersAPing) {
  Federation f;
  f.StartAll();
  f.regions[0]->Receive(Ping{41});
  ASSERT_EQ(f.regions[0]->Sent<Pong>().size(), 1u);
  EXPECT_EQ(f.regions[0]->Sent<Pong>()[0].sequence, 41u);
}

// ---- Sums over records, whose noise the sites share.

constexpr std::string_view kSumPrivacy =
    "noise: distributed\n  noise_multiplier: 0.05\n  unit_clip: 0.5\n  sampling_rate: 1\n  expected_units: 5";

/// Four regions with such a job, whose trainers answer with integers.
struct SumFederation : Federation {
  SumFederation() : Federation(kSumPrivacy) {
    for (auto& region : regions) {
      region->policy.privacy.noise = {policy::NoisePlacement::kLocal, policy::NoisePlacement::kDistributed};
      region->card.privacy.unit = PrivacyUnit::kRecord;
      region->card.privacy.delta = 3e-5;
      region->delta_value = -3000;
      region->sums = sandbox::RoundSums{70'000, 140'000};
    }
  }
};

TEST(UnitSumCoreTest, IntegersGetTheirShareOfNoiseAndAreChargedForTheHonest) {
  SumFederation f;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone);
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, policy::EncodingFor(f.job.spec, f.round().offer()));
  ASSERT_OK_AND_ASSIGN(const LedgerCharge charge, policy::RoundCharge(f.job.spec, f.round().offer()));
  const uint64_t d = f.layout.delta_elements();
  for (auto& region : f.regions) {
    ASSERT_EQ(region->ledger->entries().size(), 1u);
    EXPECT_EQ(region->ledger->entries()[0].charge.price.curve().terms(), charge.price.curve().terms());
    EXPECT_EQ(region->ledger->entries()[0].charge.unit, PrivacyUnit::kRecord);
    ASSERT_EQ(region->encoded.size(), 1u);
    double squares = 0;
    for (uint64_t i = 0; i < d; ++i)
      squares += std::pow(static_cast<int32_t>(region->encoded[0][i]) + 3000.0, 2);
    EXPECT_NEAR(squares / static_cast<double>(d) / plan.noise().value(), 1,
                6 * std::sqrt(2.0 / static_cast<double>(d)));
    const auto* train = std::get_if<sandbox::Train>(&region->told.back());
    ASSERT_TRUE(train != nullptr && train->privacy && train->privacy->sum);
    EXPECT_EQ(train->privacy->sum->largest, plan.config().largest);
    EXPECT_EQ(train->local_steps, 1u);
    EXPECT_EQ(train->privacy->delta, region->card.privacy.delta)
        << "the budget's, which the ledger counts with";
    const auto* prepare = std::get_if<sandbox::Prepare>(&region->told[1]);
    ASSERT_NE(prepare, nullptr);
    EXPECT_TRUE(prepare->may_be_empty);
  }
  const DecodedSum decoded = f.Decoded();
  double mean = 0;
  for (const float v : decoded.mean_delta) mean += v;
  const double noise = std::sqrt(plan.noise().value() / 4) / plan.scale();
  EXPECT_NEAR(mean / static_cast<double>(d), -3000 / plan.scale(),
              6 * noise / std::sqrt(static_cast<double>(d)));
  ASSERT_EQ(decoded.metric_sums.size(), 2u);
  const double units[] = {70'000, 140'000};
  for (size_t i = 0; i < 2; ++i)
    EXPECT_NEAR(decoded.metric_sums[i] * plan.config().metrics[i].scale, 4 * units[i],
                6 * std::sqrt(4 * plan.metric_noise(i).value()));
}

TEST(UnitSumCoreTest, WhatIsNoSumOfIntegersIsNeitherChargedNorSent) {
  const std::vector<std::function<void(Region&)>> cases = {
      [](Region& r) { r.delta_value = 0.5f; }, [](Region& r) { r.delta_value = 1e9f; },
      [](Region& r) { r.delta_value = std::nanf(""); }, [](Region& r) { r.sums.reset(); }};
  for (size_t i = 0; i < cases.size(); ++i) {
    SumFederation f;
    Region& region = *f.regions[0];
    cases[i](region);
    f.PlayFirstAttempt();
    EXPECT_EQ(region.Sent<Dropout>().back().code, DropoutCode::kTrainerFailed) << i;
    EXPECT_TRUE(region.ledger->entries().empty()) << i;
    EXPECT_TRUE(region.encoded.empty()) << i;
    EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kDone) << i;
  }
}

TEST(UnitSumCoreTest, FewerThanTheSurvivorsThatNoiseWasCountedOnOpenNothing) {
  SumFederation f;
  f.regions[0]->hold_training = f.regions[1]->hold_training = true;
  f.PlayFirstAttempt();
  ASSERT_EQ(f.round().phase(), secagg::CoordinatorPhase::kInput);
  EXPECT_EQ(f.regions[3]->ledger->entries().size(), 1u);
  f.Timeout();
  f.Run();
  EXPECT_EQ(f.round().phase(), secagg::CoordinatorPhase::kAborted) << "two of at least three";
  for (auto& region : f.regions) EXPECT_TRUE(region->Sent<secagg::Signed<secagg::Unmask>>().empty());
  EXPECT_EQ(f.regions[3]->ledger->entries().size(), 1u) << "what was paid stays paid";
}

TEST(UnitSumCoreTest, ARegionThatAllowsLocalNoiseAloneDoesNotTakePart) {
  SumFederation f;
  f.regions[1]->policy.privacy.noise = {policy::NoisePlacement::kLocal};
  f.StartAll();
  f.Notify();
  EXPECT_EQ(f.regions[0]->Sent<JobAnswer>().back().verdict, Verdict::kEligible);
  EXPECT_EQ(f.regions[1]->Sent<JobAnswer>().back().verdict, Verdict::kRefused);
}

}  // namespace
}  // namespace concordat::worker
