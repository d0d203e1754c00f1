#ifndef CONCORDAT_PRIVACY_SECAGG_MASK_H_
#define CONCORDAT_PRIVACY_SECAGG_MASK_H_

#include <cstdint>
#include <memory>
#include <span>

#include "common/ids.h"
#include "common/secret.h"
#include "privacy/crypto/key_agreement.h"

// Masks of one attempt.
//
//   y_i = x_i + G(s_i) + Σ_{j<i} G(k_ij) − Σ_{j>i} G(k_ij)   mod 2^32
//
// k_ij = HKDF-SHA256(Agree(mask keys), salt T2, info "mask"‖min(i,j)‖max(i,j)) and s_i = HKDF-SHA256(b_i,
// salt T2, info "self"‖i), indices as single bytes. G(k) is AES-256-CTR from counter 0, four bytes an
// element, little endian: keystream byte 4e belongs to element e, so any part can be made by itself.
namespace concordat::secagg {

/// One mask and how it goes in: +1 adds G(key), −1 subtracts it.
struct MaskKey {
  Secret32 key;
  int sign = 1;
};

/// k_ij. InvalidArgument as crypto::Agree.
/// \param pair_part with pairwise keys, PairMaskPart of the two sites (pairwise.h); nullptr without
StatusOr<Secret32> PairwiseMaskKey(const Secret32& own_secret, const crypto::AgreementPublic& peer,
                                   const Digest& t2, SiteIndex i, SiteIndex j,
                                   const Secret32* pair_part = nullptr,
                                   crypto::AgreementCurve curve = crypto::AgreementCurve::kX25519);
/// s_i from the self-mask seed b_i.
Secret32 SelfMaskKey(const Secret32& seed, const Digest& t2, SiteIndex i);
/// The sign with which site `i` applies k_ij: +1 for j < i, −1 for j > i.
constexpr int PairwiseSign(SiteIndex i, SiteIndex j) { return j < i ? 1 : -1; }

/// The masks of several keys, which pass over parts of a vector together. One object belongs to one thread.
class MaskGroup {
 public:
  virtual ~MaskGroup() = default;
  /// inout[e] + sign · Σ key.sign · G(key)[first_element + e] mod 2^32. Calls may come in any order.
  /// \param first_element any, odd ones too; the last element lies below 2^62
  /// \param sign +1 applies the masks, −1 takes them off
  virtual void Run(uint64_t first_element, std::span<uint32_t> inout, int sign) = 0;
};

/// Makes the group of a list of keys, of which it copies what it needs and wipes it in the end. This is the
/// seam for faster ciphers: every kernel gives the same bits.
using MaskKernel = std::unique_ptr<MaskGroup> (*)(std::span<const MaskKey> keys);
/// OpenSSL's EVP AES-256-CTR: there on every CPU.
std::unique_ptr<MaskGroup> OpenSslMaskKernel(std::span<const MaskKey> keys);
/// The fastest kernel that this CPU has: VAES with AVX-512, else OpenSSL's. With the environment variable
/// CONCORDAT_PORTABLE_MASKS (any value but an empty one) OpenSSL's on every CPU: for sites whose rules want
/// no cipher but OpenSSL's, and for comparing. Sites with different kernels work together.
MaskKernel BestMaskKernel();

enum class MaskDirection {
  kApply,   // each key with its own sign
  kRemove,  // each key with the opposite sign
};

/// Applies a list of masks to vectors. One object belongs to one thread: threads work on disjoint ranges with
/// an object each. Parts of 65,536 elements and more run at full speed.
class MaskStream {
 public:
  /// Copies what it needs of `keys`.
  explicit MaskStream(std::span<const MaskKey> keys, MaskKernel kernel = BestMaskKernel());

  /// inout[e] ± Σ G(k)[first_element + e] mod 2^32. Calls may come in any order of `first_element`. The same
  /// element must not be masked twice with different plaintexts: that is the caller's duty.
  void Apply(uint64_t first_element, std::span<uint32_t> inout,
             MaskDirection direction = MaskDirection::kApply);

 private:
  std::unique_ptr<MaskGroup> group_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_MASK_H_
