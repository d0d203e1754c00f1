#include "privacy/secagg/coordinator_round.h"

#include <algorithm>

#include "privacy/secagg/commitment.h"
#include "tests/unit/privacy/secagg/harness.h"

// Every check of the coordinator: a lying or broken site is refused with the right code and changes nothing.
namespace concordat::secagg::testing {
namespace {

using enum RefusalCode;

class CoordinatorRoundTest : public ::testing::Test {
 protected:
  World world_{5};
  Attempt attempt_{world_};
  CoordinatorRound& coordinator_ = attempt_.coordinator();
  Instant now() const { return attempt_.now(); }

  /// What `site` answers to the message that waits for it, without giving it to the coordinator.
  template <typename Asked, typename Answer>
  Signed<Answer> AnswerOf(SiteIndex site) {
    const auto effects = attempt_.AtWorker(site, attempt_.Waiting<Asked>(site));
    EXPECT_TRUE(effects.ok()) << effects.status();
    return std::get<Signed<Answer>>(*effects->send);
  }
  template <typename T>
  Signed<T> By(SiteIndex site, T body) {
    return Sign(attempt_.key(site), std::move(body));
  }
  void StillWorks() {
    ASSERT_TRUE(attempt_.Run());
    EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
    EXPECT_EQ(coordinator_.survivors().size(), 5u);
  }
};

TEST_F(CoordinatorRoundTest, RefusesToMakeAnOfferThatEveryoneWouldRefuse) {
  world_.offer.threshold = 3;
  CoordinatorRound round(world_.offer, world_.coordinator, world_.verifier, world_.Chains());
  EXPECT_EQ(round.Start(now()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(round.phase(), CoordinatorPhase::kIdle);
}

TEST_F(CoordinatorRoundTest, RefusesChainsThatAreNotTheRosters) {
  auto chains = world_.Chains();
  std::swap(chains[1], chains[2]);
  CoordinatorRound swapped(world_.offer, world_.coordinator, world_.verifier, chains);
  ExpectRefused(swapped.Start(now()), kUntrustedPeer);
  chains = world_.Chains();
  chains.erase(3);
  CoordinatorRound missing(world_.offer, world_.coordinator, world_.verifier, chains);
  ExpectRefused(missing.Start(now()), kUntrustedPeer);
}

TEST_F(CoordinatorRoundTest, StartsOnce) {
  attempt_.Start();
  ExpectRefused(coordinator_.Start(now()), kWrongPhase);
}

TEST_F(CoordinatorRoundTest, RefusesAnAdvertThatIsForgedForeignOrOfAnotherAttempt) {
  attempt_.Start();
  auto advert = AnswerOf<Offer, Advert>(2);
  ExpectRefused(coordinator_.OnAdvert(By(3, advert.body), now()), kBadSignature);
  auto body = advert.body;
  body.site = 9;
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kOutsideSet);
  body = advert.body;
  body.id.round += 1;
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kWrongAttempt);
  body = advert.body;
  body.t0 = DigestFor("another offer");
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kTranscript);
  StillWorks();
}

TEST_F(CoordinatorRoundTest, RefusesAnAdvertWithARepeatedOrWeakKey) {
  attempt_.Start();
  const auto first = AnswerOf<Offer, Advert>(1);
  attempt_.Absorb(coordinator_.OnAdvert(first, now()));
  const auto second = AnswerOf<Offer, Advert>(2);
  auto body = second.body;
  body.mask_key = first.body.channel_key;
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kDuplicateKey);
  body = second.body;
  body.mask_key = body.channel_key;
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kDuplicateKey);
  body = second.body;
  body.seed_hash = first.body.seed_hash;
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kDuplicateKey);
  body = second.body;
  body.channel_key = {};
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kDuplicateKey);
  body = second.body;
  body.mask_key = {};
  ExpectRefused(coordinator_.OnAdvert(By(2, body), now()), kDuplicateKey);
  StillWorks();
}

