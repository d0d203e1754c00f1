#include "worker/train/private_round.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/gradient_grid.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/worker/train/random_model.h"

namespace concordat::train {
namespace {

using concordat::testing::HasStatus;
using sandbox::UnitPrivacy;

constexpr ModelShape kShape = {
    .layers = 1, .hidden = 32, .intermediate = 48, .heads = 2, .kv_heads = 2, .head_dim = 16};
constexpr uint32_t kVocab = 67;
constexpr uint32_t kSequenceTokens = 16;
constexpr size_t kRecords = 12;
constexpr size_t kPersons = 4;

Secret32 Seed(uint8_t v) { return Secret32{std::array<uint8_t, 32>{v}}; }

Digest Owner(size_t v) {
  Digest digest;
  digest.bytes[0] = static_cast<uint8_t>(v + 1);
  return digest;
}

/// `kRecords` records of one sequence and nine targets each, of `persons` persons; 0: of nobody.
std::vector<model::Example> Examples(size_t persons, uint64_t seed = 0) {
  std::vector<model::Example> out;
  for (size_t i = 0; i < kRecords; ++i) {
    Text text = RandomText(10, kVocab, seed * 100 + i);
    model::Example e;
    e.tokens = std::move(text.tokens);
    e.target = std::move(text.target);
    e.targets = 9;
    e.document = Owner(i);
    if (persons > 0) e.person = Owner(i % persons);
    out.push_back(std::move(e));
  }
  return out;
}

double Norm(const std::vector<float>& v) {
  double squares = 0;
  for (const float x : v) squares += double{x} * x;
  return std::sqrt(squares);
}

class PrivateRoundTest : public ::testing::Test {
 protected:
  void SetUp() override {
    task_.local_steps = 3;
    task_.batch_sequences = 5;
    task_.learning_rate = 1e-2;
    task_.privacy = UnitPrivacy{.unit = UnitPrivacy::Unit::kRecord,
                                .clip = 0.5,
                                .noise_multiplier = 1,
                                .sampling_rate = 0.5,
                                .expected_units = 6,
                                .metrics_noise_multiplier = 4,
                                .loss_bound = 20,
                                .delta = 1e-5};
  }
  std::unique_ptr<Engine> MakeEngine() {
    auto engine = Engine::Create(*source_, AllTargets(2, 2),
                                 {.threads = 1, .dtype = EngineOptions::Dtype::kF32, .max_tokens = 64});
    EXPECT_OK(engine);
    EXPECT_OK((*engine)->SetAdapter(RandomAdapter((*engine)->layout())));
    EXPECT_OK((*engine)->ResetOptimizer({.grad_clip = 0}));
    return std::move(*engine);
  }
  static std::vector<float> Adapter(const Engine& engine) {
    std::vector<float> adapter(engine.layout().adapter_elements());
    EXPECT_OK(engine.GetAdapter(adapter));
    return adapter;
  }

  struct Outcome {
    std::vector<float> delta;
    PrivateRound::Figures figures;
    std::vector<PrivateRound::StepReport> steps;
  };
  Outcome Run(const std::vector<model::Example>& examples, RandomSource& random) {
    const auto engine = MakeEngine();
    const std::vector<float> before = Adapter(*engine);
    Outcome out;
    auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
    EXPECT_OK(round);
    if (!round.ok()) return out;
    for (uint32_t step = 0; step < task_.local_steps; ++step) {
      const auto report = (*round)->Step(step, task_.learning_rate);
      EXPECT_OK(report);
      if (report.ok()) out.steps.push_back(*report);
    }
    out.figures = (*round)->figures();
    out.delta = Adapter(*engine);
    for (size_t i = 0; i < before.size(); ++i) out.delta[i] -= before[i];
    return out;
  }
  Outcome Run(const std::vector<model::Example>& examples, uint8_t seed = 1) {
    crypto::CtrRandom random(Seed(seed));
    return Run(examples, random);
  }
  Status MakeStatus(const std::vector<model::Example>& examples, uint32_t sequence_tokens = kSequenceTokens) {
    const auto engine = MakeEngine();
    crypto::CtrRandom random(Seed(1));
    return PrivateRound::Make(*engine, examples, task_, sequence_tokens, random).status();
  }
  void WithoutNoise() {
    task_.privacy->noise_multiplier = 0;
    task_.privacy->metrics_noise_multiplier = 0;
  }

