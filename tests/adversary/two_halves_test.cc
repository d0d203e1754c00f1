#include <algorithm>

#include "tests/adversary/liar.h"

// A coordinator that shows two halves of the sites two different things, with a colluding site that signs
// both, at the largest coalition that an offer may assume.
namespace concordat::adversary {
namespace {

using secagg::testing::Attempt;
using secagg::testing::ExpectRefused;

/// Seven sites, t = m = 5; site 7 colludes.
class TwoHalvesTest : public ::testing::Test {
 protected:
  World world_{7};
  Attempt attempt_{world_};
  Digest t2() { return attempt_.coordinator().t2(); }
  Signed<InputHeader> HeaderOf(SiteIndex site) {
    return Sign(attempt_.key(site), InputHeader{world_.offer.id, site, t2(), 37, DigestFor("unseen")});
  }
  Signature SignatureOf(SiteIndex site, const std::vector<SiteIndex>& u3) {
    return Sign(attempt_.key(site), Agreement{world_.offer.id, site, t2(), u3}).signature;
  }
};

TEST_F(TwoHalvesTest, TwoSurvivorSetsNeverBothGatherEnoughSignatures) {
  attempt_.LoseAt(7, CoordinatorPhase::kInput);
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  const Survivors without = attempt_.Waiting<Survivors>(1).body;
  Survivors with = without;
  with.headers.push_back(HeaderOf(7));
  const std::vector<SiteIndex> dead = {1, 2, 3, 4, 5, 6}, alive = {1, 2, 3, 4, 5, 6, 7};
  // Sites 1 to 3 are shown the set in which 7 is dead, 4 to 6 the other.
  std::map<SiteIndex, Signature> signatures;
  for (SiteIndex s = 1; s <= 6; ++s) {
    const auto effects = attempt_.AtWorker(s, attempt_.ByCoordinator(s <= 3 ? without : with));
    ASSERT_TRUE(effects.ok()) << effects.status();
    signatures[s] = std::get<Signed<Agreement>>(*effects->send).signature;
  }
  for (SiteIndex s = 1; s <= 6; ++s) {
    const bool first = s <= 3;
    const auto& u3 = first ? dead : alive;
    AgreementBundle bundle{world_.offer.id, t2(), u3, {}};
    for (SiteIndex signer = 1; signer <= 6; ++signer)
      if ((signer <= 3) == first) bundle.signatures.emplace_back(signer, signatures[signer]);
    if (!first) bundle.signatures.emplace_back(7, SignatureOf(7, u3));
    ExpectRefused(attempt_.AtWorker(s, attempt_.ByCoordinator(bundle)), RefusalCode::kTooFewAgreements);
    // Signatures of the other half make the number, but are over the other set.
    bundle.signatures.clear();
    for (SiteIndex signer = 1; signer <= 6; ++signer)
      bundle.signatures.emplace_back(signer, signatures[signer]);
    ExpectRefused(attempt_.AtWorker(s, attempt_.ByCoordinator(bundle)), RefusalCode::kBadSignature);
  }
}

TEST_F(TwoHalvesTest, EvenTheLargestMinorityCannotBeMadeToOpenTheOtherKind) {
  // Five honest sites and their signatures are enough for the first set: they open. The sixth was shown the
  // other set, and finds nobody but the colluder on its side.
  attempt_.LoseAt(7, CoordinatorPhase::kInput);
  attempt_.RunUntil(CoordinatorPhase::kAgreement);
  const Survivors without = attempt_.Waiting<Survivors>(1).body;
  Survivors with = without;
  with.headers.push_back(HeaderOf(7));
  const std::vector<SiteIndex> dead = {1, 2, 3, 4, 5, 6}, alive = {1, 2, 3, 4, 5, 6, 7};
  AgreementBundle first{world_.offer.id, t2(), dead, {}};
  WireTap tap;
  for (SiteIndex s = 1; s <= 6; ++s) {
    const auto effects = attempt_.AtWorker(s, attempt_.ByCoordinator(s <= 5 ? without : with));
    ASSERT_TRUE(effects.ok());
    if (s <= 5) first.signatures.emplace_back(s, std::get<Signed<Agreement>>(*effects->send).signature);
  }
  for (SiteIndex s = 1; s <= 5; ++s) {
    const auto effects = attempt_.AtWorker(s, attempt_.ByCoordinator(first));
    ASSERT_TRUE(effects.ok()) << effects.status();
    tap.Saw(fmt::format("site {}", s), *effects->send);
  }
  AgreementBundle second{world_.offer.id, t2(), alive, {}};
  second.signatures.emplace_back(6, SignatureOf(6, alive));
  second.signatures.emplace_back(7, SignatureOf(7, alive));
  ExpectRefused(attempt_.AtWorker(6, attempt_.ByCoordinator(second)), RefusalCode::kTooFewAgreements);
  ExpectRefused(attempt_.AtWorker(6, attempt_.ByCoordinator(first)), RefusalCode::kTranscript);
  EXPECT_EQ(tap.Breaches(5, 1), std::vector<std::string>{});
}

TEST_F(TwoHalvesTest, TwoRostersOfOneNumberNeverMeet) {
  // Sites 1 to 3 hold one offer, 4 to 6 another (site 7 under another key): T0 differs, whatever 7 signs.
  attempt_.Start();
  Offer other = world_.offer;
  other.roster[6].key_hash = DigestFor("another key of site 7");
  std::map<SiteIndex, Signed<Advert>> adverts;
  for (SiteIndex s = 1; s <= 6; ++s) {
    const auto effects = attempt_.AtWorker(s, attempt_.ByCoordinator(s <= 3 ? world_.offer : other));
    ASSERT_TRUE(effects.ok()) << effects.status();
    adverts[s] = std::get<Signed<Advert>>(*effects->send);
  }
  Colluder colluder(world_, "two faces");
  for (SiteIndex s = 1; s <= 6; ++s) {
    const Digest& t0 = adverts[s].body.t0;
    Keys all{world_.offer.id, {}, {}}, half{world_.offer.id, {}, {}};
    for (SiteIndex i = 1; i <= 7; ++i) {
      const auto advert = i == 7 ? colluder.AdvertFor(world_.offer.id, t0) : adverts[i];
      all.adverts.push_back(advert), all.chains.push_back(world_.sites[i - 1u].chain);
      if (advert.body.t0 != t0) continue;
      half.adverts.push_back(advert), half.chains.push_back(world_.sites[i - 1u].chain);
    }
    ExpectRefused(attempt_.AtWorker(s, attempt_.ByCoordinator(all)), RefusalCode::kTranscript);
    ExpectRefused(attempt_.AtWorker(s, attempt_.ByCoordinator(half)), RefusalCode::kTooFewAdverts);
  }
}

TEST_F(TwoHalvesTest, WhateverTheHalvesNoSplitGivesBothKindsOfOneSite) {
  // Every way to show k of the six honest sites one set and the rest the other: never both at t.
  for (uint32_t split = 0; split < 64; ++split) {
    const auto first = static_cast<uint32_t>(std::popcount(split));
    const uint32_t with_colluder = world_.offer.assumed_colluding;
    const bool one = first + with_colluder >= world_.offer.threshold;
    const bool other = 6 - first + with_colluder >= world_.offer.threshold;
    EXPECT_FALSE(one && other) << split;
  }
}

// The roster may hold a whole jurisdiction of colluders: then it is the coalition that counts, not nC.
TEST(SybilHalvesTest, AnOfferInWhichACoalitionCouldSignTwiceIsRefused) {
  for (uint32_t n = 4; n <= 20; ++n) {
    for (uint32_t sybils = 2; sybils < n - 2; ++sybils) {
      World world(n);
      Offer offer = world.offer;
      for (uint32_t i = 0; i < sybils; ++i)
        offer.roster[i].worker = SpiffeId::Make("law0", Role::kWorker, fmt::format("s{}", i)).value();
      const Status status = CheckOffer(offer, world.bounds);
      // Two sets with t signatures each need 2t <= n + coalition signers.
      if (2 * offer.threshold <= n + sybils) {
        EXPECT_FALSE(status.ok()) << n << " sites, " << sybils << " of one law";
      }
      if (status.ok()) {
        EXPECT_GE(offer.min_survivors, sybils + 2) << "fewer than two honest ones in the sum";
      }
    }
  }
}

}  // namespace
}  // namespace concordat::adversary
