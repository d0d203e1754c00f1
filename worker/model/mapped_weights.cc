#include "worker/model/mapped_weights.h"

#include <cmath>

namespace concordat::model {
namespace {

constexpr uint32_t kMaxVocab = 1u << 24;

/// The file's row that holds row `row` in Hugging Face's order: within a head of d rows, the file has
/// (0, d/2, 1, d/2+1, …) where Hugging Face has the first halves, then the second.
uint64_t FileRow(const MappedTensor& t, uint64_t row) {
  const uint64_t d = t.interleaved_head_rows;
  if (d == 0) return row;
  const uint64_t in_head = row % d, half = in_head / (d / 2), pair = in_head % (d / 2);
  return row - in_head + 2 * pair + half;
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config) {
  const ModelShape& s = config.shape;
  std::vector<ExpectedTensor> out;
  out.push_back({"model.embed_tokens.weight", config.vocab, s.hidden});
  out.push_back({"model.norm.weight", 1, s.hidden});
  if (!config.tied_embeddings) out.push_back({"lm_head.weight", config.vocab, s.hidden});
  for (uint32_t layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    out.push_back({prefix + "input_layernorm.weight", 1, s.hidden});
    out.push_back({prefix + "post_attention_layernorm.weight", 1, s.hidden});
    for (const LoraTarget t : kAllLoraTargets) {
      out.push_back({fmt::format("{}{}.weight", prefix, LoraTargetModule(t)), AdapterLayout::OutWidth(s, t),
                     AdapterLayout::InWidth(s, t)});
    }
  }
  return out;
}

Status CheckModelConfig(const ModelConfig& config) {
  RETURN_IF_ERROR(CheckModelShape(config.shape));
  if (config.vocab == 0 || config.vocab > kMaxVocab) {
    return InvalidArgument("vocabulary size: expected 1 to {}, got {}", kMaxVocab, config.vocab);
  }
  if (config.context_length == 0) return InvalidArgument("context length: expected more than 0");
  if (!std::isfinite(config.rope_theta) || config.rope_theta <= 1) {
    return InvalidArgument("rope theta: expected a number above 1, got {}", config.rope_theta);
  }
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1)) {
    return InvalidArgument("rms norm epsilon: expected a number between 0 and 1, got {}",
                           config.rms_norm_eps);
  }
  const auto vocab = static_cast<int64_t>(config.vocab);
  if (config.bos_token < -1 || config.bos_token >= vocab || config.eos_token < -1 ||
      config.eos_token >= vocab) {
    return InvalidArgument("bos or eos token: outside the vocabulary of {}", config.vocab);
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<WeightSource>> MappedWeights::Make(ModelConfig config,
                                                            std::map<std::string, MappedTensor> tensors,
                                                            std::vector<std::unique_ptr<MappedFile>> files) {
  // Absurd numbers are refused before a list of what they would need is made.
  RETURN_IF_ERROR(CheckModelConfig(config));
  const std::vector<ExpectedTensor> expected = ExpectedTensors(config);
  size_t found = 0;
  for (const ExpectedTensor& e : expected) {
    const auto it = tensors.find(e.name);
    if (it == tensors.end()) return InvalidArgument("tensor '{}' is missing", e.name);
    if (it->second.rows != e.rows || it->second.cols != e.cols) {
      return InvalidArgument("tensor '{}': shape {} x {}, expected {} x {}", e.name, it->second.rows,
                             it->second.cols, e.rows, e.cols);
    }
    ++found;
  }
  if (found != tensors.size()) {
    for (const ExpectedTensor& e : expected) tensors.erase(e.name);
    return InvalidArgument("tensor '{}': not part of this architecture", tensors.begin()->first);
  }
  std::unique_ptr<MappedWeights> out(new MappedWeights);
  out->config_ = std::move(config);
  out->tensors_ = std::move(tensors);
  out->files_ = std::move(files);
  return out;
}

StatusOr<const MappedTensor*> MappedWeights::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) return NotFound("tensor '{}': the model has none of that name", name);
  return &it->second;
}

StatusOr<std::pair<uint64_t, uint64_t>> MappedWeights::Shape(const std::string& name) const {
  ASSIGN_OR_RETURN(const MappedTensor* t, Find(name));
  return std::pair(t->rows, t->cols);
}

Status MappedWeights::Read(const std::string& name, uint64_t first_row, std::span<float> out) const {
  ASSIGN_OR_RETURN(const MappedTensor* t, Find(name));
  const uint64_t rows = out.size() / t->cols;
  if (out.size() % t->cols != 0 || first_row > t->rows || rows > t->rows - first_row) {
    return InvalidArgument("tensor '{}': {} values from row {} are not whole rows of its {} x {}", name,
                           out.size(), first_row, t->rows, t->cols);
  }
  const BlockSize block = BlockSizeOf(t->format);
  const uint64_t row_bytes = t->cols / block.values * block.bytes;
  if (t->interleaved_head_rows == 0) {
    Dequantize(t->format, t->data.data() + first_row * row_bytes, out.size(), out.data());
    return OkStatus();
  }
  for (uint64_t i = 0; i < rows; ++i) {
    Dequantize(t->format, t->data.data() + FileRow(*t, first_row + i) * row_bytes, t->cols,
               out.data() + i * t->cols);
  }
  return OkStatus();
}

}  // namespace concordat::model
