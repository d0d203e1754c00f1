#include "privacy/secagg/worker_round.h"

#include <algorithm>

#include "privacy/secagg/commitment.h"
#include "tests/unit/privacy/secagg/harness.h"

// Every check of the worker, one test each: the lying coordinator's message is refused with the right code,
// the phase does not move, and the true message is accepted afterwards, so a refusal changed nothing.
namespace concordat::secagg::testing {
namespace {

using enum RefusalCode;

class WorkerRoundTest : public ::testing::Test {
 protected:
  World world_{5};
  Attempt attempt_{world_};
  WorkerRound& worker_ = attempt_.worker(1);
  Instant now_ = At(0);

  template <typename T>
  StatusOr<WorkerEffects> Give(const Signed<T>& message) {
    return attempt_.AtWorker(1, message);
  }
  /// Signs `body` as the coordinator and expects it to be refused without a trace.
  template <typename T>
  void Refused(T body, RefusalCode code) {
    const WorkerPhase before = worker_.phase();
    ExpectRefused(Give(attempt_.ByCoordinator(std::move(body))), code);
    EXPECT_EQ(worker_.phase(), before);
  }
  /// The attempt still comes to its exact sum.
  void StillWorks() {
    ASSERT_TRUE(attempt_.Run());
    EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
    EXPECT_EQ(worker_.phase(), WorkerPhase::kDone);
  }
};

TEST_F(WorkerRoundTest, RefusesMessagesThatTheCoordinatorHasNotSigned) {
  attempt_.Start();
  Signed<Offer> offer = attempt_.Waiting<Offer>(1);
  offer.signature[5] ^= 1;
  ExpectRefused(Give(offer), kBadSignature);
  ExpectRefused(Give(Sign(attempt_.key(2), offer.body)), kBadSignature);
  attempt_.RunUntil(CoordinatorPhase::kShares);
  ExpectRefused(Give(Sign(attempt_.key(2), attempt_.Waiting<Keys>(1).body)), kBadSignature);
  attempt_.RunUntil(CoordinatorPhase::kInput);
  ExpectRefused(Give(Sign(attempt_.key(2), attempt_.Waiting<Delivery>(1).body)), kBadSignature);
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  ExpectRefused(Give(Sign(attempt_.key(2), attempt_.Waiting<Survivors>(1).body)), kBadSignature);
  attempt_.RunUntil(CoordinatorPhase::kUnmask);
  ExpectRefused(Give(Sign(attempt_.key(2), attempt_.Waiting<AgreementBundle>(1).body)), kBadSignature);
  StillWorks();
}

TEST_F(WorkerRoundTest, RefusesMessagesOfAnotherAttempt) {
  attempt_.Start();
  auto offer = attempt_.Waiting<Offer>(1).body;
  offer.id.round += 1;
  Refused(offer, kWrongAttempt);
  attempt_.RunUntil(CoordinatorPhase::kShares);
  auto keys = attempt_.Waiting<Keys>(1).body;
  keys.id.attempt += 1;
  Refused(keys, kWrongAttempt);
  StillWorks();
}

TEST_F(WorkerRoundTest, RefusesAnOfferThatNamesItWithAnotherKeyOrNotAtAll) {
  auto offer = world_.offer;
  offer.roster[0].key_hash = DigestFor("another key");
  Refused(offer, kRoster);
  offer.roster.erase(offer.roster.begin());
  offer.threshold = offer.min_survivors = 3;
  Refused(offer, kRoster);
  StillWorks();
}

TEST_F(WorkerRoundTest, RefusesAnOfferOutsideTheRegionsBounds) {
  auto offer = world_.offer;
  offer.threshold = 3;  // of five
  Refused(offer, kThreshold);
  offer = world_.offer;
  offer.deadlines.input_ms = 1;
  Refused(offer, kDeadlines);
  StillWorks();
}

TEST_F(WorkerRoundTest, GivesTheSameAdvertToARepeatedOfferAndRefusesADifferentOne) {
  attempt_.Start();
  const auto offer = attempt_.Waiting<Offer>(1);
  const auto first = Give(offer);
  const auto again = Give(offer);
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_TRUE(first->persist.has_value());
  EXPECT_FALSE(again->persist.has_value());
  const auto& a = std::get<Signed<Advert>>(*first->send);
  const auto& b = std::get<Signed<Advert>>(*again->send);
  EXPECT_EQ(Canonical(a.body), Canonical(b.body));
  EXPECT_EQ(a.signature, b.signature);
  auto other = offer.body;
  other.deadlines.input_ms += 1;
  Refused(other, kRepeatDiffers);
}

TEST_F(WorkerRoundTest, RefusesEventsOfAnotherPhase) {
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  Attempt fresh(world_);
  const auto survivors = attempt_.Waiting<Survivors>(1);
  ExpectRefused(fresh.AtWorker(1, survivors), kWrongPhase);
  ExpectRefused(fresh.worker(1).BeginInput(now_), kWrongPhase);
  ExpectRefused(fresh.worker(1).TakeMasks(), kWrongPhase);
  ExpectRefused(fresh.worker(1).OnInput(37, DigestFor("y"), now_), kWrongPhase);
}

// Step 2.

class WorkerKeysTest : public WorkerRoundTest {
 protected:
  WorkerKeysTest() {
    attempt_.RunUntil(CoordinatorPhase::kShares);
    keys_ = attempt_.Waiting<Keys>(1).body;
  }
  /// Site `i`'s advert, changed and signed by that site.
  template <typename F>
  void Resign(size_t i, F change) {
    change(keys_.adverts[i].body);
    keys_.adverts[i] = Sign(attempt_.key(static_cast<SiteIndex>(i + 1)), keys_.adverts[i].body);
  }
  Keys keys_;
};

TEST_F(WorkerKeysTest, RefusesASwappedAdvert) {
  keys_.adverts[2].body.mask_key = keys_.adverts[3].body.mask_key;  // signature no longer fits
  Refused(keys_, kBadSignature);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAnAdvertSignedByTheCoordinatorInsteadOfTheSite) {
  keys_.adverts[2] = Sign(world_.coordinator, keys_.adverts[2].body);
  Refused(keys_, kBadSignature);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesItsOwnAdvertAltered) {
  keys_.adverts[0].body.mask_key[3] ^= 1;
  Refused(keys_, kOwnMessageChanged);
  // Even when this worker's own signature is on it: an advert of another life of this worker.
  Resign(0, [](Advert& a) { a.ledger_head = DigestFor("older"); });
  Refused(keys_, kOwnMessageChanged);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAnAdvertUnderAnotherOffer) {
  Resign(1, [](Advert& a) { a.t0 = DigestFor("another offer"); });
  Refused(keys_, kTranscript);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAnAdvertOfAnotherAttempt) {
  Resign(1, [](Advert& a) { a.id.attempt = 0; });
  Refused(keys_, kWrongAttempt);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAChainThatDoesNotVerifyOrIsAnothers) {
  keys_.chains[1] = "chain of nobody";
  Refused(keys_, kUntrustedPeer);
  keys_.chains[1] = keys_.chains[2];
  Refused(keys_, kUntrustedPeer);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAChainWithAnotherKeyThanTheRosterPins) {
  const auto other = crypto::SigningKey::FromSeed(SeedFor("renewed"));
  world_.verifier.Add("renewed chain", world_.sites[1].id, other.Public());
  keys_.chains[1] = "renewed chain";
  keys_.adverts[1] = Sign(other, keys_.adverts[1].body);
  Refused(keys_, kUntrustedPeer);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesRepeatedKeysAndSeedHashes) {
  const Keys original = keys_;
  Resign(1, [&](Advert& a) { a.mask_key = original.adverts[2].body.mask_key; });
  Refused(keys_, kDuplicateKey);
  keys_ = original;
  Resign(1, [&](Advert& a) { a.channel_key = original.adverts[1].body.mask_key; });
  Refused(keys_, kDuplicateKey);
  keys_ = original;
  Resign(1, [&](Advert& a) { a.channel_key = original.adverts[0].body.mask_key; });
  Refused(keys_, kDuplicateKey);
  keys_ = original;
  Resign(1, [&](Advert& a) { a.seed_hash = original.adverts[0].body.seed_hash; });
  Refused(keys_, kDuplicateKey);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAKeyOfLowOrder) {
  const Keys original = keys_;
  Resign(1, [](Advert& a) { a.mask_key = {}; });
  Refused(keys_, kDuplicateKey);
  keys_ = original;
  Resign(1, [](Advert& a) { a.channel_key = {1}; });
  Refused(keys_, kDuplicateKey);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesFewerAdvertsThanSurvivorsAreNeeded) {
  keys_.adverts.resize(3);
  keys_.chains.resize(3);
  Refused(keys_, kTooFewAdverts);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesUnsortedRepeatedOrUnknownSites) {
  const Keys original = keys_;
  std::swap(keys_.adverts[1], keys_.adverts[2]);
  Refused(keys_, kMalformed);
  keys_ = original;
  keys_.adverts[2] = keys_.adverts[1];
  Refused(keys_, kMalformed);
  keys_ = original;
  keys_.adverts[4].body.site = 6;
  Refused(keys_, kMalformed);
  keys_ = original;
  keys_.adverts[0].body.site = 0;
  Refused(keys_, kMalformed);
  keys_ = original;
  keys_.chains.pop_back();
  Refused(keys_, kMalformed);
  StillWorks();
}

TEST_F(WorkerKeysTest, RefusesAKeyListWithoutItself) {
  keys_.adverts.erase(keys_.adverts.begin());
  keys_.chains.erase(keys_.chains.begin());
  Refused(keys_, kSelfMissing);
  StillWorks();
}

TEST_F(WorkerKeysTest, GivesTheSameSharesToRepeatedKeysAndRefusesDifferentOnes) {
  const auto first = Give(attempt_.Waiting<Keys>(1));
  const auto again = Give(attempt_.Waiting<Keys>(1));
  ASSERT_TRUE(first.ok() && again.ok());
  const auto& a = std::get<Signed<Shares>>(*first->send);
  const auto& b = std::get<Signed<Shares>>(*again->send);
  EXPECT_EQ(a.body.ciphertexts, b.body.ciphertexts);  // journaled bytes: no nonce is used twice
  EXPECT_EQ(a.signature, b.signature);
  keys_.adverts.pop_back();
  keys_.chains.pop_back();
  Refused(keys_, kRepeatDiffers);
}

// Step 4.

class WorkerDeliveryTest : public WorkerRoundTest {
 protected:
  WorkerDeliveryTest() {
    attempt_.RunUntil(CoordinatorPhase::kInput);
    delivery_ = attempt_.Waiting<Delivery>(1).body;
  }
  void Complains(SiteIndex accused, Complaint::Code code) {
    const auto effects = Give(attempt_.ByCoordinator(delivery_));
    ASSERT_TRUE(effects.ok()) << effects.status();
    ASSERT_TRUE(effects->complaint.has_value());
    EXPECT_EQ(effects->complaint->accused, accused);
    EXPECT_EQ(effects->complaint->code, code);
    EXPECT_EQ(worker_.phase(), WorkerPhase::kComplained);
    ExpectRefused(worker_.BeginInput(now_), kWrongPhase);
    const auto& complaint = std::get<Signed<Complaint>>(*effects->send);
    attempt_.Absorb(attempt_.coordinator().OnComplaint(complaint, now_));
    ASSERT_TRUE(attempt_.aborted().has_value());
    EXPECT_EQ(attempt_.aborted()->code, Aborted::Code::kComplaint);
    EXPECT_EQ(attempt_.aborted()->accuser, 1);
    EXPECT_EQ(attempt_.aborted()->accused, accused);
  }
  Delivery delivery_;
};

TEST_F(WorkerDeliveryTest, RefusesAnothersDelivery) {
  ExpectRefused(Give(attempt_.Waiting<Delivery>(2)), kMalformed);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesAnotherT1) {
  delivery_.t1 = DigestFor("other");
  Refused(delivery_, kTranscript);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesFewerDealersThanSurvivorsAreNeeded) {
  delivery_.rows.resize(3);
  Refused(delivery_, kTooFewDealers);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesADealerOutsideU1) {
  delivery_.rows[4].dealer = 6;
  Refused(delivery_, kOutsideSet);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesUnsortedOrRepeatedDealers) {
  const Delivery original = delivery_;
  std::swap(delivery_.rows[1], delivery_.rows[2]);
  Refused(delivery_, kMalformed);
  delivery_ = original;
  delivery_.rows[2] = delivery_.rows[1];
  Refused(delivery_, kMalformed);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesWhenItsOwnSharesAreMissingOrAltered) {
  const Delivery original = delivery_;
  delivery_.rows.erase(delivery_.rows.begin());
  Refused(delivery_, kSelfMissing);
  delivery_ = original;
  delivery_.rows[0].commitments.Change()[1].seed_share = DigestFor("altered");
  Refused(delivery_, kOwnMessageChanged);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, RefusesACommitmentListThatIsNotU1) {
  const Delivery original = delivery_;
  delivery_.rows[1].commitments.Change().pop_back();
  Refused(delivery_, kMalformed);
  delivery_ = original;
  delivery_.rows[1].commitments.Change()[2].holder = 2;
  Refused(delivery_, kMalformed);
  StillWorks();
}

TEST_F(WorkerDeliveryTest, ComplainsAboutACiphertextThatDoesNotOpen) {
  delivery_.rows[2].ciphertext[7] ^= 1;
  Complains(3, Complaint::Code::kCannotDecrypt);
}

TEST_F(WorkerDeliveryTest, ComplainsAboutACiphertextMeantForAnother) {
  delivery_.rows[2].ciphertext = attempt_.Waiting<Delivery>(2).body.rows[2].ciphertext;
  Complains(3, Complaint::Code::kCannotDecrypt);
}

TEST_F(WorkerDeliveryTest, ComplainsAboutCommitmentsThatTheDealerHasNotSigned) {
  delivery_.rows[3].commitments.Change()[0].seed_share = DigestFor("altered");
  Complains(4, Complaint::Code::kBadSignature);
}

TEST_F(WorkerDeliveryTest, ComplainsAboutSharesThatDoNotMatchTheirCommitment) {
  auto& row = delivery_.rows[3];
  row.commitments.Change()[0].seed_share = DigestFor("another share");
  const Shares dealt{world_.offer.id, 4, delivery_.t1, *row.commitments, {}};
  row.signature = Sign(attempt_.key(4), dealt).signature;  // the dealer itself lies
  Complains(4, Complaint::Code::kCommitmentMismatch);
}

TEST_F(WorkerDeliveryTest, RefusesADifferentSecondDelivery) {
  ASSERT_TRUE(Give(attempt_.Waiting<Delivery>(1)).ok());
  EXPECT_EQ(worker_.phase(), WorkerPhase::kReady);
  EXPECT_TRUE(Give(attempt_.Waiting<Delivery>(1)).ok());
  delivery_.rows.pop_back();
  Refused(delivery_, kRepeatDiffers);
}

// Step 5.

TEST_F(WorkerDeliveryTest, HandsItsMasksOutOnceAndSignsOneInputOnly) {
  ASSERT_TRUE(Give(attempt_.Waiting<Delivery>(1)).ok());
  const auto begun = worker_.BeginInput(now_);
  ASSERT_TRUE(begun.ok());
  EXPECT_TRUE(begun->persist.has_value());  // "step 5 begun" is durable before a byte leaves
  EXPECT_EQ(begun->persist->phase, WorkerPhase::kInputBegun);
  const auto masks = worker_.TakeMasks();
  ASSERT_TRUE(masks.ok());
  EXPECT_EQ(masks->size(), 5u);  // its own, and one with each of four
  ExpectRefused(worker_.TakeMasks(), kMaskSpent);
  ExpectRefused(worker_.BeginInput(now_), kMaskSpent);
  ExpectRefused(worker_.OnInput(36, DigestFor("y"), now_), kElements);
  ASSERT_TRUE(worker_.OnInput(37, DigestFor("y"), now_).ok());
  EXPECT_TRUE(worker_.OnInput(37, DigestFor("y"), now_).ok());  // the same bytes again
  ExpectRefused(worker_.OnInput(37, DigestFor("another encoding"), now_), kMaskSpent);
  ExpectRefused(worker_.TakeMasks(), kMaskSpent);
}

TEST_F(WorkerDeliveryTest, BeginsNoInputOnceItsTimeIsOver) {
  ASSERT_TRUE(Give(attempt_.Waiting<Delivery>(1)).ok());
  ExpectRefused(worker_.BeginInput(worker_.input_until() + Millis(1)), kLate);
  ExpectRefused(worker_.TakeMasks(), kWrongPhase);
  EXPECT_TRUE(worker_.BeginInput(worker_.input_until()).ok()) << "a refusal changes nothing";
}

// Step 6.

class WorkerSurvivorsTest : public WorkerRoundTest {
 protected:
  WorkerSurvivorsTest() {
    attempt_.LoseAt(5, CoordinatorPhase::kInput);
    attempt_.RunUntil(CoordinatorPhase::kAgreement);
    survivors_ = attempt_.Waiting<Survivors>(1).body;
  }
  template <typename F>
  void Resign(size_t i, F change) {
    const SiteIndex site = survivors_.headers[i].body.site;
    change(survivors_.headers[i].body);
    survivors_.headers[i] = Sign(attempt_.key(site), survivors_.headers[i].body);
  }
  Survivors survivors_;
};

TEST_F(WorkerSurvivorsTest, RefusesAnotherT2) {
  survivors_.t2 = DigestFor("other");
  Refused(survivors_, kTranscript);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesSurvivorsWithoutItself) {
  // Five headers but not this worker's: site 5 signs one that was never counted.
  const InputHeader invented{world_.offer.id, 5, survivors_.t2, 37, DigestFor("y5")};
  survivors_.headers.push_back(Sign(attempt_.key(5), invented));
  survivors_.headers.erase(survivors_.headers.begin());
  Refused(survivors_, kSelfMissing);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesFewerThanM) {
  survivors_.headers.resize(3);
  Refused(survivors_, kTooFewSurvivors);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesASurvivorThatMaskedUnderAnotherTranscript) {
  Resign(2, [](InputHeader& h) { h.t2 = DigestFor("another model"); });
  Refused(survivors_, kTranscript);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesASurvivorOfAnotherLengthOrAttempt) {
  const Survivors original = survivors_;
  Resign(2, [](InputHeader& h) { h.elements = 36; });
  Refused(survivors_, kElements);
  survivors_ = original;
  Resign(2, [](InputHeader& h) { h.id.attempt = 0; });
  Refused(survivors_, kWrongAttempt);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesAHeaderThatItsSiteHasNotSigned) {
  survivors_.headers[2].body.sha256 = DigestFor("other");
  Refused(survivors_, kBadSignature);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesItsOwnHeaderAltered) {
  Resign(0, [](InputHeader& h) { h.sha256 = DigestFor("other"); });
  Refused(survivors_, kOwnMessageChanged);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, RefusesUnsortedOrRepeatedSurvivors) {
  const Survivors original = survivors_;
  std::swap(survivors_.headers[1], survivors_.headers[2]);
  Refused(survivors_, kMalformed);
  survivors_ = original;
  survivors_.headers[2] = survivors_.headers[1];
  Refused(survivors_, kMalformed);
  StillWorks();
}

TEST_F(WorkerSurvivorsTest, SignsOnlyOneSurvivorSet) {
  const auto first = Give(attempt_.Waiting<Survivors>(1));
  const auto again = Give(attempt_.Waiting<Survivors>(1));
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(std::get<Signed<Agreement>>(*first->send).signature,
            std::get<Signed<Agreement>>(*again->send).signature);
  const InputHeader invented{world_.offer.id, 5, survivors_.t2, 37, DigestFor("y5")};
  survivors_.headers.push_back(Sign(attempt_.key(5), invented));
  Refused(survivors_, kRepeatDiffers);
  StillWorks();
}

TEST(WorkerOutsideU2Test, RefusesASurvivorThatNeverDealtShares) {
  World world(5);
  Attempt attempt(world);
  attempt.LoseAt(5, CoordinatorPhase::kShares);
  attempt.RunUntil(CoordinatorPhase::kAgreement);
  auto survivors = attempt.Waiting<Survivors>(1).body;
  const InputHeader outsider{world.offer.id, 5, survivors.t2, 37, DigestFor("y5")};
  survivors.headers.push_back(Sign(attempt.key(5), outsider));
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(survivors)), kOutsideSet);
  EXPECT_TRUE(attempt.Run());
}

