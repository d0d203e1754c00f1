#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/unit/worker/train/random_model.h"
#include "tests/unit/worker/train/reference_model.h"

// The engine's passes, written by hand, against a plain Llama under autograd in f64.
namespace concordat::train {
namespace {

using torch::Tensor;

constexpr ModelShape kGrouped = {
    .layers = 2, .hidden = 32, .intermediate = 48, .heads = 4, .kv_heads = 2, .head_dim = 16};
// Widths that are no multiple of a vector register.
constexpr ModelShape kOdd = {
    .layers = 2, .hidden = 30, .intermediate = 41, .heads = 3, .kv_heads = 1, .head_dim = 10};
constexpr ModelShape kWideHeads = {
    .layers = 1, .hidden = 64, .intermediate = 64, .heads = 2, .kv_heads = 2, .head_dim = 128};
constexpr ModelShape kMiddleHeads = {
    .layers = 1, .hidden = 64, .intermediate = 64, .heads = 3, .kv_heads = 3, .head_dim = 48};
constexpr uint32_t kVocab = 67;

std::unique_ptr<Engine> MakeEngine(const RandomModel& model, const LoraSpec& lora, EngineOptions options) {
  if (options.threads == 0) options.threads = 2;
  if (options.max_tokens == 512) options.max_tokens = 320;
  auto engine = Engine::Create(model, lora, options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  if (!engine.ok()) return nullptr;
  EXPECT_TRUE((*engine)->SetAdapter(RandomAdapter((*engine)->layout())).ok());
  EXPECT_TRUE((*engine)->ResetOptimizer({}).ok());
  return std::move(*engine);
}

struct Errors {
  double loss = 0;
  double whole = 0;         // ‖g − ref‖ / ‖ref‖ over all factors
  double worst_tensor = 0;  // ‖g − ref‖ / ‖ref‖ of the worst factor
};

/// One backward pass of each sequence, engine against reference.
Errors Compare(const RandomModel& model, const LoraSpec& lora, const EngineOptions& options,
               const std::vector<Text>& texts) {
  Errors errors;
  const auto engine = MakeEngine(model, lora, options);
  if (engine == nullptr) return {INFINITY, INFINITY, INFINITY};
  const AdapterLayout& layout = engine->layout();
  Reference reference(model, layout, RandomAdapter(layout));
  double loss = 0;
  std::vector<Sequence> batch;
  for (const Text& text : texts) {
    const Tensor sum = reference.Loss(text.view());
    sum.backward();
    loss += sum.item<double>();
    batch.push_back(text.view());
  }
  const auto step = engine->TrainStep(batch, /*update=*/false, 0);
  EXPECT_TRUE(step.ok()) << step.status();
  if (!step.ok()) return {INFINITY, INFINITY, INFINITY};
  errors.loss = std::abs(step->loss_sum - loss) / std::max(1.0, std::abs(loss));
  std::vector<float> gradient(layout.delta_elements());
  EXPECT_TRUE(engine->GetGradient(gradient).ok());
  double all = 0;
  double all_differences = 0;
  double from_zero = 0;
  for (const AdapterTensor& t : layout.tensors()) {
    if (!t.trained) continue;
    const Tensor expected = reference.Gradient(t).flatten();
    const Tensor got =
        torch::from_blob(gradient.data() + t.delta_offset, {static_cast<int64_t>(t.elements())})
            .to(torch::kDouble);
    const double norm = expected.norm().item<double>();
    const double difference = (got - expected).norm().item<double>();
    all += norm * norm;
    all_differences += difference * difference;
    if (norm == 0) {  // attention over one token has no gradient for q and k: rounding is all there is
      from_zero = std::max(from_zero, difference);
    } else {
      errors.worst_tensor = std::max(errors.worst_tensor, difference / norm);
    }
  }
  EXPECT_GT(all, 0);
  EXPECT_LT(from_zero, (options.dtype == EngineOptions::Dtype::kF32 ? 1e-6 : 1e-2) * std::sqrt(all));
  errors.whole = std::sqrt(all_differences / all);
  return errors;
}

// f32 keeps 24 bits; a few hundred additions in two layers cost about two digits of the seven.
constexpr double kFloatTolerance = 2e-5;
// bf16 keeps 8 bits: 2^-9 for each of the twenty or so roundings between a weight and a gradient, in
// quadrature, is 1e-2, what LibTorch's own autograd in bf16 shows on a real model. On these small widths
// little averages out; a single small factor (a k's A, say) is several times worse.
constexpr double kHalfTolerance = 4e-2;
constexpr double kHalfFactorTolerance = 1e-1;

struct Case {
  std::string name;
  ModelShape shape;
  bool tied;
  size_t length;
  size_t mask_every;
};

class EngineGradientTest : public testing::TestWithParam<Case> {
 protected:
  Errors Run(EngineOptions::Dtype dtype, bool portable, LoraMethod method = LoraMethod::kFedIt) const {
    const Case& c = GetParam();
    const RandomModel model(c.shape, kVocab, c.tied);
    return Compare(model, AllTargets(4, 6, method), {.dtype = dtype, .portable = portable},
                   {RandomText(c.length, kVocab, 3, c.mask_every)});
  }
};

TEST_P(EngineGradientTest, LossAndEveryFactorAgreeWithAutogradInF32) {
  const Errors errors = Run(EngineOptions::Dtype::kF32, false);
  EXPECT_LT(errors.loss, kFloatTolerance);
  EXPECT_LT(errors.worst_tensor, kFloatTolerance);
}

TEST_P(EngineGradientTest, AtenOperationsAloneAgreeWithAutogradInF32) {
  const Errors errors = Run(EngineOptions::Dtype::kF32, true);
  EXPECT_LT(errors.loss, kFloatTolerance);
  EXPECT_LT(errors.worst_tensor, kFloatTolerance);
}

TEST_P(EngineGradientTest, LossAndEveryFactorAgreeWithAutogradInBf16) {
  for (const bool portable : {false, true}) {
    const Errors errors = Run(EngineOptions::Dtype::kBf16, portable);
    EXPECT_LT(errors.loss, kHalfTolerance / 2) << "portable " << portable;
    EXPECT_LT(errors.whole, kHalfTolerance) << "portable " << portable;
    EXPECT_LT(errors.worst_tensor, kHalfFactorTolerance) << "portable " << portable;
    RecordProperty(portable ? "portable_error" : "kernel_error", std::to_string(errors.whole));
  }
}

// A core's gradients are small products of u and v; nothing of FedIT's way to them is used.
TEST_P(EngineGradientTest, LossAndEveryCoreAgreeWithAutogradInF32) {
  for (const bool portable : {false, true}) {
    const Errors errors = Run(EngineOptions::Dtype::kF32, portable, LoraMethod::kCore);
    EXPECT_LT(errors.loss, kFloatTolerance) << "portable " << portable;
    EXPECT_LT(errors.worst_tensor, kFloatTolerance) << "portable " << portable;
    RecordProperty(portable ? "portable_error" : "kernel_error", std::to_string(errors.worst_tensor));
  }
}

TEST_P(EngineGradientTest, LossAndEveryCoreAgreeWithAutogradInBf16) {
  for (const bool portable : {false, true}) {
    const Errors errors = Run(EngineOptions::Dtype::kBf16, portable, LoraMethod::kCore);
    EXPECT_LT(errors.loss, kHalfTolerance / 2) << "portable " << portable;
    EXPECT_LT(errors.whole, kHalfTolerance) << "portable " << portable;
    EXPECT_LT(errors.worst_tensor, kHalfFactorTolerance) << "portable " << portable;
    RecordProperty(portable ? "portable_error" : "kernel_error", std::to_string(errors.whole));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, EngineGradientTest,
    testing::Values(Case{"TwoTokens", kGrouped, true, 2, 0}, Case{"Grouped", kGrouped, true, 37, 0},
                    Case{"Untied", kGrouped, false, 37, 0}, Case{"Masked", kGrouped, true, 61, 3},
                    Case{"OddWidths", kOdd, false, 43, 4}, Case{"WideHeads", kWideHeads, true, 140, 0},
                    Case{"MiddleHeads", kMiddleHeads, true, 131, 0},
                    Case{"BlockLessOne", kGrouped, true, 127, 0}, Case{"Block", kGrouped, true, 128, 0},
                    Case{"BlockAndOne", kGrouped, true, 129, 0}, Case{"ThreeBlocks", kGrouped, true, 300, 0}),
    [](const auto& info) { return info.param.name; });

TEST(EngineGradientTest, EveryTargetAloneAgreesWithAutograd) {
  const RandomModel model(kGrouped, kVocab, true);
  for (const LoraMethod method : {LoraMethod::kFedIt, LoraMethod::kCore}) {
    for (const LoraTarget target : kAllLoraTargets) {
      const LoraSpec lora{.rank = 3, .alpha = 3, .targets = {target}, .method = method};
      const Errors errors =
          Compare(model, lora, {.dtype = EngineOptions::Dtype::kF32}, {RandomText(20, kVocab, 5)});
      EXPECT_LT(errors.worst_tensor, kFloatTolerance)
          << LoraMethodName(method) << " " << LoraTargetName(target);
      EXPECT_LT(errors.loss, kFloatTolerance) << LoraMethodName(method) << " " << LoraTargetName(target);
    }
  }
}

TEST(EngineGradientTest, SubsetWithGapsAgreesWithAutograd) {
  const RandomModel model(kGrouped, kVocab, true);
  for (const LoraMethod method : {LoraMethod::kFedIt, LoraMethod::kCore}) {
    const LoraSpec lora{.rank = 3,
                        .alpha = 1,
                        .targets = {LoraTarget::kQ, LoraTarget::kV, LoraTarget::kUp},
                        .method = method};
    const Errors errors =
        Compare(model, lora, {.dtype = EngineOptions::Dtype::kF32}, {RandomText(20, kVocab, 5)});
    EXPECT_LT(errors.worst_tensor, kFloatTolerance) << LoraMethodName(method);
  }
}

TEST(EngineGradientTest, FfaGradientIsThatOfBAlone) {
  const RandomModel model(kGrouped, kVocab, true);
  const Errors errors = Compare(model, AllTargets(4, 4, LoraMethod::kFfa),
                                {.dtype = EngineOptions::Dtype::kF32}, {RandomText(20, kVocab, 5)});
  EXPECT_LT(errors.worst_tensor, kFloatTolerance);
}

TEST(EngineGradientTest, SequencesOfOneBatchAddUpToTheSumOfTheirLosses) {
  const RandomModel model(kGrouped, kVocab, true);
  // Long before short: what the long one leaves in the buffers must not reach the short one.
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    for (const LoraMethod method : {LoraMethod::kFedIt, LoraMethod::kCore}) {
      const Errors errors =
          Compare(model, AllTargets(4, 6, method), {.dtype = dtype},
                  {RandomText(300, kVocab, 5), RandomText(3, kVocab, 6), RandomText(130, kVocab, 8, 2)});
      EXPECT_LT(errors.worst_tensor, dtype == EngineOptions::Dtype::kF32 ? kFloatTolerance : kHalfTolerance)
          << LoraMethodName(method);
    }
  }
}

TEST(EngineGradientTest, AnyRankAndAnyNumberOfThreadsAgreeWithAutograd) {
  const RandomModel model(kGrouped, kVocab, true);
  const Text text = RandomText(290, kVocab, 5);
  for (const auto& [threads, rank] :
       std::vector<std::pair<int, uint32_t>>{{1, 1}, {2, 17}, {3, 5}, {5, 33}}) {
    for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
      const Errors errors =
          Compare(model, AllTargets(rank, rank), {.threads = threads, .dtype = dtype}, {text});
      EXPECT_LT(errors.whole, dtype == EngineOptions::Dtype::kF32 ? kFloatTolerance : kHalfTolerance)
          << threads << " threads, rank " << rank;
    }
  }
}

TEST(EngineGradientTest, GradientAgreesWithFiniteDifferences) {
  const RandomModel model(kGrouped, kVocab, true);
  for (const LoraMethod method : {LoraMethod::kFedIt, LoraMethod::kCore}) {
    const auto engine = MakeEngine(model, AllTargets(4, 6, method), {.dtype = EngineOptions::Dtype::kF32});
    const Text text = RandomText(24, kVocab, 5);
    ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, false, 0).ok());
    std::vector<float> gradient(engine->layout().delta_elements());
    ASSERT_TRUE(engine->GetGradient(gradient).ok());
    const std::vector<float> start = RandomAdapter(engine->layout());
    // Along the gradient itself the change of the loss is largest: f32 rounding of the loss matters least.
    double square = 0;
    for (const float g : gradient) square += static_cast<double>(g) * g;
    const double step = 2e-3 / std::sqrt(square);
    double loss[2];
    for (const int side : {0, 1}) {
      std::vector<float> moved = start;
      for (const AdapterTensor& t : engine->layout().tensors()) {
        for (uint64_t i = 0; t.trained && i < t.elements(); ++i)
          moved[t.offset + i] +=
              static_cast<float>((side == 0 ? -step : step) * gradient[t.delta_offset + i]);
      }
      ASSERT_TRUE(engine->SetAdapter(moved).ok());
      loss[side] = engine->Evaluate(text.view()).value().loss_sum;
    }
    // Error: third derivative times step², and 1e-7 of the loss over the difference.
    EXPECT_NEAR((loss[1] - loss[0]) / (2 * step * square), 1.0, 1e-3) << LoraMethodName(method);
  }
}

