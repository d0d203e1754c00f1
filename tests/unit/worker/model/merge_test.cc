#include "worker/model/merge.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "aggregation/peft.h"
#include "common/files.h"
#include "tests/unit/worker/model/gguf_builder.h"
#include "worker/model/mapped_weights.h"
#include "worker/model/tokenizer.h"

namespace concordat::model {
namespace {

namespace fs = std::filesystem;

class MergeTest : public testing::Test {
 protected:
  MergeTest() {
    folder_ =
        fs::path(testing::TempDir()) /
        fmt::format("merge_{}_{}", testing::UnitTest::GetInstance()->current_test_info()->name(), getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    GgufBuilder b = TinyLlama();
    b.Text("tokenizer.ggml.model", "gpt2")
        .Text("tokenizer.ggml.pre", "smollm")
        .Texts("tokenizer.ggml.tokens", {"a", "b", "ab"})
        .I32s("tokenizer.ggml.token_type", {1, 1, 1})
        .Texts("tokenizer.ggml.merges", {"a b"})
        .U32("tokenizer.ggml.eos_token_id", 0);
    model_ = folder_ / "tiny.gguf";
    if (!WriteFileAtomically(model_, ByteView(b.Build())).ok()) throw std::runtime_error("cannot write");
    base_ = std::move(OpenWeights(model_)).value();
    layout_ = *AdapterLayout::Make(base_->config().shape,
                                   {.rank = 2, .alpha = 4, .targets = {LoraTarget::kQ, LoraTarget::kDown}});
    adapter_.resize(layout_.adapter_elements());
    for (size_t i = 0; i < adapter_.size(); ++i) adapter_[i] = static_cast<float>(i % 7) - 3;
  }
  ~MergeTest() override { fs::remove_all(folder_); }

  fs::path folder_, model_;
  std::unique_ptr<WeightSource> base_;
  AdapterLayout layout_ = *AdapterLayout::Make(
      {.layers = 1, .hidden = 2, .intermediate = 2, .heads = 1, .kv_heads = 1, .head_dim = 2},
      {.rank = 1, .alpha = 1, .targets = {LoraTarget::kQ}});
  std::vector<float> adapter_;
};

TEST_F(MergeTest, WeightsAreAsReadableAsTheFilesBesideThem) {
  const mode_t old = ::umask(0077);
  const Status written =
      WriteMergedFolder(folder_ / "m", model_, *base_, layout_, adapter_, MergedDtype::kF32);
  ::umask(old);
  ASSERT_TRUE(written.ok()) << written;
  EXPECT_EQ(fs::status(folder_ / "m/model.safetensors").permissions(),
            fs::status(folder_ / "m/config.json").permissions());
}

TEST_F(MergeTest, WritesAFolderWhoseWeightsAreTheBasePlusTheProduct) {
  ASSERT_TRUE(WriteMergedFolder(folder_ / "m", model_, *base_, layout_, adapter_, MergedDtype::kF32).ok());
  const auto merged = OpenWeights(folder_ / "m");
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ((*merged)->config().shape, base_->config().shape);
  EXPECT_EQ((*merged)->config().eos_token, 0);
  for (const ExpectedTensor& t : ExpectedTensors(base_->config())) {
    std::vector<float> want(t.rows * t.cols), got(want.size());
    ASSERT_TRUE(base_->Read(t.name, 0, want).ok());
    ASSERT_TRUE((*merged)->Read(t.name, 0, got).ok());
    for (size_t k = 0; k + 1 < layout_.tensors().size(); k += 2) {
      const AdapterTensor &a = layout_.tensors()[k], &b = layout_.tensors()[k + 1];
      if (t.name != fmt::format("model.layers.0.{}.weight", LoraTargetModule(a.target))) continue;
      for (uint64_t i = 0; i < t.rows; ++i) {
        for (uint64_t j = 0; j < t.cols; ++j) {
          for (uint64_t r = 0; r < 2; ++r) {
            want[i * t.cols + j] += 2 * adapter_[b.offset + i * 2 + r] * adapter_[a.offset + r * a.cols + j];
          }
        }
      }
    }
    EXPECT_EQ(got, want) << t.name;  // small integers: exact in f32
  }
}

TEST_F(MergeTest, ACoreAndItsExportedFolderGiveTheSameWeights) {
  LoraSpec spec = layout_.spec();
  spec.method = LoraMethod::kCore;
  const AdapterLayout core = *AdapterLayout::Make(base_->config().shape, spec);
  std::vector<float> values(core.adapter_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 5) - 2;
  const auto written = PeftWeights(core, values);
  ASSERT_TRUE(written.ok()) << written.status();
  const auto peft = ReadPeft(PeftConfig(core, "m"), *written, core.shape());
  ASSERT_TRUE(peft.ok()) << peft.status();
  const auto merge = [&](const char* name, const AdapterLayout& layout, const std::vector<float>& adapter) {
    EXPECT_TRUE(WriteMergedFolder(folder_ / name, model_, *base_, layout, adapter, MergedDtype::kF32).ok());
    return *ReadFile(folder_ / name / "model.safetensors", 1 << 20);
  };
  const Bytes base = merge("base", layout_, std::vector<float>(layout_.adapter_elements()));
  const Bytes merged = merge("core", core, values);
  EXPECT_NE(merged, base);
  EXPECT_EQ(merged, merge("peft", peft->layout, peft->adapter));  // small integers: exact in f32
}

TEST_F(MergeTest, RoundsToBf16AndKeepsTheTokenizer) {
  ASSERT_TRUE(WriteMergedFolder(folder_ / "m", model_, *base_, layout_, adapter_, MergedDtype::kBf16).ok());
  const auto merged = OpenWeights(folder_ / "m");
  ASSERT_TRUE(merged.ok()) << merged.status();
  std::vector<float> want(24), got(24);
  ASSERT_TRUE(base_->Read("model.embed_tokens.weight", 0, want).ok());
  ASSERT_TRUE((*merged)->Read("model.embed_tokens.weight", 0, got).ok());
  EXPECT_EQ(got, want);  // 1 to 24
  const auto tokenizer = Tokenizer::Open(folder_ / "m");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(*(*tokenizer)->Encode("aab"), (std::vector<int32_t>{0, 2}));
  EXPECT_EQ((*tokenizer)->eos(), 0);
  // Merging again from the folder copies its tokenizer as it is.
  ASSERT_TRUE(
      WriteMergedFolder(folder_ / "n", folder_ / "m", **merged, layout_, adapter_, MergedDtype::kF32).ok());
  EXPECT_EQ(*ReadTextFile(folder_ / "n" / "tokenizer.json"), *ReadTextFile(folder_ / "m" / "tokenizer.json"));
}

TEST_F(MergeTest, RefusesAdaptersThatDoNotFit) {
  adapter_.push_back(0);
  EXPECT_EQ(WriteMergedFolder(folder_ / "m", model_, *base_, layout_, adapter_, MergedDtype::kF32).code(),
            StatusCode::kInvalidArgument);
  adapter_.pop_back();
  adapter_[0] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(WriteMergedFolder(folder_ / "m", model_, *base_, layout_, adapter_, MergedDtype::kF32).code(),
            StatusCode::kInvalidArgument);
  ModelShape other = base_->config().shape;
  other.layers = 2;
  const auto layout = AdapterLayout::Make(other, layout_.spec());
  const std::vector<float> zeros(layout->adapter_elements());
  EXPECT_EQ(WriteMergedFolder(folder_ / "m", model_, *base_, *layout, zeros, MergedDtype::kF32).code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(folder_ / "m" / "model.safetensors"));
}

}  // namespace
}  // namespace concordat::model
