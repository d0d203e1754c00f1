#include "aggregation/peft.h"

#include <gtest/gtest.h>

#include <cmath>

#include "aggregation/float_formats.h"
#include "aggregation/safetensors.h"
#include "aggregation/strict_json.h"
#include "privacy/crypto/hash.h"

namespace concordat {
namespace {

const ModelShape kShape{
    .layers = 2, .hidden = 8, .intermediate = 12, .heads = 2, .kv_heads = 1, .head_dim = 4};

AdapterLayout Layout(double alpha = 8) {
  return *AdapterLayout::Make(
      kShape, {.rank = 4, .alpha = alpha, .targets = {LoraTarget::kQ, LoraTarget::kK, LoraTarget::kDown}});
}

std::vector<float> Values(const AdapterLayout& layout) {
  std::vector<float> v(layout.adapter_elements());
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i) * 0.25f - 3;
  return v;
}

TEST(PeftTest, ReadsBackWhatItWroteWithTheScaleInB) {
  const AdapterLayout layout = Layout(8);  // scale 2
  const auto values = Values(layout);
  const auto weights = PeftWeights(layout, values);
  ASSERT_TRUE(weights.ok());
  const auto read = ReadPeft(PeftConfig(layout, "base/model"), *weights, kShape);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->base_model, "base/model");
  EXPECT_EQ(read->layout.spec().scale(), 1.0);
  EXPECT_EQ(read->layout.spec().targets, layout.spec().targets);
  for (const AdapterTensor& t : layout.tensors()) {
    for (uint64_t i = t.offset; i < t.offset + t.elements(); ++i) {
      EXPECT_EQ(read->adapter[i], values[i] * (t.factor == LoraFactor::kB ? 2 : 1));
    }
  }
}

AdapterLayout CoreLayout() {
  return *AdapterLayout::Make(kShape, {.rank = 4,
                                       .alpha = 8,  // scale 2
                                       .targets = {LoraTarget::kQ, LoraTarget::kK, LoraTarget::kDown},
                                       .method = LoraMethod::kCore});
}

/// Small integers: every product and sum is exact in f32.
std::vector<float> SmallIntegers(const AdapterLayout& layout) {
  std::vector<float> v(layout.adapter_elements());
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i * i % 11) - 5;
  return v;
}

TEST(PeftTest, ACoreIsWrittenAsAnOrdinaryAdapterWithRAndTheScaleInB) {
  const AdapterLayout layout = CoreLayout();
  const auto values = SmallIntegers(layout);
  const auto weights = PeftWeights(layout, values);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto read = ReadPeft(PeftConfig(layout, "m"), *weights, kShape);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->layout.spec().method, LoraMethod::kFedIt);
  EXPECT_EQ(read->layout.spec().rank, 4u);
  EXPECT_EQ(read->layout.spec().scale(), 1.0);
  ASSERT_EQ(read->layout.tensors().size(), 2u * 3 * 2);
  for (size_t i = 0; 3 * i < layout.tensors().size(); ++i) {
    const AdapterTensor &a = layout.tensors()[3 * i], &b = layout.tensors()[3 * i + 1],
                        &r = layout.tensors()[3 * i + 2];
    const AdapterTensor &plain_a = read->layout.tensors()[2 * i],
                        &plain_b = read->layout.tensors()[2 * i + 1];
    EXPECT_EQ(plain_a.PeftName(), a.PeftName());
    EXPECT_EQ(plain_b.PeftName(), b.PeftName());
    for (uint64_t k = 0; k < a.elements(); ++k)
      EXPECT_EQ(read->adapter[plain_a.offset + k], values[a.offset + k]);
    for (uint64_t row = 0; row < b.rows; ++row) {
      for (uint64_t col = 0; col < 4; ++col) {
        float sum = 0;
        for (uint64_t k = 0; k < 4; ++k)
          sum += values[b.offset + row * 4 + k] * values[r.offset + k * 4 + col];
        EXPECT_EQ(read->adapter[plain_b.offset + row * 4 + col], 2 * sum) << plain_b.PeftName();
      }
    }
  }
  // The other formats hold the same two factors.
  EXPECT_EQ(*GgufAdapter(layout, values, "n"), *GgufAdapter(read->layout, read->adapter, "n"));
}

// `adapter verify` makes the file again, on another machine than the one that wrote it.
TEST(PeftTest, AWrittenCoreHasTheSameBitsOnEveryMachine) {
  const AdapterLayout layout = CoreLayout();
  std::vector<float> values(layout.adapter_elements());
  for (size_t i = 0; i < values.size(); ++i) {
    // Fractions of many bits, so that the sums are rounded.
    values[i] = static_cast<float>((i + 1) * 2654435761U % 1000003) / 777777.0F - 0.6F;
  }
  EXPECT_EQ(crypto::Sha256(*PeftWeights(layout, values)).hex(),
            "15b078ec7014174d73bf9cb7185e0c3b2924f0477ba0dd63613d7fc395fc4395");
}

