#include "aggregation/peft.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "aggregation/float_formats.h"
#include "aggregation/safetensors.h"
#include "aggregation/strict_json.h"
#include "common/files.h"

namespace concordat {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxWeightsBytes = uint64_t{1} << 34;
constexpr uint64_t kGgufAlignment = 32;
constexpr uint32_t kGgufU32 = 4, kGgufF32 = 6, kGgufString = 8;

/// An adapter of two factors a layer whose scale is 1: what leaves this program.
struct Folded {
  AdapterLayout layout;
  std::vector<float> values;
};

/// out = scale·B·R. Products of two f32 are exact in f64 and each sum has its one order, so that the bits are
/// the same on every machine and whoever verifies an exported folder can make it again.
void FoldCore(const AdapterTensor& b, const AdapterTensor& r, double scale, std::span<const float> adapter,
              float* out) {
  std::vector<double> row(r.cols);
  for (uint64_t i = 0; i < b.rows; ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    for (uint64_t k = 0; k < r.rows; ++k) {
      const double weight = adapter[b.offset + i * b.cols + k];
      const float* from = adapter.data() + r.offset + k * r.cols;
      for (uint64_t j = 0; j < r.cols; ++j) row[j] += weight * static_cast<double>(from[j]);
    }
    for (uint64_t j = 0; j < r.cols; ++j) *out++ = static_cast<float>(scale * row[j]);
  }
}

/// A and scale·B·R of each layer.
StatusOr<Folded> FoldCores(const AdapterLayout& layout, std::span<const float> adapter) {
  LoraSpec spec = layout.spec();
  spec.method = LoraMethod::kFedIt;
  ASSIGN_OR_RETURN(AdapterLayout plain, AdapterLayout::Make(layout.shape(), spec));
  std::vector<float> out(plain.adapter_elements());
  const std::vector<AdapterTensor>& from = layout.tensors();
  for (size_t i = 0; 3 * i < from.size(); ++i) {
    const AdapterTensor &a = from[3 * i], &b = from[3 * i + 1], &r = from[3 * i + 2];
    std::copy_n(adapter.begin() + static_cast<ptrdiff_t>(a.offset), a.elements(),
                out.begin() + static_cast<ptrdiff_t>(plain.tensors()[2 * i].offset));
    FoldCore(b, r, spec.scale(), adapter, out.data() + plain.tensors()[2 * i + 1].offset);
  }
  return Folded{std::move(plain), std::move(out)};
}

/// \p adapter with alpha/r, and R where there is one, folded into every B.
StatusOr<Folded> Fold(const AdapterLayout& layout, std::span<const float> adapter) {
  if (adapter.size() != layout.adapter_elements()) {
    return InvalidArgument("adapter: expected {} elements, got {}", layout.adapter_elements(),
                           adapter.size());
  }
  const bool core = layout.spec().method == LoraMethod::kCore;
  Folded out{layout, {}};
  if (core) {
    ASSIGN_OR_RETURN(out, FoldCores(layout, adapter));
  } else {
    out.values.assign(adapter.begin(), adapter.end());
  }
  const auto scale = static_cast<float>(layout.spec().scale());
  for (const AdapterTensor& t : out.layout.tensors()) {
    for (uint64_t i = t.offset; i < t.offset + t.elements(); ++i) {
      if (t.factor == LoraFactor::kB && !core) out.values[i] *= scale;
      if (!std::isfinite(out.values[i])) {
        return InvalidArgument("tensor '{}': a value is not finite", t.PeftName());
      }
    }
  }
  return out;
}

// ---- adapter_config.json ----

/// Keys that do not change what an adapter computes.
bool IsHarmlessKey(const std::string& key) {
  static constexpr std::string_view kKeys[] = {"base_model_name_or_path",
                                               "revision",
                                               "inference_mode",
                                               "lora_dropout",
                                               "init_lora_weights",
                                               "peft_version",
                                               "auto_mapping",
                                               "layers_pattern",
                                               "loftq_config",
                                               "megatron_core",
                                               "qalora_group_size",
                                               "runtime_config",
                                               "ensure_weight_tying"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

bool IsNeutral(const json& v) {
  return v.is_null() || (v.is_boolean() && !v.get<bool>()) ||
         ((v.is_structured() || v.is_string()) && v.empty()) ||
         (v.is_string() && v.get_ref<const std::string&>().empty());
}

Status CheckOtherKeys(const json& config) {
  static const std::set<std::string> kRead = {"peft_type",  "task_type", "r",
                                              "lora_alpha", "bias",      "target_modules"};
  for (const auto& [key, value] : config.items()) {
    if (kRead.contains(key) || IsHarmlessKey(key) || IsNeutral(value)) continue;
    return InvalidArgument("adapter_config.json: {}: this value is not supported", key);
  }
  return OkStatus();
}

StatusOr<std::string> TextField(const json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_string()) {
    return InvalidArgument("adapter_config.json: {}: expected a string", key);
  }
  return it->get<std::string>();
}

StatusOr<std::vector<LoraTarget>> ReadTargets(const json& config) {
  const auto it = config.find("target_modules");
  if (it == config.end() || !it->is_array()) {
    return InvalidArgument("adapter_config.json: target_modules: expected a list of names");
  }
  std::set<LoraTarget> targets;
  for (const json& v : *it) {
    if (!v.is_string()) return InvalidArgument("adapter_config.json: target_modules: expected names");
    auto target = ParseLoraTarget(v.get_ref<const std::string&>());
    if (!target.ok()) return Annotate(target.status(), "adapter_config.json: target_modules");
    if (!targets.insert(*target).second) {
      return InvalidArgument("adapter_config.json: target_modules: {} twice", LoraTargetName(*target));
    }
  }
  return std::vector<LoraTarget>(targets.begin(), targets.end());
}

StatusOr<LoraSpec> ReadSpec(const json& config) {
  if (!config.is_object()) return InvalidArgument("adapter_config.json: expected an object");
  ASSIGN_OR_RETURN(const std::string type, TextField(config, "peft_type"));
  if (type != "LORA") return InvalidArgument("adapter_config.json: peft_type: expected LORA");
  if (config.contains("task_type") && !config["task_type"].is_null() && config["task_type"] != "CAUSAL_LM") {
    return InvalidArgument("adapter_config.json: task_type: expected CAUSAL_LM");
  }
  if (config.contains("bias") && config["bias"] != "none") {
    return InvalidArgument("adapter_config.json: bias: expected none");
  }
  RETURN_IF_ERROR(CheckOtherKeys(config));
  LoraSpec spec;
  const auto r = config.find("r");
  if (r == config.end() || !r->is_number_unsigned() || r->get<uint64_t>() > 65536) {
    return InvalidArgument("adapter_config.json: r: expected a small positive integer");
  }
  spec.rank = r->get<uint32_t>();
  const auto alpha = config.find("lora_alpha");
  if (alpha == config.end() || !alpha->is_number()) {
    return InvalidArgument("adapter_config.json: lora_alpha: expected a number");
  }
  spec.alpha = alpha->get<double>();
  ASSIGN_OR_RETURN(spec.targets, ReadTargets(config));
  return spec;
}

// ---- adapter_model.safetensors ----

Status CopyTensor(const SafetensorsTensor& from, const AdapterTensor& to, std::vector<float>& adapter) {
  if (from.shape != std::vector<uint64_t>{to.rows, to.cols}) {
    return InvalidArgument("tensor '{}': shape [{}], expected [{}, {}]", from.name,
                           fmt::join(from.shape, ", "), to.rows, to.cols);
  }
  const bool f32 = from.dtype == "F32", f16 = from.dtype == "F16", bf16 = from.dtype == "BF16";
  if (!f32 && !f16 && !bf16) {
    return InvalidArgument("tensor '{}': dtype {}, expected F32, F16 or BF16", from.name, from.dtype);
  }
  for (uint64_t i = 0; i < to.elements(); ++i) {
    const uint8_t* p = from.data.data() + i * (f32 ? 4 : 2);
    const float v = f32 ? LoadF32(p) : f16 ? HalfToFloat(LoadU16(p)) : Bf16ToFloat(LoadU16(p));
    if (!std::isfinite(v)) return InvalidArgument("tensor '{}': a value is not finite", from.name);
    adapter[to.offset + i] = v;
  }
  return OkStatus();
}

// ---- GGUF ----

class GgufWriter {
 public:
  template <typename T>
  void Put(T v) {
    const auto* p = reinterpret_cast<const uint8_t*>(&v);
    out_.insert(out_.end(), p, p + sizeof v);
  }
  void Text(std::string_view v) {
    Put<uint64_t>(v.size());
    out_.insert(out_.end(), v.begin(), v.end());
  }
  void Pair(std::string_view key, std::string_view v) {
    Text(key);
    Put(kGgufString);
    Text(v);
  }
  void Pair(std::string_view key, uint32_t v) {
    Text(key);
    Put(kGgufU32);
    Put(v);
  }
  void Pair(std::string_view key, float v) {
    Text(key);
    Put(kGgufF32);
    Put(v);
  }
  void Align() { out_.resize((out_.size() + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment); }
  Bytes& bytes() { return out_; }

 private:
  Bytes out_;
};

std::string GgufName(const AdapterTensor& t) {
  static constexpr std::array<std::string_view, 7> kModules = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                               "ffn_gate", "ffn_up", "ffn_down"};
  return fmt::format("blk.{}.{}.weight.lora_{}", t.layer, kModules.at(static_cast<size_t>(t.target)),
                     t.factor == LoraFactor::kB ? 'b' : 'a');
}

/// Row of the file's tensor at `row` of ours: llama.cpp interleaves the two halves of each head of q and k.
uint64_t GgufRow(const AdapterTensor& t, uint32_t head_dim, uint64_t row) {
  if (t.factor != LoraFactor::kB || (t.target != LoraTarget::kQ && t.target != LoraTarget::kK)) return row;
  const uint64_t in_head = row % head_dim, half = in_head / (head_dim / 2), pair = in_head % (head_dim / 2);
  return row - in_head + 2 * pair + half;
}

}  // namespace

std::string PeftConfig(const AdapterLayout& layout, std::string_view base_model) {
  nlohmann::ordered_json c;
  std::vector<std::string> targets;
  for (const LoraTarget t : layout.spec().targets) targets.emplace_back(LoraTargetName(t));
  std::sort(targets.begin(), targets.end());
  c["peft_type"] = "LORA";
  c["task_type"] = "CAUSAL_LM";
  c["base_model_name_or_path"] = std::string(base_model);
  c["inference_mode"] = true;
  c["r"] = layout.spec().rank;
  c["lora_alpha"] = layout.spec().rank;
  c["lora_dropout"] = 0.0;
  c["target_modules"] = targets;
  c["bias"] = "none";
  c["fan_in_fan_out"] = false;
  c["use_rslora"] = false;
  c["use_dora"] = false;
  c["init_lora_weights"] = true;
  c["modules_to_save"] = nullptr;
  c["layers_to_transform"] = nullptr;
  c["layers_pattern"] = nullptr;
  c["rank_pattern"] = nlohmann::ordered_json::object();
  c["alpha_pattern"] = nlohmann::ordered_json::object();
  c["revision"] = nullptr;
  // A model's name comes from a job file: a stray byte in it must not end the process.
  return c.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

StatusOr<Bytes> PeftWeights(const AdapterLayout& layout, std::span<const float> adapter) {
  ASSIGN_OR_RETURN(const Folded folded, Fold(layout, adapter));
  std::vector<SafetensorsTensor> tensors;
  for (const AdapterTensor& t : folded.layout.tensors()) {
    tensors.push_back(
        {t.PeftName(),
         "F32",
         {t.rows, t.cols},
         {reinterpret_cast<const uint8_t*>(folded.values.data() + t.offset), t.elements() * 4}});
  }
  return WriteSafetensors(tensors, {});
}

Status WritePeftFolder(const std::filesystem::path& folder, const AdapterLayout& layout,
                       std::span<const float> adapter, std::string_view base_model) {
  ASSIGN_OR_RETURN(const Bytes weights, PeftWeights(layout, adapter));
  RETURN_IF_ERROR(MakeFolder(folder));
  RETURN_IF_ERROR(WriteFileAtomically(folder / kPeftWeightsFile, ByteView(weights)));
  return WriteFileAtomically(folder / kPeftConfigFile, PeftConfig(layout, base_model));
}

StatusOr<PeftAdapter> ReadPeft(std::string_view config_text, ByteView weights, const ModelShape& shape) {
  ASSIGN_OR_RETURN(const json config, ParseStrictJson(config_text, kPeftConfigFile));
  ASSIGN_OR_RETURN(const LoraSpec spec, ReadSpec(config));
  auto layout = AdapterLayout::Make(shape, spec);
  if (!layout.ok()) return Annotate(layout.status(), kPeftConfigFile);
  auto tensors = ReadSafetensors(weights);
  if (!tensors.ok()) return Annotate(tensors.status(), kPeftWeightsFile);
  std::map<std::string, const SafetensorsTensor*> by_name;
  for (const SafetensorsTensor& t : *tensors) by_name.emplace(t.name, &t);
  PeftAdapter out{*std::move(layout), {}, {}};
  out.adapter.resize(out.layout.adapter_elements());
  for (const AdapterTensor& t : out.layout.tensors()) {
    const auto it = by_name.find(t.PeftName());
    if (it == by_name.end()) {
      return InvalidArgument("{}: tensor '{}' is missing", kPeftWeightsFile, t.PeftName());
    }
    if (const Status s = CopyTensor(*it->second, t, out.adapter); !s.ok())
      return Annotate(s, kPeftWeightsFile);
    by_name.erase(it);
  }
  if (!by_name.empty()) {
    return InvalidArgument("{}: tensor '{}' is not part of this adapter", kPeftWeightsFile,
                           by_name.begin()->first);
  }
  if (const auto it = config.find("base_model_name_or_path"); it != config.end() && it->is_string()) {
    out.base_model = it->get<std::string>();
  }
  return out;
}

StatusOr<PeftAdapter> ReadPeftFolder(const std::filesystem::path& folder, const ModelShape& shape) {
  ASSIGN_OR_RETURN(const std::string config, ReadTextFile(folder / kPeftConfigFile, 1 << 20));
  ASSIGN_OR_RETURN(const auto weights, MappedFile::Open(folder / kPeftWeightsFile));
  if (weights->view().size() > kMaxWeightsBytes) {
    return InvalidArgument("{}: {} bytes are too many", (folder / kPeftWeightsFile).string(),
                           weights->view().size());
  }
  auto out = ReadPeft(config, weights->view(), shape);
  if (!out.ok()) return Annotate(out.status(), folder.string());
  return out;
}

StatusOr<Bytes> GgufAdapter(const AdapterLayout& layout, std::span<const float> adapter,
                            std::string_view name) {
  ASSIGN_OR_RETURN(const Folded folded, Fold(layout, adapter));
  GgufWriter w;
  w.Put<uint32_t>(0x46554747);  // "GGUF"
  w.Put<uint32_t>(3);
  w.Put<uint64_t>(folded.layout.tensors().size());
  w.Put<uint64_t>(7);
  w.Pair("general.architecture", "llama");
  w.Pair("general.type", "adapter");
  w.Pair("general.name", name);
  w.Pair("general.file_type", uint32_t{0});
  w.Pair("general.alignment", static_cast<uint32_t>(kGgufAlignment));
  w.Pair("adapter.type", "lora");
  w.Pair("adapter.lora.alpha", static_cast<float>(layout.spec().rank));
  uint64_t position = 0;
  for (const AdapterTensor& t : folded.layout.tensors()) {
    w.Text(GgufName(t));
    w.Put<uint32_t>(2);
    w.Put<uint64_t>(t.cols);
    w.Put<uint64_t>(t.rows);
    w.Put<uint32_t>(0);  // GGML_TYPE_F32
    w.Put<uint64_t>(position);
    position += (t.elements() * 4 + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
  }
  w.Align();
  w.bytes().reserve(w.bytes().size() + position);
  for (const AdapterTensor& t : folded.layout.tensors()) {
    const size_t start = w.bytes().size();
    w.bytes().resize(start + t.elements() * 4);
    for (uint64_t row = 0; row < t.rows; ++row) {
      std::memcpy(w.bytes().data() + start + GgufRow(t, layout.shape().head_dim, row) * t.cols * 4,
                  folded.values.data() + t.offset + row * t.cols, t.cols * 4);
    }
    w.Align();
  }
  return std::move(w.bytes());
}

}  // namespace concordat