TEST_F(CoordinatorRoundTest, TakesASecondEqualAdvertSilentlyAndRefusesADifferentOne) {
  attempt_.Start();
  const auto advert = AnswerOf<Offer, Advert>(2);
  attempt_.Absorb(coordinator_.OnAdvert(advert, now()));
  const auto again = coordinator_.OnAdvert(advert, now());
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->send.empty());
  auto other = advert.body;
  other.ledger_head = DigestFor("other");
  ExpectRefused(coordinator_.OnAdvert(By(2, other), now()), kRepeatDiffers);
  StillWorks();
}

TEST_F(CoordinatorRoundTest, RefusesWhatComesTooEarlyOrTooLate) {
  attempt_.Start();
  const auto advert = AnswerOf<Offer, Advert>(5);
  const Shares early{world_.offer.id, 2, DigestFor("t1"), {}, {}};
  ExpectRefused(coordinator_.OnShares(By(2, early), now()), kWrongPhase);
  attempt_.LoseAt(5, CoordinatorPhase::kAdverts);
  attempt_.RunUntil(CoordinatorPhase::kShares);
  ExpectRefused(coordinator_.OnAdvert(advert, now()), kLate);
}

TEST_F(CoordinatorRoundTest, RefusesSharesThatAreNotDealtToExactlyU1) {
  attempt_.RunUntil(CoordinatorPhase::kShares);
  const auto shares = AnswerOf<Keys, Shares>(2);
  auto body = shares.body;
  body.commitments.pop_back();
  ExpectRefused(coordinator_.OnShares(By(2, body), now()), kMalformed);
  body = shares.body;
  body.ciphertexts.pop_back();
  ExpectRefused(coordinator_.OnShares(By(2, body), now()), kMalformed);
  body = shares.body;
  std::swap(body.commitments[0], body.commitments[1]);
  ExpectRefused(coordinator_.OnShares(By(2, body), now()), kMalformed);
  body = shares.body;
  body.t1 = DigestFor("other");
  ExpectRefused(coordinator_.OnShares(By(2, body), now()), kTranscript);
  ExpectRefused(coordinator_.OnShares(By(3, shares.body), now()), kBadSignature);
  StillWorks();
}

TEST_F(CoordinatorRoundTest, RefusesSecondSharesWithOtherCiphertexts) {
  attempt_.RunUntil(CoordinatorPhase::kShares);
  auto shares = AnswerOf<Keys, Shares>(2);
  attempt_.Absorb(coordinator_.OnShares(shares, now()));
  shares.body.ciphertexts[0][0] ^= 1;  // outside the signed body, and still another message
  ExpectRefused(coordinator_.OnShares(shares, now()), kRepeatDiffers);
  StillWorks();
}

class CoordinatorInputTest : public CoordinatorRoundTest {
 protected:
  CoordinatorInputTest() { attempt_.RunUntil(CoordinatorPhase::kInput); }
  InputHeader Header(SiteIndex site) const {
    return {world_.offer.id, site, attempt_t2(), 37, DigestFor("y")};
  }
  const Digest& attempt_t2() const { return const_cast<Attempt&>(attempt_).coordinator().t2(); }
};

TEST_F(CoordinatorInputTest, RefusesAnUploadThatIsNotWhatItsHeaderSays) {
  ExpectRefused(coordinator_.OnUploaded(2, 37, DigestFor("other"), By(2, Header(2)), now()), kDigest);
  ExpectRefused(coordinator_.OnUploaded(2, 36, DigestFor("y"), By(2, Header(2)), now()), kDigest);
  ExpectRefused(coordinator_.OnUploaded(3, 37, DigestFor("y"), By(2, Header(2)), now()), kMalformed);
  ExpectRefused(coordinator_.OnUploaded(2, 37, DigestFor("y"), By(3, Header(2)), now()), kBadSignature);
  auto header = Header(2);
  header.elements = 38;
  ExpectRefused(coordinator_.OnUploaded(2, 38, DigestFor("y"), By(2, header), now()), kElements);
  header = Header(2);
  header.t2 = DigestFor("another model");
  ExpectRefused(coordinator_.OnUploaded(2, 37, DigestFor("y"), By(2, header), now()), kTranscript);
  StillWorks();
}

