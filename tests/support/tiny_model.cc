#include "tests/support/tiny_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "common/files.h"
#include "tests/unit/worker/model/gguf_builder.h"
#include "worker/model/bpe.h"

namespace concordat::testing {
namespace {

const std::vector<std::string> kWords = {" the",     " garden", " keeps", " water",  " under", " stone",
                                         " morning", " letter", " bread", " window", " river", " answer"};

uint64_t Mix(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0x9E3779B97F4A7C15ULL + index + 1;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

std::vector<float> Weights(uint64_t count, uint64_t seed, double centre, double gain) {
  std::vector<float> out(count);
  for (uint64_t i = 0; i < count; ++i) {
    out[i] = static_cast<float>(centre + gain * (static_cast<double>(Mix(seed, i) >> 11) * 0x1p-52 - 1.0));
  }
  return out;
}

struct Vocabulary {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types = {3, 3, 3};
  std::vector<std::string> merges;

  void Add(const std::string& token) {
    if (std::find(tokens.begin(), tokens.end(), token) != tokens.end()) return;
    tokens.push_back(token);
    types.push_back(1);
  }
  /// Merges the word's bytes from the left.
  void AddWord(const std::string& word) {
    std::string whole = model::ByteLevelEncode(word.substr(0, 1));
    for (size_t i = 1; i < word.size(); ++i) {
      const std::string next = model::ByteLevelEncode(word.substr(i, 1));
      const std::string merge = whole + " " + next;
      whole += next;
      if (std::find(merges.begin(), merges.end(), merge) == merges.end()) merges.push_back(merge);
      Add(whole);
    }
  }
};

Vocabulary MakeVocabulary() {
  Vocabulary v;
  for (int byte = 0; byte < 256; ++byte)
    v.Add(model::ByteLevelEncode(std::string(1, static_cast<char>(byte))));
  for (const std::string& word : kWords) v.AddWord(word);
  return v;
}

void AddTensors(model::GgufBuilder& b, const ModelShape& s, uint64_t vocab) {
  uint64_t seed = 1;
  const auto norm = [&](const std::string& name) {
    b.AddF32(name, {s.hidden}, Weights(s.hidden, seed++, 1.0, 0.2));
  };
  const auto matrix = [&](const std::string& name, uint64_t in, uint64_t out) {
    b.AddF32(name, {in, out}, Weights(in * out, seed++, 0.0, 1.7 / std::sqrt(static_cast<double>(in))));
  };
  const uint64_t q = uint64_t{s.heads} * s.head_dim, kv = uint64_t{s.kv_heads} * s.head_dim;
  b.AddF32("token_embd.weight", {s.hidden, vocab}, Weights(s.hidden * vocab, seed++, 0.0, 1.0));
  norm("output_norm.weight");
  for (uint32_t layer = 0; layer < s.layers; ++layer) {
    const std::string p = fmt::format("blk.{}.", layer);
    norm(p + "attn_norm.weight");
    norm(p + "ffn_norm.weight");
    matrix(p + "attn_q.weight", s.hidden, q);
    matrix(p + "attn_k.weight", s.hidden, kv);
    matrix(p + "attn_v.weight", s.hidden, kv);
    matrix(p + "attn_output.weight", q, s.hidden);
    matrix(p + "ffn_gate.weight", s.hidden, s.intermediate);
    matrix(p + "ffn_up.weight", s.hidden, s.intermediate);
    matrix(p + "ffn_down.weight", s.intermediate, s.hidden);
  }
}

}  // namespace

void WriteTinyModel(const std::filesystem::path& path, const ModelShape& s) {
  const Vocabulary v = MakeVocabulary();
  model::GgufBuilder b;
  b.Text("general.architecture", "llama")
      .U32("llama.block_count", s.layers)
      .U32("llama.embedding_length", s.hidden)
      .U32("llama.feed_forward_length", s.intermediate)
      .U32("llama.attention.head_count", s.heads)
      .U32("llama.attention.head_count_kv", s.kv_heads)
      .U32("llama.context_length", kTinyContext)
      .F32("llama.rope.freq_base", 10000)
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .Text("tokenizer.ggml.model", "gpt2")
      .Text("tokenizer.ggml.pre", "smollm")
      .Texts("tokenizer.ggml.tokens", v.tokens)
      .I32s("tokenizer.ggml.token_type", v.types)
      .Texts("tokenizer.ggml.merges", v.merges)
      .U32("tokenizer.ggml.bos_token_id", 1)
      .U32("tokenizer.ggml.eos_token_id", 2);
  AddTensors(b, s, v.tokens.size());
  const Status written = WriteFileAtomically(path, b.Build());
  if (!written.ok()) throw std::runtime_error(written.ToString());
}

std::string TinyRecords(size_t count, uint64_t seed) {
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    std::string text = fmt::format("Record {}:", i);
    for (uint64_t w = 0; w < 24; ++w) text += kWords[Mix(seed * 1000 + i, w) % kWords.size()];
    out += fmt::format("{{\"text\": \"{}.\"}}\n", text);
  }
  return out;
}

}  // namespace concordat::testing