TEST(EngineOptimizerTest, StepsAgreeWithLibTorchsAdamW) {
  for (const bool portable : {false, true}) {
    const RandomModel model(kGrouped, kVocab, true);
    const auto engine =
        MakeEngine(model, AllTargets(4, 6), {.dtype = EngineOptions::Dtype::kF32, .portable = portable});
    const OptimizerOptions options{
        .learning_rate = 3e-3, .beta1 = 0.9, .beta2 = 0.97, .weight_decay = 0.1, .grad_clip = 0.5};
    ASSERT_TRUE(engine->ResetOptimizer(options).ok());
    const AdapterLayout& layout = engine->layout();
    const std::vector<float> start = RandomAdapter(layout);
    Tensor parameter = torch::tensor(start).to(torch::kDouble).requires_grad_(true);
    torch::optim::AdamW adamw(
        {parameter}, torch::optim::AdamWOptions(3e-3).betas({0.9, 0.97}).weight_decay(0.1).eps(1e-8));
    std::vector<float> adapter(start.size());
    for (uint64_t t = 0; t < 4; ++t) {
      const Text text = RandomText(20 + t, kVocab, 5 + t);
      ASSERT_TRUE(engine->TrainStep(std::vector{text.view()}, false, 0).ok());
      std::vector<float> gradient(start.size());
      ASSERT_TRUE(engine->GetGradient(gradient).ok());
      Tensor mean = torch::tensor(gradient).to(torch::kDouble) / static_cast<double>(19 + t);
      const double norm = mean.norm().item<double>();
      if (norm > 0.5) mean = mean * (0.5 / norm);
      parameter.mutable_grad() = mean;
      adamw.step();
      const auto step = engine->TrainStep({}, true, 3e-3);
      ASSERT_TRUE(step.ok()) << step.status();
      EXPECT_NEAR(step->gradient_norm, norm, 1e-5 * norm);
      ASSERT_TRUE(engine->GetAdapter(adapter).ok());
      const double error =
          (torch::tensor(adapter).to(torch::kDouble) - parameter.detach()).abs().max().item<double>();
      // A step is about the rate, 3e-3; f32 rounding of values near 0.2 is 1e-8.
      EXPECT_LT(error, 1e-6) << "step " << t << ", portable " << portable;
    }
  }
}

}  // namespace
}  // namespace concordat::train
