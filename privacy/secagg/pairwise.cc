#include "privacy/secagg/pairwise.h"

#include <algorithm>

#include "privacy/crypto/aead.h"
#include "privacy/crypto/hash.h"
#include "privacy/crypto/hkdf.h"
#include "privacy/secagg/refusal.h"

namespace concordat::secagg {
namespace {

Secret32 Expand(const Secret32& secret, ByteView salt, std::string_view label,
                std::initializer_list<SiteIndex> sites) {
  Bytes info = ToBytes(AsBytes(label));
  info.insert(info.end(), sites.begin(), sites.end());
  return crypto::HkdfSha256(secret.view(), salt, info);
}

Secret32 SealKey(const Secret32& root, const Digest& t1, SiteIndex dealer, SiteIndex holder) {
  return Expand(root, t1.view(), "concordat/v1/pairwise/seal", {dealer, holder});
}

Bytes Associated(const Digest& t1, SiteIndex dealer, SiteIndex holder) {
  Bytes aad = ToBytes(t1.view());
  aad.push_back(dealer);
  aad.push_back(holder);
  return aad;
}

}  // namespace

Secret32 MaskSecretOf(const Secret32& root) {
  return Expand(root, {}, "concordat/v1/pairwise/mask-secret", {});
}

Secret32 OwnPairwiseKey(const Secret32& root, const Secret32& seed) {
  return Expand(root, seed.view(), "concordat/v1/pairwise/own", {});
}

Secret32 PairSharePart(const Secret32& pairwise, const Digest& t1, SiteIndex dealer, SiteIndex holder) {
  return Expand(pairwise, t1.view(), "concordat/v1/pairwise/share", {dealer, holder});
}

Secret32 PairMaskPart(const Secret32& pairwise, const Digest& t1, SiteIndex i, SiteIndex j) {
  return Expand(pairwise, t1.view(), "concordat/v1/pairwise/mask", {std::min(i, j), std::max(i, j)});
}

Secret32 DeriveWithPart(const Secret32& agreed, const Secret32& part, const Digest& salt,
                        std::string_view label, SiteIndex a, SiteIndex b) {
  // Both have 32 bytes, so that no two pairs join to the same.
  Secret<2 * Secret32::size()> both;
  std::ranges::copy(agreed.view(), both.mutable_view().begin());
  std::ranges::copy(part.view(), both.mutable_view().begin() + Secret32::size());
  Bytes info = ToBytes(AsBytes(label));
  info.insert(info.end(), {a, b});
  return crypto::HkdfSha256(both.view(), salt.view(), info);
}

Digest PairTag(const Secret32& mask_part, const Digest& t1, SiteIndex i, SiteIndex j) {
  Secret<66> body;
  const auto out = body.mutable_view();
  std::ranges::copy(t1.bytes, out.begin());
  out[32] = std::min(i, j);
  out[33] = std::max(i, j);
  std::ranges::copy(mask_part.view(), out.begin() + 34);
  return crypto::TaggedHash("concordat/v1/pairwise-tag", body.view());
}

PairSeal SealPairPart(const Secret32& root, const Secret32& mask_part, const Digest& t1, SiteIndex dealer,
                      SiteIndex holder) {
  PairSeal out{};
  std::ranges::copy(PairTag(mask_part, t1, dealer, holder).bytes, out.begin());
  const Bytes sealed = crypto::Seal(SealKey(root, t1, dealer, holder), crypto::kZeroNonce,
                                    Associated(t1, dealer, holder), mask_part.view());
  std::copy_n(sealed.begin(), std::min(sealed.size(), out.size() - kPairTagBytes),
              out.begin() + kPairTagBytes);
  return out;
}

Digest TagOf(const PairSeal& seal) {
  Digest tag;
  std::copy_n(seal.begin(), tag.bytes.size(), tag.bytes.begin());
  return tag;
}

StatusOr<Secret32> OpenPairPart(const Secret32& root, const PairSeal& seal, const Digest& t1,
                                SiteIndex dealer, SiteIndex holder) {
  auto part = crypto::OpenSecret<Secret32::size()>(SealKey(root, t1, dealer, holder), crypto::kZeroNonce,
                                                   Associated(t1, dealer, holder),
                                                   ByteView(seal).subspan(kPairTagBytes));
  if (!part.ok() || PairTag(*part, t1, dealer, holder) != TagOf(seal))
    return DataLoss("a pair seal of site {} for site {} does not hold what its tag says", dealer, holder);
  return part;
}

Status CheckPairwiseKeys(const std::vector<RosterEntry>& roster, const SpiffeId& self,
                         const PairwiseKeys& keys) {
  for (const RosterEntry& entry : roster) {
    if (entry.worker != self && !keys.contains(entry.worker))
      return Refuse(RefusalCode::kPairwiseKey, "this region has no pairwise key with {}",
                    entry.worker.ToString());
  }
  return OkStatus();
}

}  // namespace concordat::secagg
