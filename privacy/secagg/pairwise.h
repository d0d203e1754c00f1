#ifndef CONCORDAT_PRIVACY_SECAGG_PAIRWISE_H_
#define CONCORDAT_PRIVACY_SECAGG_PAIRWISE_H_

#include <map>
#include <string_view>

#include "common/ids.h"
#include "common/secret.h"
#include "privacy/secagg/messages.h"

// Keys that two sites have carried to each other by another way than the network, mixed into everything that
// an attempt derives from X25519 or P-256 (docs/decisions/0013-pairwise-keys.md). Whoever records the traffic
// and later breaks X25519 then still misses them.
//
// p_ij is the key of sites i and j, 32 random bytes that stay the same over attempts and are used for nothing
// but the two derivations below. Parts of it, for one attempt and one pair:
//   f_i→j = HKDF(p_ij, salt T1, "concordat/v1/pairwise/share" ‖ i ‖ j)            into the key of i's shares
//   for j e_ij  = HKDF(p_ij, salt T1, "concordat/v1/pairwise/mask" ‖ min ‖ max)         into k_ij
// What a site shares in place of its mask key is a random root r_i. Its mask key follows from it, HKDF(r_i,
// "concordat/v1/pairwise/mask-secret"), and it opens the seals that i leaves with the coordinator, one of
// each e_ij: so t shares of a lost site still give all that takes its masks off, and X25519 broken gives none
// of it.
namespace concordat::secagg {

/// p_ij by the other site's identity.
using PairwiseKeys = std::map<SpiffeId, Secret32>;

/// The secret of a site's mask key, from its root.
Secret32 MaskSecretOf(const Secret32& root);
/// The key of a site with itself, under which its own row is sealed as the others are. From both of its
/// secrets, of which one at most is ever rebuilt.
Secret32 OwnPairwiseKey(const Secret32& root, const Secret32& seed);

/// f_dealer→holder.
Secret32 PairSharePart(const Secret32& pairwise, const Digest& t1, SiteIndex dealer, SiteIndex holder);
/// e_ij.
Secret32 PairMaskPart(const Secret32& pairwise, const Digest& t1, SiteIndex i, SiteIndex j);

/// HKDF-SHA256(agreed ‖ part, salt, label ‖ a ‖ b): needs both secrets. Labels differ from those without
/// part.
Secret32 DeriveWithPart(const Secret32& agreed, const Secret32& part, const Digest& salt,
                        std::string_view label, SiteIndex a, SiteIndex b);

/// TaggedHash("concordat/v1/pairwise-tag", T1 ‖ min ‖ max ‖ e_ij): equal at both sites when their keys are.
Digest PairTag(const Secret32& mask_part, const Digest& t1, SiteIndex i, SiteIndex j);

/// The tag, then AES-256-GCM of e_dealer,holder under HKDF(r_dealer, salt T1, "concordat/v1/pairwise/seal" ‖
/// dealer ‖ holder), nonce 0, AAD T1 ‖ dealer ‖ holder.
PairSeal SealPairPart(const Secret32& root, const Secret32& mask_part, const Digest& t1, SiteIndex dealer,
                      SiteIndex holder);
/// The tag of a seal.
Digest TagOf(const PairSeal& seal);
/// e_dealer,holder. DataLoss when the seal does not open, or holds another part than its tag says.
StatusOr<Secret32> OpenPairPart(const Secret32& root, const PairSeal& seal, const Digest& t1,
                                SiteIndex dealer, SiteIndex holder);

/// kPairwiseKey, naming the site, unless `keys` has one for each site of the roster but `self`.
Status CheckPairwiseKeys(const std::vector<RosterEntry>& roster, const SpiffeId& self,
                         const PairwiseKeys& keys);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_PAIRWISE_H_
