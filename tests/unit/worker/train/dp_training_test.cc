#include "worker/train/dp_training.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/unit/worker/train/random_model.h"
#include "worker/train/dp_accumulator.h"

namespace concordat::train {
namespace {

constexpr ModelShape kShape = {
    .layers = 1, .hidden = 32, .intermediate = 48, .heads = 2, .kv_heads = 2, .head_dim = 16};
constexpr uint32_t kVocab = 67;

Secret32 Seed(uint8_t v) {
  Secret32 seed;
  seed.mutable_view()[0] = v;
  return seed;
}

Digest Owner(uint8_t v) {
  Digest digest;
  digest.bytes[0] = v;
  return digest;
}

TEST(PrivacyUnitsTest, GroupsByOwnerInTheOrderOfTheirDigests) {
  const PrivacyUnits units(std::vector{Owner(9), Owner(2), Owner(9), Owner(5), Owner(2), Owner(9)});
  ASSERT_EQ(units.size(), 3U);
  const auto list = [&](uint32_t unit) {
    const auto span = units.sequences(unit);
    return std::vector<uint32_t>(span.begin(), span.end());
  };
  EXPECT_EQ(list(0), (std::vector<uint32_t>{1, 4}));
  EXPECT_EQ(list(1), (std::vector<uint32_t>{3}));
  EXPECT_EQ(list(2), (std::vector<uint32_t>{0, 2, 5}));
  EXPECT_EQ(PrivacyUnits(std::vector<Digest>{}).size(), 0U);
  EXPECT_EQ(PrivacyUnits(std::vector<Digest>(7, Owner(1))).size(), 1U);
}

class DpTrainingTest : public testing::Test {
 protected:
  DpTrainingTest() {
    for (uint8_t i = 0; i < 24; ++i) {
      texts_.push_back(RandomText(5 + i, kVocab, i));
      owners_.push_back(Owner(i % 10));
    }
    for (const Text& text : texts_) sequences_.push_back(text.view());
    units_ = PrivacyUnits(owners_);
  }
  std::unique_ptr<Engine> MakeEngine() {
    auto engine = Engine::Create(model_, AllTargets(2, 2),
                                 {.threads = 2, .dtype = EngineOptions::Dtype::kF32, .max_tokens = 64});
    EXPECT_TRUE(engine.ok()) << engine.status();
    EXPECT_TRUE((*engine)->SetAdapter(RandomAdapter((*engine)->layout())).ok());
    EXPECT_TRUE((*engine)->ResetOptimizer({}).ok());
    return std::move(*engine);
  }
  DpTrainingConfig Config(double rate, double noise = 1) const {
    return {.step = {.clip = 0.5, .noise_multiplier = noise, .divisor = 5},
            .rate = SamplingRate::FromDouble(rate).value(),
            .physical_batch = 4};
  }
  static std::vector<float> Adapter(const Engine& engine) {
    std::vector<float> adapter(engine.layout().adapter_elements());
    EXPECT_TRUE(engine.GetAdapter(adapter).ok());
    return adapter;
  }

