#include "worker/model/weight_source.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "aggregation/safetensors.h"
#include "common/files.h"
#include "privacy/crypto/hash.h"
#include "tests/unit/worker/model/gguf_builder.h"
#include "tests/unit/worker/model/real_model.h"
#include "worker/model/mapped_weights.h"

namespace concordat::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class WeightSourceTest : public testing::Test {
 protected:
  WeightSourceTest() {
    folder_ =
        fs::path(testing::TempDir()) /
        fmt::format("weights_{}_{}", testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~WeightSourceTest() override { fs::remove_all(folder_); }

  void Write(const std::string& name, ByteView content) {
    ASSERT_TRUE(WriteFileAtomically(folder_ / name, content).ok());
  }
  void WriteJson(const std::string& name, const json& content) { Write(name, AsBytes(content.dump())); }

  /// Opens the tiny GGUF after `edit`.
  StatusOr<std::unique_ptr<WeightSource>> OpenTiny(const std::function<void(GgufBuilder&)>& edit,
                                                   bool tied = true) {
    GgufBuilder b = TinyLlama(tied);
    edit(b);
    Write("tiny.gguf", b.Build());
    return OpenWeights(folder_ / "tiny.gguf");
  }
  void ExpectRefused(const StatusOr<std::unique_ptr<WeightSource>>& opened, std::string_view what) {
    ASSERT_FALSE(opened.ok()) << what;
    EXPECT_EQ(opened.status().code(), StatusCode::kInvalidArgument) << opened.status();
    EXPECT_NE(Message(opened.status()).find(what), std::string_view::npos) << opened.status();
    EXPECT_NE(Message(opened.status()).find(folder_.string()), std::string_view::npos) << opened.status();
  }

  static json Config() {
    return {{"architectures", {"LlamaForCausalLM"}},
            {"model_type", "llama"},
            {"num_hidden_layers", 1},
            {"hidden_size", 8},
            {"intermediate_size", 12},
            {"num_attention_heads", 2},
            {"num_key_value_heads", 1},
            {"vocab_size", 3},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", 10000.0},
            {"hidden_act", "silu"},
            {"tie_word_embeddings", true},
            {"bos_token_id", 1},
            {"eos_token_id", {2, 1}}};
  }
  /// Tensors of the tiny model, in f32, values numbered.
  std::vector<SafetensorsTensor> Tensors(bool tied = true) {
    ModelConfig c;
    c.shape = {.layers = 1, .hidden = 8, .intermediate = 12, .heads = 2, .kv_heads = 1, .head_dim = 4};
    c.vocab = 3;
    c.tied_embeddings = tied;
    std::vector<SafetensorsTensor> out;
    for (const ExpectedTensor& e : ExpectedTensors(c)) {
      storage_.emplace_back(e.rows * e.cols * 4);
      for (uint64_t i = 0; i < e.rows * e.cols; ++i) {
        const auto v = static_cast<float>(storage_.size() * 1000 + i);
        std::memcpy(storage_.back().data() + 4 * i, &v, 4);
      }
      std::vector<uint64_t> shape = {e.rows, e.cols};
      if (e.rows == 1) shape = {e.cols};
      out.push_back({e.name, "F32", shape, storage_.back()});
    }
    return out;
  }
  StatusOr<std::unique_ptr<WeightSource>> OpenHf(const std::function<void(json&)>& edit) {
    json config = Config();
    edit(config);
    WriteJson("config.json", config);
    Write("model.safetensors", *WriteSafetensors(Tensors(), {}));
    return OpenWeights(folder_);
  }

  fs::path folder_;
  std::vector<Bytes> storage_;
};

TEST_F(WeightSourceTest, DequantisesTheRealModelBitForBitLikeTheReference) {
  const auto weights = OpenWeights(RealModel());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const json expected = json::parse(*ReadTextFile("tests/data/model/smollm2_weights.json"));
  ASSERT_EQ(expected.size(), 272u);
  for (const auto& [name, sha256] : expected.items()) {
    const auto shape = (*weights)->Shape(name);
    ASSERT_TRUE(shape.ok()) << shape.status();
    std::vector<float> values(shape->first * shape->second);
    ASSERT_TRUE((*weights)->Read(name, 0, values).ok());
    const ByteView bytes(reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4);
    EXPECT_EQ(crypto::Sha256(bytes).hex(), sha256) << name;
  }
}

TEST_F(WeightSourceTest, ReadsTheRealModelsConfiguration) {
  const auto weights = OpenWeights(RealModel());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const ModelConfig& c = (*weights)->config();
  EXPECT_EQ(
      c.shape,
      (ModelShape{
          .layers = 30, .hidden = 576, .intermediate = 1536, .heads = 9, .kv_heads = 3, .head_dim = 64}));
  EXPECT_EQ(c.vocab, 49152u);
  EXPECT_EQ(c.rope_theta, 100000.0);
  EXPECT_NEAR(c.rms_norm_eps, 1e-5, 1e-11);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.eos_token, 2);
  EXPECT_EQ((*weights)->Shape("lm_head.weight").status().code(), StatusCode::kNotFound);
}

TEST_F(WeightSourceTest, UndoesThePermutationOfQueryAndKeyRows) {
  const auto weights = OpenTiny([](GgufBuilder&) {});
  ASSERT_TRUE(weights.ok()) << weights.status();
  std::vector<float> q(64), v(32), file_q(64);
  ASSERT_TRUE((*weights)->Read("model.layers.0.self_attn.q_proj.weight", 0, q).ok());
  ASSERT_TRUE((*weights)->Read("model.layers.0.self_attn.v_proj.weight", 0, v).ok());
  // In the file the first row of q begins at 49; rows of a head of four are stored as 0 2 1 3.
  const std::vector<float> starts = {49, 65, 57, 73, 81, 97, 89, 105};
  for (size_t row = 0; row < 8; ++row) EXPECT_EQ(q[row * 8], starts[row]) << row;
  for (size_t i = 1; i < v.size(); ++i) EXPECT_EQ(v[i], v[i - 1] + 1);
  std::vector<float> part(16);
  ASSERT_TRUE((*weights)->Read("model.layers.0.self_attn.q_proj.weight", 3, part).ok());
  EXPECT_EQ(part[0], 73);
  EXPECT_EQ(part[8], 81);
}

TEST_F(WeightSourceTest, RefusesToReadRowsThatAreNotThere) {
  const auto weights = OpenTiny([](GgufBuilder&) {});
  ASSERT_TRUE(weights.ok());
  std::vector<float> out(8);
  const std::string name = "model.embed_tokens.weight";
  EXPECT_TRUE((*weights)->Read(name, 2, out).ok());
  EXPECT_EQ((*weights)->Read(name, 3, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*weights)->Read(name, UINT64_MAX, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*weights)->Read(name, 0, std::span(out).first(7)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*weights)->Read("nothing", 0, out).code(), StatusCode::kNotFound);
}

TEST_F(WeightSourceTest, ReadsAnOutputMatrixWhenEmbeddingsAreNotTied) {
  const auto weights = OpenTiny([](GgufBuilder&) {}, false);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_FALSE((*weights)->config().tied_embeddings);
  EXPECT_EQ(*(*weights)->Shape("lm_head.weight"), (std::pair<uint64_t, uint64_t>{3, 8}));
}

TEST_F(WeightSourceTest, RefusesGgufFilesThatAreNoPlainLlama) {
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.tensors.pop_back(); }), "'blk.0.ffn_down.weight' is missing");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.AddF32("blk.0.attn_q.bias", {8}, std::vector<float>(8)); }),
                "attn_q.bias");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.AddF32("rope_freqs.weight", {2}, {1, 1}); }), "rope_freqs");
  ExpectRefused(OpenTiny([](GgufBuilder& b) {
                  b.AddF32("blk.1.attn_q.weight", {8, 8}, std::vector<float>(64));
                }),
                "tensors");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.tensors[4].dims = {4, 16}; }), "q_proj.weight': shape");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.U32("llama.vocab_size", 4); }), "llama.vocab_size");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.U32("llama.expert_count", 8); }), "expert_count");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.Text("llama.rope.scaling.type", "yarn"); }),
                "rope.scaling.type");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.U32("llama.rope.dimension_count", 2); }), "dimension_count");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.U32("llama.attention.key_length", 8); }), "q_proj");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.Text("general.type", "adapter"); }), "general.type");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b = GgufBuilder().Text("general.architecture", "gemma"); }),
                "general.architecture");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b = GgufBuilder(); }), "general.architecture");
  ExpectRefused(OpenTiny([](GgufBuilder& b) { b.U32("tokenizer.ggml.eos_token_id", 3); }), "eos token");
}

