#ifndef CONCORDAT_AGGREGATION_MODULAR_SUM_H_
#define CONCORDAT_AGGREGATION_MODULAR_SUM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/status.h"
#include "privacy/mechanism/words.h"

namespace concordat {

/// Running sum of masked vectors, mod 2^32: the one vector that a coordinator keeps in a round. Its low b
/// bits are the sum mod 2^b, and with b = 24 the others mean nothing. One thread at a time; calls on ranges
/// that do not overlap may run at once. Holds a sum of masked vectors, which says nothing about a site until
/// all masks are taken off.
class ModularSum {
 public:
  explicit ModularSum(uint64_t elements) : words_(elements) {}

  uint64_t elements() const { return words_.size(); }
  /// Adds `values` to elements first_element … InvalidArgument when they reach past the end.
  Status Add(uint64_t first_element, std::span<const uint32_t> values);
  /// Takes `values` off again: masks that were rebuilt.
  Status Subtract(uint64_t first_element, std::span<const uint32_t> values);
  /// As Add, from words of b bits as they come off the wire (privacy/mechanism/words.h); a size that is no
  /// whole number of words is refused.
  Status AddBytes(uint64_t first_element, std::span<const uint8_t> little_endian,
                  uint32_t modulus_bits = kPlainBits);

  std::span<const uint32_t> words() const { return words_; }
  std::span<uint32_t> mutable_words() { return words_; }
  /// Wipes and empties.
  void Clear();

 private:
  Status CheckRange(uint64_t first_element, uint64_t count) const;
  std::vector<uint32_t> words_;
};

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_MODULAR_SUM_H_
