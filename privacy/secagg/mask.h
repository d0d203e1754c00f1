#ifndef CONCORDAT_PRIVACY_SECAGG_MASK_H_
#define CONCORDAT_PRIVACY_SECAGG_MASK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "common/secret.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/x25519.h"

// Masks of one attempt.
//
//   y_i = x_i + G(s_i) + Σ_{j<i} G(k_ij) − Σ_{j>i} G(k_ij)   mod 2^32
//
// k_ij = HKDF-SHA256(X25519(mask keys), salt T2, info "mask"‖min(i,j)‖max(i,j)) and s_i = HKDF-SHA256(b_i,
// salt T2, info "self"‖i), indices as single bytes. G(k) is AES-256-CTR from counter 0, four bytes an
// element, little endian: keystream byte 4e belongs to element e, so any part can be made by itself.
namespace concordat::secagg {

/// One mask and how it goes in: +1 adds G(key), −1 subtracts it.
struct MaskKey {
  Secret32 key;
  int sign = 1;
};

/// k_ij. InvalidArgument when `peer` is a point of low order.
StatusOr<Secret32> PairwiseMaskKey(const Secret32& own_secret, const crypto::X25519Public& peer,
                                   const Digest& t2, SiteIndex i, SiteIndex j);
/// s_i from the self-mask seed b_i.
Secret32 SelfMaskKey(const Secret32& seed, const Digest& t2, SiteIndex i);
/// The sign with which site `i` applies k_ij: +1 for j < i, −1 for j > i.
constexpr int PairwiseSign(SiteIndex i, SiteIndex j) { return j < i ? 1 : -1; }

/// Adds (sign +1) or subtracts (−1) the keystream from element `first` on. The seam for faster ciphers: every
/// kernel gives the same bits. OpenSslMaskKernel is the one that always exists.
using MaskKernel = void (*)(const Secret32& key, uint64_t first_element, std::span<uint32_t> inout, int sign);
void OpenSslMaskKernel(const Secret32& key, uint64_t first_element, std::span<uint32_t> inout, int sign);
/// The fastest kernel that this CPU has.
MaskKernel BestMaskKernel();

enum class MaskDirection {
  kApply,   // each key with its own sign
  kRemove,  // each key with the opposite sign
};

/// Applies a list of masks to vectors, block by block so that a block stays in the first-level cache while
/// all keys pass over it. Objects are cheap; one object belongs to one thread, and threads work on disjoint
/// ranges with an object each. `keys` must outlive it.
class MaskStream {
 public:
  explicit MaskStream(std::span<const MaskKey> keys, MaskKernel kernel = BestMaskKernel());

  /// inout[e] ± Σ G(k)[first_element + e] mod 2^32. Calls may come in any order of `first_element`; the same
  /// element must not be masked twice with different plaintexts, which is the caller's duty.
  void Apply(uint64_t first_element, std::span<uint32_t> inout,
             MaskDirection direction = MaskDirection::kApply) const;

 private:
  std::span<const MaskKey> keys_;
  MaskKernel kernel_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_MASK_H_
