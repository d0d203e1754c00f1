#include "worker/train/engine.h"

#include <gtest/gtest.h>

#include "tests/unit/worker/train/random_model.h"

namespace concordat::train {
namespace {

constexpr ModelShape kShape = {
    .layers = 2, .hidden = 32, .intermediate = 48, .heads = 4, .kv_heads = 2, .head_dim = 16};
constexpr uint32_t kVocab = 67;

EngineOptions Options(EngineOptions::Dtype dtype = EngineOptions::Dtype::kF32) {
  return {.threads = 2, .dtype = dtype, .max_tokens = 160};
}

class EngineTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> Make(const LoraSpec& lora = AllTargets(4, 6),
                               const EngineOptions& options = Options()) {
    auto engine = Engine::Create(model_, lora, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    EXPECT_TRUE((*engine)->SetAdapter(RandomAdapter((*engine)->layout())).ok());
    EXPECT_TRUE((*engine)->ResetOptimizer({}).ok());
    return std::move(*engine);
  }
  static std::vector<float> Gradient(const Engine& engine) {
    std::vector<float> gradient(engine.layout().delta_elements());
    EXPECT_TRUE(engine.GetGradient(gradient).ok());
    return gradient;
  }
  static std::vector<float> Adapter(const Engine& engine) {
    std::vector<float> adapter(engine.layout().adapter_elements());
    EXPECT_TRUE(engine.GetAdapter(adapter).ok());
    return adapter;
  }
  RandomModel model_{kShape, kVocab, true};
};

TEST_F(EngineTest, AdapterComesBackAsItWasSet) {
  const auto engine = Make(AllTargets(4, 6), Options(EngineOptions::Dtype::kBf16));
  EXPECT_EQ(Adapter(*engine), RandomAdapter(engine->layout()));
}

TEST_F(EngineTest, SameCallsGiveTheSameBits) {
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    std::vector<float> adapters[2];
    std::vector<double> losses[2];
    for (const int run : {0, 1}) {
      const auto engine = Make(AllTargets(4, 6), Options(dtype));
      for (uint64_t t = 0; t < 3; ++t) {
        const Text text = RandomText(150 - 40 * t, kVocab, t);
        losses[run].push_back(engine->TrainStep(std::vector{text.view()}, true, 1e-2).value().loss_sum);
      }
      adapters[run] = Adapter(*engine);
    }
    EXPECT_EQ(adapters[0], adapters[1]);
    EXPECT_EQ(losses[0], losses[1]);
  }
}

TEST_F(EngineTest, AccumulatedStepsEqualOneLargerBatch) {
  const Text a = RandomText(40, kVocab, 1);
  const Text b = RandomText(90, kVocab, 2, 3);
  const auto apart = Make();
  ASSERT_TRUE(apart->TrainStep(std::vector{a.view()}, false, 0).ok());
  ASSERT_TRUE(apart->TrainStep(std::vector{b.view()}, true, 1e-2).ok());
  const auto together = Make();
  ASSERT_TRUE(together->TrainStep(std::vector{a.view(), b.view()}, true, 1e-2).ok());
  EXPECT_EQ(Adapter(*apart), Adapter(*together));
}

TEST_F(EngineTest, TrainingLowersTheLossInEveryNumberFormat) {
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    const auto engine = Make(AllTargets(4, 6), Options(dtype));
    const Text text = RandomText(60, kVocab, 9);
    const double before = engine->Evaluate(text.view()).value().loss_sum;
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
    EXPECT_LT(engine->Evaluate(text.view()).value().loss_sum, 0.7 * before);
  }
}

TEST_F(EngineTest, UpdateClearsTheGradientAndResetForgetsMoments) {
  const auto engine = Make();
  const Text text = RandomText(30, kVocab, 9);
  const std::vector<float> start = Adapter(*engine);
  ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
  const std::vector<float> after = Adapter(*engine);
  EXPECT_NE(after, start);
  EXPECT_EQ(Gradient(*engine), std::vector<float>(start.size(), 0.0F));
  ASSERT_TRUE(engine->ResetOptimizer({}).ok());
  ASSERT_TRUE(engine->SetAdapter(start).ok());
  ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
  EXPECT_EQ(Adapter(*engine), after);
}

TEST_F(EngineTest, FactorsThatAreNotTrainedStayAsTheyAreEvenWithWeightDecay) {
  for (const auto& [method, trained] :
       {std::pair(LoraMethod::kFfa, LoraFactor::kB), std::pair(LoraMethod::kCore, LoraFactor::kR)}) {
    const auto engine = Make(AllTargets(4, 6, method));
    ASSERT_TRUE(engine->ResetOptimizer({.weight_decay = 0.5}).ok());
    const std::vector<float> start = Adapter(*engine);
    const Text text = RandomText(30, kVocab, 9);
    ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
    const std::vector<float> after = Adapter(*engine);
    for (const AdapterTensor& t : engine->layout().tensors()) {
      for (uint64_t i = t.offset; i < t.offset + t.elements(); ++i)
        ASSERT_EQ(start[i] != after[i], t.factor == trained) << t.PeftName();
    }
  }
}

