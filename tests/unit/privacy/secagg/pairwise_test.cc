#include "privacy/secagg/pairwise.h"

#include <set>

#include "privacy/secagg/commitment.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/privacy/secagg/harness.h"

// Pairwise keys: without them X25519 broken opens nothing; a pair whose keys differ is named before a vector
// leaves; a lost site's masks come off with t shares as ever, and what a dealer leaves for that convicts it
// when it is wrong.
namespace concordat::secagg::testing {
namespace {

using concordat::testing::HasStatus;
using enum CoordinatorPhase;

TEST(PairwiseDerivationTest, EveryPartIsForOnePairOneAttemptAndOneUse) {
  const Secret32 key = SeedFor("p"), other = SeedFor("another p");
  const Digest t1 = DigestFor("t1"), next = DigestFor("t1 of the next attempt");
  EXPECT_TRUE(PairMaskPart(key, t1, 2, 7) == PairMaskPart(key, t1, 7, 2)) << "both sites derive it";
  std::set<std::string> seen;
  for (const Secret32& part :
       {PairMaskPart(key, t1, 2, 7), PairMaskPart(key, t1, 2, 8), PairMaskPart(key, next, 2, 7),
        PairMaskPart(other, t1, 2, 7), PairSharePart(key, t1, 2, 7), PairSharePart(key, t1, 7, 2),
        PairSharePart(key, next, 2, 7), PairSharePart(other, t1, 2, 7), OwnPairwiseKey(key, other),
        OwnPairwiseKey(other, key), MaskSecretOf(key)})
    EXPECT_TRUE(seen.insert(ToHex(part.view())).second);
  std::set<Digest> tags = {PairTag(key, t1, 2, 7), PairTag(key, t1, 2, 8), PairTag(key, next, 2, 7),
                           PairTag(other, t1, 2, 7)};
  EXPECT_EQ(tags.size(), 4u);
  EXPECT_EQ(PairTag(key, t1, 2, 7), PairTag(key, t1, 7, 2));
}

TEST(PairwiseDerivationTest, AKeyNeedsBothSecretsAndIsNeverThatWithoutAPart) {
  crypto::CtrRandom random(SeedFor("pairs"));
  const auto a = crypto::GenerateX25519(random), b = crypto::GenerateX25519(random);
  const Secret32 part = SeedFor("part"), other = SeedFor("other part"), zeros;
  const Digest t = DigestFor("t");
  const auto key = [&](const Secret32* p) { return PairwiseMaskKey(a.secret, b.pub, t, 1, 2, p).value(); };
  EXPECT_TRUE(key(&part) == PairwiseMaskKey(b.secret, a.pub, t, 2, 1, &part).value());
  EXPECT_FALSE(key(&part) == key(nullptr));
  EXPECT_FALSE(key(&part) == key(&other));
  EXPECT_FALSE(key(&zeros) == key(nullptr));
  const auto share = [&](const Secret32* p) { return ShareKey(a.secret, b.pub, t, 1, 2, p).value(); };
  EXPECT_TRUE(share(&part) == ShareKey(b.secret, a.pub, t, 1, 2, &part).value());
  EXPECT_FALSE(share(&part) == share(nullptr));
  EXPECT_FALSE(share(&part) == share(&other));
  EXPECT_FALSE(share(&part) == key(&part));
}

TEST(PairwiseDerivationTest, ASealOpensForItsRootDealerHolderAndTranscriptAlone) {
  const Secret32 root = SeedFor("root"), part = SeedFor("part");
  const Digest t1 = DigestFor("t1");
  const PairSeal seal = SealPairPart(root, part, t1, 3, 1);
  const auto opened = OpenPairPart(root, seal, t1, 3, 1);
  ASSERT_OK(opened);
  EXPECT_TRUE(*opened == part);
  EXPECT_FALSE(OpenPairPart(MaskSecretOf(root), seal, t1, 3, 1).ok()) << "the X25519 secret is not its key";
  EXPECT_FALSE(OpenPairPart(root, seal, t1, 1, 3).ok());
  EXPECT_FALSE(OpenPairPart(root, seal, t1, 3, 2).ok());
  EXPECT_FALSE(OpenPairPart(root, seal, DigestFor("another"), 3, 1).ok());
  for (size_t i = 0; i < seal.size(); ++i) {
    PairSeal bent = seal;
    bent[i] ^= 1;
    EXPECT_FALSE(OpenPairPart(root, bent, t1, 3, 1).ok()) << i;
  }
}

/// Everything on the wire of an attempt of three, and what X25519 broken gives: the secrets behind all public
/// keys. A site draws its channel secret first, then its mask secret, or its root.
class RecordedTest : public ::testing::Test {
 protected:
  void Play(bool pairwise) {
    if (pairwise) world_.CarryPairwiseKeys();
    attempt_.emplace(world_);
    for (SiteIndex site : {1, 2, 3}) {
      crypto::CtrRandom same(SeedFor(fmt::format("attempt {}", site - 1)));
      channel_[site] = same.Seed();
      const Secret32 drawn = same.Seed();
      mask_[site] = pairwise ? MaskSecretOf(drawn) : drawn;
    }
    attempt_->RunUntil(kShares);
    for (SiteIndex site : {1, 2, 3}) {
      adverts_ = attempt_->Waiting<Keys>(site).body.adverts;
      EXPECT_EQ(crypto::X25519PublicOf(channel_[site]).value(), adverts_[site - 1u].body.channel_key);
      EXPECT_EQ(crypto::X25519PublicOf(mask_[site]).value(), adverts_[site - 1u].body.mask_key);
    }
    attempt_->RunUntil(kInput);
    for (SiteIndex site : {1, 2, 3}) deliveries_[site] = attempt_->Waiting<Delivery>(site).body;
    t1_ = attempt_->coordinator().t1();
  }
  /// Shares that open to whoever can break X25519.
  int SharesOpened() {
    int opened = 0;
    for (const auto& [holder, delivery] : deliveries_) {
      for (const Delivery::Row& row : delivery.rows) {
        const auto key =
            ShareKey(channel_[holder], adverts_[row.dealer - 1u].body.channel_key, t1_, row.dealer, holder);
        opened += OpenShares(*key, t1_, row.dealer, holder, row.ciphertext).ok() ? 1 : 0;
      }
    }
    return opened;
  }
  /// Pairwise masks of site 1 that follow from X25519 alone.
  int MasksFound() {
    EXPECT_OK(attempt_->AtWorker(1, attempt_->Waiting<Delivery>(1)).status());
    EXPECT_OK(attempt_->worker(1).BeginInput(attempt_->now()).status());
    const auto masks = attempt_->worker(1).TakeMasks();
    EXPECT_OK(masks);
    int found = 0;
    for (SiteIndex peer : {2, 3}) {
      const auto key =
          PairwiseMaskKey(mask_[1], adverts_[peer - 1u].body.mask_key, attempt_->coordinator().t2(), 1, peer);
      for (const MaskKey& mask : *masks) found += mask.key == *key ? 1 : 0;
    }
    return found;
  }

