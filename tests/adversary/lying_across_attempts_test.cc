#include "tests/adversary/stage.h"

// What a coordinator may try over several attempts, connections, processes or jobs: an old attempt replayed,
// both kinds of share, a second encoding, the ledger, two results, jobs that nobody signed.
namespace concordat::adversary {
namespace {

using secagg::Advert;
using secagg::Unmask;

Digest SybilDigest() { return crypto::Sha256(AsBytes("another")); }

TEST(OldAttemptTest, ReplayedWholeGetsNoAnswer) {
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kInput);
  const auto old_offer = s.ByCoordinator(s.f.MakeOffer(0, 0));
  const auto old_keys = *s.honest_keys;
  const auto old_delivery = s.Waiting<Delivery>(1);
  for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{s.id(), 3});
  s.Open(0, 1), s.RunUntil(CoordinatorPhase::kShares);
  const size_t adverts = s.victim().Sent<Signed<Advert>>().size();
  const size_t shares = s.victim().Sent<Signed<secagg::Shares>>().size();
  for (int connection = 0; connection < 3; ++connection) {
    s.Tell(1, old_offer), s.Tell(1, old_keys), s.Tell(1, old_delivery);
    EXPECT_EQ(s.victim().Sent<Dropout>().back().code, DropoutCode::kShuttingDown);
    connection == 0 ? s.Reconnect(1) : s.Restart(1);
  }
  EXPECT_EQ(s.victim().Sent<Signed<Advert>>().size(), adverts);
  EXPECT_EQ(s.victim().Sent<Signed<secagg::Shares>>().size(), shares);
  EXPECT_TRUE(s.victim().encoded.empty());
  s.ExpectLawful();
}

// "Alive" and "dead" lists that overlap cannot be said: no message to a worker has a list of the dead. If
// one of these structs gets another field, this stops to compile, and this page wants another test.
TEST(BothKindsTest, NoMessageCanCallASiteBothAliveAndDead) {
  const auto& [id, t2, headers] = Survivors{};
  const auto& [bundle_id, bundle_t2, survivors, signatures] = AgreementBundle{};
  EXPECT_TRUE(headers.empty() && survivors.empty() && signatures.empty());
  EXPECT_EQ(id, bundle_id);
  EXPECT_EQ(t2, bundle_t2);
  // The worker concludes the rest itself: alive are those whose headers it signed for, dead all others of U2.
  Stage s;
  s.site(4).hold_upload = true;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kSummed);
  const Unmask opened = s.LastOf<Unmask>(1).body;
  std::vector<SiteIndex> alive, dead;
  for (const auto& share : opened.seed_shares) alive.push_back(share.dealer);
  for (const auto& share : opened.mask_key_shares) dead.push_back(share.dealer);
  EXPECT_EQ(alive, (std::vector<SiteIndex>{1, 2, 3}));
  EXPECT_EQ(dead, (std::vector<SiteIndex>{4}));
}

/// Where the coordinator asks for the other kind: it says that site 4 lives after all.
struct Asked {
  const char* name;
  void (*between)(Stage&);
};
class BothKindsAskedTest : public ::testing::TestWithParam<Asked> {};

TEST_P(BothKindsAskedTest, OnlyTheFirstKindIsOpened) {
  Stage s;
  s.site(4).hold_upload = true;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kAgreement);
  const Survivors three = s.Waiting<Survivors>(1).body;
  s.RunUntil(CoordinatorPhase::kUnmask);
  const auto bundle = s.Waiting<AgreementBundle>(1);
  s.Tell(1, bundle);
  ASSERT_EQ(s.victim().Sent<Signed<Unmask>>().size(), 1u);
  GetParam().between(s);

  Survivors four = three;
  four.headers.push_back(s.BySite(4, s.HeaderOf(4)));
  AgreementBundle other{s.id(), three.t2, {1, 2, 3, 4}, {}};
  for (SiteIndex i : {1, 2, 3, 4})  // as if every other site had signed for the second set too
    other.signatures.emplace_back(
        i, s.BySite(i, secagg::Agreement{s.id(), i, three.t2, {1, 2, 3, 4}}).signature);
  const size_t agreements = s.victim().Sent<Signed<secagg::Agreement>>().size();
  s.Tell(1, bundle);  // the first question again: the same answer or none
  s.Tell(1, s.ByCoordinator(four)), s.Tell(1, s.ByCoordinator(other)), s.Tell(1, bundle);
  EXPECT_EQ(s.victim().Sent<Signed<secagg::Agreement>>().size(), agreements);
  for (const auto& unmask : s.victim().Sent<Signed<Unmask>>())
    EXPECT_EQ(Canonical(unmask.body), Canonical(s.victim().Sent<Signed<Unmask>>()[0].body));
  EXPECT_FALSE(s.victim().Sent<Dropout>().empty());
  s.ExpectLawful();
}

