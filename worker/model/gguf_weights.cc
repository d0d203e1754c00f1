#include "worker/model/gguf.h"
#include "worker/model/mapped_weights.h"

namespace concordat::model {
namespace {

/// NotFound of an optional key gives `otherwise`; other errors stay.
template <typename T>
StatusOr<T> Optional(StatusOr<T> value, T otherwise) {
  if (value.ok() || value.status().code() != StatusCode::kNotFound) return value;
  return otherwise;
}

/// Features of the format that would change what the model computes, and that this program does not have.
Status RefuseUnsupported(const GgufFile& file) {
  if (file.Has("llama.rope.scaling.type")) {
    ASSIGN_OR_RETURN(const std::string_view type, file.Text("llama.rope.scaling.type"));
    if (type != "none") return InvalidArgument("key 'llama.rope.scaling.type': only 'none' is supported");
  }
  for (const std::string_view key : {"llama.rope.scale_linear", "llama.rope.scaling.factor"}) {
    if (!file.Has(key)) continue;
    ASSIGN_OR_RETURN(const double factor, file.F64(key));
    if (factor != 1 && factor != 0) return InvalidArgument("key '{}': not supported", key);
  }
  for (const std::string_view key : {"llama.expert_count", "llama.attention.sliding_window"}) {
    ASSIGN_OR_RETURN(const uint32_t n, Optional<uint32_t>(file.U32(key), 0));
    if (n != 0) return InvalidArgument("key '{}': not supported", key);
  }
  return OkStatus();
}

StatusOr<uint32_t> HeadDim(const GgufFile& file, const ModelShape& shape) {
  const uint32_t derived = shape.heads == 0 ? 0 : shape.hidden / shape.heads;
  ASSIGN_OR_RETURN(const uint32_t dim, Optional(file.U32("llama.attention.key_length"), derived));
  ASSIGN_OR_RETURN(const uint32_t value_dim, Optional(file.U32("llama.attention.value_length"), dim));
  ASSIGN_OR_RETURN(const uint32_t rope_dim, Optional(file.U32("llama.rope.dimension_count"), dim));
  if (value_dim != dim) return InvalidArgument("key 'llama.attention.value_length': expected {}", dim);
  if (rope_dim != dim) return InvalidArgument("key 'llama.rope.dimension_count': expected {}", dim);
  return dim;
}

StatusOr<int32_t> TokenId(const GgufFile& file, std::string_view key) {
  if (!file.Has(key)) return -1;
  ASSIGN_OR_RETURN(const uint32_t id, file.U32(key));
  if (id > INT32_MAX) return InvalidArgument("key '{}': {} is out of range", key, id);
  return static_cast<int32_t>(id);
}

StatusOr<ModelConfig> ReadConfig(const GgufFile& file) {
  ModelConfig c;
  ASSIGN_OR_RETURN(const std::string_view architecture, file.Text("general.architecture"));
  if (architecture != "llama") {
    return InvalidArgument("key 'general.architecture': only 'llama' is supported");
  }
  if (file.Has("general.type")) {
    ASSIGN_OR_RETURN(const std::string_view type, file.Text("general.type"));
    if (type != "model") return InvalidArgument("key 'general.type': expected 'model'");
  }
  c.architecture = architecture;
  RETURN_IF_ERROR(RefuseUnsupported(file));
  ASSIGN_OR_RETURN(c.shape.layers, file.U32("llama.block_count"));
  ASSIGN_OR_RETURN(c.shape.hidden, file.U32("llama.embedding_length"));
  ASSIGN_OR_RETURN(c.shape.intermediate, file.U32("llama.feed_forward_length"));
  ASSIGN_OR_RETURN(c.shape.heads, file.U32("llama.attention.head_count"));
  ASSIGN_OR_RETURN(c.shape.kv_heads, Optional(file.U32("llama.attention.head_count_kv"), c.shape.heads));
  ASSIGN_OR_RETURN(c.shape.head_dim, HeadDim(file, c.shape));
  ASSIGN_OR_RETURN(c.context_length, file.U32("llama.context_length"));
  ASSIGN_OR_RETURN(c.rope_theta, Optional(file.F64("llama.rope.freq_base"), 10000.0));
  ASSIGN_OR_RETURN(c.rms_norm_eps, file.F64("llama.attention.layer_norm_rms_epsilon"));
  ASSIGN_OR_RETURN(c.bos_token, TokenId(file, "tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(c.eos_token, TokenId(file, "tokenizer.ggml.eos_token_id"));
  c.tied_embeddings = file.Find(std::string_view("output.weight")) == nullptr;
  const GgufTensor* embedding = file.Find(std::string_view("token_embd.weight"));
  if (embedding == nullptr || embedding->dims.size() != 2 || embedding->dims[1] > UINT32_MAX) {
    return InvalidArgument("tensor 'token_embd.weight': missing or not a matrix");
  }
  c.vocab = static_cast<uint32_t>(embedding->dims[1]);
  ASSIGN_OR_RETURN(const uint32_t stated, Optional(file.U32("llama.vocab_size"), c.vocab));
  if (stated != c.vocab) {
    return InvalidArgument("key 'llama.vocab_size': {}, but tensor 'token_embd.weight' has {} rows", stated,
                           c.vocab);
  }
  RETURN_IF_ERROR(CheckModelConfig(c));
  return c;
}

struct NamePair {
  std::string_view gguf;
  std::string_view hf;
};
constexpr NamePair kGlobal[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                {"output_norm.weight", "model.norm.weight"},
                                {"output.weight", "lm_head.weight"}};
constexpr NamePair kInLayer[] = {
    {"attn_norm.weight", "input_layernorm.weight"}, {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},   {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},   {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"}};

Status AddTensor(const GgufFile& file, const std::string& gguf, const std::string& hf, uint32_t head_rows,
                 std::map<std::string, MappedTensor>& out) {
  const GgufTensor* t = file.Find(std::string_view(gguf));
  if (t == nullptr) return InvalidArgument("tensor '{}' is missing", gguf);
  if (t->dims.size() > 2) return InvalidArgument("tensor '{}': expected at most 2 dimensions", gguf);
  MappedTensor m;
  m.cols = t->dims[0];
  m.rows = t->dims.size() == 2 ? t->dims[1] : 1;
  m.format = t->format;
  m.data = t->data;
  m.interleaved_head_rows = head_rows;
  out.emplace(hf, m);
  return OkStatus();
}

StatusOr<std::map<std::string, MappedTensor>> NameTensors(const GgufFile& file, const ModelConfig& config) {
  std::map<std::string, MappedTensor> out;
  for (const NamePair& n : kGlobal) {
    if (n.gguf == "output.weight" && config.tied_embeddings) continue;
    RETURN_IF_ERROR(AddTensor(file, std::string(n.gguf), std::string(n.hf), 0, out));
  }
  for (uint32_t layer = 0; layer < config.shape.layers; ++layer) {
    for (const NamePair& n : kInLayer) {
      const bool rotated = n.gguf == "attn_q.weight" || n.gguf == "attn_k.weight";
      RETURN_IF_ERROR(AddTensor(file, fmt::format("blk.{}.{}", layer, n.gguf),
                                fmt::format("model.layers.{}.{}", layer, n.hf),
                                rotated ? config.shape.head_dim : 0, out));
    }
  }
  if (out.size() != file.tensors().size()) {
    for (const GgufTensor& t : file.tensors()) {
      bool known = false;
      for (const NamePair& n : kGlobal) known |= t.name == n.gguf;
      for (const NamePair& n : kInLayer) known |= t.name.starts_with("blk.") && t.name.ends_with(n.gguf);
      if (!known) return InvalidArgument("tensor '{}': not part of this architecture", t.name);
    }
    return InvalidArgument("{} tensors, expected {}", file.tensors().size(), out.size());
  }
  return out;
}

StatusOr<std::unique_ptr<WeightSource>> Open(std::unique_ptr<MappedFile> mapped) {
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(mapped->view()));
  ASSIGN_OR_RETURN(ModelConfig config, ReadConfig(file));
  ASSIGN_OR_RETURN(auto tensors, NameTensors(file, config));
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(mapped));
  return MappedWeights::Make(std::move(config), std::move(tensors), std::move(files));
}

}  // namespace

StatusOr<std::unique_ptr<WeightSource>> OpenGgufWeights(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapped, MappedFile::Open(path));
  auto out = Open(std::move(mapped));
  if (out.ok()) return out;
  // Whatever is wrong with a file's content is malformed input, a missing key too.
  return InvalidArgument("{}: {}", path.string(), Message(out.status()));
}

}  // namespace concordat::model