  World world_{3};
  std::optional<Attempt> attempt_;
  std::map<SiteIndex, Secret32> channel_, mask_;
  std::vector<Signed<Advert>> adverts_;
  std::map<SiteIndex, Delivery> deliveries_;
  Digest t1_;
};

TEST_F(RecordedTest, WithoutPairwiseKeysX25519BrokenOpensSharesAndMasks) {
  Play(false);
  EXPECT_EQ(SharesOpened(), 9);
  EXPECT_EQ(MasksFound(), 2);
}

TEST_F(RecordedTest, WithPairwiseKeysX25519BrokenOpensNothingNotEvenASitesOwnRow) {
  Play(true);
  EXPECT_EQ(SharesOpened(), 0);
  EXPECT_EQ(MasksFound(), 0);
}

class PairwiseRoundTest : public ::testing::Test {
 protected:
  PairwiseRoundTest() { world_.CarryPairwiseKeys(); }
  /// Delivers the waiting keys; the shares of `site` pass through `edit`.
  template <typename Edit>
  void DealWith(Attempt& attempt, SiteIndex site, Edit edit) {
    attempt.RunUntil(kShares);
    const auto all = std::exchange(attempt.pending(), {});
    for (const Outgoing& out : all) {
      auto effects = attempt.AtWorker(out.to, *out.message);
      ASSERT_OK(effects);
      if (out.to == site) edit(std::get<Signed<Shares>>(*effects->send).body);
      attempt.Answer(out.to, *effects);
    }
  }
  const SpiffeId& id(SiteIndex site) const { return world_.sites[site - 1u].id; }