INSTANTIATE_TEST_SUITE_P(Catalogue, BothKindsAskedTest,
                         ::testing::Values(Asked{"AtOnce", [](Stage&) {}},
                                           Asked{"OverTwoConnections", [](Stage& s) { s.Reconnect(1); }},
                                           Asked{"AcrossARestart", [](Stage& s) { s.Restart(1); }},
                                           Asked{"AfterTheAttemptWasCalledOff",
                                                 [](Stage& s) {
                                                   s.Tell(1, worker::AttemptAborted{s.id(), 5});
                                                 }}),
                         [](const auto& info) { return info.param.name; });

// An older sealed state, put back while the journal stays: it would agree and open once more.
TEST(RollbackTest, AnOlderSealedStateIsNotUsedForASecondAnswer) {
  size_t seals = 1;
  for (size_t older = 0; older < seals; ++older) {
    Stage s;
    s.site(4).hold_upload = true;
    s.Open(0, 0);
    const auto offer = s.Waiting<Offer>(1);
    s.RunUntil(CoordinatorPhase::kAgreement);
    Survivors four = s.Waiting<Survivors>(1).body;
    s.RunUntil(CoordinatorPhase::kUnmask);
    s.DeliverTo(1);
    ASSERT_EQ(s.victim().Sent<Signed<Unmask>>().size(), 1u);
    seals = s.victim().seal_history.size();
    ASSERT_GT(seals, 4u) << "a state for each step";
    s.victim().sealed[s.id()] = s.victim().seal_history[older].second;
    s.Restart(1);
    four.headers.push_back(s.BySite(4, s.HeaderOf(4)));
    AgreementBundle bundle{s.id(), four.t2, {1, 2, 3, 4}, {}};
    for (SiteIndex i : {1, 2, 3, 4})
      bundle.signatures.emplace_back(
          i, s.BySite(i, secagg::Agreement{s.id(), i, four.t2, {1, 2, 3, 4}}).signature);
    s.Tell(1, offer), s.Tell(1, s.ByCoordinator(four)), s.Tell(1, s.ByCoordinator(bundle));
    s.ExpectLawful();
  }
}

TEST(SecondUploadTest, NoQuestionBringsASecondEncodingOfOneAttempt) {
  Stage s;
  s.Open(0, 0);
  const auto offer = s.Waiting<Offer>(1);
  s.RunUntil(CoordinatorPhase::kInput);
  const auto delivery = s.Waiting<Delivery>(1);
  s.RunUntil(CoordinatorPhase::kAgreement);
  ASSERT_EQ(s.victim().encoded.size(), 1u);
  const Bytes y = s.victim().uploads.at(s.id());
  // Everything that led to the upload, again, in order, over a new connection too.
  for (int i = 0; i < 2; ++i) {
    s.Tell(1, offer), s.Tell(1, *s.honest_keys), s.Tell(1, delivery);
    s.Reconnect(1);
  }
  EXPECT_EQ(s.victim().encoded.size(), 1u);
  EXPECT_EQ(s.victim().uploads.at(s.id()), y);
  EXPECT_EQ(s.victim().ledger->entries().size(), 1u);
  s.Finish();
  EXPECT_EQ(s.victim().Sent<worker::ResultAck>().size(), 1u) << "repeats are no reason to leave";
  s.ExpectLawful();
}

