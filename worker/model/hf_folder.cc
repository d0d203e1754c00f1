#include <algorithm>
#include <set>

#include "aggregation/safetensors.h"
#include "aggregation/strict_json.h"
#include "worker/model/mapped_weights.h"

namespace concordat::model {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kSingleFile = "model.safetensors";

StatusOr<uint32_t> Integer(const json& c, const char* field) {
  const auto it = c.find(field);
  if (it == c.end()) return NotFound("config.json: {} is missing", field);
  if (!it->is_number_unsigned() || it->get<uint64_t>() > UINT32_MAX) {
    return InvalidArgument("config.json: {}: expected a non-negative integer", field);
  }
  return it->get<uint32_t>();
}

StatusOr<uint32_t> IntegerOr(const json& c, const char* field, uint32_t otherwise) {
  if (!c.contains(field) || c[field].is_null()) return otherwise;
  return Integer(c, field);
}

StatusOr<double> NumberOr(const json& c, const char* field, double otherwise) {
  const auto it = c.find(field);
  if (it == c.end() || it->is_null()) return otherwise;
  if (!it->is_number()) return InvalidArgument("config.json: {}: expected a number", field);
  return it->get<double>();
}

StatusOr<bool> BoolOr(const json& c, const char* field, bool otherwise) {
  const auto it = c.find(field);
  if (it == c.end() || it->is_null()) return otherwise;
  if (!it->is_boolean()) return InvalidArgument("config.json: {}: expected true or false", field);
  return it->get<bool>();
}

/// One id, or a list of which the first counts.
StatusOr<int32_t> TokenId(const json& c, const char* field) {
  auto it = c.find(field);
  if (it == c.end() || it->is_null()) return -1;
  const json& id = it->is_array() && !it->empty() ? (*it)[0] : *it;
  if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
    return InvalidArgument("config.json: {}: expected a token id", field);
  }
  return id.get<int32_t>();
}

Status RefuseUnsupported(const json& c) {
  const auto architectures = c.find("architectures");
  if (architectures == c.end() || !architectures->is_array() || architectures->size() != 1 ||
      (*architectures)[0] != "LlamaForCausalLM") {
    return InvalidArgument("config.json: architectures: only [\"LlamaForCausalLM\"] is supported");
  }
  if (c.contains("model_type") && c["model_type"] != "llama") {
    return InvalidArgument("config.json: model_type: only llama is supported");
  }
  if (c.contains("hidden_act") && c["hidden_act"] != "silu") {
    return InvalidArgument("config.json: hidden_act: only silu is supported");
  }
  for (const char* field : {"attention_bias", "mlp_bias", "rope_interleaved"}) {
    ASSIGN_OR_RETURN(const bool set, BoolOr(c, field, false));
    if (set) return InvalidArgument("config.json: {}: true is not supported", field);
  }
  for (const char* field : {"quantization_config", "sliding_window"}) {
    if (c.contains(field) && !c[field].is_null()) {
      return InvalidArgument("config.json: {}: not supported", field);
    }
  }
  return OkStatus();
}

/// RoPE base: `rope_theta` at the top (transformers 4) or within `rope_parameters` (transformers 5). Any
/// scaling of the positions is refused.
StatusOr<double> RopeTheta(const json& c) {
  ASSIGN_OR_RETURN(double theta, NumberOr(c, "rope_theta", 10000.0));
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    const auto it = c.find(field);
    if (it == c.end() || it->is_null()) continue;
    if (!it->is_object()) return InvalidArgument("config.json: {}: expected an object", field);
    for (const char* kind : {"type", "rope_type"}) {
      if (it->contains(kind) && (*it)[kind] != "default") {
        return InvalidArgument("config.json: {}.{}: only default is supported", field, kind);
      }
    }
    ASSIGN_OR_RETURN(theta, NumberOr(*it, "rope_theta", theta));
  }
  return theta;
}

StatusOr<ModelConfig> ReadConfig(const json& c) {
  if (!c.is_object()) return InvalidArgument("config.json: expected an object");
  RETURN_IF_ERROR(RefuseUnsupported(c));
  ModelConfig m;
  m.architecture = "llama";
  ASSIGN_OR_RETURN(m.shape.layers, Integer(c, "num_hidden_layers"));
  ASSIGN_OR_RETURN(m.shape.hidden, Integer(c, "hidden_size"));
  ASSIGN_OR_RETURN(m.shape.intermediate, Integer(c, "intermediate_size"));
  ASSIGN_OR_RETURN(m.shape.heads, Integer(c, "num_attention_heads"));
  if (m.shape.heads == 0) return InvalidArgument("config.json: num_attention_heads: expected more than 0");
  ASSIGN_OR_RETURN(m.shape.kv_heads, IntegerOr(c, "num_key_value_heads", m.shape.heads));
  ASSIGN_OR_RETURN(m.shape.head_dim, IntegerOr(c, "head_dim", m.shape.hidden / m.shape.heads));
  ASSIGN_OR_RETURN(m.vocab, Integer(c, "vocab_size"));
  ASSIGN_OR_RETURN(m.context_length, IntegerOr(c, "max_position_embeddings", 2048));
  ASSIGN_OR_RETURN(m.rope_theta, RopeTheta(c));
  ASSIGN_OR_RETURN(m.rms_norm_eps, NumberOr(c, "rms_norm_eps", 1e-6));
  ASSIGN_OR_RETURN(m.tied_embeddings, BoolOr(c, "tie_word_embeddings", false));
  ASSIGN_OR_RETURN(m.bos_token, TokenId(c, "bos_token_id"));
  ASSIGN_OR_RETURN(m.eos_token, TokenId(c, "eos_token_id"));
  if (const Status s = CheckModelConfig(m); !s.ok()) return Annotate(s, "config.json");
  return m;
}

