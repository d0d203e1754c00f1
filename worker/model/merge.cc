#include "worker/model/merge.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <Eigen/Core>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "aggregation/float_formats.h"
#include "aggregation/safetensors.h"
#include "common/files.h"
#include "worker/model/mapped_weights.h"
#include "worker/model/tokenizer_spec.h"

namespace concordat::model {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The factors of one linear layer within the adapter.
struct Factors {
  const AdapterTensor* a = nullptr;
  const AdapterTensor* b = nullptr;
  const AdapterTensor* r = nullptr;  // core only
};

std::map<std::string, Factors> FactorsByWeight(const AdapterLayout& layout) {
  std::map<std::string, Factors> out;
  for (const AdapterTensor& t : layout.tensors()) {
    Factors& f = out[fmt::format("model.layers.{}.{}.weight", t.layer, LoraTargetModule(t.target))];
    (t.factor == LoraFactor::kA ? f.a : t.factor == LoraFactor::kB ? f.b : f.r) = &t;
  }
  return out;
}

/// A file under a temporary name until Commit.
class NewFile {
 public:
  explicit NewFile(std::filesystem::path path)
      : path_(std::move(path)), temporary_(path_.string() + ".new") {}
  ~NewFile() {
    if (fd_.valid()) ::unlink(temporary_.c_str());
  }
  Status Open() {
    fd_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd_.valid()) return ErrnoStatus(errno, "cannot create", temporary_);
    return OkStatus();
  }
  Status Write(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "cannot write", temporary_);
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
    return OkStatus();
  }
  Status Commit() {
    // Like the files beside it, whatever the process's umask.
    if (::fchmod(fd_.get(), 0644) != 0) return ErrnoStatus(errno, "cannot set the mode of", temporary_);
    if (::fsync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync", temporary_);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return ErrnoStatus(errno, "cannot rename", temporary_);
    fd_ = FileDescriptor();
    return OkStatus();
  }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor fd_;
};

void AddProduct(const Factors& f, float scale, std::span<const float> adapter, std::vector<float>& w) {
  const auto out = static_cast<Eigen::Index>(f.b->rows), in = static_cast<Eigen::Index>(f.a->cols),
             rank = static_cast<Eigen::Index>(f.a->rows);
  const Eigen::Map<const Matrix> a(adapter.data() + f.a->offset, rank, in);
  const Eigen::Map<const Matrix> b(adapter.data() + f.b->offset, out, rank);
  Eigen::Map<Matrix> target(w.data(), out, in);
  if (f.r == nullptr) {
    target.noalias() += scale * (b * a);
    return;
  }
  const Eigen::Map<const Matrix> r(adapter.data() + f.r->offset, rank, rank);
  const Matrix inner = b * r;
  target.noalias() += scale * (inner * a);
}

Status WriteTensor(NewFile& file, const std::vector<float>& w, MergedDtype dtype) {
  if (dtype == MergedDtype::kF32)
    return file.Write({reinterpret_cast<const uint8_t*>(w.data()), w.size() * 4});
  std::vector<uint16_t> rounded(w.size());
  for (size_t i = 0; i < w.size(); ++i) rounded[i] = FloatToBf16(w[i]);
  return file.Write({reinterpret_cast<const uint8_t*>(rounded.data()), rounded.size() * 2});
}

