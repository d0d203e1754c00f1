#include "worker/model/tensor_format.h"

#include "aggregation/float_formats.h"

namespace concordat::model {
namespace {

constexpr uint32_t kBlock = 32;

void Q8(const uint8_t* in, uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 2 + kBlock, out += kBlock) {
    const float scale = HalfToFloat(LoadU16(in));
    for (uint32_t i = 0; i < kBlock; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(in[2 + i]));
  }
}

void Q4Centred(const uint8_t* in, uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 2 + kBlock / 2, out += kBlock) {
    const float scale = HalfToFloat(LoadU16(in));
    for (uint32_t i = 0; i < kBlock / 2; ++i) {
      out[i] = scale * static_cast<float>((in[2 + i] & 15) - 8);
      out[i + kBlock / 2] = scale * static_cast<float>((in[2 + i] >> 4) - 8);
    }
  }
}

void Q4WithMinimum(const uint8_t* in, uint64_t blocks, float* out) {
  for (; blocks > 0; --blocks, in += 4 + kBlock / 2, out += kBlock) {
    const float scale = HalfToFloat(LoadU16(in)), minimum = HalfToFloat(LoadU16(in + 2));
    for (uint32_t i = 0; i < kBlock / 2; ++i) {
      out[i] = scale * static_cast<float>(in[4 + i] & 15) + minimum;
      out[i + kBlock / 2] = scale * static_cast<float>(in[4 + i] >> 4) + minimum;
    }
  }
}

}  // namespace

BlockSize BlockSizeOf(TensorFormat format) {
  switch (format) {
    case TensorFormat::kF32:
      return {1, 4};
    case TensorFormat::kF16:
    case TensorFormat::kBf16:
      return {1, 2};
    case TensorFormat::kQ8_0:
      return {kBlock, 2 + kBlock};
    case TensorFormat::kQ4_0:
      return {kBlock, 2 + kBlock / 2};
    case TensorFormat::kQ4_1:
      return {kBlock, 4 + kBlock / 2};
  }
  return {1, 4};
}

std::string_view TensorFormatName(TensorFormat format) {
  constexpr std::string_view kNames[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"};
  return kNames[static_cast<uint8_t>(format)];
}

void Dequantize(TensorFormat format, const uint8_t* in, uint64_t values, float* out) {
  switch (format) {
    case TensorFormat::kF32:
      if (values > 0) std::memcpy(out, in, values * 4);
      return;
    case TensorFormat::kF16:
      for (uint64_t i = 0; i < values; ++i) out[i] = HalfToFloat(LoadU16(in + 2 * i));
      return;
    case TensorFormat::kBf16:
      for (uint64_t i = 0; i < values; ++i) out[i] = Bf16ToFloat(LoadU16(in + 2 * i));
      return;
    case TensorFormat::kQ8_0:
      return Q8(in, values / kBlock, out);
    case TensorFormat::kQ4_0:
      return Q4Centred(in, values / kBlock, out);
    case TensorFormat::kQ4_1:
      return Q4WithMinimum(in, values / kBlock, out);
  }
}

}  // namespace concordat::model
