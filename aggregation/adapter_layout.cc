#include "aggregation/adapter_layout.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace concordat {
namespace {

constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxWidth = 1u << 20;
constexpr uint32_t kMaxHeads = 4096;
constexpr uint32_t kMaxHeadDim = 4096;
constexpr uint32_t kMaxRank = 256;
constexpr uint64_t kMaxElements = uint64_t{1} << 31;

constexpr std::array<std::string_view, 3> kMethods = {"fedit", "ffa", "core"};
constexpr std::array<std::string_view, 7> kNames = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                    "gate_proj", "up_proj", "down_proj"};
constexpr std::array<std::string_view, 7> kModules = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

Status CheckRange(std::string_view field, uint64_t value, uint64_t max) {
  if (value >= 1 && value <= max) return OkStatus();
  return InvalidArgument("{}: expected 1 to {}, got {}", field, max, value);
}

Status CheckSpec(const LoraSpec& spec) {
  RETURN_IF_ERROR(CheckRange("rank", spec.rank, kMaxRank));
  if (!std::isfinite(spec.alpha) || spec.alpha <= 0) {
    return InvalidArgument("alpha: expected a positive finite number, got {}", spec.alpha);
  }
  if (static_cast<size_t>(spec.method) >= kMethods.size()) {
    return InvalidArgument("method: unknown value {}", static_cast<int>(spec.method));
  }
  if (spec.targets.empty()) return InvalidArgument("targets: expected at least one");
  for (size_t i = 0; i < spec.targets.size(); ++i) {
    const auto target = static_cast<size_t>(spec.targets[i]);
    if (target >= kNames.size()) return InvalidArgument("targets: unknown value {}", target);
    if (i == 0) continue;
    if (spec.targets[i] == spec.targets[i - 1]) return InvalidArgument("targets: {} twice", kNames[target]);
    if (spec.targets[i] < spec.targets[i - 1]) {
      return InvalidArgument("targets: expected ascending order, got {} after {}", kNames[target],
                             kNames[static_cast<size_t>(spec.targets[i - 1])]);
    }
  }
  return OkStatus();
}

/// A and B have orthonormal rows and columns: no more of them than the layer is wide.
Status CheckCoreRank(const ModelShape& shape, const LoraSpec& spec) {
  for (const LoraTarget target : spec.targets) {
    const uint64_t width =
        std::min(AdapterLayout::InWidth(shape, target), AdapterLayout::OutWidth(shape, target));
    if (spec.rank > width) {
      return InvalidArgument("rank: with method core {} takes at most {}, its narrower side, got {}",
                             LoraTargetName(target), width, spec.rank);
    }
  }
  return OkStatus();
}

std::span<const LoraFactor> FactorsOf(LoraMethod method) {
  static constexpr std::array kFactors = {LoraFactor::kA, LoraFactor::kB, LoraFactor::kR};
  return std::span(kFactors).first(method == LoraMethod::kCore ? 3 : 2);
}

bool IsTrained(LoraMethod method, LoraFactor factor) {
  if (method == LoraMethod::kCore) return factor == LoraFactor::kR;
  return factor == LoraFactor::kB || method == LoraMethod::kFedIt;
}

}  // namespace

Status CheckModelShape(const ModelShape& shape) {
  RETURN_IF_ERROR(CheckRange("layers", shape.layers, kMaxLayers));
  RETURN_IF_ERROR(CheckRange("hidden", shape.hidden, kMaxWidth));
  RETURN_IF_ERROR(CheckRange("intermediate", shape.intermediate, kMaxWidth));
  RETURN_IF_ERROR(CheckRange("heads", shape.heads, kMaxHeads));
  RETURN_IF_ERROR(CheckRange("kv_heads", shape.kv_heads, shape.heads));
  RETURN_IF_ERROR(CheckRange("head_dim", shape.head_dim, kMaxHeadDim));
  if (shape.heads % shape.kv_heads != 0) {
    return InvalidArgument("kv_heads: expected a divisor of heads = {}, got {}", shape.heads, shape.kv_heads);
  }
  if (shape.head_dim % 2 != 0) {
    return InvalidArgument("head_dim: expected an even number, got {}", shape.head_dim);
  }
  return CheckRange("heads x head_dim", uint64_t{shape.heads} * shape.head_dim, kMaxWidth);
}

std::string_view LoraTargetName(LoraTarget target) { return kNames.at(static_cast<size_t>(target)); }

StatusOr<LoraTarget> ParseLoraTarget(std::string_view name) {
  for (const LoraTarget target : kAllLoraTargets) {
    if (LoraTargetName(target) == name) return target;
  }
  return InvalidArgument(
      "unknown LoRA target '{}': expected one of q_proj, k_proj, v_proj, o_proj, "
      "gate_proj, up_proj, down_proj",
      name);
}

std::string_view LoraTargetModule(LoraTarget target) { return kModules.at(static_cast<size_t>(target)); }

std::string_view LoraMethodName(LoraMethod method) { return kMethods.at(static_cast<size_t>(method)); }

std::string AdapterTensor::PeftName() const {
  return fmt::format("base_model.model.model.layers.{}.{}.lora_{}.weight", layer, LoraTargetModule(target),
                     "ABR"[static_cast<size_t>(factor)]);
}

uint64_t AdapterLayout::InWidth(const ModelShape& shape, LoraTarget target) {
  switch (target) {
    case LoraTarget::kO:
      return uint64_t{shape.heads} * shape.head_dim;
    case LoraTarget::kDown:
      return shape.intermediate;
    default:
      return shape.hidden;
  }
}

uint64_t AdapterLayout::OutWidth(const ModelShape& shape, LoraTarget target) {
  switch (target) {
    case LoraTarget::kQ:
      return uint64_t{shape.heads} * shape.head_dim;
    case LoraTarget::kK:
    case LoraTarget::kV:
      return uint64_t{shape.kv_heads} * shape.head_dim;
    case LoraTarget::kGate:
    case LoraTarget::kUp:
      return shape.intermediate;
    default:
      return shape.hidden;
  }
}

StatusOr<AdapterLayout> AdapterLayout::Make(const ModelShape& shape, const LoraSpec& spec) {
  RETURN_IF_ERROR(CheckModelShape(shape));
  RETURN_IF_ERROR(CheckSpec(spec));
  if (spec.method == LoraMethod::kCore) RETURN_IF_ERROR(CheckCoreRank(shape, spec));
  AdapterLayout layout;
  layout.shape_ = shape;
  layout.spec_ = spec;
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (const LoraTarget target : spec.targets) {
      for (const LoraFactor factor : FactorsOf(spec.method)) {
        AdapterTensor t;
        t.layer = layer;
        t.target = target;
        t.factor = factor;
        t.rows = factor == LoraFactor::kB ? OutWidth(shape, target) : spec.rank;
        t.cols = factor == LoraFactor::kA ? InWidth(shape, target) : spec.rank;
        t.trained = IsTrained(spec.method, factor);
        t.offset = layout.adapter_elements_;
        t.delta_offset = t.trained ? layout.delta_elements_ : 0;
        layout.adapter_elements_ += t.elements();
        if (t.trained) layout.delta_elements_ += t.elements();
        layout.tensors_.push_back(t);
      }
    }
    if (layout.adapter_elements_ > kMaxElements) {
      return InvalidArgument("adapter: expected at most {} elements, got more", kMaxElements);
    }
  }
  return layout;
}

}  // namespace concordat