  RandomModel model_{kShape, kVocab, true};
  RandomModel* source_ = &model_;
  sandbox::Train task_;
};

// Units of one sequence with the same number of targets: the mean over units is the mean over targets. Each
// unit's rounding to the grid moves the mean by at most C/200, whatever the number of units.
TEST_F(PrivateRoundTest, WithoutNoiseEveryoneAndNoClippingIsThePlainStep) {
  const std::vector<model::Example> examples = Examples(0);
  const auto plain = MakeEngine();
  double longest = 0;
  for (const model::Example& e : examples) {
    const Sequence s{e.tokens, e.target};
    ASSERT_OK_AND_ASSIGN(const StepResult one, plain->TrainStep({&s, 1}, true, 0));
    longest = std::max(longest, one.gradient_norm);
  }
  ASSERT_OK(plain->ResetOptimizer({.grad_clip = 0}));
  const std::vector<float> before = Adapter(*plain);
  double norm = 0, loss = 0;
  for (size_t i = 0; i < kRecords; ++i) {
    const Sequence s{examples[i].tokens, examples[i].target};
    ASSERT_OK_AND_ASSIGN(const StepResult one, plain->TrainStep({&s, 1}, i + 1 == kRecords, 1e-2));
    loss += one.loss_sum;
    norm = one.gradient_norm;
  }
  std::vector<float> delta = Adapter(*plain);
  for (size_t i = 0; i < delta.size(); ++i) delta[i] -= before[i];

  WithoutNoise();
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.privacy->clip = 1.01 * longest;
  task_.privacy->expected_units = kRecords;
  const Outcome outcome = Run(examples);
  ASSERT_EQ(outcome.steps.size(), 1u);
  EXPECT_NEAR(outcome.steps[0].gradient_norm, norm, task_.privacy->clip / 200);
  EXPECT_EQ(outcome.steps[0].tokens, 10 * kRecords);
  double product = 0;
  for (size_t i = 0; i < delta.size(); ++i) product += double{delta[i]} * outcome.delta[i];
  // AdamW's first step is the sign of each coordinate: only those within the grid of zero may differ.
  EXPECT_GT(product / (Norm(delta) * Norm(outcome.delta)), 0.95);
  EXPECT_EQ(outcome.figures.target_tokens, 9 * kRecords);
  EXPECT_NEAR(outcome.figures.mean_loss, loss / (9 * kRecords), 1e-3);
}

TEST_F(PrivateRoundTest, RoundsDrawAnewAndTheSameRandomnessGivesTheSameBits) {
  const std::vector<model::Example> examples = Examples(kPersons);
  const Outcome one = Run(examples, 1), same = Run(examples, 1), other = Run(examples, 2);
  EXPECT_EQ(one.delta, same.delta);
  EXPECT_EQ(one.figures.mean_loss, same.figures.mean_loss);
  EXPECT_EQ(one.figures.target_tokens, same.figures.target_tokens);
  EXPECT_NE(one.delta, other.delta);
  OsRandom random;
  EXPECT_NE(Run(examples, random).delta, Run(examples, random).delta);
}

TEST_F(PrivateRoundTest, FiguresHaveNoiseOfTheirOwnInEveryStep) {
  const std::vector<model::Example> examples = Examples(0);
  task_.privacy->sampling_rate = 1;
  task_.privacy->metrics_noise_multiplier = 0;
  const Outcome exact = Run(examples);
  EXPECT_EQ(exact.figures.target_tokens, 9 * kRecords * 3);
  // 300 rounds of 3 empty steps: the counts' standard deviation is z·T·√3, and that of its estimate from the
  // upper half (what is below zero was cut) √(1.25/300) of it. 6 of those: false alarm 2e-9.
  task_.privacy->sampling_rate = 1e-12;
  task_.privacy->metrics_noise_multiplier = 4;
  const auto engine = MakeEngine();
  crypto::CtrRandom random(Seed(3));
  double squares = 0;
  int above = 0;
  constexpr int kRounds = 300;
  for (int i = 0; i < kRounds; ++i) {
    auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
    ASSERT_OK(round);
    for (uint32_t step = 0; step < 3; ++step) ASSERT_OK((*round)->Step(step, 0));
    const auto count = static_cast<double>((*round)->figures().target_tokens);
    squares += count * count;
    above += count > 0 ? 1 : 0;
  }
  const double expected = 4.0 * kSequenceTokens * std::sqrt(3.0);
  EXPECT_NEAR(std::sqrt(squares / (kRounds / 2.0)) / expected, 1, 6 * std::sqrt(1.25 / kRounds));
  EXPECT_NEAR(above, kRounds / 2, 6 * std::sqrt(kRounds) / 2);
}

TEST_F(PrivateRoundTest, NoisyFiguresStayWithinWhatTheyCanBe) {
  const std::vector<model::Example> examples = Examples(0);
  task_.privacy->sampling_rate = 1e-9;
  task_.privacy->metrics_noise_multiplier = 1000;
  task_.local_steps = 1;
  int no_loss = 0, full_loss = 0, no_targets = 0;
  const auto engine = MakeEngine();
  crypto::CtrRandom random(Seed(5));
  for (int i = 0; i < 60; ++i) {
    auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
    ASSERT_OK(round);
    ASSERT_OK((*round)->Step(0, 0));
    const PrivateRound::Figures f = (*round)->figures();
    EXPECT_TRUE(f.mean_loss >= 0 && f.mean_loss <= 20) << f.mean_loss;
    EXPECT_LT(f.target_tokens, uint64_t{1} << 32) << "wrapped around";
    no_loss += f.mean_loss == 0 ? 1 : 0;
    full_loss += f.mean_loss == 20 ? 1 : 0;
    no_targets += f.target_tokens == 0 ? 1 : 0;
  }
  EXPECT_GT(no_loss, 0);
  EXPECT_GT(full_loss, 0);
  EXPECT_GT(no_targets, 0);
}

TEST_F(PrivateRoundTest, OnePersonInAllRecordsIsOneUnitOfBoundedInfluence) {
  const std::vector<model::Example> examples = Examples(1);
  WithoutNoise();
  task_.local_steps = 1;
  task_.privacy->clip = 0.01;
  task_.privacy->sampling_rate = 1;
  task_.privacy->expected_units = 3;
  const double bound = 0.01 / 3;
  const Outcome records = Run(examples);
  ASSERT_EQ(records.steps.size(), 1u);
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  task_.privacy->delta = 0.5;  // below one over one unit
  const Outcome person = Run(examples);
  ASSERT_EQ(person.steps.size(), 1u);
  EXPECT_EQ(person.steps[0].tokens, 10 * kRecords) << "all records are read";
  // The grid adds at most 0.5% to the length.
  EXPECT_LE(person.steps[0].gradient_norm, bound * 1.005);
  EXPECT_GE(person.steps[0].gradient_norm, bound * 0.98) << "the clip was not at work";
  EXPECT_GT(records.steps[0].gradient_norm, bound * 1.5) << "the same records as units of their own";
  // The figures are bounded as one unit's, too.
  EXPECT_LE(person.figures.target_tokens, kSequenceTokens);
  EXPECT_EQ(records.figures.target_tokens, 9 * kRecords);
}

TEST_F(PrivateRoundTest, OneRecordOfTwoPersonsCountsForBoth) {
  std::vector<model::Example> examples = Examples(2);
  examples.resize(2);
  examples[1] = examples[0];
  examples[1].person = Owner(1);
  ASSERT_NE(examples[0].person, examples[1].person);
  WithoutNoise();
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.privacy->clip = 0.01;
  task_.privacy->expected_units = 1;
  const double record = Run(examples).steps.at(0).gradient_norm;
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  EXPECT_NEAR(Run(examples).steps.at(0).gradient_norm, 2 * record, 0.001 * record);
}

TEST_F(PrivateRoundTest, EmptyDrawsAreStepsOfNoiseAloneWhateverTheData) {
  task_.privacy->sampling_rate = 1e-12;
  const Outcome one = Run(Examples(kPersons)), other = Run(Examples(kPersons, 77));
  ASSERT_EQ(one.steps.size(), 3u);
  for (const auto& step : one.steps) {
    EXPECT_EQ(step.tokens, 0u);
    EXPECT_GT(step.gradient_norm, 0);
  }
  EXPECT_GT(Norm(one.delta), 0);
  EXPECT_EQ(one.delta, other.delta);
  EXPECT_EQ(one.figures.mean_loss, other.figures.mean_loss);
  EXPECT_EQ(one.figures.target_tokens, other.figures.target_tokens);
}

TEST_F(PrivateRoundTest, LowersTheLossWithLittleNoise) {
  const std::vector<model::Example> examples = Examples(kPersons);
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  task_.privacy->noise_multiplier = 0.01;
  task_.privacy->metrics_noise_multiplier = 0;
  task_.privacy->expected_units = 2;
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.learning_rate = 0;
  const double before = Run(examples).figures.mean_loss;
  task_.local_steps = 30;
  task_.learning_rate = 1e-2;
  EXPECT_LT(Run(examples).figures.mean_loss, 0.9 * before) << "mean over the round";
}

TEST_F(PrivateRoundTest, CallsBackAfterEveryPhysicalBatch) {
  const auto engine = MakeEngine();
  const std::vector<model::Example> examples = Examples(0);
  crypto::CtrRandom random(Seed(1));
  task_.privacy->sampling_rate = 1;
  auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
  ASSERT_OK(round);
  int calls = 0;
  ASSERT_OK((*round)->Step(0, 1e-2, [&] { ++calls; }));
  EXPECT_EQ(calls, 3) << "12 records, 5 at a time";
}

TEST_F(PrivateRoundTest, RefusesADeltaThatIsNotBelowOneOverTheUnits) {
  const std::vector<model::Example> examples = Examples(kPersons);
  const auto refused =
      HasStatus(StatusCode::kInvalidArgument, "delta is not below one over the number of privacy units");
  task_.privacy->delta = 1.0 / kRecords;
  EXPECT_THAT(MakeStatus(examples), refused);
  const std::string message(Message(MakeStatus(examples)));
  EXPECT_EQ(message.find_first_of("0123456789"), std::string::npos) << "how many there are is not said";
  task_.privacy->delta = 0.99 / kRecords;
  EXPECT_OK(MakeStatus(examples));
  // Fewer persons than records: their bound is another.
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  task_.privacy->delta = 0.99 / kPersons;
  EXPECT_OK(MakeStatus(examples));
  task_.privacy->delta = 1.0 / kPersons;
  EXPECT_THAT(MakeStatus(examples), refused);
}

TEST_F(PrivateRoundTest, RefusesToProtectPersonsThatNobodyNames) {
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  EXPECT_THAT(MakeStatus(Examples(0)), HasStatus(StatusCode::kFailedPrecondition, "person_id_field"));
  std::vector<model::Example> examples = Examples(kPersons);
  EXPECT_OK(MakeStatus(examples));
  examples.back().person = {};
  EXPECT_THAT(MakeStatus(examples), HasStatus(StatusCode::kFailedPrecondition, "person_id_field"));
  task_.privacy->unit = UnitPrivacy::Unit::kRecord;
  EXPECT_OK(MakeStatus(Examples(0)));
}

TEST_F(PrivateRoundTest, RefusesNumbersOutOfRange) {
  const std::vector<model::Example> examples = Examples(0);
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  struct Case {
    double UnitPrivacy::*field;
    std::string what;
    std::vector<double> bad;
  };
  const std::vector<Case> cases = {
      {&UnitPrivacy::clip, "clip", {0, -1, kNan, kInfinity, 1e10}},
      {&UnitPrivacy::noise_multiplier, "noise multiplier", {-1, kNan, kInfinity}},
      {&UnitPrivacy::sampling_rate, "sampling rate", {0, -0.1, 1.0001, kNan, kInfinity}},
      {&UnitPrivacy::expected_units, "expected units", {0, -1, kNan, kInfinity}},
      {&UnitPrivacy::metrics_noise_multiplier, "of the figures", {-1, 0.001, 1e7, kNan, kInfinity}},
      {&UnitPrivacy::loss_bound, "loss bound", {0, -1, 1e9, kNan, kInfinity}},
      {&UnitPrivacy::delta, "delta", {-1e-9, 1, 2, kNan, kInfinity}}};
  const UnitPrivacy good = *task_.privacy;
  ASSERT_OK(MakeStatus(examples));
  for (const Case& c : cases) {
    for (const double bad : c.bad) {
      task_.privacy = good;
      (*task_.privacy).*c.field = bad;
      EXPECT_THAT(MakeStatus(examples), HasStatus(StatusCode::kInvalidArgument, c.what)) << bad;
    }
  }
  task_.privacy = good;
  task_.batch_sequences = 0;
  EXPECT_THAT(MakeStatus(examples), HasStatus(StatusCode::kInvalidArgument, "physical batch"));
  task_.privacy.reset();
  EXPECT_EQ(MakeStatus(examples).code(), StatusCode::kInvalidArgument);
}

// ---- A round that is one sum.

class UnitSumRoundTest : public PrivateRoundTest {
 protected:
  void SetUp() override {
    PrivateRoundTest::SetUp();
    task_.local_steps = 1;
    task_.privacy->sampling_rate = 1;
    task_.privacy->clip = 0.01;
    elements_ = AdapterLayout::Make(kShape, AllTargets(2, 2))->delta_elements();
    task_.privacy->sum = sandbox::UnitSum{GradientGrid::SumGrid(0.01, elements_, 0, 32), 1 << 24, 100};
  }
  double Sensitivity() const {
    return GradientGrid::Make({.elements = elements_, .clip = 0.01, .grid = task_.privacy->sum->grid})
        ->sensitivity();
  }
  PrivateRound::Sum Sum(const std::vector<model::Example>& examples) {
    const auto engine = MakeEngine();
    const std::vector<float> before = Adapter(*engine);
    crypto::CtrRandom random(Seed(1));
    auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
    EXPECT_OK(round);
    if (!round.ok()) return {};
    auto sum = (*round)->TakeSum();
    EXPECT_OK(sum);
    EXPECT_EQ(Adapter(*engine), before) << "no step is taken";
    figures_ = (*round)->figures();
    return sum.ok() ? *std::move(sum) : PrivateRound::Sum{};
  }