TEST(SecondUploadTest, ARestartInTheMiddleOfTheUploadBringsNoSecondEncoding) {
  Stage s;
  s.victim().hold_upload = true;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kInput);
  const auto delivery = s.Waiting<Delivery>(1);
  s.DeliverTo(1);
  ASSERT_EQ(s.victim().encoded.size(), 1u);
  s.victim().hold_upload = false;
  s.Restart(1);
  s.Tell(1, s.ByCoordinator(s.f.MakeOffer(0, 0))), s.Tell(1, *s.honest_keys), s.Tell(1, delivery);
  EXPECT_EQ(s.victim().encoded.size(), 1u);
  EXPECT_EQ(s.victim().ledger->entries().size(), 1u);
  s.ExpectLawful();
}

TEST(SecondAttemptTest, GetsFreshNoiseFreshMasksAndAFreshCharge) {
  Stage s;
  for (AttemptIndex a = 0; a < 2; ++a) {
    s.Open(0, a), s.RunUntil(CoordinatorPhase::kAgreement);
    for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{s.id(), 4});
  }
  ASSERT_EQ(s.victim().encoded.size(), 2u);
  size_t equal = 0, equal_sent = 0;
  const auto word = [](const Bytes& y, size_t e) { return ByteView(y).subspan(4 * e, 4); };
  const Bytes& y0 = s.victim().uploads.at({s.f.job.id, 0, 0});
  const Bytes& y1 = s.victim().uploads.at({s.f.job.id, 0, 1});
  const size_t n = s.victim().encoded[0].size();
  for (size_t e = 0; e < n; ++e) {
    equal += s.victim().encoded[0][e] == s.victim().encoded[1][e];
    equal_sent += std::ranges::equal(word(y0, e), word(y1, e));
  }
  // Two fresh noises agree in an element now and then, two masks almost never. Noise again: all of them.
  EXPECT_LT(equal, n / 2);
  EXPECT_LT(equal_sent, 10u);
  EXPECT_EQ(s.victim().ledger->entries().size(), 2u);
  s.ExpectLawful();
}

TEST(LedgerBurningTest, AttemptsFailedOnPurposeCostAtMostWhatTheRegionAllows) {
  Stage s;
  for (AttemptIndex a = 0; a < 8; ++a) {
    Offer offer = s.f.MakeOffer(0, a);
    if (a >= 3) offer.attempts_allowed = a + 1;
    if (a < 3) {
      s.Open(offer), s.RunUntil(CoordinatorPhase::kAgreement);
    } else {
      s.Tell(1, s.ByCoordinator(offer));
      EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kAttempts);
    }
    s.Tell(1, worker::AttemptAborted{offer.id, 4});
    s.Restart(1);
  }
  EXPECT_EQ(s.victim().ledger->entries().size(), 3u);
  s.ExpectLawful();
}

TEST(LedgerBurningTest, AnAttemptThatFailsBeforeItsInputCostsNothing) {
  Stage s;
  for (AttemptIndex a = 0; a < 3; ++a) {
    s.Open(0, a), s.RunUntil(CoordinatorPhase::kInput);
    for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{s.id(), 3});
  }
  for (SiteIndex i = 1; i <= 4; ++i) EXPECT_TRUE(s.site(i).ledger->entries().empty());
}

TEST(LedgerBurningTest, RoundsThatNeverWereCostAtMostTheJobsRoundsAndTheBudgetIsAHardStop) {
  Stage s;
  // The coordinator invents adapters for rounds that it never finished; a worker that missed a round follows.
  for (RoundIndex r = 0; r < 5; ++r) {
    for (AttemptIndex a = 0; a < 3; ++a) {
      Offer offer = s.f.MakeOffer(r, a);
      if (r >= 3) {
        s.Tell(1, s.ByCoordinator(offer));
        EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kWrongAttempt);
        continue;
      }
      s.Open(offer), s.RunUntil(CoordinatorPhase::kAgreement);
      for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, worker::AttemptAborted{offer.id, 4});
    }
    AdapterBlob next = s.f.adapter;
    next.round = r + 1;
    next.parent = s.f.adapter_hash;
    s.f.Publish(std::move(next));
  }
  EXPECT_LE(s.victim().ledger->entries().size(), 9u) << "three rounds of three attempts";
  EXPECT_LE(s.victim().ledger->Spent(s.victim().now), s.victim().card.privacy.epsilon);
  s.ExpectLawful();
}

