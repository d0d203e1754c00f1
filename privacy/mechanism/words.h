#ifndef CONCORDAT_PRIVACY_MECHANISM_WORDS_H_
#define CONCORDAT_PRIVACY_MECHANISM_WORDS_H_

#include <cstdint>
#include <span>

#include "common/bytes.h"

// How a masked vector, or the sum of several, lies in a file and on the wire: little-endian words of b bits
// without gaps (docs/decisions/0007-packed-words.md). In memory a word is always 32 bits; of what was added
// mod 2^32 the low b bits are the sum mod 2^b. Whoever turns elements into bytes asks here.
namespace concordat {

inline constexpr uint32_t kPlainBits = 32;   // b by default
inline constexpr uint32_t kPackedBits = 24;  // b of the packed mode
constexpr bool IsModulusBits(uint32_t bits) { return bits == kPlainBits || bits == kPackedBits; }

/// Bytes of one word. \param modulus_bits 32 or 24
constexpr uint64_t WordBytes(uint32_t modulus_bits) { return modulus_bits / 8; }
/// Bytes of a vector of `elements` words, as it is stored, sent and hashed.
constexpr uint64_t VectorBytes(uint64_t elements, uint32_t modulus_bits) {
  return elements * WordBytes(modulus_bits);
}

/// Writes the low b bits of each word.
/// \param out VectorBytes(words.size(), modulus_bits) bytes; must not overlap `words`
void PackWords(std::span<const uint32_t> words, uint32_t modulus_bits, std::span<uint8_t> out);
/// The bytes of `words`, in `scratch` if they do not lie as they are sent already.
ByteView WireBytes(std::span<const uint32_t> words, uint32_t modulus_bits, Bytes& scratch);
/// Reads words back, the bits above b zero.
/// \param bytes VectorBytes(out.size(), modulus_bits) bytes
void UnpackWords(ByteView bytes, uint32_t modulus_bits, std::span<uint32_t> out);
/// words[i] += the i-th word of `bytes`, mod 2^32.
void AddPackedWords(ByteView bytes, uint32_t modulus_bits, std::span<uint32_t> words);

/// The number in [−2^(b−1), 2^(b−1)) that is congruent to `word` mod 2^b. Bits above b do not count.
constexpr int32_t CentreLift(uint32_t word, uint32_t modulus_bits) {
  const uint32_t spare = 32 - modulus_bits;
  return static_cast<int32_t>(word << spare) >> spare;
}

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_WORDS_H_
