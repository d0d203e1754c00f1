#include "privacy/mechanism/words.h"

#include <bit>
#include <cstring>

namespace concordat {
namespace {

static_assert(std::endian::native == std::endian::little, "words go through memcpy");

uint32_t Word24(const uint8_t* b) {
  return static_cast<uint32_t>(b[0]) | static_cast<uint32_t>(b[1]) << 8 | static_cast<uint32_t>(b[2]) << 16;
}

// Calls `put(i, word)` for each word of 24 bits, four at a time: three loads where bytes would be twelve.
template <typename Put>
void ForEach24(const uint8_t* in, size_t count, Put put) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4, in += 12) {
    uint32_t a, b, c;
    std::memcpy(&a, in, 4);
    std::memcpy(&b, in + 4, 4);
    std::memcpy(&c, in + 8, 4);
    put(i, a & 0xffffff);
    put(i + 1, (a >> 24 | b << 8) & 0xffffff);
    put(i + 2, (b >> 16 | c << 16) & 0xffffff);
    put(i + 3, c >> 8);
  }
  for (; i < count; ++i, in += 3) put(i, Word24(in));
}

}  // namespace

void PackWords(std::span<const uint32_t> words, uint32_t modulus_bits, std::span<uint8_t> out) {
  if (modulus_bits == kPlainBits) {
    if (!words.empty()) std::memcpy(out.data(), words.data(), words.size_bytes());
    return;
  }
  uint8_t* to = out.data();
  size_t i = 0;
  for (; i + 4 <= words.size(); i += 4, to += 12) {
    const uint32_t w1 = words[i + 1], w2 = words[i + 2];
    const uint32_t a = (words[i] & 0xffffff) | w1 << 24;
    const uint32_t b = (w1 >> 8 & 0xffff) | w2 << 16;
    const uint32_t c = (w2 >> 16 & 0xff) | words[i + 3] << 8;
    std::memcpy(to, &a, 4);
    std::memcpy(to + 4, &b, 4);
    std::memcpy(to + 8, &c, 4);
  }
  for (; i < words.size(); ++i, to += 3)
    for (int k = 0; k < 3; ++k) to[k] = static_cast<uint8_t>(words[i] >> 8 * k);
}

ByteView WireBytes(std::span<const uint32_t> words, uint32_t modulus_bits, Bytes& scratch) {
  if (modulus_bits == kPlainBits) return {reinterpret_cast<const uint8_t*>(words.data()), words.size_bytes()};
  scratch.resize(VectorBytes(words.size(), modulus_bits));
  PackWords(words, modulus_bits, scratch);
  return scratch;
}

void UnpackWords(ByteView bytes, uint32_t modulus_bits, std::span<uint32_t> out) {
  if (modulus_bits == kPlainBits) {
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size_bytes());
    return;
  }
  ForEach24(bytes.data(), out.size(), [&](size_t i, uint32_t word) { out[i] = word; });
}

void AddPackedWords(ByteView bytes, uint32_t modulus_bits, std::span<uint32_t> words) {
  if (modulus_bits == kPackedBits)
    return ForEach24(bytes.data(), words.size(), [&](size_t i, uint32_t word) { words[i] += word; });
  for (size_t i = 0; i < words.size(); ++i) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + i * sizeof word, sizeof word);
    words[i] += word;
  }
}

}  // namespace concordat