  uint64_t elements_ = 0;
  PrivateRound::Figures figures_;
};

TEST_F(UnitSumRoundTest, IsLinearInItsUnitsAndGoesDownhill) {
  const std::vector<model::Example> all = Examples(0);
  const std::vector<model::Example> some(all.begin(), all.begin() + 5), others(all.begin() + 5, all.end());
  const PrivateRound::Sum whole = Sum(all), first = Sum(some), second = Sum(others);
  ASSERT_EQ(whole.descent.size(), elements_);
  for (size_t i = 0; i < elements_; ++i)
    ASSERT_EQ(whole.descent[i], first.descent[i] + second.descent[i]) << i;
  EXPECT_EQ(whole.tokens, 10 * kRecords);
  // Without a clip in its way a unit's part is its gradient on the grid.
  task_.privacy->clip = 1e3;
  task_.privacy->sum->grid = 1e-4;
  const std::vector<model::Example> one(all.begin(), all.begin() + 1);
  const PrivateRound::Sum single = Sum(one);
  const auto engine = MakeEngine();
  const Sequence s{one[0].tokens, one[0].target};
  ASSERT_OK(engine->TrainStep({&s, 1}, false, 0));
  std::vector<float> gradient(elements_);
  ASSERT_OK(engine->GetGradient(gradient));
  for (size_t i = 0; i < elements_; ++i)
    ASSERT_NEAR(single.descent[i] * 1e-4, -gradient[i] / 9, 0.51e-4) << i;
}

// Brute force over neighbours: each unit taken out once.
TEST_F(UnitSumRoundTest, OneUnitMovesItByNoMoreThanItsSensitivity) {
  for (const bool persons : {false, true}) {
    task_.privacy->unit = persons ? UnitPrivacy::Unit::kPerson : UnitPrivacy::Unit::kRecord;
    const std::vector<model::Example> all = Examples(kPersons);
    const PrivateRound::Sum whole = Sum(all);
    double longest = 0;
    for (size_t out = 0; out < (persons ? kPersons : kRecords); ++out) {
      std::vector<model::Example> without = all;
      std::erase_if(without,
                    [&](const model::Example& e) { return (persons ? e.person : e.document) == Owner(out); });
      ASSERT_LT(without.size(), all.size());
      const PrivateRound::Sum less = Sum(without);
      double squares = 0;
      for (size_t i = 0; i < elements_; ++i)
        squares += std::pow(double{whole.descent[i]} - less.descent[i], 2);
      EXPECT_LE(std::sqrt(squares), Sensitivity()) << out;
      longest = std::max(longest, std::sqrt(squares));
      for (const int64_t moved :
           {whole.figures.loss - less.figures.loss, whole.figures.targets - less.figures.targets}) {
        EXPECT_GT(moved, 0);
        EXPECT_LE(moved, task_.privacy->sum->metric_units);
      }
    }
    EXPECT_GT(longest, 0.9 * Sensitivity()) << "the clip was not at work";
  }
}

TEST_F(UnitSumRoundTest, FiguresAreSumsInStepsOfAUnitsBound) {
  const PrivateRound::Sum sum = Sum(Examples(0));
  // Nine of sixteen targets each; 100 steps for sixteen.
  EXPECT_EQ(sum.figures.targets, std::llround(kRecords * 9 * 100 / 16.0));
  EXPECT_EQ(figures_.target_tokens, 9 * kRecords);
  const double loss = figures_.mean_loss * 9 * kRecords;
  EXPECT_NEAR(static_cast<double>(sum.figures.loss), loss * 100 / (20 * 16), 0.51);
}

TEST_F(UnitSumRoundTest, RepeatsItselfWhateverItsSourceAndClampsEachInteger) {
  const std::vector<model::Example> examples = Examples(0);
  const PrivateRound::Sum one = Sum(examples), same = Sum(examples);
  EXPECT_EQ(one.descent, same.descent);
  task_.privacy->sum->largest = 20;
  const PrivateRound::Sum clamped = Sum(examples);
  EXPECT_NE(clamped.descent, one.descent);
  for (size_t i = 0; i < elements_; ++i)
    ASSERT_EQ(clamped.descent[i], std::clamp(one.descent[i], -20.0F, 20.0F)) << i;
}

TEST_F(UnitSumRoundTest, NobodyIsASumOfZeros) {
  const PrivateRound::Sum sum = Sum({});
  EXPECT_EQ(sum.descent, std::vector<float>(elements_, 0));
  EXPECT_EQ(sum.figures.loss, 0);
  EXPECT_EQ(sum.figures.targets, 0);
  EXPECT_EQ(figures_.mean_loss, 0);
}

TEST_F(UnitSumRoundTest, UnitsWhoseGradientIsNoNumberAreLeftOut) {
  RandomModel untied(kShape, kVocab, false);
  source_ = &untied;
  std::vector<model::Example> examples = Examples(0);
  for (model::Example& e : examples)
    for (int32_t& token : e.tokens) token = std::max(token, 1);
  const PrivateRound::Sum clean = Sum({examples.begin() + 1, examples.end()});
  untied.poisoned = "model.embed_tokens.weight";  // token 0
  examples[0].tokens[4] = 0;
  const PrivateRound::Sum sum = Sum(examples);
  EXPECT_EQ(sum.descent, clean.descent);
  EXPECT_EQ(sum.figures.loss, clean.figures.loss);
  EXPECT_EQ(sum.figures.targets, clean.figures.targets);
}

TEST_F(UnitSumRoundTest, RefusesWhatIsNoSumOfEveryUnit) {
  const std::vector<model::Example> examples = Examples(0);
  const auto refused = [&](std::function<void(sandbox::Train&)> spoil, const std::string& why) {
    const sandbox::Train good = task_;
    spoil(task_);
    EXPECT_THAT(MakeStatus(examples), HasStatus(StatusCode::kInvalidArgument, why));
    task_ = good;
  };
  refused([](sandbox::Train& t) { t.local_steps = 2; }, "one step");
  refused([](sandbox::Train& t) { t.privacy->sampling_rate = 0.999; }, "expected sampling rate 1");
  refused([](sandbox::Train& t) { t.privacy->sum->grid = 0; }, "grid");
  refused([](sandbox::Train& t) { t.privacy->sum->grid = std::nan(""); }, "grid");
  refused([](sandbox::Train& t) { t.privacy->sum->largest = 0; }, "largest integer");
  refused([](sandbox::Train& t) { t.privacy->sum->largest = (1 << 24) + 1; }, "largest integer");
  refused([](sandbox::Train& t) { t.privacy->sum->metric_units = 0; }, "figures");
  refused([](sandbox::Train& t) { t.privacy->delta = 1.0 / kRecords; }, "delta is not below one over");
  const auto engine = MakeEngine();
  crypto::CtrRandom random(Seed(1));
  auto round = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
  ASSERT_OK(round);
  EXPECT_EQ((*round)->Step(0, 1).status().code(), StatusCode::kFailedPrecondition);
  task_.privacy->sum.reset();
  auto steps = PrivateRound::Make(*engine, examples, task_, kSequenceTokens, random);
  ASSERT_OK(steps);
  EXPECT_EQ((*steps)->TakeSum().status().code(), StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace concordat::train