  World world_{4};
};

TEST_F(PairwiseRoundTest, ASiteWithoutAKeyOfOneInTheRosterRefusesTheOfferAndNamesThePeer) {
  world_.pairwise[0].erase(id(3));
  Attempt attempt(world_);
  attempt.Start();
  const auto refused = attempt.AtWorker(1, attempt.Waiting<Offer>(1));
  ExpectRefused(refused, RefusalCode::kPairwiseKey);
  EXPECT_THAT(refused, HasStatus(StatusCode::kPermissionDenied, id(3).ToString()));
  EXPECT_EQ(attempt.worker(1).phase(), WorkerPhase::kIdle);
  EXPECT_OK(attempt.AtWorker(2, attempt.Waiting<Offer>(2)).status()) << "the others have theirs";
}

TEST_F(PairwiseRoundTest, TwoSitesWithDifferentKeysAreNamedBeforeAnyVectorLeaves) {
  world_.pairwise[0][id(3)] = SeedFor("a key that was carried to somebody else");
  Attempt attempt(world_);
  attempt.RunUntil(kInput);
  const auto effects = attempt.AtWorker(1, attempt.Waiting<Delivery>(1));
  ASSERT_OK(effects);
  ASSERT_TRUE(effects->complaint.has_value());
  EXPECT_EQ(effects->complaint->accused, 3);
  EXPECT_EQ(effects->complaint->code, Complaint::Code::kOtherPairwiseKey);
  attempt.Answer(1, *effects);
  ASSERT_TRUE(attempt.aborted().has_value());
  EXPECT_EQ(attempt.aborted()->code, Aborted::Code::kComplaint);
  EXPECT_EQ(attempt.aborted()->accuser, 1);
  EXPECT_EQ(attempt.aborted()->accused, 3);
  for (SiteIndex site : {1, 2, 3, 4}) EXPECT_TRUE(attempt.sent_vector(site).empty());
}

TEST_F(PairwiseRoundTest, TheCoordinatorCannotTakeTagsAwayOrChangeThem) {
  Attempt attempt(world_);
  attempt.RunUntil(kInput);
  const Delivery right = attempt.Waiting<Delivery>(1).body;
  ASSERT_EQ(right.pair_tags.size(), 4u);
  Delivery none = right;
  none.pair_tags.clear();
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(none)), RefusalCode::kMalformed);
  Delivery fewer = right;
  fewer.pair_tags.pop_back();
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(fewer)), RefusalCode::kMalformed);
  Delivery own = right;
  own.pair_tags[0] = own.pair_tags[1];
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(own)), RefusalCode::kOwnMessageChanged);
  EXPECT_EQ(attempt.worker(1).phase(), WorkerPhase::kShared);
  Delivery other = right;
  other.pair_tags[2] = other.pair_tags[3];
  const auto complaint = attempt.AtWorker(1, attempt.ByCoordinator(other));
  ASSERT_OK(complaint);
  ASSERT_TRUE(complaint->complaint.has_value());
  EXPECT_EQ(complaint->complaint->code, Complaint::Code::kOtherPairwiseKey);
}

