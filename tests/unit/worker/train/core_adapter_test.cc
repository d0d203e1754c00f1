// What a core adapter is beside its gradients: the same model, whoever puts it together.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "aggregation/initial_adapter.h"
#include "aggregation/peft.h"
#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/worker/train/random_model.h"
#include "worker/model/mapped_weights.h"
#include "worker/model/merge.h"
#include "worker/train/engine.h"

namespace concordat::train {
namespace {

class CoreAdapterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    concordat::testing::WriteTinyModel(model_path_);
    ASSERT_OK_AND_ASSIGN(model_, model::OpenWeights(model_path_));
  }
  std::unique_ptr<Engine> Make(const model::WeightSource& model, const LoraSpec& lora) {
    auto engine =
        Engine::Create(model, lora, {.threads = 1, .dtype = EngineOptions::Dtype::kF32, .max_tokens = 64});
    EXPECT_OK(engine);
    return *std::move(engine);
  }
  std::vector<float> Logits(const model::WeightSource& model, const LoraSpec& lora,
                            const std::vector<float>& adapter) {
    const auto engine = Make(model, lora);
    EXPECT_OK(engine->SetAdapter(adapter));
    return engine->Logits(tokens_).value();
  }
  static double Largest(const std::vector<float>& a, const std::vector<float>& b) {
    double largest = 0;
    for (size_t i = 0; i < a.size(); ++i)
      largest = std::max(largest, static_cast<double>(std::abs(a[i] - b[i])));
    return largest;
  }

  concordat::testing::TempDir dir_;
  std::filesystem::path model_path_ = dir_ / "model.gguf";
  std::unique_ptr<model::WeightSource> model_;
  std::vector<int32_t> tokens_ = RandomText(40, 100, 3).tokens;
};

TEST_F(CoreAdapterTest, LogitsAreThoseOfTheExportedFolderAndOfTheMergedWeights) {
  const LoraSpec spec = AllTargets(8, 16, LoraMethod::kCore);
  const AdapterLayout layout = *AdapterLayout::Make(model_->config().shape, spec);
  std::vector<float> adapter = *InitialAdapter(layout, crypto::Sha256(AsBytes("seed")));
  const std::vector<float> base = Logits(*model_, spec, adapter);
  for (const AdapterTensor& t : layout.tensors()) {
    for (uint64_t i = 0; t.trained && i < t.elements(); ++i)
      adapter[t.offset + i] = static_cast<float>(0.1 * HashUnit(5, t.offset + i));
  }
  const std::vector<float> core = Logits(*model_, spec, adapter);
  ASSERT_GT(Largest(core, base), 0.05) << "an adapter that says something";
  // f32: the same sums in another order, through two layers.
  constexpr double kTolerance = 2e-5;

  ASSERT_OK(WritePeftFolder(dir_ / "peft", layout, adapter, "tiny"));
  ASSERT_OK_AND_ASSIGN(const PeftAdapter peft, ReadPeftFolder(dir_ / "peft", layout.shape()));
  EXPECT_LT(Largest(core, Logits(*model_, peft.layout.spec(), peft.adapter)), kTolerance);

  ASSERT_OK(model::WriteMergedFolder(dir_ / "merged", model_path_, *model_, layout, adapter,
                                     model::MergedDtype::kF32));
  ASSERT_OK_AND_ASSIGN(const auto merged, model::OpenWeights(dir_ / "merged"));
  const std::vector<float> none(layout.adapter_elements(), 0.0F);
  EXPECT_LT(Largest(core, Logits(*merged, spec, none)), kTolerance);
}

TEST_F(CoreAdapterTest, TheFirstAdapterChangesNothingAndItsFirstStepLowersTheLoss) {
  const LoraSpec spec = AllTargets(8, 16, LoraMethod::kCore);
  const AdapterLayout layout = *AdapterLayout::Make(model_->config().shape, spec);
  const std::vector<float> first = *InitialAdapter(layout, crypto::Sha256(AsBytes("seed")));
  EXPECT_EQ(Logits(*model_, spec, first),
            Logits(*model_, spec, std::vector<float>(layout.adapter_elements(), 0.0F)));
  const auto engine = Make(*model_, spec);
  ASSERT_OK(engine->SetAdapter(first));
  ASSERT_OK(engine->ResetOptimizer({}));
  const Text text = RandomText(40, 100, 3);
  const double before = engine->Evaluate(text.view()).value().loss_sum;
  for (int i = 0; i < 5; ++i) ASSERT_OK(engine->TrainStep(std::vector{text.view()}, true, 1e-2));
  EXPECT_LT(engine->Evaluate(text.view()).value().loss_sum, 0.9 * before);
}

// Why B's columns are as long as they are: clips and learning rates of FFA keep their meaning.
TEST_F(CoreAdapterTest, GradientIsAsLongAsThatOfFfaOfTheSameRank) {
  const Text text = RandomText(60, 100, 9);
  double squares[2] = {0, 0};
  for (const LoraMethod method : {LoraMethod::kFfa, LoraMethod::kCore}) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const LoraSpec spec = AllTargets(8, 16, method);
      const auto engine = Make(*model_, spec);
      ASSERT_OK(engine->SetAdapter(*InitialAdapter(
          engine->layout(), crypto::Sha256(AsBytes(std::string(1, static_cast<char>(seed)))))));
      ASSERT_OK(engine->ResetOptimizer({}));
      ASSERT_OK(engine->TrainStep(std::vector{text.view()}, false, 0));
      std::vector<float> gradient(engine->layout().delta_elements());
      ASSERT_OK(engine->GetGradient(gradient));
      for (const float g : gradient) squares[method == LoraMethod::kCore] += static_cast<double>(g) * g;
    }
  }
  // Eight draws of fourteen subspaces: about a tenth is left to chance, and the seeds are fixed.
  EXPECT_NEAR(std::sqrt(squares[1] / squares[0]), 1, 0.25);
}

}  // namespace
}  // namespace concordat::train
