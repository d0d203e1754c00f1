#include <algorithm>

#include "tests/adversary/liar.h"

// Sites that do not keep to the protocol, against the coordinator's real core: the site is named, the lie
// changes nothing, and the attempt goes on without the liar where that is safe, or ends without a sum.
namespace concordat::adversary {
namespace {

using secagg::testing::Attempt;
using secagg::testing::DigestOfWords;
using secagg::testing::ExpectRefused;
using enum RefusalCode;

/// Five sites, one may be lost: site 2 lies.
class BadSiteTest : public ::testing::Test {
 protected:
  static constexpr SiteIndex kLiar = 2;
  World world_{5};
  Attempt attempt_{world_};
  CoordinatorRound& coordinator() { return attempt_.coordinator(); }

  /// The liar's honest answer to what waits for it, taken away from the queue.
  template <typename Asked, typename Said>
  Signed<Said> Answer() {
    const auto effects = attempt_.AtWorker(kLiar, attempt_.Waiting<Asked>(kLiar));
    EXPECT_TRUE(effects.ok()) << effects.status();
    Drop();
    return std::get<Signed<Said>>(*effects->send);
  }
  void Drop() {
    std::erase_if(attempt_.pending(), [](const Outgoing& o) { return o.to == kLiar; });
  }
  template <typename T>
  Signed<T> BySite(SiteIndex site, T body) {
    return Sign(attempt_.key(site), std::move(body));
  }
  /// The refusal names the site in its message: that is what the log shows.
  template <typename T>
  void ExpectNamed(const StatusOr<T>& got, RefusalCode code) {
    ExpectRefused(got, code);
    EXPECT_NE(Message(got.status()).find(fmt::format("site {}", int{kLiar})), std::string::npos)
        << got.status();
  }
  /// From here on the liar is silent; the others come to their exact sum without it.
  void OthersGoOn(size_t survivors) {
    attempt_.LoseAt(kLiar, CoordinatorPhase::kAdverts);
    ASSERT_TRUE(attempt_.Run()) << (attempt_.aborted() ? attempt_.aborted()->message : "");
    EXPECT_EQ(coordinator().survivors().size(), survivors);
    EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
  }
  bool WasDropped(SiteIndex site) const {
    return std::ranges::any_of(attempt_.dropped(), [&](const DroppedSite& d) { return d.site == site; });
  }
  /// An attempt that ended without a sum: nothing rebuilt, nothing published, nothing more to say.
  void ExpectCleanAbort(Aborted::Code code) {
    ASSERT_TRUE(attempt_.aborted().has_value());
    EXPECT_EQ(AbortName(attempt_.aborted()->code), AbortName(code)) << attempt_.aborted()->message;
    EXPECT_FALSE(attempt_.unmask().has_value());
    EXPECT_EQ(coordinator().phase(), CoordinatorPhase::kAborted);
    ExpectRefused(coordinator().Finish(DigestFor("adapter"), DigestFor("sum"), attempt_.now()), kWrongPhase);
    for (const Outgoing& o : attempt_.pending())
      EXPECT_FALSE(std::holds_alternative<Signed<Result>>(*o.message));
  }
};

TEST_F(BadSiteTest, AnAdvertThatCopiesAnothersKeysIsRefusedAndTheOthersGoOn) {
  attempt_.Start();
  const auto advert = Answer<Offer, Advert>();
  while (attempt_.pending().front().to == 1 || coordinator().awaited().size() > 1) {
    const Outgoing next = attempt_.pending().front();
    attempt_.pending().pop_front();
    attempt_.Deliver(next);
  }
  // A copy of site 1's keys would make the liar's mask site 1's.
  const auto effects = attempt_.AtWorker(1, attempt_.ByCoordinator(world_.offer));
  Advert copy = std::get<Signed<Advert>>(*effects->send).body;
  copy.site = kLiar;
  ExpectNamed(coordinator().OnAdvert(BySite(kLiar, copy), attempt_.now()), kDuplicateKey);
  ExpectRefused(coordinator().OnAdvert(BySite(1, advert.body), attempt_.now()), kBadSignature);
  OthersGoOn(4);
  EXPECT_TRUE(WasDropped(kLiar));
}

TEST_F(BadSiteTest, TwoAdvertsOfOneSiteAreTwoDifferentStatementsAndTheSecondIsRefused) {
  attempt_.Start();
  const auto advert = Answer<Offer, Advert>();
  attempt_.Absorb(coordinator().OnAdvert(advert, attempt_.now()));
  Advert other = advert.body;
  other.seed_hash = DigestFor("another seed");
  ExpectNamed(coordinator().OnAdvert(BySite(kLiar, other), attempt_.now()), kRepeatDiffers);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(BadSiteTest, SharesForOtherSitesThanU1AreRefusedAndTheOthersGoOn) {
  attempt_.RunUntil(CoordinatorPhase::kShares);
  const auto shares = Answer<Keys, Shares>();
  Shares fewer = shares.body;
  fewer.commitments.pop_back(), fewer.ciphertexts.pop_back();
  ExpectNamed(coordinator().OnShares(BySite(kLiar, fewer), attempt_.now()), kMalformed);
  Shares outside = shares.body;
  outside.commitments.back().holder = 6;
  ExpectNamed(coordinator().OnShares(BySite(kLiar, outside), attempt_.now()), kMalformed);
  Shares older = shares.body;
  older.t1 = DigestFor("another attempt's T1");
  ExpectNamed(coordinator().OnShares(BySite(kLiar, older), attempt_.now()), kTranscript);
  OthersGoOn(4);
  EXPECT_TRUE(WasDropped(kLiar));
}

TEST_F(BadSiteTest, SharesThatDoNotMatchTheirCommitmentsEndTheAttemptWithBothNames) {
  attempt_.RunUntil(CoordinatorPhase::kShares);
  Shares shares = Answer<Keys, Shares>().body;
  shares.commitments[3].seed_share = DigestFor("something else");  // for site 4
  attempt_.Absorb(coordinator().OnShares(BySite(kLiar, shares), attempt_.now()));
  attempt_.LoseAt(kLiar, CoordinatorPhase::kInput);  // its honest half would object
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  ExpectCleanAbort(Aborted::Code::kComplaint);
  EXPECT_EQ(attempt_.aborted()->accuser, 4);
  EXPECT_EQ(attempt_.aborted()->accused, kLiar);
  EXPECT_EQ(attempt_.worker(4).phase(), WorkerPhase::kComplained);
}

TEST_F(BadSiteTest, SharesThatDoNotOpenEndTheAttemptWithBothNames) {
  attempt_.RunUntil(CoordinatorPhase::kShares);
  Shares shares = Answer<Keys, Shares>().body;
  shares.ciphertexts[2][0] ^= 1;  // for site 3; the signature does not cover it
  attempt_.Absorb(coordinator().OnShares(BySite(kLiar, shares), attempt_.now()));
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  ExpectCleanAbort(Aborted::Code::kComplaint);
  EXPECT_EQ(attempt_.aborted()->accuser, 3);
  EXPECT_EQ(attempt_.aborted()->accused, kLiar);
}

TEST_F(BadSiteTest, AFalseComplaintEndsTheAttemptAndTellsTheAccuserNothing) {
  attempt_.RunUntil(CoordinatorPhase::kInput);
  const Digest t1 = coordinator().t1();
  const Complaint lie{world_.offer.id, kLiar, 4, t1, Complaint::Code::kCannotDecrypt};
  attempt_.Absorb(coordinator().OnComplaint(BySite(kLiar, lie), attempt_.now()));
  ExpectCleanAbort(Aborted::Code::kComplaint);
  EXPECT_EQ(attempt_.aborted()->accuser, kLiar);
}

TEST_F(BadSiteTest, AnUploadOfAnotherLengthOrDigestIsRefusedUnreadAndTheOthersGoOn) {
  attempt_.RunUntil(CoordinatorPhase::kInput);
  Drop();
  const Digest& t2 = coordinator().t2();
  const InputHeader header{world_.offer.id, kLiar, t2, 37, DigestFor("y")};
  ExpectNamed(coordinator().OnUploaded(kLiar, 37, DigestFor("z"), BySite(kLiar, header), attempt_.now()),
              kDigest);
  ExpectNamed(coordinator().OnUploaded(kLiar, 36, DigestFor("y"), BySite(kLiar, header), attempt_.now()),
              kDigest);
  InputHeader longer = header;
  longer.elements = 38;
  ExpectNamed(coordinator().OnUploaded(kLiar, 38, DigestFor("y"), BySite(kLiar, longer), attempt_.now()),
              kElements);
  InputHeader of_another = header;
  of_another.site = 3;
  ExpectRefused(coordinator().OnUploaded(3, 37, DigestFor("y"), BySite(kLiar, of_another), attempt_.now()),
                kBadSignature);
  OthersGoOn(4);
  EXPECT_TRUE(WasDropped(kLiar));
}

TEST_F(BadSiteTest, OfTwoUploadsTheFirstCountsOnce) {
  attempt_.RunUntil(CoordinatorPhase::kInput);
  ASSERT_TRUE(attempt_.AtWorker(kLiar, attempt_.Waiting<Delivery>(kLiar)).ok());
  Drop();
  attempt_.Upload(kLiar);
  ASSERT_FALSE(coordinator().MayUpload(kLiar));
  const InputHeader second{world_.offer.id, kLiar, coordinator().t2(), 37, DigestFor("another y")};
  ExpectNamed(
      coordinator().OnUploaded(kLiar, 37, DigestFor("another y"), BySite(kLiar, second), attempt_.now()),
      kRepeatDiffers);
  ASSERT_TRUE(attempt_.Run());
  EXPECT_EQ(coordinator().survivors().size(), 5u);
  EXPECT_EQ(attempt_.sum(), attempt_.PlainSum());
}

TEST_F(BadSiteTest, AnAgreementToAnotherSetIsRefusedAndTheOthersAreEnough) {
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  Agreement other = Answer<Survivors, Agreement>().body;
  other.survivors = {1, 2, 3, 4};
  ExpectRefused(coordinator().OnAgreement(BySite(kLiar, other), attempt_.now()), kTranscript);
  OthersGoOn(5);  // its vector is in the sum; only its signature is missing
}

/// Site 5 is lost before its vector, so that both kinds of share are asked for: with the liar silent only
/// three answer, four are needed.
class BadUnmaskTest : public BadSiteTest {
 protected:
  void Ready(SiteIndex lost = 5) {
    if (lost != 0) attempt_.LoseAt(lost, CoordinatorPhase::kInput);
    attempt_.RunUntil(CoordinatorPhase::kUnmask);
    unmask_ = Answer<AgreementBundle, Unmask>().body;
  }
  auto Say() { return coordinator().OnUnmask(BySite(kLiar, unmask_), attempt_.now()); }
  Unmask unmask_;
};

TEST_F(BadUnmaskTest, WrongSharesAreRefusedByTheirCommitmentsAndTheOthersAreEnough) {
  Ready(0);
  unmask_.seed_shares[3].share.mutable_view()[7] ^= 1;
  ExpectNamed(Say(), kBadShare);
  OthersGoOn(5);
}

TEST_F(BadUnmaskTest, WrongSharesFromTheLastOneNeededEndTheAttemptWithoutASum) {
  Ready();
  unmask_.mask_key_shares[0].share.mutable_view()[0] ^= 0x80;
  ExpectNamed(Say(), kBadShare);
  attempt_.LoseAt(kLiar, CoordinatorPhase::kAdverts);
  ASSERT_FALSE(attempt_.Run());
  ExpectCleanAbort(Aborted::Code::kTooFewUnmasks);
  EXPECT_TRUE(WasDropped(kLiar)) << "the one that was waited for is named";
}

TEST_F(BadUnmaskTest, SharesOfTheWrongKindOrTooManyOrTooFewAreRefused) {
  Ready();
  const Unmask honest = unmask_;
  unmask_.seed_shares.push_back(unmask_.mask_key_shares[0]);
  ExpectNamed(Say(), kBothKinds);
  unmask_ = honest;
  unmask_.mask_key_shares.clear();
  ExpectNamed(Say(), kBothKinds);
  unmask_ = honest;
  unmask_.seed_shares[0] = unmask_.seed_shares[1];
  ExpectNamed(Say(), kBothKinds);
  unmask_ = honest;
  ASSERT_TRUE(Say().ok()) << "the truth is still welcome";
}

TEST_F(BadUnmaskTest, SharesOfAnotherAttemptAreRefused) {
  Ready();
  unmask_.id.attempt += 1;
  ExpectRefused(Say(), kWrongAttempt);
  unmask_.id.attempt -= 1;
  unmask_.t2 = DigestFor("another T2");
  ExpectNamed(Say(), kTranscript);
}

// A dealer whose shares match its commitments and rebuild something else than it advertised is convicted by
// what it signed: nobody else could have made them.
class ConvictedTest : public ::testing::TestWithParam<ShareKind> {};

TEST_P(ConvictedTest, ADealerOfAnotherSecretIsNamedAndNothingIsPublished) {
  World world(4);
  Attempt attempt(world);
  Colluder liar(world, "a dealer of something else");  // site 4
  const bool seed = GetParam() == ShareKind::kSeed;
  attempt.Start();
  std::erase_if(attempt.pending(), [](const Outgoing& o) { return o.to == 4; });
  Signed<Advert> advert = liar.AdvertFor(world.offer.id, attempt.coordinator().t0());
  crypto::CtrRandom other(SeedFor("other"));
  // What it advertises and what it deals differ in one of the two secrets.
  if (seed)
    advert.body.seed_hash = DigestFor("another seed");
  else
    advert.body.mask_key = crypto::GenerateX25519(other).pub;
  attempt.Absorb(attempt.coordinator().OnAdvert(Sign(liar.key(), advert.body), attempt.now()));
  attempt.RunUntil(CoordinatorPhase::kShares);
  const Keys keys = attempt.Waiting<Keys>(1).body;
  const auto drop = [&] { std::erase_if(attempt.pending(), [](const Outgoing& o) { return o.to == 4; }); };
  drop();
  attempt.Absorb(attempt.coordinator().OnShares(
      liar.SharesFor(world.offer.id, attempt.coordinator().t1(), keys), attempt.now()));
  attempt.RunUntil(CoordinatorPhase::kInput);
  drop();
  if (seed) {  // alive, so that its seed is rebuilt
    const auto header = liar.HeaderFor(world.offer.id, attempt.coordinator().t2());
    ASSERT_TRUE(
        attempt.coordinator().OnUploaded(4, 37, DigestFor("y of the colluder"), header, attempt.now()).ok());
  }
  attempt.LoseAt(4, CoordinatorPhase::kAdverts);
  attempt.RunUntil(CoordinatorPhase::kSummed);
  ASSERT_TRUE(attempt.aborted().has_value());
  EXPECT_EQ(AbortName(attempt.aborted()->code), "convicted") << attempt.aborted()->message;
  EXPECT_EQ(attempt.aborted()->accused, 4);
  EXPECT_FALSE(attempt.unmask().has_value());
}

INSTANTIATE_TEST_SUITE_P(BothSecrets, ConvictedTest, ::testing::Values(ShareKind::kMaskKey, ShareKind::kSeed),
                         [](const auto& info) {
                           return info.param == ShareKind::kSeed ? "Seed" : "MaskKey";
                         });

// Silence at every step, told by a closed connection or only by the deadline.
class SilentTest : public ::testing::TestWithParam<std::tuple<CoordinatorPhase, bool>> {};

TEST_P(SilentTest, OneSilentSiteIsDroppedAndTwoEndTheAttemptWithTheStepsName) {
  const auto [step, seen] = GetParam();
  for (const size_t silent : {1u, 2u}) {
    World world(5);  // t = m = 4
    Attempt attempt(world);
    attempt.set_losses_are_seen(seen);
    for (SiteIndex s = 1; s <= silent; ++s) attempt.LoseAt(s, step);
    const bool done = attempt.Run();
    EXPECT_EQ(done, silent == 1);
    if (done) {
      EXPECT_EQ(attempt.sum(), attempt.PlainSum());
      continue;
    }
    ASSERT_TRUE(attempt.aborted().has_value());
    EXPECT_EQ(static_cast<int>(attempt.aborted()->code), static_cast<int>(step));
    EXPECT_FALSE(attempt.unmask().has_value());
    std::set<SiteIndex> named;
    for (const DroppedSite& d : attempt.dropped()) {
      named.insert(d.site);
      EXPECT_EQ(d.code, seen ? kLost : kLate);
    }
    EXPECT_EQ(named, (std::set<SiteIndex>{1, 2}));
  }
}

INSTANTIATE_TEST_SUITE_P(
    EveryStep, SilentTest,
    ::testing::Combine(::testing::Values(CoordinatorPhase::kAdverts, CoordinatorPhase::kShares,
                                         CoordinatorPhase::kInput, CoordinatorPhase::kAgreement,
                                         CoordinatorPhase::kUnmask),
                       ::testing::Bool()));

// What a site gets to see: its own column of ciphertexts and nobody else's, headers, signatures, a sum.
TEST(LearntTest, NoSiteIsSentAnotherSitesSharesOrVector) {
  World world(4);
  Attempt attempt(world);
  attempt.RunUntil(CoordinatorPhase::kInput);
  std::set<std::string> seen;
  for (SiteIndex s = 1; s <= 4; ++s) {
    const Delivery delivery = attempt.Waiting<Delivery>(s).body;
    EXPECT_EQ(delivery.to, s);
    for (const auto& row : delivery.rows)
      EXPECT_TRUE(seen.insert(std::string(AsText(row.ciphertext))).second) << "a ciphertext for two";
  }
  // The liar can open none but its own: the key is agreed with the dealer, for this holder.
  const Delivery other = attempt.Waiting<Delivery>(3).body;
  Delivery stolen = attempt.Waiting<Delivery>(2).body;
  stolen.rows[0].ciphertext = other.rows[0].ciphertext;
  const auto effects = attempt.AtWorker(2, attempt.ByCoordinator(stolen));
  ASSERT_TRUE(effects.ok());
  ASSERT_TRUE(effects->complaint.has_value());
  EXPECT_EQ(effects->complaint->code, Complaint::Code::kCannotDecrypt);
}

}  // namespace
}  // namespace concordat::adversary