TEST_F(EngineTest, KernelsAndAtenOperationsAgree) {
  const Text text = RandomText(150, kVocab, 4, 5);
  EngineOptions portable = Options();
  portable.portable = true;
  const auto fast = Make();
  const auto slow = Make(AllTargets(4, 6), portable);
  const StepResult a = fast->Evaluate(text.view()).value();
  const StepResult b = slow->Evaluate(text.view()).value();
  EXPECT_NEAR(a.loss_sum, b.loss_sum, 1e-4);
  EXPECT_EQ(a.correct_tokens, b.correct_tokens);
}

TEST_F(EngineTest, LogLikelihoodsAddUpToTheLossAndFollowFromTheLogits) {
  const auto engine = Make();
  const Text text = RandomText(33, kVocab, 4, 5);
  const StepResult whole = engine->Evaluate(text.view()).value();
  const std::vector<float> each = engine->LogLikelihoods(text.view()).value();
  const std::vector<float> logits = engine->Logits(text.tokens).value();
  ASSERT_EQ(each.size(), whole.target_tokens);
  double sum = 0;
  uint64_t correct = 0;
  size_t n = 0;
  for (size_t i = 1; i < text.tokens.size(); ++i) {
    if (text.target[i] == 0) continue;
    const float* row = logits.data() + (i - 1) * kVocab;
    double total = 0;
    for (uint32_t v = 0; v < kVocab; ++v) total += std::exp(static_cast<double>(row[v]));
    const auto token = static_cast<size_t>(text.tokens[i]);
    EXPECT_NEAR(each[n++], row[token] - std::log(total), 1e-4);
    correct += std::max_element(row, row + kVocab) == row + token ? 1 : 0;
    sum -= each[n - 1];
  }
  EXPECT_NEAR(sum, whole.loss_sum, 1e-4);
  EXPECT_EQ(correct, whole.correct_tokens);
  EXPECT_EQ(whole.tokens, 33U);
}

TEST_F(EngineTest, FutureTokensDoNotChangeThePast) {
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    const auto engine = Make(AllTargets(4, 6), Options(dtype));
    Text text = RandomText(140, kVocab, 4);
    const std::vector<float> before = engine->Logits(text.tokens).value();
    text.tokens[135] = (text.tokens[135] + 1) % static_cast<int32_t>(kVocab);
    const std::vector<float> after = engine->Logits(text.tokens).value();
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + 135 * kVocab, after.begin()));
    EXPECT_FALSE(std::equal(before.begin() + 135 * kVocab, before.end(), after.begin() + 135 * kVocab));
  }
}

TEST_F(EngineTest, SequenceWithoutTargetsChangesNothing) {
  const auto engine = Make();
  const std::vector<float> start = Adapter(*engine);
  Text text = RandomText(20, kVocab, 4);
  std::fill(text.target.begin() + 1, text.target.end(), 0);
  const Text one = RandomText(1, kVocab, 4);
  const auto step = engine->TrainStep(std::vector{text.view(), one.view()}, true, 1e-2);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(step->target_tokens, 0U);
  EXPECT_EQ(step->loss_sum, 0);
  EXPECT_EQ(Adapter(*engine), start);
}

TEST_F(EngineTest, RefusesWeightsThatAreNotNumbersAndGoesOn) {
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    model_.poisoned = "model.layers.1.mlp.up_proj.weight";
    const auto engine = Make(AllTargets(4, 6), Options(dtype));
    const std::vector<float> start = Adapter(*engine);
    const Text text = RandomText(20, kVocab, 4);
    const auto step = engine->TrainStep(std::vector{text.view()}, true, 1e-2);
    EXPECT_EQ(step.status().code(), StatusCode::kInvalidArgument) << step.status();
    EXPECT_NE(Message(step.status()).find("not finite"), std::string_view::npos);
    EXPECT_EQ(Adapter(*engine), start);
    EXPECT_EQ(Gradient(*engine), std::vector<float>(start.size(), 0.0F));
  }
}

