#include "privacy/secagg/commitment.h"

#include <algorithm>

#include "privacy/crypto/aead.h"
#include "privacy/crypto/hash.h"
#include "privacy/crypto/hkdf.h"
#include "privacy/secagg/pairwise.h"

namespace concordat::secagg {
namespace {

std::array<uint8_t, 34> Associated(const Digest& t1, SiteIndex dealer, SiteIndex holder) {
  std::array<uint8_t, 34> aad{};
  std::copy(t1.bytes.begin(), t1.bytes.end(), aad.begin());
  aad[32] = dealer;
  aad[33] = holder;
  return aad;
}

// The four fields in the order in which they are sealed.
std::array<Secret32*, 4> Fields(HeldShares& s) {
  return {&s.mask_key_share, &s.mask_key_salt, &s.seed_share, &s.seed_salt};
}

}  // namespace

Digest CommitShare(ShareKind kind, SiteIndex dealer, SiteIndex holder, const Secret32& share,
                   const Secret32& salt) {
  Secret<67> body;
  const auto out = body.mutable_view();
  out[0] = static_cast<uint8_t>(kind);
  out[1] = dealer;
  out[2] = holder;
  std::ranges::copy(share.view(), out.begin() + 3);
  std::ranges::copy(salt.view(), out.begin() + 35);
  return crypto::TaggedHash("concordat/v1/share-commitment", body.view());
}

StatusOr<Secret32> ShareKey(const Secret32& own_secret, const AgreementPublic& peer, const Digest& t1,
                            SiteIndex dealer, SiteIndex holder, const Secret32* pair_part,
                            crypto::AgreementCurve curve) {
  ASSIGN_OR_RETURN(const Secret32 agreed, crypto::Agree(own_secret, peer, curve));
  if (pair_part != nullptr) return DeriveWithPart(agreed, *pair_part, t1, "share+pairwise", dealer, holder);
  const std::array<uint8_t, 7> info = {'s', 'h', 'a', 'r', 'e', dealer, holder};
  return crypto::HkdfSha256(agreed.view(), t1.view(), info);
}

ShareCiphertext SealShares(const Secret32& share_key, const Digest& t1, SiteIndex dealer, SiteIndex holder,
                           const HeldShares& shares) {
  Secret<kSharePlainBytes> plain;
  HeldShares copy = shares;
  size_t at = 0;
  for (const Secret32* field : Fields(copy)) {
    std::ranges::copy(field->view(), plain.mutable_view().begin() + at);
    at += Secret32::size();
  }
  const Bytes sealed =
      crypto::Seal(share_key, crypto::kZeroNonce, Associated(t1, dealer, holder), plain.view());
  ShareCiphertext out{};
  std::copy_n(sealed.begin(), std::min(sealed.size(), out.size()), out.begin());
  return out;
}

StatusOr<HeldShares> OpenShares(const Secret32& share_key, const Digest& t1, SiteIndex dealer,
                                SiteIndex holder, const ShareCiphertext& sealed) {
  ASSIGN_OR_RETURN(const auto plain,
                   crypto::OpenSecret<kSharePlainBytes>(share_key, crypto::kZeroNonce,
                                                        Associated(t1, dealer, holder), sealed));
  HeldShares out;
  size_t at = 0;
  for (Secret32* field : Fields(out)) {
    std::copy_n(plain.view().begin() + at, Secret32::size(), field->mutable_view().begin());
    at += Secret32::size();
  }
  return out;
}

}  // namespace concordat::secagg
