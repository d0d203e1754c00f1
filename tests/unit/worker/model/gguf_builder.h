#ifndef CONCORDAT_TESTS_UNIT_WORKER_MODEL_GGUF_BUILDER_H_
#define CONCORDAT_TESTS_UNIT_WORKER_MODEL_GGUF_BUILDER_H_

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"

namespace concordat::model {

/// Writes GGUF files for tests, broken ones too: every count can be overridden.
class GgufBuilder {
 public:
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;
    uint32_t type;
    uint64_t offset;
  };

  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  int64_t extra_pairs = 0;
  int64_t extra_tensors = 0;
  uint64_t alignment = 32;
  std::vector<Tensor> tensors;
  Bytes data;

  template <typename T>
  static void Put(Bytes& out, T v) {
    const size_t at = out.size();  // insert() of a range makes g++ 12 warn of an overflow that is not there
    out.resize(at + sizeof v);
    std::memcpy(out.data() + at, &v, sizeof v);
  }
  static void PutText(Bytes& out, std::string_view v) {
    Put<uint64_t>(out, v.size());
    out.insert(out.end(), v.begin(), v.end());
  }
  GgufBuilder& Raw(std::string_view key, uint32_t type, const Bytes& value) {
    PutText(pairs_, key);
    Put(pairs_, type);
    pairs_.insert(pairs_.end(), value.begin(), value.end());
    ++count_;
    return *this;
  }
  GgufBuilder& U32(std::string_view key, uint32_t v) { return Raw(key, 4, Encoded(v)); }
  GgufBuilder& F32(std::string_view key, float v) { return Raw(key, 6, Encoded(v)); }
  GgufBuilder& Text(std::string_view key, std::string_view v) {
    Bytes b;
    PutText(b, v);
    return Raw(key, 8, b);
  }
  GgufBuilder& Texts(std::string_view key, const std::vector<std::string>& v) {
    Bytes b;
    Put<uint32_t>(b, 8);
    Put<uint64_t>(b, v.size());
    for (const std::string& t : v) PutText(b, t);
    return Raw(key, 9, b);
  }
  GgufBuilder& I32s(std::string_view key, const std::vector<int32_t>& v) {
    Bytes b;
    Put<uint32_t>(b, 5);
    Put<uint64_t>(b, v.size());
    for (const int32_t i : v) Put(b, i);
    return Raw(key, 9, b);
  }
  /// Appends a tensor of `type` whose data are `bytes`.
  GgufBuilder& Add(std::string name, std::vector<uint64_t> dims, uint32_t type, const Bytes& bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    tensors.push_back({std::move(name), std::move(dims), type, data.size()});
    data.insert(data.end(), bytes.begin(), bytes.end());
    return *this;
  }
  GgufBuilder& AddF32(std::string name, std::vector<uint64_t> dims, const std::vector<float>& values) {
    Bytes b(values.size() * 4);
    if (!b.empty()) std::memcpy(b.data(), values.data(), b.size());
    return Add(std::move(name), std::move(dims), 0, b);
  }

  Bytes Build() const {
    Bytes out;
    Put(out, magic);
    Put(out, version);
    Put<uint64_t>(out, tensors.size() + static_cast<uint64_t>(extra_tensors));
    Put<uint64_t>(out, count_ + static_cast<uint64_t>(extra_pairs));
    out.insert(out.end(), pairs_.begin(), pairs_.end());
    for (const Tensor& t : tensors) {
      PutText(out, t.name);
      Put<uint32_t>(out, static_cast<uint32_t>(t.dims.size()));
      for (const uint64_t d : t.dims) Put(out, d);
      Put(out, t.type);
      Put(out, t.offset);
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    out.insert(out.end(), data.begin(), data.end());
    return out;
  }

 private:
  template <typename T>
  static Bytes Encoded(T v) {
    Bytes b;
    Put(b, v);
    return b;
  }
  Bytes pairs_;
  uint64_t count_ = 0;
};

/// A Llama of one layer: 2 heads of 4, 1 kv head, hidden 8, intermediate 12, vocabulary 3, f32 throughout.
/// Each value of a tensor is a number of its own.
inline GgufBuilder TinyLlama(bool tied = true) {
  GgufBuilder b;
  b.Text("general.architecture", "llama")
      .U32("llama.block_count", 1)
      .U32("llama.embedding_length", 8)
      .U32("llama.feed_forward_length", 12)
      .U32("llama.attention.head_count", 2)
      .U32("llama.attention.head_count_kv", 1)
      .U32("llama.context_length", 64)
      .F32("llama.rope.freq_base", 10000)
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  float next = 1;
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims) {
    uint64_t n = 1;
    for (const uint64_t d : dims) n *= d;
    std::vector<float> values(n);
    for (float& v : values) v = next++;
    b.AddF32(name, std::move(dims), values);
  };
  add("token_embd.weight", {8, 3});
  add("output_norm.weight", {8});
  if (!tied) add("output.weight", {8, 3});
  add("blk.0.attn_norm.weight", {8});
  add("blk.0.ffn_norm.weight", {8});
  add("blk.0.attn_q.weight", {8, 8});
  add("blk.0.attn_k.weight", {8, 4});
  add("blk.0.attn_v.weight", {8, 4});
  add("blk.0.attn_output.weight", {8, 8});
  add("blk.0.ffn_gate.weight", {8, 12});
  add("blk.0.ffn_up.weight", {8, 12});
  add("blk.0.ffn_down.weight", {12, 8});
  return b;
}

}  // namespace concordat::model

#endif  // CONCORDAT_TESTS_UNIT_WORKER_MODEL_GGUF_BUILDER_H_