Status WriteWeights(const std::filesystem::path& path, const WeightSource& base, const AdapterLayout& layout,
                    std::span<const float> adapter, MergedDtype dtype) {
  const std::vector<ExpectedTensor> tensors = ExpectedTensors(base.config());
  std::vector<SafetensorsShape> shapes;
  for (const ExpectedTensor& t : tensors) {
    // Norms are the tensors with one row; Hugging Face stores them as vectors.
    const bool vector = t.name.ends_with("norm.weight");
    shapes.push_back({t.name, dtype == MergedDtype::kF32 ? "F32" : "BF16",
                      vector ? std::vector<uint64_t>{t.cols} : std::vector<uint64_t>{t.rows, t.cols}});
  }
  ASSIGN_OR_RETURN(const Bytes header, SafetensorsHeader(shapes, {}));
  NewFile file(path);
  RETURN_IF_ERROR(file.Open());
  RETURN_IF_ERROR(file.Write(header));
  const auto factors = FactorsByWeight(layout);
  for (const ExpectedTensor& t : tensors) {
    std::vector<float> w(t.rows * t.cols);
    RETURN_IF_ERROR(base.Read(t.name, 0, w));
    const auto it = factors.find(t.name);
    if (it != factors.end()) AddProduct(it->second, static_cast<float>(layout.spec().scale()), adapter, w);
    RETURN_IF_ERROR(WriteTensor(file, w, dtype));
  }
  return file.Commit();
}

std::string ConfigJson(const ModelConfig& c, MergedDtype dtype) {
  nlohmann::ordered_json j;
  j["architectures"] = {"LlamaForCausalLM"};
  j["model_type"] = "llama";
  j["hidden_act"] = "silu";
  j["hidden_size"] = c.shape.hidden;
  j["intermediate_size"] = c.shape.intermediate;
  j["num_hidden_layers"] = c.shape.layers;
  j["num_attention_heads"] = c.shape.heads;
  j["num_key_value_heads"] = c.shape.kv_heads;
  j["head_dim"] = c.shape.head_dim;
  j["vocab_size"] = c.vocab;
  j["max_position_embeddings"] = c.context_length;
  j["rms_norm_eps"] = c.rms_norm_eps;
  j["rope_theta"] = c.rope_theta;
  j["attention_bias"] = false;
  j["mlp_bias"] = false;
  j["tie_word_embeddings"] = c.tied_embeddings;
  j["torch_dtype"] = dtype == MergedDtype::kF32 ? "float32" : "bfloat16";
  if (c.bos_token >= 0) j["bos_token_id"] = c.bos_token;
  if (c.eos_token >= 0) j["eos_token_id"] = c.eos_token;
  return j.dump(2) + "\n";
}

Status WriteTokenizer(const std::filesystem::path& folder, const std::filesystem::path& model) {
  std::error_code error;
  if (!std::filesystem::is_directory(model, error)) {
    ASSIGN_OR_RETURN(const TokenizerSpec spec, ReadTokenizerSpec(model));
    RETURN_IF_ERROR(WriteFileAtomically(folder / "tokenizer.json", TokenizerJson(spec)));
    return WriteFileAtomically(folder / "tokenizer_config.json", TokenizerConfigJson(spec));
  }
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "chat_template.jinja", "generation_config.json"}) {
    const auto content = ReadFile(model / name, uint64_t{256} << 20);
    if (content.status().code() == StatusCode::kNotFound) continue;
    if (!content.ok()) return content.status();
    RETURN_IF_ERROR(WriteFileAtomically(folder / name, ByteView(*content)));
  }
  return OkStatus();
}

}  // namespace

Status WriteMergedFolder(const std::filesystem::path& folder, const std::filesystem::path& model,
                         const WeightSource& base, const AdapterLayout& layout,
                         std::span<const float> adapter, MergedDtype dtype) {
  if (!(layout.shape() == base.config().shape)) {
    return InvalidArgument("merge: the adapter was made for a model of another shape");
  }
  if (adapter.size() != layout.adapter_elements()) {
    return InvalidArgument("merge: expected {} adapter elements, got {}", layout.adapter_elements(),
                           adapter.size());
  }
  for (const float v : adapter) {
    if (!std::isfinite(v)) return InvalidArgument("merge: the adapter has a value that is not finite");
  }
  RETURN_IF_ERROR(MakeFolder(folder));
  RETURN_IF_ERROR(WriteTokenizer(folder, model));
  RETURN_IF_ERROR(WriteFileAtomically(folder / "config.json", ConfigJson(base.config(), dtype)));
  return WriteWeights(folder / "model.safetensors", base, layout, adapter, dtype);
}

}  // namespace concordat::model
