#ifndef CONCORDAT_TESTS_SUPPORT_TINY_MODEL_H_
#define CONCORDAT_TESTS_SUPPORT_TINY_MODEL_H_

#include <filesystem>
#include <string>
#include <vector>

#include "aggregation/adapter_layout.h"

namespace concordat::testing {

/// Two layers, 64 wide: trains in milliseconds.
inline constexpr ModelShape kTinyShape{2, 64, 128, 4, 2, 16};
inline constexpr uint32_t kTinyContext = 256;

/// Writes a Llama of that shape as GGUF: weights from a hash, f32, tied embeddings, a byte-level BPE
/// tokenizer with a few merges, ChatML's markers. The same bytes every time.
void WriteTinyModel(const std::filesystem::path& path, const ModelShape& shape = kTinyShape);

/// `count` lines of JSONL, each with a `text` of one short made-up paragraph that depends on `seed`.
std::string TinyRecords(size_t count, uint64_t seed);

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_TINY_MODEL_H_
