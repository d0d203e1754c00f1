#ifndef CONCORDAT_PRIVACY_SECAGG_SHAMIR_H_
#define CONCORDAT_PRIVACY_SECAGG_SHAMIR_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "common/random.h"

// Shamir's secret sharing (Shamir 1979), byte by byte over GF(2^8) with the polynomial x^8+x^4+x^3+x+1.
//
// Each of the 32 bytes of a secret is the constant term of its own polynomial of degree t − 1 with uniformly
// random higher coefficients; site i's share is the polynomials' values at x = i. Any t shares give the
// secret back, fewer say nothing about it. No table is indexed by a secret and no branch depends on one.
// Shares carry no proof: a wrong one gives a wrong secret, so callers compare with a commitment or hash.
namespace concordat::secagg {

/// One share: where the polynomial was evaluated, and the values.
struct ShamirShare {
  SiteIndex x = 0;
  Secret32 y;
};

/// Splits `secret` for the sites in `holders`, in their order.
/// InvalidArgument unless 1 <= threshold <= |holders| <= kMaxSites and the holders are distinct and 1..100.
StatusOr<std::vector<ShamirShare>> SplitSecret(const Secret32& secret, uint32_t threshold,
                                               std::span<const SiteIndex> holders, RandomSource& random);

/// The secret that the first `threshold` of `shares` determine.
/// InvalidArgument with fewer than `threshold` shares, a repeated x or x = 0.
StatusOr<Secret32> ReconstructSecret(std::span<const ShamirShare> shares, uint32_t threshold);

/// a · b in GF(2^8), in constant time.
uint8_t Gf256Multiply(uint8_t a, uint8_t b);
/// 1 / a in GF(2^8), in constant time; 0 for 0.
uint8_t Gf256Invert(uint8_t a);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_SHAMIR_H_
