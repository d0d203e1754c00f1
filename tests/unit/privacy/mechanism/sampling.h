#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_MECHANISM_SAMPLING_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_MECHANISM_SAMPLING_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "common/secret.h"
#include "privacy/crypto/ctr_stream.h"

// What the tests of the noise samplers have in common.
namespace concordat {

enum class SamplerKind { kExact, kFast };

/// `count` draws from a fixed seed.
template <typename Sampler>
std::vector<int64_t> DrawFrom(const Sampler& sampler, size_t count, uint8_t seed) {
  Secret32 key;
  key.mutable_view()[31] = seed;
  crypto::CtrRandom random(key);
  std::vector<int64_t> out(count);
  sampler.Sample(random, out);
  return out;
}

/// Upper point of χ² with `df` degrees: Wilson–Hilferty at z = 4.75, false alarm 1e-6 a test.
inline double ChiSquareLimit(double df) {
  const double a = 2 / (9 * df);
  return df * std::pow(1 - a + 4.75 * std::sqrt(a), 3);
}

}  // namespace concordat

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_MECHANISM_SAMPLING_H_