TEST(PeftTest, RefusesACoreWithAValueThatIsNotFinite) {
  const AdapterLayout layout = CoreLayout();
  for (const size_t tensor : {0, 1, 2}) {
    auto values = SmallIntegers(layout);
    values[layout.tensors()[tensor].offset] = std::nanf("");
    EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument) << tensor;
  }
  auto values = SmallIntegers(layout);
  values.pop_back();
  EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument);
  values = SmallIntegers(layout);
  for (float& v : values) v *= 1e19F;  // finite, and their products are not
  EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument);
}

TEST(PeftTest, WritesAFolderThatItReads) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "peft_folder_test" / "adapter";
  std::filesystem::remove_all(folder);
  const AdapterLayout layout = Layout(4);
  ASSERT_TRUE(WritePeftFolder(folder, layout, Values(layout), "m").ok());
  const auto read = ReadPeftFolder(folder, kShape);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->adapter, Values(layout));
  std::filesystem::remove_all(folder);
}

TEST(PeftTest, StatesUniformRankAndAlphaEqualToIt) {
  const auto config = ParseStrictJson(PeftConfig(Layout(16), "m"), "config");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["r"], 4);
  EXPECT_EQ((*config)["lora_alpha"], 4);
  EXPECT_EQ((*config)["use_rslora"], false);
  EXPECT_EQ((*config)["target_modules"], (nlohmann::json{"down_proj", "k_proj", "q_proj"}));
  EXPECT_EQ((*config)["task_type"], "CAUSAL_LM");
  EXPECT_EQ((*config)["bias"], "none");
}

TEST(PeftTest, SurvivesAModelNameThatIsNotUtf8) {
  EXPECT_TRUE(ParseStrictJson(PeftConfig(Layout(), "a\xff\"b"), "config").ok());
}

TEST(PeftTest, RefusesWrongSizesAndValuesThatAreNotFinite) {
  const AdapterLayout layout = Layout();
  auto values = Values(layout);
  values.pop_back();
  EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument);
  values.push_back(std::nanf(""));
  EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument);
  values.back() = 3e38f;  // the scale 2 overflows it
  EXPECT_EQ(PeftWeights(layout, values).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(GgufAdapter(layout, values, "n").status().code(), StatusCode::kInvalidArgument);
}

Status Read(const std::function<void(nlohmann::json&)>& edit, const ModelShape& shape = kShape) {
  const AdapterLayout layout = Layout();
  auto config = nlohmann::json::parse(PeftConfig(layout, "m"));
  edit(config);
  return ReadPeft(config.dump(), *PeftWeights(layout, Values(layout)), shape).status();
}

TEST(PeftTest, RefusesConfigsThatChangeTheMeaning) {
  EXPECT_TRUE(Read([](auto&) {}).ok());
  EXPECT_TRUE(Read([](auto& c) { c["lora_alpha"] = 16.5; }).ok());
  const std::vector<std::pair<std::string, nlohmann::json>> bad = {
      {"use_rslora", true},
      {"use_dora", true},
      {"bias", "all"},
      {"peft_type", "IA3"},
      {"task_type", "SEQ_CLS"},
      {"fan_in_fan_out", true},
      {"modules_to_save", {"lm_head"}},
      {"rank_pattern", {{"q_proj", 8}}},
      {"alpha_pattern", {{"q_proj", 8}}},
      {"layers_to_transform", {0}},
      {"r", 0},
      {"r", -1},
      {"r", "4"},
      {"r", 8},
      {"lora_alpha", 0},
      {"lora_alpha", "x"},
      {"target_modules", "all-linear"},
      {"target_modules", nlohmann::json::array()},
      {"target_modules", {"q_proj", "lm_head"}},
      {"target_modules", {"q_proj", "q_proj"}},
      {"target_modules", {"q_proj"}},
      {"target_modules", {"q_proj", "k_proj", "v_proj", "down_proj"}},
      {"something_new", 7}};
  for (const auto& [key, value] : bad) {
    const Status s = Read([&](auto& c) { c[key] = value; });
    EXPECT_EQ(s.code(), StatusCode::kInvalidArgument) << key << " " << value;
  }
  EXPECT_FALSE(Read([](auto& c) { c.erase("r"); }).ok());
  EXPECT_FALSE(Read([](auto& c) { c = 7; }).ok());
}

TEST(PeftTest, RefusesAnAdapterForAnotherShape) {
  ModelShape other = kShape;
  other.layers = 1;
  EXPECT_FALSE(Read([](auto&) {}, other).ok());
  other = kShape;
  other.layers = 3;
  EXPECT_NE(Message(Read([](auto&) {}, other)).find("missing"), std::string_view::npos);
  other = kShape;
  other.hidden = 16;
  EXPECT_NE(Message(Read([](auto&) {}, other)).find("shape"), std::string_view::npos);
}

