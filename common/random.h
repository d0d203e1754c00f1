#ifndef CONCORDAT_COMMON_RANDOM_H_
#define CONCORDAT_COMMON_RANDOM_H_

#include <cstdint>
#include <span>

#include "common/secret.h"

namespace concordat {

/// Source of random bytes, given to whoever needs it in the constructor. Not thread-safe unless said so.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  /// Fills `out`. Never fails: a source that cannot deliver ends the process rather than hand out weak bytes.
  virtual void Fill(std::span<uint8_t> out) = 0;

  Secret32 Seed() {
    Secret32 seed;
    Fill(seed.mutable_view());
    return seed;
  }
};

/// The operating system's generator, getrandom(2). Any thread.
class OsRandom final : public RandomSource {
 public:
  void Fill(std::span<uint8_t> out) override;
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_RANDOM_H_