/// File of each tensor, from the index; empty when the folder has a single file.
StatusOr<std::map<std::string, std::string>> ReadIndex(const std::filesystem::path& folder) {
  std::map<std::string, std::string> out;
  auto text = ReadTextFile(folder / kIndexFile, kMaxIndexBytes);
  if (text.status().code() == StatusCode::kNotFound) return out;
  if (!text.ok()) return text.status();
  ASSIGN_OR_RETURN(const json index, ParseStrictJson(*text, kIndexFile));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty()) {
    return InvalidArgument("{}: weight_map: expected an object of file names", kIndexFile);
  }
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) return InvalidArgument("{}: weight_map: expected file names", kIndexFile);
    const auto& name = file.get_ref<const std::string&>();
    // The index must not be able to point outside its folder.
    if (!name.ends_with(".safetensors") ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return InvalidArgument("{}: weight_map: tensor '{}' is in no *.safetensors of this folder", kIndexFile,
                             tensor);
    }
    out.emplace(tensor, name);
  }
  return out;
}

StatusOr<MappedTensor> MapTensor(const SafetensorsTensor& t) {
  MappedTensor m;
  if (t.dtype == "F32") {
    m.format = TensorFormat::kF32;
  } else if (t.dtype == "F16") {
    m.format = TensorFormat::kF16;
  } else if (t.dtype == "BF16") {
    m.format = TensorFormat::kBf16;
  } else {
    return InvalidArgument("tensor '{}': dtype {}: expected F32, F16 or BF16", t.name, t.dtype);
  }
  if (t.shape.size() != 1 && t.shape.size() != 2) {
    return InvalidArgument("tensor '{}': shape: expected 1 or 2 dimensions", t.name);
  }
  m.rows = t.shape.size() == 2 ? t.shape[0] : 1;
  m.cols = t.shape.back();
  m.data = t.data;
  return m;
}

/// Buffers and copies that some exporters leave in the file.
bool IsIgnored(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tied_embeddings && name == "lm_head.weight");
}

struct Loader {
  ModelConfig config;
  std::map<std::string, std::string> index;
  std::map<std::string, MappedTensor> tensors;
  std::vector<std::unique_ptr<MappedFile>> files;
  size_t listed = 0;

  Status AddFile(const std::filesystem::path& folder, const std::string& name) {
    ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(folder / name));
    auto read = ReadSafetensors(mapped->view());
    if (!read.ok()) return Annotate(read.status(), name);
    for (const SafetensorsTensor& t : *read) {
      const auto it = index.find(t.name);
      if (!index.empty() && (it == index.end() || it->second != name)) {
        return InvalidArgument("{}: tensor '{}': the index does not say that it is here", name, t.name);
      }
      ++listed;
      if (IsIgnored(t.name, config)) continue;
      auto m = MapTensor(t);
      if (!m.ok()) return Annotate(m.status(), name);
      tensors.emplace(t.name, *m);
    }
    files.push_back(std::move(mapped));
    return OkStatus();
  }
};

StatusOr<std::unique_ptr<WeightSource>> Open(const std::filesystem::path& folder) {
  Loader loader;
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(folder / "config.json", kMaxConfigBytes));
  ASSIGN_OR_RETURN(const json config, ParseStrictJson(text, "config.json"));
  ASSIGN_OR_RETURN(loader.config, ReadConfig(config));
  ASSIGN_OR_RETURN(loader.index, ReadIndex(folder));
  std::set<std::string> names;
  for (const auto& [tensor, file] : loader.index) names.insert(file);
  if (names.empty()) names.emplace(kSingleFile);
  for (const std::string& name : names) RETURN_IF_ERROR(loader.AddFile(folder, name));
  if (!loader.index.empty() && loader.listed != loader.index.size()) {
    return InvalidArgument("{}: weight_map: names tensors that are in no file", kIndexFile);
  }
  return MappedWeights::Make(std::move(loader.config), std::move(loader.tensors), std::move(loader.files));
}

}  // namespace

StatusOr<std::unique_ptr<WeightSource>> OpenHfWeights(const std::filesystem::path& folder) {
  auto out = Open(folder);
  if (out.ok()) return out;
  const StatusCode code =
      out.status().code() == StatusCode::kNotFound ? StatusCode::kInvalidArgument : out.status().code();
  return MakeStatus(code, fmt::format("{}: {}", folder.string(), Message(out.status())));
}

}  // namespace concordat::model