  RandomModel model_{kShape, kVocab, true};
  std::vector<Text> texts_;
  std::vector<Digest> owners_;
  std::vector<Sequence> sequences_;
  PrivacyUnits units_;
};

TEST_F(DpTrainingTest, TrainsOnExactlyTheUnitsThatTheSamplerDraws) {
  const auto engine = MakeEngine(), by_hand = MakeEngine();
  const DpTrainingConfig config = Config(0.4);
  auto training = DpTraining::Make(*engine, sequences_, units_, config, Seed(3));
  ASSERT_TRUE(training.ok()) << training.status();
  uint64_t drawn = 0;
  for (uint64_t step = 0; step < 8; ++step) {
    const auto result = training->Step(step, 1e-2);
    ASSERT_TRUE(result.ok()) << result.status();
    const StepSeeds seeds = StepSeedsFor(Seed(3), step);
    const std::vector<uint32_t> batch = PoissonSampler(config.rate, units_.size()).Draw(seeds.sampling);
    EXPECT_EQ(result->units, batch.size());
    drawn += batch.size();
    ASSERT_TRUE(by_hand->DpBegin(config.step).ok());
    for (const uint32_t unit : batch)
      for (const uint32_t index : units_.sequences(unit)) {
        const std::vector<DpRecord> record{{sequences_[index], unit}};
        ASSERT_TRUE(by_hand->DpAdd(record).ok());
      }
    ASSERT_TRUE(by_hand->DpUpdate(seeds.noise, 1e-2).ok());
    EXPECT_EQ(Adapter(*engine), Adapter(*by_hand)) << step;
  }
  EXPECT_GT(drawn, 10U);
  EXPECT_LT(drawn, 70U);
}

TEST_F(DpTrainingTest, RateZeroIsNoiseAloneAndRateOneIsEveryone) {
  const auto none = MakeEngine(), all = MakeEngine();
  const std::vector<float> start = Adapter(*none);
  auto nobody = DpTraining::Make(*none, sequences_, units_, Config(0), Seed(3));
  const auto empty = nobody->Step(0, 1e-2);
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(empty->units, 0U);
  EXPECT_EQ(empty->records, 0U);
  EXPECT_GT(empty->gradient_norm, 0);
  EXPECT_NE(Adapter(*none), start);
  auto everyone = DpTraining::Make(*all, sequences_, units_, Config(1), Seed(3));
  const auto full = everyone->Step(0, 1e-2);
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->units, 10U);
  EXPECT_EQ(full->records, 24U);
}

TEST_F(DpTrainingTest, RepeatedStepGivesTheSameBitsAndAnotherRootDoesNot) {
  std::vector<std::vector<float>> adapters;
  for (const uint8_t root : {3, 3, 4}) {
    const auto engine = MakeEngine();
    auto training = DpTraining::Make(*engine, sequences_, units_, Config(0.5), Seed(root));
    for (uint64_t step = 0; step < 3; ++step) ASSERT_TRUE(training->Step(step, 1e-2).ok());
    adapters.push_back(Adapter(*engine));
  }
  EXPECT_EQ(adapters[0], adapters[1]);
  EXPECT_NE(adapters[0], adapters[2]);
}

TEST_F(DpTrainingTest, LowersTheLossWithLittleNoise) {
  const auto engine = MakeEngine();
  auto training = DpTraining::Make(*engine, sequences_, units_, Config(0.5, 0.01), Seed(3));
  const auto loss = [&] {
    double sum = 0;
    for (const Sequence& s : sequences_) sum += engine->Evaluate(s)->loss_sum;
    return sum;
  };
  const double before = loss();
  for (uint64_t step = 0; step < 30; ++step) ASSERT_TRUE(training->Step(step, 1e-2).ok());
  EXPECT_LT(loss(), 0.9 * before);
}

TEST_F(DpTrainingTest, RefusesUnitsThatDoNotOwnTheSequences) {
  const auto engine = MakeEngine();
  const auto code = [&](size_t sequences, uint32_t batch) {
    DpTrainingConfig config = Config(0.5);
    config.physical_batch = batch;
    return DpTraining::Make(*engine, std::span(sequences_).first(sequences), units_, config, Seed(1))
        .status()
        .code();
  };
  EXPECT_EQ(code(24, 4), StatusCode::kOk);
  EXPECT_EQ(code(23, 4), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(24, 0), StatusCode::kInvalidArgument);
}

std::unique_ptr<DpAccumulator> MakeAccumulator(DpMetricBounds bounds = {}) {
  return DpAccumulator::Make({.clip = 1, .grid = 0x1p-20, .divisor = 1, .bounds = bounds}, 4, OneByOne)
      .value();
}

TEST(DpAccumulatorTest, GradientThatIsNotFiniteDropsItsUnitOnly) {
  const auto dp = MakeAccumulator();
  const std::vector<float> good{0.25F, 0, 0, -0.5F}, bad{0, NAN, 0, 0};
  dp->Count(0, {.loss_sum = 3, .target_tokens = 1});
  ASSERT_TRUE(dp->Close(good).ok());
  dp->Count(1, {.loss_sum = 5, .target_tokens = 1});
  ASSERT_TRUE(dp->Close(bad).ok());
  std::vector<float> mean(4);
  const auto result = dp->Finish(Seed(1), mean);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(mean, good);
  EXPECT_EQ(result->units, 1U);
  EXPECT_EQ(result->dropped, 1U);
  EXPECT_NEAR(result->metrics[DpMetric::kLossSum].value(), 3, 0.01);
  EXPECT_EQ(result->metrics[DpMetric::kUnits].sum, 1);
}

TEST(DpAccumulatorTest, FinishAndCloseComeInTheirOrder) {
  const auto dp = MakeAccumulator();
  std::vector<float> mean(4);
  EXPECT_EQ(dp->Close(mean).code(), StatusCode::kFailedPrecondition);
  dp->Count(3, {});
  EXPECT_EQ(dp->Finish(Seed(1), mean).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(dp->MustClose(4));
  EXPECT_FALSE(dp->MustClose(3));
  EXPECT_TRUE(dp->Admit(3).ok());
  ASSERT_TRUE(dp->Close(mean).ok());
  EXPECT_EQ(dp->Admit(3).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(dp->Admit(2).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(dp->Admit(4).ok());
  dp->Reset();
  EXPECT_TRUE(dp->Admit(0).ok());
}

// 4 coordinates × 4,000 draws each: deviation within 6·√(2/n) of z·sensitivity (false alarm 2e-9 each).
TEST(DpAccumulatorTest, MetricNoiseIsInProportionToEachSensitivity) {
  const auto dp = MakeAccumulator({.target_tokens = 300, .loss = 40});
  dp->Count(0, {.loss_sum = 20, .target_tokens = 100, .correct_tokens = 50});
  ASSERT_TRUE(dp->Close(std::vector<float>(4)).ok());
  std::vector<float> mean(4);
  const DpMetrics metrics = dp->Finish(Seed(1), mean)->metrics;
  EXPECT_DOUBLE_EQ(metrics[DpMetric::kLossSum].value(), 20);
  EXPECT_EQ(metrics[DpMetric::kCorrectTokens].sum, 50);
  constexpr int kDraws = 4000;
  std::array<double, kDpMetrics> squares{};
  for (int i = 0; i < kDraws; ++i) {
    DpMetrics noised = metrics;
    Secret32 seed = Seed(1);
    seed.mutable_view()[1] = static_cast<uint8_t>(i);
    seed.mutable_view()[2] = static_cast<uint8_t>(i >> 8);
    ASSERT_TRUE(AddMetricNoise(5, seed, noised).ok());
    for (size_t m = 0; m < kDpMetrics; ++m)
      squares[m] += std::pow(static_cast<double>(noised.all[m].sum - metrics.all[m].sum), 2);
  }
  for (size_t m = 0; m < kDpMetrics; ++m) {
    const double expected = std::pow(5.0 * static_cast<double>(metrics.all[m].sensitivity), 2) + 1.0 / 12;
    EXPECT_NEAR(squares[m] / kDraws / expected, 1, 6 * std::sqrt(2.0 / kDraws)) << m;
  }
  DpMetrics any = metrics;
  EXPECT_EQ(AddMetricNoise(0, Seed(1), any).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(AddMetricNoise(NAN, Seed(1), any).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace concordat::train
