#ifndef CONCORDAT_TESTS_ADVERSARY_LIAR_H_
#define CONCORDAT_TESTS_ADVERSARY_LIAR_H_

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "privacy/secagg/commitment.h"
#include "privacy/secagg/pairwise.h"
#include "tests/adversary/wire_tap.h"
#include "tests/unit/privacy/secagg/harness.h"

// A coordinator that says what it likes, in any order, to worker cores that restart when it suits nobody.
namespace concordat::adversary {

using namespace secagg;  // NOLINT: the protocol's messages
using secagg::testing::DigestFor;
using secagg::testing::SeedFor;
using secagg::testing::World;

/// The last site of the roster, in the coordinator's hands: signs anything, deals shares that open.
class Colluder {
 public:
  Colluder(const World& world, std::string_view seed)
      : world_(world), site_(static_cast<SiteIndex>(world.n())), random_(SeedFor(seed)) {
    channel_ = crypto::GenerateX25519(random_);
    mask_ = crypto::GenerateX25519(random_);
    seed_ = random_.Seed();
    if (world_.pairwise.empty()) return;
    mask_.secret = random_.Seed();  // the root of its mask key: what is shared of it
    mask_.pub = crypto::PublicOf(MaskSecretOf(mask_.secret), crypto::AgreementCurve::kX25519).value();
  }
  SiteIndex site() const { return site_; }
  const crypto::SigningKey& key() const { return world_.sites[site_ - 1u].key; }

  Signed<Advert> AdvertFor(const AttemptId& id, const Digest& t0, bool other = false) {
    Advert advert{id, site_, channel_.pub, mask_.pub, crypto::Sha256(seed_.view()), t0, {}};
    if (other) advert.mask_key = crypto::GenerateX25519(random_).pub;
    return Sign(key(), advert);
  }
  /// Shares for U1 = the adverts of `keys`, the same for the same transcript.
  const Signed<Shares>& SharesFor(const AttemptId& id, const Digest& t1, const Keys& keys) {
    const auto known = dealt_.find(t1);
    if (known != dealt_.end()) return known->second;
    std::vector<SiteIndex> holders;
    for (const auto& advert : keys.adverts) holders.push_back(advert.body.site);
    const uint32_t t = world_.offer.threshold;
    const auto a = SplitSecret(mask_.secret, t, holders, random_);
    const auto b = SplitSecret(seed_, t, holders, random_);
    Shares shares{id, site_, t1, {}, {}};
    for (size_t k = 0; a.ok() && b.ok() && k < holders.size(); ++k) {
      const HeldShares held{(*a)[k].y, random_.Seed(), (*b)[k].y, random_.Seed()};
      std::optional<Secret32> part;
      if (!world_.pairwise.empty()) {
        const Secret32 pair = PairwiseKeyWith(holders[k]);
        part = PairSharePart(pair, t1, site_, holders[k]);
        shares.pair_seals.push_back(
            SealPairPart(mask_.secret, PairMaskPart(pair, t1, site_, holders[k]), t1, site_, holders[k]));
      }
      const auto share_key = ShareKey(channel_.secret, keys.adverts[k].body.channel_key, t1, site_,
                                      holders[k], part ? &*part : nullptr);
      EXPECT_TRUE(share_key.ok()) << share_key.status();
      if (!share_key.ok()) break;
      shares.commitments.push_back(held.Commit(site_, holders[k]));
      shares.ciphertexts.push_back(SealShares(*share_key, t1, site_, holders[k], held));
    }
    return dealt_[t1] = Sign(key(), std::move(shares));
  }
  Signed<InputHeader> HeaderFor(const AttemptId& id, const Digest& t2) const {
    return Sign(key(), InputHeader{id, site_, t2, world_.offer.elements, DigestFor("y of the colluder")});
  }
  Signature AgreementFor(const AttemptId& id, const Digest& t2, const std::vector<SiteIndex>& u3) const {
    return Sign(key(), Agreement{id, site_, t2, u3}).signature;
  }

 private:
  Secret32 PairwiseKeyWith(SiteIndex holder) const {
    if (holder == site_) return OwnPairwiseKey(mask_.secret, seed_);
    return world_.pairwise[site_ - 1u].at(world_.sites[holder - 1u].id);
  }

  const World& world_;
  SiteIndex site_;
  crypto::CtrRandom random_;
  crypto::X25519KeyPair channel_, mask_;
  Secret32 seed_;
  std::map<Digest, Signed<Shares>> dealt_;
};

/// One honest worker in one attempt, with the shell's duties: persist before send, restart from what was
/// persisted. `dead`: nothing was on record, so it counts itself lost.
struct Honest {
  SiteIndex site = 0;
  std::string name;
  std::optional<WorkerRound> round;
  std::optional<Bytes> snapshot;
  bool dead = false;
  bool took_masks = false;
  std::optional<Keys> keys;  // as accepted
  std::optional<Result> result;
  std::optional<std::vector<SiteIndex>> dealers;
};

/// What can be said in one attempt, gathered as it is said.
struct Gathered {
  std::map<SiteIndex, Signed<Advert>> adverts;
  std::map<SiteIndex, Signed<Shares>> shares;
  std::map<SiteIndex, Signed<InputHeader>> headers;
  std::map<SiteIndex, Signed<Agreement>> agreements;
};

}  // namespace concordat::adversary

#endif  // CONCORDAT_TESTS_ADVERSARY_LIAR_H_