TEST_F(WeightSourceTest, ReadsAFolderWithASingleFile) {
  const auto weights = OpenHf([](json&) {});
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->config().shape.head_dim, 4u);
  EXPECT_EQ((*weights)->config().eos_token, 2);
  std::vector<float> q(64);
  ASSERT_TRUE((*weights)->Read("model.layers.0.self_attn.q_proj.weight", 0, q).ok());
  for (size_t i = 1; i < q.size(); ++i) EXPECT_EQ(q[i], q[i - 1] + 1);  // rows stay as they are
}

TEST_F(WeightSourceTest, ReadsRopeParametersOfNewerConfigs) {
  const auto weights = OpenHf([](json& c) {
    c.erase("rope_theta");
    c["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  });
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->config().rope_theta, 500000.0);
}

TEST_F(WeightSourceTest, RefusesConfigsNamingTheField) {
  const std::vector<std::pair<const char*, json>> bad = {{"architectures", {"GemmaForCausalLM"}},
                                                         {"architectures", nullptr},
                                                         {"model_type", "mistral"},
                                                         {"hidden_act", "gelu"},
                                                         {"attention_bias", true},
                                                         {"mlp_bias", 1},
                                                         {"quantization_config", {{"bits", 4}}},
                                                         {"rope_scaling", {{"rope_type", "llama3"}}},
                                                         {"rope_theta", "x"},
                                                         {"num_hidden_layers", -1},
                                                         {"num_hidden_layers", nullptr},
                                                         {"num_attention_heads", 0},
                                                         {"eos_token_id", "x"},
                                                         {"tie_word_embeddings", 1},
                                                         {"vocab_size", 0}};
  for (const auto& [field, value] : bad) {
    const auto opened = OpenHf([&](json& c) { c[field] = value; });
    ExpectRefused(opened, std::string_view(field) == "vocab_size" ? "vocabulary" : field);
  }
  ExpectRefused(OpenHf([](json& c) { c.erase("hidden_size"); }), "hidden_size");
  ExpectRefused(OpenHf([](json& c) { c["num_hidden_layers"] = 1000000; }), "layers");
  ExpectRefused(OpenHf([](json& c) { c["hidden_size"] = 16; }), "shape");
  ExpectRefused(OpenHf([](json& c) { c["tie_word_embeddings"] = false; }), "lm_head.weight");
  ExpectRefused(OpenHf([](json& c) { c = json::array(); }), "object");
}

TEST_F(WeightSourceTest, ReadsShardsAndChecksTheIndex) {
  const auto tensors = Tensors();
  const std::vector<SafetensorsTensor> first(tensors.begin(), tensors.begin() + 4),
      second(tensors.begin() + 4, tensors.end());
  WriteJson("config.json", Config());
  Write("a.safetensors", *WriteSafetensors(first, {}));
  Write("b.safetensors", *WriteSafetensors(second, {}));
  json index;
  for (const auto& t : first) index["weight_map"][t.name] = "a.safetensors";
  for (const auto& t : second) index["weight_map"][t.name] = "b.safetensors";
  WriteJson("model.safetensors.index.json", index);
  const auto weights = OpenWeights(folder_);
  ASSERT_TRUE(weights.ok()) << weights.status();

  json bad = index;
  bad["weight_map"][first[0].name] = "b.safetensors";
  WriteJson("model.safetensors.index.json", bad);
  ExpectRefused(OpenWeights(folder_), first[0].name);
  bad = index;
  bad["weight_map"].erase(first[0].name);
  WriteJson("model.safetensors.index.json", bad);
  ExpectRefused(OpenWeights(folder_), first[0].name);
  bad = index;
  bad["weight_map"]["more"] = "a.safetensors";
  WriteJson("model.safetensors.index.json", bad);
  ExpectRefused(OpenWeights(folder_), "weight_map");
  for (const char* escape : {"../a.safetensors", "/etc/a.safetensors", "a.bin", ""}) {
    bad = index;
    bad["weight_map"][first[0].name] = escape;
    WriteJson("model.safetensors.index.json", bad);
    ExpectRefused(OpenWeights(folder_), "weight_map");
  }
  bad = index;
  bad["weight_map"][first[0].name] = "c.safetensors";
  WriteJson("model.safetensors.index.json", bad);
  EXPECT_FALSE(OpenWeights(folder_).ok());
}

TEST_F(WeightSourceTest, RefusesFoldersWithMissingExtraOrMisshapenTensors) {
  WriteJson("config.json", Config());
  ExpectRefused(OpenWeights(folder_), "model.safetensors");
  auto tensors = Tensors();
  tensors.pop_back();
  Write("model.safetensors", *WriteSafetensors(tensors, {}));
  ExpectRefused(OpenWeights(folder_), "is missing");
  tensors = Tensors();
  const Bytes bias(32);
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", "F32", {8}, bias});
  Write("model.safetensors", *WriteSafetensors(tensors, {}));
  ExpectRefused(OpenWeights(folder_), "q_proj.bias");
  tensors = Tensors();
  tensors[0].dtype = "I32";
  Write("model.safetensors", *WriteSafetensors(tensors, {}));
  ExpectRefused(OpenWeights(folder_), "dtype");
  tensors = Tensors();
  tensors[0].shape = {tensors[0].shape[1], tensors[0].shape[0]};
  Write("model.safetensors", *WriteSafetensors(tensors, {}));
  ExpectRefused(OpenWeights(folder_), "shape");
  tensors = Tensors();
  tensors.push_back(
      {"lm_head.weight", "F32", tensors[0].shape, tensors[0].data});  // a copy: embeddings are tied
  Write("model.safetensors", *WriteSafetensors(tensors, {}));
  EXPECT_TRUE(OpenWeights(folder_).ok());
  Bytes whole = *WriteSafetensors(Tensors(), {});
  whole.pop_back();
  Write("model.safetensors", whole);
  ExpectRefused(OpenWeights(folder_), "model.safetensors");
}

TEST_F(WeightSourceTest, SaysWhenThereIsNoModel) {
  EXPECT_EQ(OpenWeights(folder_ / "none").status().code(), StatusCode::kNotFound);
  ExpectRefused(OpenWeights(folder_), "config.json");
  Write("empty.gguf", ByteView());
  EXPECT_EQ(OpenWeights(folder_ / "empty.gguf").status().code(), StatusCode::kInvalidArgument);
}

TEST_F(WeightSourceTest, HashesAFileByItsBytesAndAFolderByItsModelFiles) {
  EXPECT_EQ(HashModel(RealModel())->hex(), crypto::Sha256File(RealModel())->hex());
  EXPECT_EQ(HashModel(folder_ / "none").status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(HashModel(folder_).ok());
  Write("config.json", AsBytes("{}"));
  Write("b.safetensors", AsBytes("xyz"));
  Write("README.md", AsBytes("not counted"));
  std::string listing;
  for (const auto& [name, content] : {std::pair("b.safetensors", "xyz"), std::pair("config.json", "{}")}) {
    listing += fmt::format("{}{}{}{}{}\n", name, '\0', strlen(content), '\0',
                           crypto::Sha256(AsBytes(content)).hex());
  }
  EXPECT_EQ(HashModel(folder_)->hex(), crypto::Sha256(AsBytes(listing)).hex());
  Write("tokenizer.json", AsBytes("{}"));
  EXPECT_NE(HashModel(folder_)->hex(), crypto::Sha256(AsBytes(listing)).hex());
}

}  // namespace
}  // namespace concordat::model