// ---- Results.

TEST(FrozenFactorTest, ASiteThatMissedARoundTakesNoOtherFactorsThanTheSeeds) {
  for (const bool frozen : {true, false}) {
    Stage s;
    s.Open(0, 0), s.RunUntil(CoordinatorPhase::kDone);
    AdapterBlob other = s.f.adapter;
    // FFA: the first tensor is an A, which nobody trains, the last one a B.
    (frozen ? other.weights.front() : other.weights.back()) += 1;
    s.f.Publish(other);
    const size_t adverts = s.victim().Sent<Signed<Advert>>().size();
    s.Tell(1, s.ByCoordinator(s.f.MakeOffer(1, 0)));
    EXPECT_EQ(s.victim().Sent<Signed<Advert>>().size(), adverts + (frozen ? 0 : 1));
    if (!frozen) continue;
    EXPECT_EQ(s.victim().Sent<Dropout>().back().code, worker::DropoutCode::kProtocolViolation);
    EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kModel);
  }
}

TEST(TwoResultsTest, TheNextOfferTellsTheRegionThatHasTheOtherOne) {
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kDone);
  const Result truth = s.Waiting<Result>(2).body;
  const Digest shared = s.f.adapter_hash;
  // For the victim another sum, and the adapter that follows from it: it recomputes.
  Bytes sum = s.f.blobs.at(truth.sum_sha256);
  sum[2] ^= 1;
  Result other = truth;
  other.sum_sha256 = crypto::Sha256(sum);
  s.f.blobs[other.sum_sha256] = sum;
  std::vector<uint32_t> words(sum.size() / 4);
  std::memcpy(words.data(), sum.data(), sum.size());
  const auto decoded =
      Decode(*policy::EncodingFor(s.f.job.spec, s.round().offer()), words, truth.survivors.size());
  ASSERT_OK(decoded);
  const auto first = *FirstAdapter(s.f.layout, s.f.job.id, s.f.job.spec.seed);
  auto forked = NextAdapter(s.f.layout, first, AdapterHash(EncodeAdapterBlob(first)), decoded->mean_delta,
                            s.f.job.spec.server.learning_rate);
  ASSERT_OK(forked);
  s.f.Publish(*std::move(forked));
  other.new_adapter = s.f.adapter_hash;
  s.Tell(1, s.ByCoordinator(other));
  ASSERT_EQ(s.victim().Sent<worker::ResultAck>().size(), 1u);
  for (SiteIndex i : {2, 3, 4}) s.DeliverTo(i);
  for (SiteIndex i : {2, 3, 4}) ASSERT_EQ(s.site(i).Sent<worker::ResultAck>().back().new_adapter, shared);

  const size_t adverts = s.victim().Sent<Signed<Advert>>().size();
  Offer next = s.f.MakeOffer(1, 0);
  next.adapter = shared;
  s.Tell(1, s.ByCoordinator(next));
  EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kModel);
  EXPECT_EQ(s.victim().Sent<Signed<Advert>>().size(), adverts);
  // Both signed statements are kept: "round 0 made this adapter" and "round 1 starts from another".
  std::set<std::string> kept;
  for (const auto& e : s.victim().evidence) kept.insert(e.name);
  EXPECT_EQ(kept, (std::set<std::string>{"offer", "result"}));
}

TEST(TwoResultsTest, OffersThatDifferInTheirAdapterNeverMeet) {
  // Site 1 missed round 0 and is told of another adapter than the rest.
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kDone);
  for (SiteIndex i : {2, 3, 4}) s.DeliverTo(i);
  const Digest shared = s.f.adapter_hash;
  AdapterBlob other = s.f.adapter;
  other.weights.back() += 1;  // of B, which is trained: it may be anything
  s.f.Publish(other);
  Offer lie = s.f.MakeOffer(1, 0);
  Offer truth = lie;
  truth.adapter = shared;
  s.Open(truth);
  s.Tell(1, s.ByCoordinator(lie));
  for (SiteIndex i : {2, 3, 4}) s.DeliverTo(i);
  ASSERT_NE(s.LastOf<Advert>(1).body.t0, s.LastOf<Advert>(2).body.t0);
  const auto keys = s.ByCoordinator(s.KeysFromWire());
  for (SiteIndex i = 1; i <= 4; ++i) {
    const size_t shares = s.site(i).Sent<Signed<secagg::Shares>>().size();
    s.Tell(i, keys);
    EXPECT_EQ(s.site(i).Sent<Dropout>().back().refusal, RefusalCode::kTranscript);
    EXPECT_EQ(s.site(i).Sent<Signed<secagg::Shares>>().size(), shares);
  }
}

