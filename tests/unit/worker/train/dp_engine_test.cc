#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/unit/worker/train/random_model.h"
#include "tests/unit/worker/train/reference_model.h"

// The step of DP-SGD against the obvious: one backward pass of a plain Llama under autograd for each unit, in
// f64.
namespace concordat::train {
namespace {

using torch::Tensor;

constexpr ModelShape kShape = {
    .layers = 2, .hidden = 32, .intermediate = 48, .heads = 4, .kv_heads = 2, .head_dim = 16};
constexpr uint32_t kVocab = 67;
// An optimizer whose step is −kStep·g: AdamW without memory and with an epsilon beside which |g| is nothing.
constexpr double kEpsilon = 1e6, kStep = 100, kRate = kStep * kEpsilon;

Secret32 Seed(uint8_t v) {
  Secret32 seed;
  seed.mutable_view()[0] = v;
  return seed;
}

/// No token 0: RandomModel can poison that one.
Text CleanText(size_t length, uint64_t seed, size_t mask_every = 0) {
  Text text = RandomText(length, kVocab, seed, mask_every);
  for (int32_t& token : text.tokens) token = std::max(token, 1);
  return text;
}

struct Unit {
  std::vector<Text> records;
};

class DpEngineTest : public testing::Test {
 protected:
  std::unique_ptr<Engine> Make(const LoraSpec& lora = AllTargets(4, 6),
                               EngineOptions::Dtype dtype = EngineOptions::Dtype::kF32,
                               bool portable = false) {
    auto engine =
        Engine::Create(model_, lora, {.threads = 2, .dtype = dtype, .max_tokens = 320, .portable = portable});
    EXPECT_TRUE(engine.ok()) << engine.status();
    EXPECT_TRUE((*engine)->SetAdapter(RandomAdapter((*engine)->layout())).ok());
    EXPECT_TRUE((*engine)->ResetOptimizer({.beta1 = 0, .beta2 = 0, .epsilon = kEpsilon}).ok());
    return std::move(*engine);
  }

  /// One logical step; physical batches of `batch` records.
  static DpStepResult Step(Engine& engine, const DpStepConfig& config, const std::vector<Unit>& units,
                           size_t batch = 100, double rate = kRate, uint8_t seed = 1) {
    std::vector<DpRecord> records;
    for (size_t u = 0; u < units.size(); ++u)
      for (const Text& text : units[u].records) records.push_back({.sequence = text.view(), .unit = u});
    EXPECT_TRUE(engine.DpBegin(config).ok());
    for (size_t i = 0; i < records.size(); i += batch) {
      const Status added = engine.DpAdd(std::span(records).subspan(i, std::min(batch, records.size() - i)));
      EXPECT_TRUE(added.ok()) << added;
    }
    auto result = engine.DpUpdate(Seed(seed), rate);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : DpStepResult{};
  }

  static std::vector<float> Adapter(const Engine& engine) {
    std::vector<float> adapter(engine.layout().adapter_elements());
    EXPECT_TRUE(engine.GetAdapter(adapter).ok());
    return adapter;
  }
  /// The noised mean gradient of the step just made from RandomAdapter, in f64, adapter's order.
  static Tensor MeanGradient(const Engine& engine) {
    const Tensor before = torch::tensor(RandomAdapter(engine.layout())).to(torch::kDouble);
    return (before - torch::tensor(Adapter(engine)).to(torch::kDouble)) / kStep;
  }

  /// The elements of a vector in the adapter's order that are trained, in the delta's order.
  static Tensor Trained(const AdapterLayout& layout, const Tensor& adapter) {
    std::vector<Tensor> parts;
    for (const AdapterTensor& t : layout.tensors()) {
      if (t.trained)
        parts.push_back(
            adapter.narrow(0, static_cast<int64_t>(t.offset), static_cast<int64_t>(t.elements())));
    }
    return torch::cat(parts);
  }

  /// Gradient of a unit's mean loss per target token, in the delta's order.
  Tensor UnitGradient(const AdapterLayout& layout, const Unit& unit) const {
    Reference reference(model_, layout, RandomAdapter(layout));
    double targets = 0;
    for (const Text& text : unit.records) {
      const Tensor loss = reference.Loss(text.view());
      if (loss.requires_grad()) loss.backward();
      for (size_t i = 1; i < text.target.size(); ++i) targets += text.target[i] != 0 ? 1 : 0;
    }
    std::vector<Tensor> parts;
    for (const AdapterTensor& t : layout.tensors()) {
      if (t.trained) parts.push_back(reference.Gradient(t).flatten());
    }
    return torch::cat(parts) / targets;
  }