TEST_F(PairwiseRoundTest, ACoordinatorThatActsAsIfTheJobHadNoneGetsNoVector) {
  World plain(4);
  Attempt attempt(world_), liar(plain);
  attempt.RunUntil(kInput);
  Delivery stripped = attempt.Waiting<Delivery>(1).body;
  stripped.pair_tags.clear();
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(stripped)), RefusalCode::kMalformed);
  EXPECT_TRUE(attempt.sent_vector(1).empty());
  // And the other way round: tags in a job without.
  liar.RunUntil(kInput);
  Delivery tagged = liar.Waiting<Delivery>(1).body;
  tagged.pair_tags.assign(4, DigestFor("tag"));
  ExpectRefused(liar.AtWorker(1, liar.ByCoordinator(tagged)), RefusalCode::kMalformed);
}

TEST_F(PairwiseRoundTest, TheCoordinatorTakesNoSharesWithoutSealsAndNoSealsInAJobWithout) {
  Attempt attempt(world_);
  attempt.RunUntil(kShares);
  auto effects = attempt.AtWorker(2, attempt.Waiting<Keys>(2));
  ASSERT_OK(effects);
  Signed<Shares> shares = std::get<Signed<Shares>>(*effects->send);
  const auto seals = shares.body.pair_seals;
  ASSERT_EQ(seals.size(), 4u);
  shares.body.pair_seals.clear();
  ExpectRefused(attempt.coordinator().OnShares(shares, attempt.now()), RefusalCode::kMalformed);
  shares.body.pair_seals = {seals[0]};
  ExpectRefused(attempt.coordinator().OnShares(shares, attempt.now()), RefusalCode::kMalformed);
  shares.body.pair_seals = seals;
  EXPECT_OK(attempt.coordinator().OnShares(shares, attempt.now()).status());
  std::swap(shares.body.pair_seals[0], shares.body.pair_seals[1]);
  ExpectRefused(attempt.coordinator().OnShares(shares, attempt.now()), RefusalCode::kRepeatDiffers);
  World plain(4);
  Attempt other(plain);
  other.RunUntil(kShares);
  auto dealt = other.AtWorker(2, other.Waiting<Keys>(2));
  ASSERT_OK(dealt);
  Signed<Shares> extra = std::get<Signed<Shares>>(*dealt->send);
  EXPECT_TRUE(extra.body.pair_seals.empty());
  extra.body.pair_seals = seals;
  ExpectRefused(other.coordinator().OnShares(extra, other.now()), RefusalCode::kMalformed);
}

TEST_F(PairwiseRoundTest, ALostDealerWhoseSealsDoNotHoldWhatTheirTagsSayIsConvicted) {
  crypto::CtrRandom same(SeedFor("attempt 2"));  // of site 3
  (void)same.Seed();
  const Secret32 root = same.Seed();
  for (const bool by_the_book : {false, true}) {
    Attempt attempt(world_);
    attempt.LoseAt(3, kInput);
    DealWith(attempt, 3, [&](Shares& shares) {
      PairSeal& seal = shares.pair_seals[0];
      if (!by_the_book) {
        seal.back() ^= 1;
        return;
      }
      // Another part, sealed as it should be, under the tag that site 1 expects.
      const PairSeal wrong = SealPairPart(root, SeedFor("another part"), shares.t1, 3, 1);
      std::copy(wrong.begin() + kPairTagBytes, wrong.end(), seal.begin() + kPairTagBytes);
    });
    EXPECT_FALSE(attempt.Run());
    ASSERT_TRUE(attempt.aborted().has_value());
    EXPECT_EQ(AbortName(attempt.aborted()->code), AbortName(Aborted::Code::kConvicted));
    EXPECT_EQ(attempt.aborted()->accused, 3);
  }
}

TEST_F(PairwiseRoundTest, ADealerWhoseTagIsWrongIsNamedByItsHolder) {
  Attempt attempt(world_);
  DealWith(attempt, 3, [&](Shares& shares) { shares.pair_seals[0][0] ^= 1; });
  EXPECT_FALSE(attempt.Run());
  ASSERT_TRUE(attempt.aborted().has_value());
  EXPECT_EQ(attempt.aborted()->code, Aborted::Code::kComplaint);
  EXPECT_EQ(attempt.aborted()->accuser, 1);
  EXPECT_EQ(attempt.aborted()->accused, 3);
}