TEST_F(CoordinatorInputTest, AddsAnUploadOnceAndRefusesASecondOne) {
  const auto first = coordinator_.OnUploaded(2, 37, DigestFor("y"), By(2, Header(2)), now());
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->accept, (std::vector<SiteIndex>{2}));
  EXPECT_FALSE(coordinator_.MayUpload(2));
  EXPECT_TRUE(coordinator_.MayUpload(3));
  const auto again = coordinator_.OnUploaded(2, 37, DigestFor("y"), By(2, Header(2)), now());
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->accept.empty());
  auto other = Header(2);
  other.sha256 = DigestFor("other");
  ExpectRefused(coordinator_.OnUploaded(2, 37, DigestFor("other"), By(2, other), now()), kRepeatDiffers);
}

TEST_F(CoordinatorInputTest, RefusesInputAfterTheSurvivorsAreFixed) {
  attempt_.LoseAt(5, CoordinatorPhase::kInput);
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  EXPECT_FALSE(coordinator_.MayUpload(5));
  ExpectRefused(coordinator_.OnUploaded(5, 37, DigestFor("y"), By(5, Header(5)), now()), kLate);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(CoordinatorInputTest, RefusesAComplaintThatIsForgedOrAboutNobody) {
  const Complaint complaint{world_.offer.id, 2, 3, coordinator_.t1(), Complaint::Code::kCannotDecrypt};
  ExpectRefused(coordinator_.OnComplaint(By(4, complaint), now()), kBadSignature);
  auto other = complaint;
  other.accused = 9;
  ExpectRefused(coordinator_.OnComplaint(By(2, other), now()), kOutsideSet);
  other = complaint;
  other.t1 = DigestFor("other");
  ExpectRefused(coordinator_.OnComplaint(By(2, other), now()), kTranscript);
  StillWorks();
}

/// Site 5 says nothing at step 3: it is outside U2.
class OutsideU2Test : public CoordinatorRoundTest {
 protected:
  OutsideU2Test() {
    attempt_.LoseAt(5, CoordinatorPhase::kShares);
    attempt_.RunUntil(CoordinatorPhase::kInput);
  }
};

TEST_F(OutsideU2Test, ASiteMayNeitherUploadNorComplainNorBeAccused) {
  ASSERT_EQ(coordinator_.dealers(), (std::vector<SiteIndex>{1, 2, 3, 4}));
  EXPECT_FALSE(coordinator_.MayUpload(5));
  EXPECT_TRUE(coordinator_.MayUpload(4));
  const InputHeader header{world_.offer.id, 5, coordinator_.t2(), 37, DigestFor("y")};
  ExpectRefused(coordinator_.OnUploaded(5, 37, DigestFor("y"), By(5, header), now()), kOutsideSet);
  const Complaint by{world_.offer.id, 5, 3, coordinator_.t1(), Complaint::Code::kCannotDecrypt};
  ExpectRefused(coordinator_.OnComplaint(By(5, by), now()), kOutsideSet);
  const Complaint against{world_.offer.id, 3, 5, coordinator_.t1(), Complaint::Code::kCannotDecrypt};
  ExpectRefused(coordinator_.OnComplaint(By(3, against), now()), kOutsideSet);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(CoordinatorInputTest, AnAgreementFromOutsideU3DoesNotCount) {
  attempt_.LoseAt(5, CoordinatorPhase::kInput);
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  ASSERT_EQ(coordinator_.survivors(), (std::vector<SiteIndex>{1, 2, 3, 4}));
  const Agreement agreement{world_.offer.id, 5, coordinator_.t2(), coordinator_.survivors()};
  ExpectRefused(coordinator_.OnAgreement(By(5, agreement), now()), kOutsideSet);
  EXPECT_EQ(coordinator_.awaited().size(), 4u);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(CoordinatorInputTest, TheSurvivorsAreGivenOutToBeWrittenInTheEffectsThatNameThem) {
  std::optional<CoordinatorEffects> last;
  for (SiteIndex site = 1; site <= 5; ++site) {
    auto effects = coordinator_.OnUploaded(site, 37, DigestFor("y"), By(site, Header(site)), now());
    ASSERT_TRUE(effects.ok()) << effects.status();
    last = *std::move(effects);
    EXPECT_EQ(last->survivors.has_value(), site == 5);
  }
  EXPECT_EQ(*last->survivors, (std::vector<SiteIndex>{1, 2, 3, 4, 5}));
  ASSERT_EQ(last->send.size(), 5u);
  EXPECT_TRUE(std::holds_alternative<Signed<Survivors>>(*last->send[0].message));
}

TEST_F(CoordinatorInputTest, AComplaintAfterTheSurvivorsAreFixedIsLate) {
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  const Complaint complaint{world_.offer.id, 2, 3, coordinator_.t1(), Complaint::Code::kCannotDecrypt};
  ExpectRefused(coordinator_.OnComplaint(By(2, complaint), now()), kLate);
  StillWorks();
}

TEST_F(CoordinatorInputTest, WaitsForTheDeadlineAndNoLonger) {
  const auto early = coordinator_.OnTimer(now());
  ASSERT_TRUE(early.ok());
  EXPECT_EQ(coordinator_.phase(), CoordinatorPhase::kInput);
  EXPECT_EQ(coordinator_.awaited().size(), 5u);
  const auto late = coordinator_.OnTimer(now() + Millis(300'000));
  ASSERT_TRUE(late.ok());
  EXPECT_EQ(coordinator_.phase(), CoordinatorPhase::kAborted);
  ASSERT_TRUE(late->aborted.has_value());
  EXPECT_EQ(late->aborted->code, Aborted::Code::kTooFewInputs);
  EXPECT_EQ(late->dropped.size(), 5u);
  EXPECT_EQ(late->dropped[0].code, kLate);
}

TEST_F(CoordinatorRoundTest, RefusesAnAgreementToAnotherSet) {
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  const auto agreement = AnswerOf<Survivors, Agreement>(2);
  auto body = agreement.body;
  body.survivors.pop_back();
  ExpectRefused(coordinator_.OnAgreement(By(2, body), now()), kTranscript);
  body = agreement.body;
  body.t2 = DigestFor("other");
  ExpectRefused(coordinator_.OnAgreement(By(2, body), now()), kTranscript);
  ExpectRefused(coordinator_.OnAgreement(By(3, agreement.body), now()), kBadSignature);
  StillWorks();
}

class CoordinatorUnmaskTest : public CoordinatorRoundTest {
 protected:
  CoordinatorUnmaskTest() {
    attempt_.LoseAt(5, CoordinatorPhase::kInput);
    attempt_.RunUntil(CoordinatorPhase::kUnmask);
    unmask_ = AnswerOf<AgreementBundle, Unmask>(2).body;
  }
  void Refused(RefusalCode code) { ExpectRefused(coordinator_.OnUnmask(By(2, unmask_), now()), code); }
  Unmask unmask_;
};

TEST_F(CoordinatorUnmaskTest, RefusesBothKindsForOneSite) {
  unmask_.seed_shares.push_back(unmask_.mask_key_shares[0]);
  Refused(kBothKinds);
}

TEST_F(CoordinatorUnmaskTest, RefusesTheWrongKindAndMissingShares) {
  const Unmask original = unmask_;
  std::swap(unmask_.seed_shares, unmask_.mask_key_shares);
  Refused(kBothKinds);
  unmask_ = original;
  unmask_.seed_shares.pop_back();
  Refused(kBothKinds);
  unmask_ = original;
  unmask_.mask_key_shares.clear();
  Refused(kBothKinds);
}

TEST_F(CoordinatorUnmaskTest, RefusesAShareOrSaltThatDoesNotMatchItsCommitment) {
  const Unmask original = unmask_;
  unmask_.seed_shares[2].share.mutable_view()[31] ^= 1;
  Refused(kBadShare);
  unmask_ = original;
  unmask_.mask_key_shares[0].salt.mutable_view()[0] ^= 1;
  Refused(kBadShare);
  unmask_ = original;
  unmask_.seed_shares[0].share = unmask_.seed_shares[1].share;
  Refused(kBadShare);
}

TEST_F(CoordinatorUnmaskTest, RefusesAForgedSenderAndOneOutsideU3) {
  ExpectRefused(coordinator_.OnUnmask(By(3, unmask_), now()), kBadSignature);
  unmask_.site = 5;
  ExpectRefused(coordinator_.OnUnmask(By(5, unmask_), now()), kOutsideSet);
  unmask_.site = 2;
  unmask_.t2 = DigestFor("other");
  Refused(kTranscript);
}

TEST_F(CoordinatorUnmaskTest, TheSignatureBindsTheSharesWithoutContainingThem) {
  const std::string body(AsText(Canonical(unmask_)));
  for (const OpenedShare& s : unmask_.seed_shares) {
    EXPECT_EQ(body.find(AsText(s.share.view())), std::string::npos);
  }
  Unmask other = unmask_;
  other.seed_shares[0].share.mutable_view()[0] ^= 1;
  EXPECT_NE(Canonical(other), Canonical(unmask_));
}

TEST_F(CoordinatorUnmaskTest, TheAttemptStillEndsExactlyWhenTheLiarThenTellsTheTruth) {
  Unmask lie = unmask_;
  lie.seed_shares[0].share.mutable_view()[0] ^= 1;
  ExpectRefused(coordinator_.OnUnmask(By(2, lie), now()), kBadShare);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(CoordinatorUnmaskTest, TheWorkNamesOneKeyForEachSurvivorAndEachBrokenPair) {
  attempt_.RunUntil(CoordinatorPhase::kSummed);
  ASSERT_TRUE(attempt_.unmask().has_value());
  EXPECT_EQ(attempt_.unmask()->keys.size(), 4u + 4u);
  EXPECT_EQ(attempt_.unmask()->survivors, (std::vector<SiteIndex>{1, 2, 3, 4}));
}

// A dealer that commits to shares of something else than it advertised is found out and named: nobody else
// could have made shares that match its own commitments.
class ConvictionTest : public ::testing::Test {
 protected:
  /// Runs an attempt in which site 2 deals shares of a wrong secret of `kind`.
  void Run(ShareKind kind) {
    World world(4);
    Attempt attempt(world);
    // Lost before its vector its mask key is rebuilt, lost after it its seed.
    attempt.LoseAt(2, kind == ShareKind::kMaskKey ? CoordinatorPhase::kInput : CoordinatorPhase::kAgreement);
    attempt.RunUntil(CoordinatorPhase::kShares);
    const auto keys = attempt.Waiting<Keys>(2);
    auto& pending = attempt.pending();
    std::erase_if(pending, [](const Outgoing& o) { return o.to == 2; });

    // Site 2's core dealt honestly; the liar replaces its row by one of its own making.
    ASSERT_TRUE(attempt.AtWorker(2, keys).ok());
    attempt.Absorb(
        attempt.coordinator().OnShares(LyingShares(world, attempt, keys.body, kind), attempt.now()));
    attempt.RunUntil(CoordinatorPhase::kInput);
    std::erase_if(pending, [](const Outgoing& o) { return o.to == 2; });  // its honest core would refuse
    if (kind == ShareKind::kSeed) {
      const InputHeader header{world.offer.id, 2, attempt.coordinator().t2(), 37, DigestFor("y")};
      ASSERT_TRUE(attempt.coordinator()
                      .OnUploaded(2, 37, DigestFor("y"), Sign(attempt.key(2), header), attempt.now())
                      .ok());
    }
    attempt.RunUntil(CoordinatorPhase::kSummed);
    ASSERT_TRUE(attempt.aborted().has_value());
    EXPECT_EQ(AbortName(attempt.aborted()->code), "convicted") << attempt.aborted()->message;
    EXPECT_EQ(attempt.aborted()->accused, 2);
    EXPECT_FALSE(attempt.unmask().has_value());
  }

 private:
  static Signed<Shares> LyingShares(World& world, Attempt& attempt, const Keys& keys, ShareKind kind) {
    // Rebuild the site's own keys from its random stream: channel, mask, seed.
    crypto::CtrRandom same(SeedFor("attempt 1"));
    const Secret32 channel = same.Seed(), mask = same.Seed(), seed = same.Seed();
    crypto::CtrRandom random(SeedFor("liar"));
    const std::vector<SiteIndex> holders = {1, 2, 3, 4};
    const auto wrong = random.Seed();
    const auto a = SplitSecret(kind == ShareKind::kMaskKey ? wrong : mask, 3, holders, random).value();
    const auto b = SplitSecret(kind == ShareKind::kSeed ? wrong : seed, 3, holders, random).value();
    Shares shares{world.offer.id, 2, attempt.coordinator().t1(), {}, {}};
    for (size_t k = 0; k < 4; ++k) {
      const HeldShares held{a[k].y, random.Seed(), b[k].y, random.Seed()};
      const auto key = ShareKey(channel, keys.adverts[k].body.channel_key, shares.t1, 2, holders[k]).value();
      shares.commitments.push_back(held.Commit(2, holders[k]));
      shares.ciphertexts.push_back(SealShares(key, shares.t1, 2, holders[k], held));
    }
    return Sign(attempt.key(2), std::move(shares));
  }
};

TEST_F(ConvictionTest, MatchingSharesOfAWrongMaskKeyConvictTheirDealer) { Run(ShareKind::kMaskKey); }
TEST_F(ConvictionTest, MatchingSharesOfAWrongSeedConvictTheirDealer) { Run(ShareKind::kSeed); }

TEST_F(CoordinatorRoundTest, CancelEndsTheAttemptAndNothingIsAcceptedAfterwards) {
  attempt_.Start();
  const auto advert = AnswerOf<Offer, Advert>(2);
  const auto effects = coordinator_.Cancel("the operator said so");
  ASSERT_TRUE(effects.aborted.has_value());
  EXPECT_EQ(effects.aborted->code, Aborted::Code::kCancelled);
  ExpectRefused(coordinator_.OnAdvert(advert, now()), kLate);
  ExpectRefused(coordinator_.Finish(DigestFor("a"), DigestFor("s"), now()), kWrongPhase);
}

TEST_F(CoordinatorRoundTest, AnUnknownSiteCanNeitherBeLostNorRejoin) {
  attempt_.Start();
  EXPECT_EQ(coordinator_.OnLost(9, now()).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(coordinator_.OnRejoined(9, now()).status().code(), StatusCode::kNotFound);
}

TEST_F(CoordinatorRoundTest, ADroppedSiteCannotRejoin) {
  attempt_.LoseAt(4, CoordinatorPhase::kShares);
  attempt_.RunUntil(CoordinatorPhase::kInput);
  EXPECT_EQ(coordinator_.OnRejoined(4, now()).status().code(), StatusCode::kNotFound);
  ASSERT_EQ(attempt_.dropped().size(), 1u);
  EXPECT_EQ(attempt_.dropped()[0].site, 4);
  EXPECT_EQ(attempt_.dropped()[0].code, kLost);
}

TEST_F(CoordinatorRoundTest, ASlowAgreementAndUnmaskAreTakenWithoutEffect) {
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  const auto slow = AnswerOf<Survivors, Agreement>(5);
  attempt_.RunUntil(CoordinatorPhase::kUnmask);
  const auto effects = coordinator_.OnAgreement(slow, now());
  ASSERT_TRUE(effects.ok()) << effects.status();
  EXPECT_TRUE(effects->send.empty());
  const auto unmask = AnswerOf<AgreementBundle, Unmask>(5);
  attempt_.RunUntil(CoordinatorPhase::kSummed);
  EXPECT_TRUE(coordinator_.OnUnmask(unmask, now()).ok());
  StillWorks();
}

TEST_F(CoordinatorRoundTest, TheResultGoesToEverySurvivorOnce) {
  StillWorks();
  ExpectRefused(coordinator_.Finish(DigestFor("other"), DigestFor("other"), now()), kWrongPhase);
}

}  // namespace
}  // namespace concordat::secagg::testing