// Steps 7 to 9.

class WorkerBundleTest : public WorkerRoundTest {
 protected:
  WorkerBundleTest() {
    attempt_.LoseAt(5, CoordinatorPhase::kInput);
    attempt_.RunUntil(CoordinatorPhase::kUnmask);
    bundle_ = attempt_.Waiting<AgreementBundle>(1).body;
  }
  AgreementBundle bundle_;
};

TEST_F(WorkerBundleTest, RefusesABundleForAnotherSetOrTranscript) {
  const AgreementBundle original = bundle_;
  bundle_.survivors = {1, 2, 3, 5};
  Refused(bundle_, kTranscript);
  bundle_ = original;
  bundle_.t2 = DigestFor("other");
  Refused(bundle_, kTranscript);
  StillWorks();
}

TEST_F(WorkerBundleTest, RefusesFewerThanTSignatures) {
  bundle_.signatures.pop_back();
  Refused(bundle_, kTooFewAgreements);
  StillWorks();
}

TEST_F(WorkerBundleTest, CountsASiteOnce) {
  bundle_.signatures[3] = bundle_.signatures[2];
  Refused(bundle_, kMalformed);
  StillWorks();
}

TEST_F(WorkerBundleTest, RefusesASignatureOverAnotherSurvivorSet) {
  const Agreement other{world_.offer.id, 3, bundle_.t2, {1, 2, 3, 5}};
  bundle_.signatures[2].second = Sign(attempt_.key(3), other).signature;
  Refused(bundle_, kBadSignature);
  StillWorks();
}

