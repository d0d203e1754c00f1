#ifndef CONCORDAT_AGGREGATION_FLOAT_FORMATS_H_
#define CONCORDAT_AGGREGATION_FLOAT_FORMATS_H_

#include <bit>
#include <cstdint>
#include <cstring>

// The float formats of model files, little-endian, converted exactly: the same bits on every machine.
namespace concordat {

/// IEEE-754 binary16 to f32, subnormals, infinities and NaN included.
inline float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  if ((h & 0x7c00) == 0x7c00) return std::bit_cast<float>(sign | rest | 0x7f800000);
  // Exponents are rebiased by a product with 2^112, which is exact and also normalises subnormals.
  const float magnitude = std::bit_cast<float>(rest) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

/// bfloat16 (the upper half of an f32) to f32.
inline float Bf16ToFloat(uint16_t b) { return std::bit_cast<float>(static_cast<uint32_t>(b) << 16); }

/// f32 to bfloat16, to nearest, ties to even. NaN stays NaN.
inline uint16_t FloatToBf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/// Two bytes, little-endian, at any alignment.
inline uint16_t LoadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
/// An f32, little-endian, at any alignment.
inline float LoadF32(const uint8_t* p) {
  static_assert(std::endian::native == std::endian::little);
  float f;
  std::memcpy(&f, p, sizeof f);
  return f;
}

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_FLOAT_FORMATS_H_