TEST(TwoResultsTest, AJobThatWasHaltedStaysSoThroughARestart) {
  Stage s;
  s.Open(0, 0), s.RunUntil(CoordinatorPhase::kDone);
  Result lie = s.Waiting<Result>(1).body;
  lie.new_adapter.bytes[0] ^= 1;
  s.Tell(1, s.ByCoordinator(lie));
  const size_t adverts = s.victim().Sent<Signed<Advert>>().size();
  s.Restart(1);
  s.Tell(1, s.ByCoordinator(s.f.MakeOffer(1, 0)));
  s.Tell(1, s.ByCoordinator(s.f.MakeOffer(0, 1)));
  EXPECT_EQ(s.victim().Sent<Dropout>().back().code, DropoutCode::kPolicyRefused);
  EXPECT_EQ(s.victim().Sent<Signed<Advert>>().size(), adverts);
}

// ---- Jobs. Clip, scale, modulus, noise and local steps are in the signed job and nowhere else.

TEST(UnsignedJobTest, AClipChangedUnderTheSubmittersSignatureIsRefused) {
  Federation f;
  f.StartAll();
  policy::SignedJob forged = f.signed_job;
  const size_t at = forged.file.find("clip: 1.0");
  ASSERT_NE(at, std::string::npos);
  forged.file.replace(at, 9, "clip: 900");
  Region& victim = *f.regions[0];
  victim.Receive(worker::JobNotice{forged, true, 0});
  const auto answer = victim.Sent<worker::JobAnswer>().back();
  EXPECT_EQ(answer.verdict, worker::Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kSubmitterSignature});
  EXPECT_EQ(victim.trainer_starts, 0);
  // And an offer of it is an offer of a job that was never announced.
  Offer offer = f.MakeOffer(0, 0);
  offer.id.job = answer.job;
  victim.Receive(secagg::Sign(f.coordinator.key, offer));
  EXPECT_EQ(victim.Sent<Dropout>().back().code, DropoutCode::kPolicyRefused);
  EXPECT_TRUE(victim.Sent<Signed<Advert>>().empty());
}

TEST(UnsignedJobTest, PairwiseKeysStruckFromTheJobUnderTheSubmittersSignatureAreMissed) {
  Federation f("noise_multiplier: 0.05", "secure_aggregation: {pairwise_keys: required}");
  f.CarryPairwiseKeys();
  f.StartAll();
  policy::SignedJob forged = f.signed_job;
  const size_t at = forged.file.find("required");
  ASSERT_NE(at, std::string::npos);
  forged.file.replace(at, 8, "none");
  Region& victim = *f.regions[0];
  victim.Receive(worker::JobNotice{forged, true, 0});
  const auto answer = victim.Sent<worker::JobAnswer>().back();
  EXPECT_EQ(answer.verdict, worker::Verdict::kRefused);
  EXPECT_EQ(answer.rules, std::vector{policy::RuleCode::kSubmitterSignature});
}

TEST(UnsignedJobTest, ACoordinatorThatPlaysAJobAsIfItHadNoPairwiseKeysGetsNoVector) {
  Stage s("secure_aggregation: {pairwise_keys: required}");
  s.Open(0, 0);
  s.RunUntil(CoordinatorPhase::kInput);
  ASSERT_TRUE(s.honest_delivery.contains(1));
  Delivery stripped = s.honest_delivery.at(1).body;
  ASSERT_EQ(stripped.pair_tags.size(), 4u);
  stripped.pair_tags.clear();
  s.Tell(1, s.ByCoordinator(stripped));
  EXPECT_EQ(s.victim().Sent<Dropout>().back().code, DropoutCode::kProtocolViolation);
  EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kMalformed);
  EXPECT_TRUE(s.victim().uploads.empty());
  EXPECT_TRUE(s.victim().ledger->entries().empty());
  EXPECT_FALSE(s.victim().evidence.empty());
  s.ExpectLawful();
}

