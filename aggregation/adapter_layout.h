#ifndef CONCORDAT_AGGREGATION_ADAPTER_LAYOUT_H_
#define CONCORDAT_AGGREGATION_ADAPTER_LAYOUT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"

namespace concordat {

/// The seven linear layers of a Llama block, in the order in which adapters store them.
enum class LoraTarget : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr std::array<LoraTarget, 7> kAllLoraTargets = {
    LoraTarget::kQ,    LoraTarget::kK,  LoraTarget::kV,   LoraTarget::kO,
    LoraTarget::kGate, LoraTarget::kUp, LoraTarget::kDown};
/// "q_proj" … "down_proj".
std::string_view LoraTargetName(LoraTarget target);
/// InvalidArgument for another name.
StatusOr<LoraTarget> ParseLoraTarget(std::string_view name);
/// "self_attn.q_proj" … "mlp.down_proj": the module's path within its layer.
std::string_view LoraTargetModule(LoraTarget target);

/// What the shapes of a Llama-like model's linear layers follow from. Stated in the job file, so that a
/// coordinator without the model can name every tensor; checked by every trainer against the model it has.
struct ModelShape {
  uint32_t layers = 0;
  uint32_t hidden = 0;
  uint32_t intermediate = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  bool operator==(const ModelShape&) const = default;
};

/// InvalidArgument, naming the field, on a zero or absurd dimension, an odd head_dim, or kv_heads that do not
/// divide heads.
Status CheckModelShape(const ModelShape& shape);

/// Which factors a job trains and sends. Federated LoRA methods by what leaves a site:
///   kFedIt  A and B (Zhang et al. 2024, FedIT): exact only in the limit of small steps
///   kFfa    B; A stays at its public initial value (Sun et al. 2024, FFA-LoRA): exact under sums
///   kCore   R alone, rank × rank, between A and B that stay at their public initial values (Bałazy et al.
///           2024, LoRA-XS; Ponkshe et al. 2024, LoRA-SB): exact under sums. Those two take A and B from the
///           weights and from a gradient; ours are random (docs/decisions/0015-core-adapter.md)
enum class LoraMethod : uint8_t { kFedIt, kFfa, kCore };
inline constexpr std::array<LoraMethod, 3> kAllLoraMethods = {LoraMethod::kFedIt, LoraMethod::kFfa,
                                                              LoraMethod::kCore};
/// "fedit", "ffa", "core": what job files and region policies say.
std::string_view LoraMethodName(LoraMethod method);

/// The matrices of one linear layer's adapter.
enum class LoraFactor : uint8_t { kA, kB, kR };

/// Shape of an adapter. y = W0·x + (alpha/rank)·B·A·x, A: rank × in, B: out × rank; with method core
/// y = W0·x + (alpha/rank)·B·R·A·x, R: rank × rank.
struct LoraSpec {
  uint32_t rank = 0;
  double alpha = 0;
  std::vector<LoraTarget> targets;  // ascending, no repeats
  LoraMethod method = LoraMethod::kFedIt;
  double scale() const { return alpha / rank; }
  bool operator==(const LoraSpec&) const = default;
};

/// One factor within the flat vector of all adapter weights.
struct AdapterTensor {
  uint32_t layer = 0;
  LoraTarget target{};
  LoraFactor factor = LoraFactor::kA;
  uint64_t rows = 0;          // A: rank, B: out, R: rank
  uint64_t cols = 0;          // A: in, B: rank, R: rank
  uint64_t offset = 0;        // element offset in the flat vector of the adapter
  bool trained = true;        // part of the delta that leaves a site
  uint64_t delta_offset = 0;  // element offset in the flat delta, when trained
  uint64_t elements() const { return rows * cols; }
  /// PEFT's key: "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight". PEFT has no lora_R: that
  /// name is for messages only.
  std::string PeftName() const;
};

/// Where each weight of an adapter is in the two flat f32 vectors used everywhere: the *adapter* (all
/// factors) and the *delta* (those that are trained and leave). Order: layer, then target, then A, B and,
/// with method core, R; row-major.
class AdapterLayout {
 public:
  /// InvalidArgument on a zero or absurd dimension, no target, a repeated target, rank outside 1..256, a core
  /// whose rank exceeds a target's input or output width, or more than 2^31 elements.
  static StatusOr<AdapterLayout> Make(const ModelShape& shape, const LoraSpec& spec);

  const ModelShape& shape() const { return shape_; }
  const LoraSpec& spec() const { return spec_; }
  const std::vector<AdapterTensor>& tensors() const { return tensors_; }
  uint64_t adapter_elements() const { return adapter_elements_; }
  uint64_t delta_elements() const { return delta_elements_; }
  /// Input and output width of `target`.
  static uint64_t InWidth(const ModelShape& shape, LoraTarget target);
  static uint64_t OutWidth(const ModelShape& shape, LoraTarget target);

 private:
  ModelShape shape_;
  LoraSpec spec_;
  std::vector<AdapterTensor> tensors_;
  uint64_t adapter_elements_ = 0;
  uint64_t delta_elements_ = 0;
};

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_ADAPTER_LAYOUT_H_