TEST_F(WorkerBundleTest, RefusesASignerOutsideU3) {
  const Agreement outsider{world_.offer.id, 5, bundle_.t2, bundle_.survivors};
  bundle_.signatures[3] = {5, Sign(attempt_.key(5), outsider).signature};
  Refused(bundle_, kOutsideSet);
  StillWorks();
}

TEST_F(WorkerBundleTest, OpensExactlyOneKindForEachSiteAndTheSameBytesAgain) {
  const auto first = Give(attempt_.Waiting<AgreementBundle>(1));
  const auto again = Give(attempt_.Waiting<AgreementBundle>(1));
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_TRUE(first->persist.has_value());
  const auto& unmask = std::get<Signed<Unmask>>(*first->send);
  std::vector<SiteIndex> seeds, keys;
  for (const auto& s : unmask.body.seed_shares) seeds.push_back(s.dealer);
  for (const auto& s : unmask.body.mask_key_shares) keys.push_back(s.dealer);
  EXPECT_EQ(seeds, (std::vector<SiteIndex>{1, 2, 3, 4}));
  EXPECT_EQ(keys, (std::vector<SiteIndex>{5}));
  EXPECT_EQ(Canonical(unmask.body), Canonical(std::get<Signed<Unmask>>(*again->send).body));
  bundle_.survivors = {1, 2, 3, 5};
  Refused(bundle_, kRepeatDiffers);
}

