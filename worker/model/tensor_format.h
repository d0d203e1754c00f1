#ifndef CONCORDAT_WORKER_MODEL_TENSOR_FORMAT_H_
#define CONCORDAT_WORKER_MODEL_TENSOR_FORMAT_H_

#include <cstdint>
#include <string_view>

namespace concordat::model {

/// How weights are stored. The quantised ones are GGML's: blocks of 32 values with an f16 scale, Q4_1 with an
/// f16 minimum too.
enum class TensorFormat : uint8_t { kF32, kF16, kBf16, kQ8_0, kQ4_0, kQ4_1 };

/// Values and bytes of one block; a row is a whole number of blocks.
struct BlockSize {
  uint32_t values;
  uint32_t bytes;
};
BlockSize BlockSizeOf(TensorFormat format);
/// "F32", "Q4_1", …
std::string_view TensorFormatName(TensorFormat format);

/// Turns `values` values (a multiple of the block's) at `in`, at any alignment, into f32: the same bits as
/// GGML's reference and gguf-py. Any thread.
void Dequantize(TensorFormat format, const uint8_t* in, uint64_t values, float* out);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_TENSOR_FORMAT_H_