TEST(UnsignedJobTest, AJobThatTheCoordinatorSignsItselfIsRefused) {
  Federation f;
  f.StartAll();
  Region& victim = *f.regions[0];
  victim.Receive(
      worker::JobNotice{policy::SignJob(f.signed_job.file, f.coordinator.key, f.coordinator.chain), true, 0});
  EXPECT_EQ(victim.Sent<worker::JobAnswer>().back().verdict, worker::Verdict::kRefused);
  victim.Receive(worker::JobNotice{
      policy::SignJob(f.signed_job.file, f.coordinator.key, f.signed_job.submitter_chain), true, 0});
  EXPECT_EQ(victim.Sent<worker::JobAnswer>().back().verdict, worker::Verdict::kRefused);
  EXPECT_EQ(victim.trainer_starts, 0);
  EXPECT_TRUE(victim.core->status().jobs.empty());
}

TEST(UnsignedJobTest, TwoJobFilesOfACorruptSubmitterAreTwoJobsAndTheirSitesNeverMeet) {
  Stage s;
  const policy::SignedJob other = s.f.OtherJob(7);  // another noise, rightly signed
  const auto opened = policy::OpenJob(other, s.f.charter, At(0));
  ASSERT_OK(opened);
  s.Tell(1, worker::JobNotice{other, true, 0});
  s.Open(0, 0);
  Offer lie = s.f.MakeOffer(0, 0);
  lie.id.job = opened->id;
  auto first = FirstAdapter(s.f.layout, opened->id, opened->spec.seed);
  ASSERT_OK(first);
  lie.adapter = AdapterHash(EncodeAdapterBlob(*first));
  s.Tell(1, s.ByCoordinator(lie));
  for (SiteIndex i : {2, 3, 4}) s.DeliverTo(i);
  ASSERT_EQ(s.victim().Sent<Signed<Advert>>().size(), 1u) << "for itself the job is sound";
  Keys keys = s.KeysFromWire();
  for (const AttemptId& id : {s.id(), lie.id}) {
    keys.id = id;
    for (SiteIndex i = 1; i <= 4; ++i) s.Tell(i, s.ByCoordinator(keys));
  }
  for (SiteIndex i = 1; i <= 4; ++i) EXPECT_TRUE(s.site(i).Sent<Signed<secagg::Shares>>().empty());
  EXPECT_EQ(s.victim().Sent<Dropout>().back().refusal, RefusalCode::kWrongAttempt);
}

TEST(UnsignedJobTest, NoFieldOfAnOfferReachesClipScaleModulusOrNoise) {
  Stage s;
  const auto honest = policy::EncodingFor(s.f.job.spec, s.f.MakeOffer(0, 0));
  ASSERT_OK(honest);
  EXPECT_EQ(honest->config().clip, s.f.job.spec.privacy.clip);
  EXPECT_EQ(honest->config().modulus_bits, 32u);
  void (*const changes[])(Offer&) = {
      [](Offer& o) {
        o.id = {SybilDigest(), 2, 2};
      },
      [](Offer& o) { o.charter = o.base_model = o.adapter = SybilDigest(); },
      [](Offer& o) { o.elements = 1; },
      [](Offer& o) { o.threshold = 4, o.min_survivors = 4, o.assumed_colluding = 2; },
      [](Offer& o) {
        o.attempts_allowed = 100, o.deadlines = {1, 2, 3, 4, 5};
      },
  };
  for (auto* change : changes) {
    Offer offer = s.f.MakeOffer(0, 0);
    change(offer);
    const auto plan = policy::EncodingFor(s.f.job.spec, offer);
    ASSERT_OK(plan);
    EXPECT_EQ(plan->config(), honest->config());
    EXPECT_EQ(plan->scale(), honest->scale());
  }
}

}  // namespace
}  // namespace concordat::adversary