TEST_F(WorkerBundleTest, RefusesAResultForAnotherSetOrTranscript) {
  attempt_.RunUntil(CoordinatorPhase::kSummed);
  Result result{world_.offer.id, bundle_.t2, {1, 2, 3, 5}, DigestFor("sum"), DigestFor("adapter")};
  Refused(result, kTranscript);
  result.survivors = bundle_.survivors;
  result.t2 = DigestFor("other");
  Refused(result, kTranscript);
  StillWorks();
}

TEST_F(WorkerBundleTest, PublishesTheResultAndAnswersNothingAfterIt) {
  StillWorks();
  ExpectRefused(Give(attempt_.ByCoordinator(bundle_)), kWrongPhase);
}

TEST_F(WorkerBundleTest, TakesTheResultWithoutHavingUnmaskedWhenOthersWereEnough) {
  const Result result{world_.offer.id, bundle_.t2, bundle_.survivors, DigestFor("sum"), DigestFor("adapter")};
  const auto effects = Give(attempt_.ByCoordinator(result));
  ASSERT_TRUE(effects.ok()) << effects.status();
  EXPECT_EQ(effects->result->new_adapter, DigestFor("adapter"));
  ExpectRefused(Give(attempt_.ByCoordinator(bundle_)), kWrongPhase);  // and opens nothing afterwards
}

TEST_F(WorkerBundleTest, AcceptsNothingAfterErase) {
  worker_.Erase();
  EXPECT_EQ(worker_.phase(), WorkerPhase::kErased);
  ExpectRefused(Give(attempt_.Waiting<AgreementBundle>(1)), kWrongPhase);
  ExpectRefused(worker_.TakeMasks(), kMaskSpent);
}

TEST_F(WorkerRoundTest, SaysHowLongItWaits) {
  attempt_.Start();
  const auto effects = Give(attempt_.Waiting<Offer>(1));
  ASSERT_TRUE(effects.ok());
  EXPECT_EQ(*effects->deadline, At(10'000 + 30'000));
}

}  // namespace
}  // namespace concordat::secagg::testing
