#ifndef CONCORDAT_WORKER_MODEL_WEIGHT_SOURCE_H_
#define CONCORDAT_WORKER_MODEL_WEIGHT_SOURCE_H_

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "worker/model/model_config.h"

namespace concordat::model {

/// The frozen weights of a base model, memory-mapped, whatever file format holds them. Tensors are named as
/// in a Hugging Face folder: "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
/// "model.layers.0.self_attn.q_proj.weight" (out × in, row-major; rows of q and k in Hugging Face's order,
/// that is the two halves of each head, not interleaved), "model.layers.0.post_attention_layernorm.weight",
/// "model.layers.0.mlp.gate_proj.weight", "model.norm.weight", "lm_head.weight" (absent when tied).
/// Reading is const and may go on from several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  /// Rows and columns of `name` (a vector has 1 row). NotFound.
  virtual StatusOr<std::pair<uint64_t, uint64_t>> Shape(const std::string& name) const = 0;
  /// Dequantises rows [first_row, first_row + out.size()/cols) of `name` to f32. NotFound, InvalidArgument.
  virtual Status Read(const std::string& name, uint64_t first_row, std::span<float> out) const = 0;
};

/// Opens a GGUF file (path to a file) or a Hugging Face folder (path to a folder with config.json). Checks
/// all sizes, offsets and shapes before it returns. InvalidArgument names the file, the tensor and the field.
StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::filesystem::path& path);

/// What a charter, policy or job means by "the model's SHA-256": of a GGUF file, the file's; of a folder,
/// SHA-256 over "name\0size\0sha256\n" (size in decimal, sha256 in lower-case hexadecimal) of config.json,
/// tokenizer.json and every *.safetensors, sorted by name. NotFound.
StatusOr<Digest> HashModel(const std::filesystem::path& path);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_WEIGHT_SOURCE_H_
