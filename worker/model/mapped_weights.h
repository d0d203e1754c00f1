#ifndef CONCORDAT_WORKER_MODEL_MAPPED_WEIGHTS_H_
#define CONCORDAT_WORKER_MODEL_MAPPED_WEIGHTS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/files.h"
#include "worker/model/tensor_format.h"
#include "worker/model/weight_source.h"

namespace concordat::model {

/// Where one tensor's rows are in a mapped file.
struct MappedTensor {
  uint64_t rows = 0;
  uint64_t cols = 0;
  TensorFormat format{};
  ByteView data;
  /// Not 0: the file interleaves the halves of each head of this many rows (GGUF "llama", q and k).
  uint32_t interleaved_head_rows = 0;
};

/// A tensor that a model of some configuration has.
struct ExpectedTensor {
  std::string name;
  uint64_t rows = 0;
  uint64_t cols = 0;
};

/// All tensors of a Llama with this configuration, without lm_head when the embeddings are tied.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

/// InvalidArgument, naming the field, unless every number is one that this program can train with.
Status CheckModelConfig(const ModelConfig& config);

/// Weights in mapped files. Any thread once made.
class MappedWeights final : public WeightSource {
 public:
  /// InvalidArgument, naming the tensor, when one that `config` needs is missing or has another shape, or
  /// when there is one that it does not know.
  static StatusOr<std::unique_ptr<WeightSource>> Make(ModelConfig config,
                                                      std::map<std::string, MappedTensor> tensors,
                                                      std::vector<std::unique_ptr<MappedFile>> files);

  const ModelConfig& config() const override { return config_; }
  StatusOr<std::pair<uint64_t, uint64_t>> Shape(const std::string& name) const override;
  Status Read(const std::string& name, uint64_t first_row, std::span<float> out) const override;

 private:
  MappedWeights() = default;
  StatusOr<const MappedTensor*> Find(const std::string& name) const;

  ModelConfig config_;
  std::map<std::string, MappedTensor> tensors_;
  std::vector<std::unique_ptr<MappedFile>> files_;
};

/// Opens a GGUF file of architecture "llama". Errors as OpenWeights.
StatusOr<std::unique_ptr<WeightSource>> OpenGgufWeights(const std::filesystem::path& path);

/// Opens a Hugging Face folder of LlamaForCausalLM. Errors as OpenWeights.
StatusOr<std::unique_ptr<WeightSource>> OpenHfWeights(const std::filesystem::path& folder);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_MAPPED_WEIGHTS_H_
