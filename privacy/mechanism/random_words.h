#ifndef CONCORDAT_PRIVACY_MECHANISM_RANDOM_WORDS_H_
#define CONCORDAT_PRIVACY_MECHANISM_RANDOM_WORDS_H_

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/random.h"

namespace concordat::internal {

/// Words from a RandomSource, fetched 4 KiB at a time; what is left over is wiped and never used. Words are
/// little-endian, so that a seed gives the same draws on every machine. One thread.
class RandomWords {
 public:
  explicit RandomWords(RandomSource& source) : source_(source) {}
  RandomWords(const RandomWords&) = delete;
  RandomWords& operator=(const RandomWords&) = delete;
  ~RandomWords() { Wipe(buffer_); }

  uint64_t Word() {
    if (position_ == buffer_.size()) {
      source_.Fill(buffer_);
      position_ = 0;
    }
    uint64_t word;
    std::memcpy(&word, buffer_.data() + position_, sizeof word);
    position_ += sizeof word;
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    return word;
  }
  /// `count` fair bits, 1 to 32.
  uint32_t Bits(uint32_t count) {
    if (bits_left_ < count) {
      bits_ = Word();
      bits_left_ = 64;
    }
    const auto out = static_cast<uint32_t>(bits_ & ((uint64_t{1} << count) - 1));
    bits_ >>= count;
    bits_left_ -= count;
    return out;
  }

 private:
  RandomSource& source_;
  std::array<uint8_t, 4096> buffer_{};
  size_t position_ = sizeof(buffer_);
  uint64_t bits_ = 0;
  uint32_t bits_left_ = 0;
};

}  // namespace concordat::internal

#endif  // CONCORDAT_PRIVACY_MECHANISM_RANDOM_WORDS_H_