TEST(PeftTest, RefusesInfinityInAFile) {
  const auto layout = AdapterLayout::Make(
      {.layers = 1, .hidden = 1, .intermediate = 1, .heads = 1, .kv_heads = 1, .head_dim = 2},
      {.rank = 1, .alpha = 1, .targets = {LoraTarget::kDown}});
  const Bytes one = {0, 0, 0x80, 0x3f}, inf = {0, 0, 0x80, 0x7f};
  const std::string p = "base_model.model.model.layers.0.mlp.down_proj.lora_";
  const auto good =
      WriteSafetensors({{p + "A.weight", "F32", {1, 1}, one}, {p + "B.weight", "F32", {1, 1}, one}}, {});
  EXPECT_TRUE(ReadPeft(PeftConfig(*layout, ""), *good, layout->shape()).ok());
  const auto bad =
      WriteSafetensors({{p + "A.weight", "F32", {1, 1}, one}, {p + "B.weight", "F32", {1, 1}, inf}}, {});
  EXPECT_FALSE(ReadPeft(PeftConfig(*layout, ""), *bad, layout->shape()).ok());
  const Bytes half = {0, 0x3c};
  const auto f16 =
      WriteSafetensors({{p + "A.weight", "F16", {1, 1}, half}, {p + "B.weight", "F32", {1, 1}, one}}, {});
  EXPECT_EQ(ReadPeft(PeftConfig(*layout, ""), *f16, layout->shape())->adapter[0], 1.0f);
}

TEST(GgufAdapterTest, InterleavesTheHalvesOfEachHeadInRowsOfB) {
  const AdapterLayout layout = Layout(4);
  const auto values = Values(layout);
  const auto file = GgufAdapter(layout, values, "name");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(AsText(ByteView(*file).first(4)), "GGUF");
  for (const char* text :
       {"blk.0.attn_q.weight.lora_a", "blk.1.ffn_down.weight.lora_b", "adapter.lora.alpha"}) {
    EXPECT_NE(AsText(*file).find(text), std::string_view::npos) << text;
  }
  // Data start with q's A, unchanged, then q's B: file rows 0 1 2 3 of a head of four are ours 0 2 1 3.
  uint64_t data_bytes = 0;
  for (const AdapterTensor& t : layout.tensors()) data_bytes += (t.elements() * 4 + 31) / 32 * 32;
  const uint8_t* data = file->data() + file->size() - data_bytes;
  const AdapterTensor &a = layout.tensors()[0], &b = layout.tensors()[1];
  EXPECT_EQ(LoadF32(data + 4), values[a.offset + 1]);
  const uint8_t* file_b = data + (a.elements() * 4 + 31) / 32 * 32;
  const std::vector<uint64_t> ours = {0, 2, 1, 3, 4, 6, 5, 7};
  for (uint64_t row = 0; row < b.rows; ++row) {
    EXPECT_EQ(LoadF32(file_b + row * b.cols * 4), values[b.offset + ours[row] * b.cols]) << row;
  }
}

TEST(StrictJsonTest, RefusesDuplicatesDepthAndGarbageWithoutQuotingIt) {
  EXPECT_TRUE(ParseStrictJson(R"({"a":[1,{"a":2}],"b":"x"})", "f").ok());
  EXPECT_FALSE(ParseStrictJson(R"({"a":1,"a":2})", "f").ok());
  EXPECT_FALSE(ParseStrictJson(R"({"b":{"a":1,"a":2}})", "f").ok());
  EXPECT_FALSE(ParseStrictJson(std::string(1'000'000, '['), "f").ok());
  EXPECT_FALSE(ParseStrictJson("{} {}", "f").ok());
  EXPECT_FALSE(ParseStrictJson("1e999", "f").ok());
  EXPECT_FALSE(ParseStrictJson("", "f").ok());
  const auto bad = ParseStrictJson(R"({"patient":"Erika Mustermann" oops})", "data.jsonl:3");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(Message(bad.status()).find("Erika"), std::string_view::npos);
  EXPECT_EQ(Message(bad.status()).find("oops"), std::string_view::npos);
  EXPECT_NE(Message(bad.status()).find("data.jsonl:3"), std::string_view::npos);
}

TEST(FloatFormatsTest, ConvertsEveryHalfThroughItsDefinition) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24)
                                    : std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
    if (h & 0x8000) expected = -expected;
    const float got = HalfToFloat(static_cast<uint16_t>(h));
    if (exponent == 31) {
      EXPECT_TRUE(fraction ? std::isnan(got) : std::isinf(got)) << h;
    } else {
      EXPECT_EQ(got, static_cast<float>(expected)) << h;
    }
  }
}

TEST(FloatFormatsTest, RoundsToBf16ToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie to even
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::nanf("")))));
}

}  // namespace
}  // namespace concordat
