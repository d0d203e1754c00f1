#ifndef CONCORDAT_PRIVACY_SECAGG_COMMITMENT_H_
#define CONCORDAT_PRIVACY_SECAGG_COMMITMENT_H_

#include "common/ids.h"
#include "common/secret.h"
#include "privacy/secagg/messages.h"

namespace concordat::secagg {

/// The two secrets that a site shares.
enum class ShareKind : uint8_t { kMaskKey = 1, kSeed = 2 };

/// TaggedHash("concordat/v1/share-commitment", kind ‖ dealer ‖ holder ‖ share ‖ salt): hides the share
/// because the salt has 256 random bits, binds the dealer because SHA-256 has no known collisions.
Digest CommitShare(ShareKind kind, SiteIndex dealer, SiteIndex holder, const Secret32& share,
                   const Secret32& salt);

/// What one dealer gave one holder.
struct HeldShares {
  Secret32 mask_key_share;
  Secret32 mask_key_salt;
  Secret32 seed_share;
  Secret32 seed_salt;

  ShareCommitment Commit(SiteIndex dealer, SiteIndex holder) const {
    return {holder, CommitShare(ShareKind::kMaskKey, dealer, holder, mask_key_share, mask_key_salt),
            CommitShare(ShareKind::kSeed, dealer, holder, seed_share, seed_salt)};
  }
};

/// K_{i→j} = HKDF-SHA256(Agree(channel keys), salt T1, info "share"‖dealer‖holder); seals one message only.
/// InvalidArgument as crypto::Agree.
/// \param pair_part with pairwise keys, PairSharePart of dealer and holder (pairwise.h); nullptr without
StatusOr<Secret32> ShareKey(const Secret32& own_secret, const AgreementPublic& peer, const Digest& t1,
                            SiteIndex dealer, SiteIndex holder, const Secret32* pair_part = nullptr,
                            crypto::AgreementCurve curve = crypto::AgreementCurve::kX25519);
/// AES-256-GCM of mask_key_share ‖ salt ‖ seed_share ‖ salt with nonce 0 and AAD T1 ‖ dealer ‖ holder.
ShareCiphertext SealShares(const Secret32& share_key, const Digest& t1, SiteIndex dealer, SiteIndex holder,
                           const HeldShares& shares);
/// DataLoss when anything does not fit.
StatusOr<HeldShares> OpenShares(const Secret32& share_key, const Digest& t1, SiteIndex dealer,
                                SiteIndex holder, const ShareCiphertext& sealed);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_COMMITMENT_H_
