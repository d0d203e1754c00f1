#include <algorithm>
#include <set>

#include "privacy/crypto/hkdf.h"
#include "privacy/secagg/commitment.h"
#include "tests/unit/privacy/secagg/harness.h"

// Mistakes that other implementations of this protocol have made, one test each. Those about the encoding
// (sample counts in clear, seeds of noise, noise used again) are tested where that code is; "alive and dead
// lists that overlap" and "a loss between key and share exchange" are in coordinator_round_test.cc and
// simulation_test.cc too.
namespace concordat::secagg::testing {
namespace {

std::vector<MaskKey> MasksOf(Attempt& attempt, SiteIndex site) {
  EXPECT_TRUE(attempt.AtWorker(site, attempt.Waiting<Delivery>(site)).ok());
  EXPECT_TRUE(attempt.worker(site).BeginInput(attempt.now()).ok());
  return attempt.worker(site).TakeMasks().value();
}

TEST(OtherPeoplesMistakesTest, PairwiseSecretKeepsAll256Bits) {
  // A change of any single bit of the agreed secret gives another mask key: nothing is folded to 32 bits.
  const Digest t2 = DigestFor("t2");
  const Secret32 agreed = SeedFor("agreed");
  std::set<std::string> keys;
  for (int bit = 0; bit < 256; ++bit) {
    Secret32 other = agreed;
    other.mutable_view()[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    const Secret32 key = crypto::HkdfSha256(other.view(), t2.view(), AsBytes("mask"));
    keys.insert(ToHex(key.view()));
  }
  EXPECT_EQ(keys.size(), 256u);
  // And the key that the protocol uses is HKDF over the raw 32 bytes of the agreement, not over some text of
  // it.
  crypto::CtrRandom random(SeedFor("pair"));
  const auto a = crypto::GenerateX25519(random), b = crypto::GenerateX25519(random);
  const Secret32 raw = crypto::X25519Agree(a.secret, b.pub).value();
  const uint8_t info[] = {'m', 'a', 's', 'k', 1, 2};
  EXPECT_TRUE(PairwiseMaskKey(a.secret, b.pub, t2, 2, 1).value() ==
              crypto::HkdfSha256(raw.view(), t2.view(), info));
}

TEST(OtherPeoplesMistakesTest, MaskGeneratorIsAesCtrAndNotTheLibrarysRandom) {
  // AES-256 of counter 0 under the all-zero key: the well-known first block.
  std::vector<uint32_t> v(4, 0);
  MaskStream(std::vector<MaskKey>{{Secret32(), 1}}).Apply(0, v);
  EXPECT_EQ(ToHex({reinterpret_cast<const uint8_t*>(v.data()), 16}), "dc95c078a2408989ad48a21492842087");
}

TEST(OtherPeoplesMistakesTest, EveryElementHasItsOwnMask) {
  std::vector<uint32_t> v(100'000, 0);
  MaskStream(std::vector<MaskKey>{{SeedFor("k"), 1}}).Apply(0, v);
  std::set<uint32_t> distinct(v.begin(), v.end());
  // Birthday collisions of 1e5 draws from 2^32: 1.2 expected; 30 or more has probability below 1e-25.
  EXPECT_GT(distinct.size(), v.size() - 30);
}

TEST(OtherPeoplesMistakesTest, AMaskedElementTakesFourBytes) {
  World world(3, 1000);
  Attempt attempt(world);
  ASSERT_TRUE(attempt.Run());
  EXPECT_EQ(attempt.sent_vector(1).size() * sizeof(attempt.sent_vector(1)[0]), 4000u);
}

TEST(OtherPeoplesMistakesTest, NoSiteIsEverOpenedInBothWays) {
  // Over every set of losses before input, each share that any site opens: one kind for each dealer.
  for (SiteIndex lost : {1, 2, 3, 4}) {
    World world(4);
    Attempt attempt(world);
    attempt.LoseAt(lost, CoordinatorPhase::kInput);
    attempt.RunUntil(CoordinatorPhase::kUnmask);
    for (SiteIndex site = 1; site <= 4; ++site) {
      if (site == lost) continue;
      const auto effects = attempt.AtWorker(site, attempt.Waiting<AgreementBundle>(site));
      ASSERT_TRUE(effects.ok());
      const auto& unmask = std::get<Signed<Unmask>>(*effects->send).body;
      std::set<SiteIndex> opened;
      for (const auto& s : unmask.seed_shares) EXPECT_TRUE(opened.insert(s.dealer).second);
      for (const auto& s : unmask.mask_key_shares) EXPECT_TRUE(opened.insert(s.dealer).second);
      EXPECT_EQ(opened.size(), 4u);
    }
  }
}

TEST(OtherPeoplesMistakesTest, ACoordinatorCannotChangeItsMindAboutWhoIsAlive) {
  // The attack behind "alive and dead lists": first U3 = {1,2,3,4}, then a bundle for {1,2,3,5}.
  World world(5);
  Attempt attempt(world);
  attempt.LoseAt(5, CoordinatorPhase::kInput);
  attempt.RunUntil(CoordinatorPhase::kUnmask);
  auto bundle = attempt.Waiting<AgreementBundle>(1).body;
  ASSERT_TRUE(attempt.AtWorker(1, attempt.ByCoordinator(bundle)).ok());
  bundle.survivors = {1, 2, 3, 5};
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(bundle)), RefusalCode::kRepeatDiffers);
}

TEST(OtherPeoplesMistakesTest, TheCoordinatorDoesNotChooseTheSession) {
  // The worker's own (J, r, a) counts. A coordinator that renames an old attempt is refused, and one that
  // asks the same worker for the same attempt again in a fresh core gets fresh keys, never the old ones.
  World world(3);
  Attempt first(world, "first"), second(world, "second");
  first.RunUntil(CoordinatorPhase::kShares);
  second.RunUntil(CoordinatorPhase::kShares);
  EXPECT_EQ(first.coordinator().t0(), second.coordinator().t0());
  EXPECT_NE(first.coordinator().t1(), second.coordinator().t1());
  ExpectRefused(first.AtWorker(1, second.Waiting<Keys>(1)), RefusalCode::kOwnMessageChanged);
}

TEST(OtherPeoplesMistakesTest, ALossBetweenKeyAndShareExchangeDoesNotEndTheRound) {
  World world(4);
  Attempt attempt(world);
  attempt.LoseAt(3, CoordinatorPhase::kShares);
  ASSERT_TRUE(attempt.Run());
  EXPECT_EQ(attempt.coordinator().advertised().size(), 4u);
  EXPECT_EQ(attempt.coordinator().dealers(), (std::vector<SiteIndex>{1, 2, 4}));
  EXPECT_EQ(attempt.sum(), attempt.PlainSum());
}

TEST(OtherPeoplesMistakesTest, TwoAttemptsShareNoMask) {
  World world(3);
  Attempt a(world, "a");
  world.offer.id.attempt = world.bounds.id.attempt = 2;
  Attempt b(world, "b");
  world.offer.id.attempt = world.bounds.id.attempt = 1;
  a.RunUntil(CoordinatorPhase::kInput);
  b.RunUntil(CoordinatorPhase::kInput);
  std::set<std::string> keys;
  size_t count = 0;
  for (Attempt* attempt : {&a, &b}) {
    for (const MaskKey& mask : MasksOf(*attempt, 1)) {
      keys.insert(ToHex(mask.key.view()));
      ++count;
    }
  }
  EXPECT_EQ(keys.size(), count);
}

// Pasquini 2022: a coordinator hands two sites different models. Each core only accepts the model it expects;
// and were one misled about that too, its transcript and so its masks differ and nothing of a delta comes
// out.
TEST(OtherPeoplesMistakesTest, SitesWithDifferentModelsNeverFinishTogether) {
  World world(3);
  Attempt attempt(world);
  attempt.Start();
  Offer other = world.offer;
  other.base_model = DigestFor("a model made for site 1");
  ExpectRefused(attempt.AtWorker(1, attempt.ByCoordinator(other)), RefusalCode::kModel);
  world.bounds.base_model = other.base_model;
  Attempt misled(world, "misled");  // site 1 of this one expects the other model
  const auto advert = misled.AtWorker(1, attempt.ByCoordinator(other));
  ASSERT_TRUE(advert.ok());
  ExpectRefused(attempt.coordinator().OnAdvert(std::get<Signed<Advert>>(*advert->send), attempt.now()),
                RefusalCode::kTranscript);
}

TEST(OtherPeoplesMistakesTest, NothingWithinAnUploadsHeaderTellsAboutTheData) {
  // Everything in the header is known to the coordinator already, or a digest of masked words.
  const InputHeader header{{DigestFor("j"), 0, 0}, 1, DigestFor("t2"), 37, DigestFor("y")};
  EXPECT_EQ(Canonical(header).size(), 32u + 4 + 4 + 1 + 32 + 8 + 32);
}

}  // namespace
}  // namespace concordat::secagg::testing
