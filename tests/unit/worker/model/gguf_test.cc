#include "worker/model/gguf.h"

#include <gtest/gtest.h>

#include "aggregation/float_formats.h"
#include "aggregation/peft.h"
#include "tests/unit/worker/model/gguf_builder.h"

namespace concordat::model {
namespace {

void ExpectRefused(const Bytes& file, std::string_view what) {
  const auto parsed = GgufFile::Parse(file);
  ASSERT_FALSE(parsed.ok()) << what;
  EXPECT_EQ(parsed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(parsed.status()).find(what), std::string_view::npos) << parsed.status();
}

TEST(GgufTest, ReadsMetadataOfEveryType) {
  GgufBuilder b;
  b.U32("u32", 7).F32("f32", 1.5f).Text("text", "x").Texts("texts", {"a", "", "bc"}).I32s("ints", {1, -2});
  b.Raw("bool", 7, {1}).Raw("u8", 0, {200}).Raw("i8", 1, {0xff}).Raw("i64", 11, Bytes(8, 0xff));
  b.Raw("u64", 10, Bytes(8, 0xff)).Raw("f64", 12, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f});
  const Bytes file = b.Build();
  const auto parsed = GgufFile::Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed->U32("u32"), 7u);
  EXPECT_EQ(*parsed->U32("u8"), 200u);
  EXPECT_EQ(*parsed->F64("f32"), 1.5);
  EXPECT_EQ(*parsed->F64("f64"), 1.5);
  EXPECT_EQ(*parsed->Text("text"), "x");
  EXPECT_EQ(*parsed->Texts("texts"), (std::vector<std::string_view>{"a", "", "bc"}));
  EXPECT_EQ(*parsed->Integers("ints"), (std::vector<int64_t>{1, -2}));
  EXPECT_TRUE(*parsed->Bool("bool"));
  for (const char* out_of_range : {"i8", "i64", "u64", "text", "texts", "f32", "bool"}) {
    EXPECT_EQ(parsed->U32(out_of_range).status().code(), StatusCode::kInvalidArgument) << out_of_range;
  }
  EXPECT_EQ(parsed->U32("none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(parsed->Text("u32").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(parsed->Texts("ints").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(parsed->Integers("texts").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(parsed->Bool("u8").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(parsed->F64("u32").status().code(), StatusCode::kInvalidArgument);
}

TEST(GgufTest, RefusesEveryTruncationOfAModel) {
  const Bytes file = TinyLlama().Build();
  ASSERT_TRUE(GgufFile::Parse(file).ok());
  for (size_t n = 0; n < file.size(); ++n) {
    // Copied, so that a sanitizer sees a read past the end.
    const Bytes cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_EQ(GgufFile::Parse(cut).status().code(), StatusCode::kInvalidArgument) << n;
  }
}

TEST(GgufTest, SurvivesEveryChangedByteOfAHeader) {
  const Bytes file = TinyLlama().Build();
  Bytes changed = file;
  for (size_t i = 0; i < std::min<size_t>(file.size(), 1200); ++i) {
    for (const uint8_t v : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      changed[i] = v;
      const auto parsed = GgufFile::Parse(changed);
      if (parsed.ok()) {
        for (const GgufTensor& t : parsed->tensors()) EXPECT_LE(t.data.size(), file.size());
      }
    }
    changed[i] = file[i];
  }
}

TEST(GgufTest, RefusesWrongMagicAndVersion) {
  GgufBuilder b;
  b.magic = 0x46554746;
  ExpectRefused(b.Build(), "magic");
  b = {};
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    b.version = version;
    ExpectRefused(b.Build(), "version");
  }
  b.version = 2;
  EXPECT_TRUE(GgufFile::Parse(b.Build()).ok());
}

TEST(GgufTest, RefusesCountsThatTheFileCannotHold) {
  for (const int64_t lie : {int64_t{1} << 40, int64_t{-1}}) {
    GgufBuilder b;
    b.extra_pairs = lie;
    ExpectRefused(b.Build(), "metadata_kv_count");
    b = {};
    b.extra_tensors = lie;
    ExpectRefused(b.Build(), "tensor_count");
  }
  Bytes array;
  GgufBuilder::Put<uint32_t>(array, 8);
  GgufBuilder::Put<uint64_t>(array, uint64_t{1} << 60);
  ExpectRefused(GgufBuilder().Raw("k", 9, array).Build(), "key 'k': array length");
  array[0] = 10;
  ExpectRefused(GgufBuilder().Raw("k", 9, array).Build(), "key 'k': array length");
  array[0] = 9;
  ExpectRefused(GgufBuilder().Raw("k", 9, array).Build(), "key 'k': array type");
  Bytes text;
  GgufBuilder::Put<uint64_t>(text, UINT64_MAX);
  ExpectRefused(GgufBuilder().Raw("k", 8, text).Build(), "key 'k': string");
}

TEST(GgufTest, RefusesUnknownTypesDuplicatesAndBadBools) {
  ExpectRefused(GgufBuilder().Raw("k", 13, Bytes(8)).Build(), "key 'k': type");
  ExpectRefused(GgufBuilder().U32("k", 1).U32("k", 1).Build(), "key 'k': twice");
  ExpectRefused(GgufBuilder().Raw("k", 7, {2}).Build(), "key 'k': bool");
  ExpectRefused(GgufBuilder().AddF32("t", {1}, {1}).AddF32("t", {1}, {1}).Build(), "tensor 't': name: twice");
  for (const uint32_t type : {4u, 12u, 14u, 29u, 31u, 1000u}) {
    ExpectRefused(GgufBuilder().Add("t", {32}, type, Bytes(256)).Build(), "tensor 't': type");
  }
}

TEST(GgufTest, RefusesTensorsThatDoNotFit) {
  ExpectRefused(GgufBuilder().AddF32("t", {9}, {1, 2, 3}).Build(), "tensor 't': offset");
  ExpectRefused(GgufBuilder().AddF32("t", {0}, {}).Build(), "tensor 't': dimensions");
  ExpectRefused(GgufBuilder().AddF32("t", {uint64_t{1} << 33, uint64_t{1} << 33}, {}).Build(),
                "tensor 't': dimensions");
  ExpectRefused(GgufBuilder().AddF32("t", {}, {}).Build(), "tensor 't': n_dimensions");
  ExpectRefused(GgufBuilder().AddF32("t", {1, 1, 1, 1, 1}, {1}).Build(), "tensor 't': n_dimensions");
  ExpectRefused(GgufBuilder().Add("t", {16, 2}, 8, Bytes(34)).Build(), "tensor 't': dimensions");
  GgufBuilder b;
  b.AddF32("a", {8}, std::vector<float>(8)).AddF32("b", {8}, std::vector<float>(8));
  b.tensors[1].offset = 0;
  ExpectRefused(b.Build(), "overlap");
  b.tensors[1].offset = 33;
  ExpectRefused(b.Build(), "tensor 'b': offset: 33 is not a multiple");
  b.tensors[1].offset = UINT64_MAX - 31;
  ExpectRefused(b.Build(), "tensor 'b': offset");
}

TEST(GgufTest, HonoursTheAlignmentItStates) {
  GgufBuilder b;
  b.alignment = 64;
  b.U32("general.alignment", 64).AddF32("a", {1}, {5}).AddF32("b", {1}, {6});
  const Bytes file = b.Build();
  const auto parsed = GgufFile::Parse(file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(LoadF32(parsed->Find(std::string_view("b"))->data.data()), 6);
  for (const uint32_t bad : {0u, 1u, 4u, 24u, 1u << 17}) {
    ExpectRefused(GgufBuilder().U32("general.alignment", bad).Build(), "general.alignment");
  }
}

TEST(GgufTest, NamesTensorsInPrintableAsciiOnly) {
  ExpectRefused(GgufBuilder().AddF32("t\n", {1}, {1}).Build(), "tensor 't?': name");
  ExpectRefused(GgufBuilder().AddF32("", {1}, {1}).Build(), "name");
}

TEST(GgufTest, ReadsTheAdapterThatPeftExportWrites) {
  const auto layout = AdapterLayout::Make(
      {.layers = 2, .hidden = 8, .intermediate = 12, .heads = 2, .kv_heads = 1, .head_dim = 4},
      {.rank = 3, .alpha = 3, .targets = {kAllLoraTargets.begin(), kAllLoraTargets.end()}});
  ASSERT_TRUE(layout.ok());
  std::vector<float> values(layout->adapter_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const auto file = GgufAdapter(*layout, values, "test");
  ASSERT_TRUE(file.ok());
  const auto parsed = GgufFile::Parse(*file);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed->Text("general.type"), "adapter");
  EXPECT_EQ(*parsed->Text("adapter.type"), "lora");
  EXPECT_EQ(*parsed->F64("adapter.lora.alpha"), 3.0);
  EXPECT_EQ(parsed->tensors().size(), layout->tensors().size());
  const GgufTensor* down = parsed->Find(std::string_view("blk.1.ffn_down.weight.lora_b"));
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->dims, (std::vector<uint64_t>{3, 8}));
  EXPECT_EQ(LoadF32(down->data.data()), values[layout->tensors().back().offset]);
}

TEST(TensorFormatTest, DequantisesBlocksByTheirDefinition) {
  std::vector<float> out(32);
  Bytes q8 = {0x00, 0x38};  // 0.5
  for (int i = 0; i < 32; ++i) q8.push_back(static_cast<uint8_t>(i - 16));
  Dequantize(TensorFormat::kQ8_0, q8.data(), 32, out.data());
  for (int i = 0; i < 32; ++i) EXPECT_EQ(out[static_cast<size_t>(i)], 0.5f * static_cast<float>(i - 16));

  Bytes q4 = {0x00, 0x40};  // 2
  for (int i = 0; i < 16; ++i) q4.push_back(static_cast<uint8_t>(i | (15 - i) << 4));
  Dequantize(TensorFormat::kQ4_0, q4.data(), 32, out.data());
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[static_cast<size_t>(i)], 2.0f * static_cast<float>(i - 8));
    EXPECT_EQ(out[static_cast<size_t>(i) + 16], 2.0f * static_cast<float>(7 - i));
  }

  q4.insert(q4.begin() + 2, {0x00, 0xbc});  // minimum -1
  Dequantize(TensorFormat::kQ4_1, q4.data(), 32, out.data());
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[static_cast<size_t>(i)], 2.0f * static_cast<float>(i) - 1);
    EXPECT_EQ(out[static_cast<size_t>(i) + 16], 2.0f * static_cast<float>(15 - i) - 1);
  }

  const Bytes halves = {0x00, 0x3c, 0x00, 0xc0};
  Dequantize(TensorFormat::kF16, halves.data(), 2, out.data());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
  const Bytes bf16 = {0x80, 0x3f, 0x00, 0xc0};
  Dequantize(TensorFormat::kBf16, bf16.data(), 2, out.data());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
}

}  // namespace
}  // namespace concordat::model
