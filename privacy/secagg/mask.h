#ifndef CONCORDAT_PRIVACY_SECAGG_MASK_H_
#define CONCORDAT_PRIVACY_SECAGG_MASK_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/ids.h"
#include "common/secret.h"
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

/// G(key) of one key, added to or subtracted from parts of a vector. One object belongs to one thread.
class MaskLane {
 public:
  virtual ~MaskLane() = default;
  /// inout[e] ± G(key)[first_element + e] mod 2^32.
  /// \param sign +1 adds, −1 subtracts
  virtual void Run(uint64_t first_element, std::span<uint32_t> inout, int sign) = 0;
};

/// Makes the lane of a key. This is the seam for faster ciphers: every kernel gives the same bits.
using MaskKernel = std::unique_ptr<MaskLane> (*)(const Secret32& key);
/// OpenSSL's EVP AES-256-CTR: there on every CPU.
std::unique_ptr<MaskLane> OpenSslMaskKernel(const Secret32& key);
/// The fastest kernel that this CPU has.
MaskKernel BestMaskKernel();

enum class MaskDirection {
  kApply,   // each key with its own sign
  kRemove,  // each key with the opposite sign
};

/// Applies a list of masks to vectors, block by block, so that a block stays in the cache while all keys pass
/// over it. One object belongs to one thread: threads work on disjoint ranges with an object each.
class MaskStream {
 public:
  /// Copies what it needs of `keys`.
  explicit MaskStream(std::span<const MaskKey> keys, MaskKernel kernel = BestMaskKernel());

  /// inout[e] ± Σ G(k)[first_element + e] mod 2^32. Calls may come in any order of `first_element`. The same
  /// element must not be masked twice with different plaintexts: that is the caller's duty.
  void Apply(uint64_t first_element, std::span<uint32_t> inout,
             MaskDirection direction = MaskDirection::kApply);

 private:
  struct Lane {
    std::unique_ptr<MaskLane> lane;
    int sign;
  };
  std::vector<Lane> lanes_;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_MASK_H_