TEST_F(EngineTest, RecoversFromAnAdapterThatOverflowed) {
  const auto engine = Make(AllTargets(4, 6), Options(EngineOptions::Dtype::kBf16));
  const Text text = RandomText(150, kVocab, 4);
  const double loss = engine->Evaluate(text.view()).value().loss_sum;
  ASSERT_TRUE(engine->SetAdapter(std::vector<float>(engine->layout().adapter_elements(), 1e30F)).ok());
  EXPECT_FALSE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
  ASSERT_TRUE(engine->SetAdapter(RandomAdapter(engine->layout())).ok());
  EXPECT_EQ(engine->Evaluate(text.view()).value().loss_sum, loss);
  // A shorter one too: rows behind its end still hold what overflowed.
  const Text shorter = RandomText(70, kVocab, 4);
  ASSERT_TRUE(engine->SetAdapter(std::vector<float>(engine->layout().adapter_elements(), 1e30F)).ok());
  EXPECT_FALSE(engine->TrainStep(std::vector{text.view()}, true, 1e-2).ok());
  ASSERT_TRUE(engine->SetAdapter(RandomAdapter(engine->layout())).ok());
  const auto step = engine->TrainStep(std::vector{shorter.view()}, true, 1e-2);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_GT(step->gradient_norm, 0);
}

TEST_F(EngineTest, RefusesMalformedSequences) {
  const auto engine = Make();
  Text text = RandomText(20, kVocab, 4);
  const auto code = [&](const Text& t) {
    EXPECT_EQ(engine->Evaluate(t.view()).status().code(),
              engine->TrainStep(std::vector{t.view()}, true, 1e-2).status().code());
    return engine->Evaluate(t.view()).status().code();
  };
  EXPECT_EQ(code(Text{}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(RandomText(161, kVocab, 4)), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(RandomText(160, kVocab, 4)), StatusCode::kOk);
  text.tokens[3] = kVocab;
  EXPECT_EQ(code(text), StatusCode::kInvalidArgument);
  text.tokens[3] = -1;
  EXPECT_EQ(code(text), StatusCode::kInvalidArgument);
  text = RandomText(20, kVocab, 4);
  text.target.pop_back();
  EXPECT_EQ(code(text), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->Logits({}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, AFailedStepDropsWhatItsMicroBatchAdded) {
  const auto engine = Make();
  const Text good = RandomText(20, kVocab, 4);
  Text bad = good;
  bad.tokens[3] = -1;
  EXPECT_FALSE(engine->TrainStep(std::vector{good.view(), bad.view()}, true, 1e-2).ok());
  EXPECT_EQ(Gradient(*engine), std::vector<float>(engine->layout().delta_elements(), 0.0F));
}

TEST_F(EngineTest, RefusesAdaptersOfTheWrongLengthOrNotFinite) {
  const auto engine = Make();
  std::vector<float> adapter = RandomAdapter(engine->layout());
  adapter.push_back(0);
  EXPECT_EQ(engine->SetAdapter(adapter).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->GetAdapter(adapter).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->GetGradient(adapter).code(), StatusCode::kInvalidArgument);
  adapter.pop_back();
  adapter[5] = INFINITY;
  EXPECT_EQ(engine->SetAdapter(adapter).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Adapter(*engine), RandomAdapter(engine->layout()));
}

TEST_F(EngineTest, RefusesOptionsThatMakeNoSense) {
  const auto code = [&](const EngineOptions& options) {
    return Engine::Create(model_, AllTargets(4, 6), options).status().code();
  };
  EXPECT_EQ(code({.device = "tpu:0"}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.device = "meta"}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.device = ""}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.threads = -1}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.threads = 1025}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.max_tokens = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.max_tokens = 1025}), StatusCode::kInvalidArgument);
  EXPECT_EQ(Engine::Create(model_, AllTargets(0, 6), Options()).status().code(),
            StatusCode::kInvalidArgument);
  const auto engine = Make();
  EXPECT_EQ(engine->ResetOptimizer({.beta2 = 1.0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->ResetOptimizer({.epsilon = 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->ResetOptimizer({.grad_clip = NAN}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->TrainStep({}, true, -1).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, RefusesModelsItCannotRunAndNamesTheTensor) {
  model_.absent = "model.layers.1.self_attn.k_proj.weight";
  const auto absent = Engine::Create(model_, AllTargets(4, 6), Options());
  ASSERT_FALSE(absent.ok());
  EXPECT_NE(Message(absent.status()).find(model_.absent), std::string_view::npos) << absent.status();
  model_.absent.clear();
  model_.mutable_config().architecture = "gemma";
  EXPECT_NE(Message(Engine::Create(model_, AllTargets(4, 6), Options()).status()).find("gemma"),
            std::string_view::npos);
}

TEST_F(EngineTest, RefusesToTrainBeforeTheOptimizerIsSet) {
  auto engine = Engine::Create(model_, AllTargets(4, 6), Options());
  ASSERT_TRUE(engine.ok());
  EXPECT_EQ((*engine)->TrainStep({}, true, 1e-2).status().code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace concordat::train