  RandomModel model_{kShape, kVocab, false};
};

// f32 against f64: the whole norm averages what single elements lose.
constexpr double kNormTolerance = 1e-5;

TEST_F(DpEngineTest, NormsEqualOneBackwardPassForEachSampleInEveryTargetLayer) {
  std::vector<LoraSpec> specs;
  for (const LoraMethod method : {LoraMethod::kFedIt, LoraMethod::kCore}) {
    specs.push_back(AllTargets(4, 6, method));
    for (const LoraTarget target : kAllLoraTargets)
      specs.push_back({.rank = 3, .alpha = 3, .targets = {target}, .method = method});
  }
  std::vector<Unit> units;
  // Long before short; every token a target, or what padding and prompts leave of them.
  for (const size_t length : {300U, 3U, 129U, 128U, 37U, 5U}) {
    units.push_back({{CleanText(length, length)}});
    if (length > 5) units.push_back({{CleanText(length, length + 1, 3)}});
  }
  for (const LoraSpec& lora : specs) {
    for (const bool portable : {false, true}) {
      const auto engine = Make(lora, EngineOptions::Dtype::kF32, portable);
      const DpStepResult result = Step(*engine, {.clip = 1, .divisor = 10}, units);
      ASSERT_EQ(result.unit_norms.size(), units.size());
      for (size_t u = 0; u < units.size(); ++u) {
        const double expected = UnitGradient(engine->layout(), units[u]).norm().item<double>();
        EXPECT_GT(expected, 1e-4);
        EXPECT_NEAR(result.unit_norms[u] / expected, 1, kNormTolerance)
            << LoraMethodName(lora.method) << ", "
            << (lora.targets.size() > 1 ? "all" : LoraTargetName(lora.targets[0])) << ", "
            << units[u].records[0].tokens.size() << " tokens, portable " << portable;
      }
    }
  }
}

class DpEngineMethodTest : public DpEngineTest, public testing::WithParamInterface<LoraMethod> {};

INSTANTIATE_TEST_SUITE_P(Methods, DpEngineMethodTest, testing::ValuesIn(kAllLoraMethods),
                         [](const auto& info) { return std::string(LoraMethodName(info.param)); });

TEST_P(DpEngineMethodTest, SumOfClippedGradientsEqualsBruteForce) {
  const auto engine = Make(AllTargets(4, 6, GetParam()));
  std::vector<Unit> units;
  for (uint64_t u = 0; u < 6; ++u)
    units.push_back({{CleanText(10 + 25 * u, 50 + u, u % 3 == 0 ? 0 : u % 3 + 1)}});
  std::vector<Tensor> gradients;
  std::vector<double> norms;
  for (const Unit& unit : units) {
    gradients.push_back(UnitGradient(engine->layout(), unit));
    norms.push_back(gradients.back().norm().item<double>());
  }
  std::vector<double> sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  const double clip = (sorted[2] + sorted[3]) / 2;
  Tensor sum = torch::zeros_like(gradients[0]);
  for (size_t u = 0; u < units.size(); ++u) sum += gradients[u] * std::min(1.0, clip / norms[u]);
  const DpStepResult result = Step(*engine, {.clip = clip, .grid = 0x1p-20, .divisor = 4}, units);
  EXPECT_EQ(result.units, 6U);
  EXPECT_EQ(result.clipped, 3U);
  EXPECT_EQ(result.dropped, 0U);
  EXPECT_EQ(result.noise_stddev, 0);
  // Six roundings of half a step on each coordinate, and what f32 loses of a gradient.
  const Tensor mean = Trained(engine->layout(), MeanGradient(*engine));
  const double worst = (mean - sum / 4).abs().max().item<double>();
  EXPECT_LT(worst, 6 * 0x1p-21 / 4 + 2e-5 * clip);
  EXPECT_NEAR(result.gradient_norm, (sum / 4).norm().item<double>(), 1e-4 * clip);
}

TEST_F(DpEngineTest, AllRecordsOfAPersonAreSummedBeforeOneClip) {
  const Unit person{{CleanText(40, 1), CleanText(90, 2, 2), CleanText(7, 3)}};
  const Unit other{{CleanText(30, 4)}};
  const auto engine = Make();
  const Tensor gradient = UnitGradient(engine->layout(), person);
  const double norm = gradient.norm().item<double>();
  const DpStepConfig config{.clip = norm / 3, .grid = 0x1p-20, .divisor = 1};
  const DpStepResult result = Step(*engine, config, {person});
  EXPECT_EQ(result.units, 1U);
  EXPECT_EQ(result.records, 3U);
  ASSERT_EQ(result.unit_norms.size(), 1U);
  EXPECT_NEAR(result.unit_norms[0] / norm, 1, kNormTolerance);
  EXPECT_LT((MeanGradient(*engine) - gradient / 3).abs().max().item<double>(), 0x1p-21 + 2e-5 * norm);

  // Cut across physical batches in any way: not a bit changes.
  const auto whole = Make();
  Step(*whole, config, {person, other});
  for (const size_t batch : {1U, 2U, 3U}) {
    const auto split = Make();
    const DpStepResult apart = Step(*split, config, {person, other}, batch);
    EXPECT_EQ(apart.units, 2U);
    EXPECT_EQ(Adapter(*split), Adapter(*whole)) << batch;
  }
}

TEST_P(DpEngineMethodTest, OnlyWhatIsTrainedMoves) {
  const auto engine = Make(AllTargets(4, 6, GetParam()));
  const DpStepResult result =
      Step(*engine, {.clip = 0.5, .noise_multiplier = 1, .divisor = 2}, {{{CleanText(30, 1)}}});
  EXPECT_EQ(result.units, 1U);
  const std::vector<float> before = RandomAdapter(engine->layout()), after = Adapter(*engine);
  for (const AdapterTensor& t : engine->layout().tensors()) {
    const auto first = static_cast<int64_t>(t.offset), last = static_cast<int64_t>(t.offset + t.elements());
    EXPECT_EQ(std::equal(before.begin() + first, before.begin() + last, after.begin() + first), !t.trained)
        << t.PeftName();
  }
}

// n coordinates: the variance within 6·√(2/n) of the true one (false alarm 2e-9).
TEST_F(DpEngineTest, EmptyBatchIsNoiseOfTheStatedSizeAlone) {
  const auto engine = Make();
  const DpStepResult result = Step(*engine, {.clip = 1, .noise_multiplier = 0.7, .divisor = 5}, {});
  EXPECT_EQ(result.units, 0U);
  EXPECT_EQ(result.records, 0U);
  EXPECT_NEAR(result.noise_stddev, 0.7 / 5, 0.7 / 5 * 0.006);
  const Tensor noise = MeanGradient(*engine);
  const auto n = static_cast<double>(noise.numel());
  ASSERT_GT(n, 4000);
  EXPECT_NEAR(noise.square().mean().item<double>() / std::pow(result.noise_stddev, 2), 1,
              6 * std::sqrt(2 / n));
  EXPECT_LT(std::abs(noise.mean().item<double>()), 6 * result.noise_stddev / std::sqrt(n));
}

TEST_F(DpEngineTest, NoiseIsAddedOnceForALogicalBatchWhateverItHolds) {
  std::vector<Unit> units;
  for (uint64_t u = 0; u < 4; ++u) units.push_back({{CleanText(20, u)}});
  const auto noise = Make(), plain = Make(), noised = Make(), other = Make();
  // A step of the grid for each unit of the sum: the same grid in all.
  DpStepConfig config{.clip = 1, .noise_multiplier = 0.7, .grid = 0x1p-12, .divisor = 5};
  Step(*noise, config, {});
  Step(*noised, config, units, 1);
  Step(*other, config, units, 1, kRate, 2);
  config.noise_multiplier = 0;
  Step(*plain, config, units);
  const Tensor difference = MeanGradient(*noised) - MeanGradient(*plain) - MeanGradient(*noise);
  // f32 of an adapter that moved by up to 100: 4e-6, over kStep.
  EXPECT_LT(difference.abs().max().item<double>(), 4e-7);
  EXPECT_GT((MeanGradient(*other) - MeanGradient(*noised)).abs().max().item<double>(), 0.1);
}

TEST_F(DpEngineTest, UnitThatIsNotFiniteIsDroppedAndNothingElseChanges) {
  model_.poisoned = "model.embed_tokens.weight";  // token 0
  const Unit a{{CleanText(40, 1)}}, b{{CleanText(290, 2)}}, c{{CleanText(9, 3)}};
  Text poison = CleanText(300, 9);
  poison.tokens[250] = 0;
  const DpStepConfig config{.clip = 0.1, .noise_multiplier = 0.5, .divisor = 3};
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    const auto clean = Make(AllTargets(4, 6), dtype);
    const DpStepResult expected = Step(*clean, config, {a, b, c});
    // Alone; after a sound record of the same person; before one.
    for (const Unit& bad :
         {Unit{{poison}}, Unit{{CleanText(50, 4), poison}}, Unit{{poison, CleanText(50, 4)}}}) {
      const auto engine = Make(AllTargets(4, 6), dtype);
      const DpStepResult result = Step(*engine, config, {a, bad, b, bad, c, bad}, 2);
      EXPECT_EQ(result.dropped, 3U);
      EXPECT_EQ(result.units, 3U);
      EXPECT_EQ(result.unit_norms, expected.unit_norms);
      EXPECT_EQ(result.metrics[DpMetric::kLossSum].sum, expected.metrics[DpMetric::kLossSum].sum);
      EXPECT_EQ(result.metrics[DpMetric::kUnits].sum, 3);
      EXPECT_EQ(Adapter(*engine), Adapter(*clean));
    }
  }
}

TEST_F(DpEngineTest, UnitWithoutTargetsCountsAndAddsNothing) {
  Text silent = CleanText(20, 4);
  std::fill(silent.target.begin(), silent.target.end(), 0);
  const auto engine = Make(), without = Make();
  const DpStepConfig config{.clip = 0.1, .divisor = 3};
  const DpStepResult result = Step(*engine, config, {{{silent}}, {{CleanText(20, 5)}}, {{CleanText(1, 6)}}});
  Step(*without, config, {{{CleanText(20, 5)}}});
  EXPECT_EQ(result.units, 3U);
  EXPECT_EQ(Adapter(*engine), Adapter(*without));
}

TEST_F(DpEngineTest, FiguresAreClippedForEachUnit) {
  const auto engine = Make();
  const Text small = CleanText(11, 1), large = CleanText(101, 2);
  const double small_loss = engine->Evaluate(small.view())->loss_sum;
  const double large_loss = engine->Evaluate(large.view())->loss_sum;
  const std::vector<Unit> units{{{small}}, {{large}}};
  const DpStepResult wide =
      Step(*engine, {.clip = 1, .divisor = 1, .bounds = {.target_tokens = 200, .loss = 2000}}, units, 100, 0);
  EXPECT_EQ(wide.metrics[DpMetric::kTargetTokens].value(), 110);
  EXPECT_NEAR(wide.metrics[DpMetric::kLossSum].value(), small_loss + large_loss, 2000 * 0x1p-20 + 1e-3);
  // 100 targets in 50: half the loss.
  const DpStepResult narrow =
      Step(*engine, {.clip = 1, .divisor = 1, .bounds = {.target_tokens = 50, .loss = 2000}}, units, 100, 0);
  EXPECT_EQ(narrow.metrics[DpMetric::kTargetTokens].value(), 60);
  EXPECT_NEAR(narrow.metrics[DpMetric::kLossSum].value(), small_loss + large_loss / 2, 2000 * 0x1p-20 + 1e-3);
  const DpStepResult tight =
      Step(*engine, {.clip = 1, .divisor = 1, .bounds = {.target_tokens = 200, .loss = 5}}, units, 100, 0);
  EXPECT_EQ(tight.metrics[DpMetric::kLossSum].value(), 10);
}

TEST_F(DpEngineTest, SameCallsGiveTheSameBits) {
  for (const auto dtype : {EngineOptions::Dtype::kF32, EngineOptions::Dtype::kBf16}) {
    std::vector<float> adapters[2];
    for (auto& adapter : adapters) {
      const auto engine = Make(AllTargets(4, 6), dtype);
      for (uint8_t t = 0; t < 3; ++t)
        Step(*engine, {.clip = 1, .noise_multiplier = 1, .divisor = 2}, {{{CleanText(50, t)}}}, 1, 1e4, t);
      adapter = Adapter(*engine);
    }
    EXPECT_EQ(adapters[0], adapters[1]);
  }
}

TEST_F(DpEngineTest, RefusesAUnitThatComesAgain) {
  const auto engine = Make();
  const Text text = CleanText(20, 1);
  const auto record = [&](uint64_t unit) { return std::vector<DpRecord>{{text.view(), unit}}; };
  const DpStepConfig config{.clip = 1, .divisor = 1};
  ASSERT_TRUE(engine->DpBegin(config).ok());
  ASSERT_TRUE(engine->DpAdd(record(5)).ok());
  ASSERT_TRUE(engine->DpAdd(record(5)).ok());
  ASSERT_TRUE(engine->DpAdd(record(6)).ok());
  EXPECT_EQ(engine->DpAdd(record(5)).code(), StatusCode::kInvalidArgument);
  // The step is gone, the engine is not.
  EXPECT_EQ(engine->DpAdd(record(7)).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(engine->DpUpdate(Seed(1), 1).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Adapter(*engine), RandomAdapter(engine->layout()));
  const DpStepResult after = Step(*engine, config, {{{text}}});
  const auto fresh = Make();
  Step(*fresh, config, {{{text}}});
  EXPECT_EQ(after.units, 1U);
  EXPECT_EQ(Adapter(*engine), Adapter(*fresh));
}

TEST_F(DpEngineTest, MalformedSequenceForgetsTheStep) {
  const auto engine = Make();
  const Text good = CleanText(20, 1);
  Text bad = good;
  bad.tokens[3] = -1;
  const std::vector<DpRecord> batch{{good.view(), 0}, {bad.view(), 1}};
  ASSERT_TRUE(engine->DpBegin({.clip = 1, .divisor = 1}).ok());
  EXPECT_EQ(engine->DpAdd(batch).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->DpUpdate(Seed(1), 1).status().code(), StatusCode::kFailedPrecondition);
  std::vector<float> gradient(engine->layout().delta_elements());
  ASSERT_TRUE(engine->GetGradient(gradient).ok());
  EXPECT_EQ(gradient, std::vector<float>(gradient.size(), 0));
  EXPECT_EQ(Adapter(*engine), RandomAdapter(engine->layout()));
}

TEST_F(DpEngineTest, RefusesOtherTrainingWithinAStepAndParametersThatMakeNoSense) {
  const auto engine = Make();
  const Text text = CleanText(20, 1);
  const auto code = [&](const DpStepConfig& config) { return engine->DpBegin(config).code(); };
  const auto bad = StatusCode::kInvalidArgument;
  EXPECT_EQ(code({.clip = 0, .divisor = 1}), bad);
  EXPECT_EQ(code({.clip = 1, .noise_multiplier = -1, .divisor = 1}), bad);
  EXPECT_EQ(code({.clip = 1, .divisor = 0}), bad);
  EXPECT_EQ(code({.clip = 1, .divisor = NAN}), bad);
  EXPECT_EQ(code({.clip = 1, .divisor = 1, .bounds = {.target_tokens = 0}}), bad);
  EXPECT_EQ(code({.clip = 1, .divisor = 1, .bounds = {.loss = INFINITY}}), bad);
  EXPECT_EQ(engine->DpAdd({}).code(), StatusCode::kFailedPrecondition);
  ASSERT_EQ(code({.clip = 1, .divisor = 1}), StatusCode::kOk);
  EXPECT_EQ(engine->TrainStep(std::vector{text.view()}, true, 1).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(engine->DpUpdate(Seed(1), -1).status().code(), bad);
  EXPECT_TRUE(engine->DpUpdate(Seed(1), 1).ok());
  EXPECT_TRUE(engine->TrainStep(std::vector{text.view()}, true, 1).ok());
  // Whoever changes the adapter in the middle ends the step.
  ASSERT_EQ(code({.clip = 1, .divisor = 1}), StatusCode::kOk);
  ASSERT_TRUE(engine->SetAdapter(RandomAdapter(engine->layout())).ok());
  EXPECT_EQ(engine->DpUpdate(Seed(1), 1).status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(DpEngineTest, RefusesToBeginBeforeTheOptimizerIsSet) {
  auto engine = Engine::Create(model_, AllTargets(4, 6), {.threads = 2, .max_tokens = 64});
  ASSERT_TRUE(engine.ok());
  EXPECT_EQ((*engine)->DpBegin({.clip = 1, .divisor = 1}).code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace concordat::train
