#ifndef CONCORDAT_TESTS_INTEGRATION_PLANTED_DELTA_H_
#define CONCORDAT_TESTS_INTEGRATION_PLANTED_DELTA_H_

#include <cstdint>
#include <vector>

#include "common/bytes.h"

namespace concordat::testing {

/// The delta that planted_trainer gives in a region with this split key, in every round: values that no
/// computation comes across by chance. The norm of 1280 of them is 1.65, below the clip of 2 that the tests
/// use.
inline std::vector<float> PlantedDelta(const Digest& split_key, uint64_t elements) {
  uint64_t state = 0;
  for (size_t i = 0; i < 8; ++i) state = state << 8 | split_key.bytes[i];
  std::vector<float> out(elements);
  for (float& value : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>((static_cast<double>(state >> 40) * 0x1p-23 - 1.0) * 0.08);
  }
  return out;
}

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_INTEGRATION_PLANTED_DELTA_H_
