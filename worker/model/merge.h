#ifndef CONCORDAT_WORKER_MODEL_MERGE_H_
#define CONCORDAT_WORKER_MODEL_MERGE_H_

#include <filesystem>
#include <span>

#include "worker/model/weight_source.h"

namespace concordat::model {

/// How merged weights are stored. bf16 is rounded to nearest even.
enum class MergedDtype : uint8_t { kF32, kBf16 };

/// Writes W0 + (alpha/r)·B·A (with method core B·R·A) as a Hugging Face folder that needs no adapter:
/// config.json, model.safetensors and the tokenizer's files. Holds one tensor in memory at a time;
/// model.safetensors appears whole or not at all. \param model the path that `base` was opened from; a
/// folder's tokenizer files are copied as they are. \param adapter flat f32 vector of `layout`.
/// InvalidArgument when the adapter is for another shape or size; ResourceExhausted when the disk is full.
Status WriteMergedFolder(const std::filesystem::path& folder, const std::filesystem::path& model,
                         const WeightSource& base, const AdapterLayout& layout,
                         std::span<const float> adapter, MergedDtype dtype);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_MERGE_H_