TEST_F(PairwiseRoundTest, ARestartedWorkerGoesOnAtEveryStepAndRepeatsItsSealsByteForByte) {
  for (CoordinatorPhase phase : {kShares, kInput, kAgreement, kUnmask, kSummed}) {
    Attempt attempt(world_);
    attempt.LoseAt(4, kInput);
    attempt.RunUntil(phase);
    auto restored = attempt.RestoreWorker(2, attempt.snapshot(2));
    ASSERT_OK(restored);
    attempt.ReplaceWorker(2, *std::move(restored));
    ASSERT_TRUE(attempt.Run()) << CoordinatorPhaseName(phase);
    EXPECT_EQ(attempt.sum(), attempt.PlainSum());
  }
  Attempt attempt(world_);
  attempt.RunUntil(kShares);
  const auto keys = attempt.Waiting<Keys>(1);
  const auto first = attempt.AtWorker(1, keys);
  ASSERT_OK(first);
  auto restored = attempt.RestoreWorker(1, first->persist->snapshot.view());
  ASSERT_OK(restored);
  const auto again = restored->OnKeys(keys, attempt.now());
  ASSERT_OK(again);
  EXPECT_EQ(std::get<Signed<Shares>>(*first->send).body.pair_seals,
            std::get<Signed<Shares>>(*again->send).body.pair_seals);
}

TEST_F(PairwiseRoundTest, AWorkerWhoseKeysWereChangedDoesNotGoOnWithWhatItDealt) {
  Attempt attempt(world_);
  attempt.RunUntil(kInput);
  ASSERT_OK_AND_ASSIGN(const auto ready, attempt.AtWorker(1, attempt.Waiting<Delivery>(1)));
  ASSERT_EQ(ready.phase, WorkerPhase::kReady);
  for (const bool before_delivery : {true, false}) {
    const Bytes snapshot = before_delivery ? attempt.snapshot(1) : ToBytes(ready.persist->snapshot.view());
    const Secret32 right = world_.pairwise[0][id(2)];
    world_.pairwise[0][id(2)] = SeedFor("a newer key");
    const auto changed = attempt.RestoreWorker(1, snapshot);
    ASSERT_FALSE(changed.ok());
    EXPECT_EQ(RefusalCodeOf(changed.status()), RefusalCode::kPairwiseKey);
    EXPECT_NE(std::string(Message(changed.status())).find(id(2).ToString()), std::string::npos);
    world_.pairwise[0].erase(id(2));
    EXPECT_FALSE(attempt.RestoreWorker(1, snapshot).ok());
    world_.pairwise[0][id(2)] = right;
    EXPECT_OK(attempt.RestoreWorker(1, snapshot).status());
  }
}

TEST_F(PairwiseRoundTest, ASnapshotOfAJobWithIsNoneOfAJobWithout) {
  Attempt attempt(world_);
  attempt.RunUntil(kInput);
  const Bytes with = attempt.snapshot(1);
  auto keys = std::exchange(world_.pairwise, {});
  EXPECT_THAT(attempt.RestoreWorker(1, with), HasStatus(StatusCode::kDataLoss, "pair seals"));
  World plain(4);
  Attempt other(plain);
  other.RunUntil(kInput);
  EXPECT_OK(other.RestoreWorker(1, other.snapshot(1)).status());
  plain.CarryPairwiseKeys();
  EXPECT_THAT(other.RestoreWorker(1, other.snapshot(1)), HasStatus(StatusCode::kDataLoss, "pair seals"));
  // A list that was cut off is no snapshot.
  world_.pairwise = std::move(keys);
  EXPECT_THAT(attempt.RestoreWorker(1, ByteView(with).first(with.size() - 1)),
              HasStatus(StatusCode::kDataLoss, ""));
}

}  // namespace
}  // namespace concordat::secagg::testing
