#ifndef CONCORDAT_TESTS_UNIT_WORKER_TRAIN_RANDOM_MODEL_H_
#define CONCORDAT_TESTS_UNIT_WORKER_TRAIN_RANDOM_MODEL_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "worker/model/weight_source.h"
#include "worker/train/engine.h"

namespace concordat::train {

/// A number in [-1, 1) that depends only on its arguments (SplitMix64's finaliser).
inline double HashUnit(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0x9E3779B97F4A7C15ULL + index + 1;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-52 - 1.0;
}

/// A Llama of any shape with weights from a hash: large enough that attention and norms are far from linear.
class RandomModel final : public model::WeightSource {
 public:
  RandomModel(ModelShape shape, uint32_t vocab, bool tied, uint64_t seed = 1) : seed_(seed) {
    config_.architecture = "llama";
    config_.shape = shape;
    config_.vocab = vocab;
    config_.context_length = 1024;
    config_.rope_theta = 1000;
    config_.tied_embeddings = tied;
  }

  const model::ModelConfig& config() const override { return config_; }
  model::ModelConfig& mutable_config() { return config_; }

  StatusOr<std::pair<uint64_t, uint64_t>> Shape(const std::string& name) const override {
    const ModelShape& s = config_.shape;
    if (name == absent) return NotFound("no tensor {}", name);
    if (name.ends_with("norm.weight")) return std::pair<uint64_t, uint64_t>(1, s.hidden);
    if (name == "model.embed_tokens.weight" || (name == "lm_head.weight" && !config_.tied_embeddings)) {
      return std::pair<uint64_t, uint64_t>(config_.vocab, s.hidden);
    }
    for (const LoraTarget target : kAllLoraTargets) {
      if (name.ends_with(std::string(LoraTargetModule(target)) + ".weight")) {
        return std::pair<uint64_t, uint64_t>(AdapterLayout::OutWidth(s, target),
                                             AdapterLayout::InWidth(s, target));
      }
    }
    return NotFound("no tensor {}", name);
  }

  Status Read(const std::string& name, uint64_t first_row, std::span<float> out) const override {
    ASSIGN_OR_RETURN(const auto shape, Shape(name));
    const bool norm = name.ends_with("norm.weight");
    const bool embedding = name == "model.embed_tokens.weight" || name == "lm_head.weight";
    const double gain = norm ? 0.3 : embedding ? 1.0 : 1.7 / std::sqrt(static_cast<double>(shape.second));
    const uint64_t seed = seed_ + std::hash<std::string>{}(name);
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<float>(gain * HashUnit(seed, first_row * shape.second + i) + (norm ? 1.0 : 0.0));
    }
    if (name == poisoned) out[0] = std::numeric_limits<float>::quiet_NaN();
    return OkStatus();
  }

  std::string absent;    // a tensor that is not there
  std::string poisoned;  // a tensor that begins with a NaN

 private:
  model::ModelConfig config_;
  uint64_t seed_;
};

inline LoraSpec AllTargets(uint32_t rank, double alpha, LoraMethod method = LoraMethod::kFedIt) {
  return {.rank = rank,
          .alpha = alpha,
          .targets = {kAllLoraTargets.begin(), kAllLoraTargets.end()},
          .method = method};
}

/// An adapter whose two factors are both of some size, so that both have gradients.
inline std::vector<float> RandomAdapter(const AdapterLayout& layout, uint64_t seed = 7) {
  std::vector<float> adapter(layout.adapter_elements());
  for (size_t i = 0; i < adapter.size(); ++i) adapter[i] = static_cast<float>(0.2 * HashUnit(seed, i));
  return adapter;
}

/// Tokens and target marks of one sequence.
struct Text {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> target;
  Sequence view() const { return {tokens, target}; }
};

/// `mask_every` 0: every token is a target; n: every n-th is not, and the first third is not either.
inline Text RandomText(size_t length, uint32_t vocab, uint64_t seed, size_t mask_every = 0) {
  Text text;
  for (size_t i = 0; i < length; ++i) {
    text.tokens.push_back(static_cast<int32_t>((HashUnit(seed, i) + 1.0) * 0.5 * vocab));
    text.target.push_back(mask_every == 0 || (i >= length / 3 && i % mask_every != 0) ? 1 : 0);
  }
  return text;
}

}  // namespace concordat::train

#endif  // CONCORDAT_TESTS_UNIT_WORKER_TRAIN_RANDOM_MODEL_H_
