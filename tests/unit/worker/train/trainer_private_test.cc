#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/gradient_grid.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/worker/train/tiny_trainer.h"

namespace concordat::train {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::kTinyShape;
using sandbox::UnitPrivacy;

class TrainerPrivateTest : public TinyTrainerTest {
 protected:
  void SetUp() override {
    TinyTrainerTest::SetUp();
    configure_.held_out_permille = 200;
    prepare_ = {kTinyShape, {4, 8, {LoraTarget::kQ, LoraTarget::kDown}, LoraMethod::kFfa}, 64};
    task_.local_steps = 2;
    task_.learning_rate = 3e-3;
    task_.gradient_clip = 1e-9;  // not used: with it nothing would move but by noise
    task_.privacy = UnitPrivacy{.unit = UnitPrivacy::Unit::kRecord,
                                .clip = 1,
                                .noise_multiplier = 1,
                                .sampling_rate = 0.5,
                                .expected_units = 20,
                                .metrics_noise_multiplier = 2,
                                .loss_bound = 60,  // random weights: more than a trained model's
                                .delta = 1e-5};
    MakeAdapter();
  }

  StatusOr<Trainer::Round> Round(RandomSource& random) {
    Trainer trainer(clock_, random);
    if (const auto ready = trainer.Open(configure_); !ready.ok()) return ready.status();
    RETURN_IF_ERROR(trainer.Prepare(prepare_));
    heard_.clear();
    return trainer.TrainRound(task_, adapter_,
                              [this](const sandbox::TrainerProgress& p) { heard_.push_back(p); });
  }
  StatusOr<Trainer::Round> Round(uint8_t seed = 1) {
    crypto::CtrRandom random(Secret32{std::array<uint8_t, 32>{seed}});
    return Round(random);
  }

  /// The trainer of a test that needs one for more than a round.
  Status OpenTrainer() {
    if (const auto ready = trainer_.Open(configure_); !ready.ok()) return ready.status();
    return trainer_.Prepare(prepare_);
  }

  OsRandom random_;
  Trainer trainer_{clock_, random_};
  std::vector<sandbox::TrainerProgress> heard_;
};

// Each unit counts as one byte and half a bit: the sums then say how many there were.
TEST_F(TrainerPrivateTest, EvaluationSumsAreOverRecordsOrPersonsWhicheverIsAskedFor) {
  configure_.person_field = "who";
  configure_.held_out_permille = 500;
  ASSERT_OK(OpenTrainer());
  const auto quiet = [](const sandbox::TrainerProgress&) {};
  const auto evaluate = [&](UnitPrivacy::Unit unit, uint32_t bytes, double bits) {
    return trainer_.Evaluate({false, 1, sandbox::UnitBounds{unit, bytes, bits, 16}}, {}, quiet);
  };
  ASSERT_OK_AND_ASSIGN(const auto plain, trainer_.Evaluate({}, {}, quiet));
  EXPECT_FALSE(plain.sums.has_value());
  ASSERT_OK_AND_ASSIGN(const auto records, evaluate(UnitPrivacy::Unit::kRecord, 1, 0.5));
  EXPECT_EQ(records.documents, plain.documents) << "all of them, whatever was asked for";
  EXPECT_EQ(records.sums->bytes, static_cast<int64_t>(plain.documents));
  EXPECT_EQ(records.sums->bits, static_cast<int64_t>(plain.documents) * 8);
  ASSERT_OK_AND_ASSIGN(const auto persons, evaluate(UnitPrivacy::Unit::kPerson, 1, 0.5));
  EXPECT_GT(persons.sums->bytes, 0);
  EXPECT_EQ(persons.sums->bytes * (kRecords / kPersons), records.sums->bytes);
  ASSERT_OK_AND_ASSIGN(const auto wide, evaluate(UnitPrivacy::Unit::kPerson, 1 << 20, 64));
  EXPECT_EQ(wide.sums->bytes, static_cast<int64_t>(plain.bytes));
  EXPECT_NEAR(static_cast<double>(wide.sums->bits) / 16 / static_cast<double>(plain.bytes),
              plain.bits_per_byte, 0.01);
  EXPECT_THAT(evaluate(UnitPrivacy::Unit::kRecord, 0, 1), HasStatus(StatusCode::kInvalidArgument, "bounds"));
  EXPECT_THAT(evaluate(UnitPrivacy::Unit::kRecord, 1, 0), HasStatus(StatusCode::kInvalidArgument, "bounds"));
}

// Before anything is charged, not in the first attempt that is.
TEST_F(TrainerPrivateTest, APromiseThatAllowsOneUnitToBePublishedIsRefusedWhenTheDataIsRead) {
  configure_.person_field = "who";
  configure_.promise = sandbox::UnitPromise{UnitPrivacy::Unit::kRecord, 1e-5};
  ASSERT_OK_AND_ASSIGN(const sandbox::Ready records, trainer_.Open(configure_));
  EXPECT_EQ(records.train_units, records.train_documents);
  configure_.promise->unit = UnitPrivacy::Unit::kPerson;
  ASSERT_OK_AND_ASSIGN(const sandbox::Ready persons, trainer_.Open(configure_));
  EXPECT_EQ(persons.train_units * (kRecords / kPersons), records.train_units);
  configure_.promise->delta = 1.01 / static_cast<double>(records.train_units);
  EXPECT_OK(trainer_.Open(configure_));
  configure_.promise->unit = UnitPrivacy::Unit::kRecord;
  const auto refused = trainer_.Open(configure_);
  EXPECT_THAT(refused, HasStatus(StatusCode::kInvalidArgument, "privacy.delta"));
  EXPECT_EQ(Message(refused.status()).find(std::to_string(records.train_units)), std::string_view::npos);
}

// An adapter may be anybody's: were it refused over one text, the refusal would say that the text is there.
TEST_F(TrainerPrivateTest, AnEvaluationWhoseLossIsNotFiniteCountsAsTheBound) {
  configure_.held_out_permille = 500;
  ASSERT_OK(OpenTrainer());
  const auto hear = [this](const sandbox::TrainerProgress& p) { heard_.push_back(p); };
  const std::vector<float> overflows(adapter_.size(), 1e30F);
  const sandbox::UnitBounds bounds{UnitPrivacy::Unit::kRecord, 1, 0.5, 16};
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated all, trainer_.Evaluate({true, 0, bounds}, overflows, hear));
  EXPECT_GT(all.documents, 10u);
  EXPECT_EQ(all.sums->bits, static_cast<int64_t>(all.documents) * 8);
  EXPECT_GT(all.bits_per_byte, 1e6) << "beyond what any policy bounds it to";
  const Bytes frame = sandbox::Encode(sandbox::FromTrainer(all));
  EXPECT_OK(sandbox::DecodeFromTrainer(frame));
  ASSERT_FALSE(heard_.empty());
  for (const auto& p : heard_)
    EXPECT_OK(sandbox::DecodeFromTrainer(sandbox::Encode(sandbox::FromTrainer(p))));
}

TEST_F(TrainerPrivateTest, AnEvaluationWithNothingHeldOutIsZerosForNoiseToHide) {
  configure_.held_out_permille = 0;
  ASSERT_OK(OpenTrainer());
  const sandbox::UnitBounds bounds{UnitPrivacy::Unit::kRecord, 100, 4, 16};
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated none,
                       trainer_.Evaluate({false, 0, bounds}, {}, [](const sandbox::TrainerProgress&) {}));
  EXPECT_EQ(none.documents, 0u);
  EXPECT_EQ(none.bits_per_byte, 0);
  EXPECT_EQ(none.sums->bits, 0);
  EXPECT_EQ(none.sums->bytes, 0);
}

TEST_F(TrainerPrivateTest, EvaluationOfPersonsNeedsToKnowThem) {
  ASSERT_OK(OpenTrainer());
  const sandbox::Evaluate task{false, 0, sandbox::UnitBounds{UnitPrivacy::Unit::kPerson, 10, 4, 16}};
  EXPECT_THAT(trainer_.Evaluate(task, {}, [](const sandbox::TrainerProgress&) {}),
              HasStatus(StatusCode::kFailedPrecondition, "whose a record is"));
}

TEST_F(TrainerPrivateTest, WithoutNoiseARoundLowersTheLoss) {
  task_.privacy->noise_multiplier = 0;
  task_.privacy->metrics_noise_multiplier = 0;
  task_.privacy->sampling_rate = 1;
  task_.local_steps = 8;
  ASSERT_OK(OpenTrainer());
  const auto quiet = [](const sandbox::TrainerProgress&) {};
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated base, trainer_.Evaluate({}, {}, quiet));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round round, trainer_.TrainRound(task_, adapter_, quiet));
  EXPECT_EQ(round.delta.size(), layout_->delta_elements());
  EXPECT_EQ(round.summary.steps, 8u);
  std::vector<float> moved = adapter_;
  for (const AdapterTensor& t : layout_->tensors()) {
    for (uint64_t k = 0; t.trained && k < t.elements(); ++k)
      moved[t.offset + k] += round.delta[t.delta_offset + k];
  }
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated after, trainer_.Evaluate({true, 0}, moved, quiet));
  EXPECT_LT(after.bits_per_byte, base.bits_per_byte);
}

TEST_F(TrainerPrivateTest, ARoundOfACoreGivesADeltaOfItsCoresAlone) {
  prepare_.adapter.method = LoraMethod::kCore;
  MakeAdapter();
  ASSERT_EQ(layout_->delta_elements(), 2u * 2 * 4 * 4);
  ASSERT_OK_AND_ASSIGN(const Trainer::Round round, Round());
  EXPECT_EQ(round.delta.size(), layout_->delta_elements());
  // Noise reaches every element.
  EXPECT_EQ(std::count(round.delta.begin(), round.delta.end(), 0.0F), 0);
}

TEST_F(TrainerPrivateTest, EveryRoundDrawsAnewFromItsSourceAndFromNothingElse) {
  ASSERT_OK_AND_ASSIGN(const Trainer::Round one, Round(1));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round same, Round(1));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round other, Round(2));
  EXPECT_EQ(one.delta, same.delta);
  EXPECT_EQ(one.summary.mean_loss, same.summary.mean_loss);
  EXPECT_NE(one.delta, other.delta);
  ASSERT_OK(OpenTrainer());
  const auto quiet = [](const sandbox::TrainerProgress&) {};
  ASSERT_OK_AND_ASSIGN(const Trainer::Round first, trainer_.TrainRound(task_, adapter_, quiet));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round again, trainer_.TrainRound(task_, adapter_, quiet));
  EXPECT_NE(first.delta, again.delta) << "an attempt that is tried again spends noise of its own";
}

TEST_F(TrainerPrivateTest, LossAndTokensThatAreToldHaveTheirNoiseInProgressToo) {
  task_.privacy->noise_multiplier = 0;
  task_.privacy->sampling_rate = 1;
  ASSERT_OK_AND_ASSIGN(const Trainer::Round noised, Round(1));
  ASSERT_FALSE(heard_.empty());
  EXPECT_EQ(heard_.back().permille, 1000u);
  EXPECT_EQ(heard_.back().loss, noised.summary.mean_loss);
  task_.privacy->metrics_noise_multiplier = 0;
  ASSERT_OK_AND_ASSIGN(const Trainer::Round exact, Round(1));
  EXPECT_EQ(noised.delta, exact.delta) << "the figures' noise touches nothing else";
  EXPECT_GT(exact.summary.mean_loss, 0);
  EXPECT_LT(exact.summary.mean_loss, 60) << "at its bound it would not show noise";
  EXPECT_NE(noised.summary.mean_loss, exact.summary.mean_loss);
  EXPECT_NE(noised.summary.target_tokens, exact.summary.target_tokens);
  EXPECT_EQ(noised.summary.tokens, exact.summary.tokens) << "the region's own count is exact";
}

TEST_F(TrainerPrivateTest, PersonsNeedAFieldInTheRegionsConfiguration) {
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  EXPECT_THAT(Round(), HasStatus(StatusCode::kFailedPrecondition, "person_id_field"));
  configure_.person_field = "who";
  EXPECT_OK(Round());
  configure_.person_field = "patient_id";
  EXPECT_THAT(Round(),
              HasStatus(StatusCode::kInvalidArgument, "data.jsonl:1: field 'patient_id' is missing"));
}

TEST_F(TrainerPrivateTest, DeltaIsHeldAgainstTheNumberOfUnitsThatTheJobProtects) {
  configure_.person_field = "who";
  configure_.held_out_permille = 0;
  task_.privacy->delta = 1.0 / kPersons;
  const auto refused = HasStatus(StatusCode::kInvalidArgument, "delta is not below one over the number");
  EXPECT_THAT(Round(), refused);
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  EXPECT_THAT(Round(), refused);
  task_.privacy->delta = 0.99 / kPersons;
  EXPECT_OK(Round());
  task_.privacy->unit = UnitPrivacy::Unit::kRecord;
  EXPECT_THAT(Round(), refused) << "sixty records are more than twelve persons";
}

TEST_F(TrainerPrivateTest, ARoundOfEmptyDrawsIsNoiseAlone) {
  task_.privacy->sampling_rate = 1e-12;
  ASSERT_OK_AND_ASSIGN(const Trainer::Round round, Round());
  EXPECT_EQ(round.summary.tokens, 0u);
  EXPECT_EQ(round.summary.steps, 2u);
  EXPECT_TRUE(std::any_of(round.delta.begin(), round.delta.end(), [](float x) { return x != 0; }));
  EXPECT_TRUE(std::all_of(round.delta.begin(), round.delta.end(), [](float x) { return std::isfinite(x); }));
}

TEST_F(TrainerPrivateTest, ARefusedRoundLeavesTheTrainerReadyForTheNext) {
  ASSERT_OK(OpenTrainer());
  const auto quiet = [](const sandbox::TrainerProgress&) {};
  sandbox::Train bad = task_;
  bad.privacy->clip = 0;
  EXPECT_THAT(trainer_.TrainRound(bad, adapter_, quiet), HasStatus(StatusCode::kInvalidArgument, "clip"));
  bad = task_;
  bad.privacy->noise_multiplier = 1e300;  // beyond what the mechanism holds
  EXPECT_EQ(trainer_.TrainRound(bad, adapter_, quiet).status().code(), StatusCode::kInvalidArgument);
  EXPECT_OK(trainer_.TrainRound(task_, adapter_, quiet));
  task_.privacy.reset();
  ASSERT_OK_AND_ASSIGN(const Trainer::Round one, trainer_.TrainRound(task_, adapter_, quiet));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round same, trainer_.TrainRound(task_, adapter_, quiet));
  EXPECT_EQ(one.delta, same.delta) << "without privacy a round repeats itself, whatever came before";
}

sandbox::UnitSum OneSum(uint64_t elements) {
  return {GradientGrid::SumGrid(1, elements, 0, 32), 1 << 24, 100};
}

TEST_F(TrainerPrivateTest, ASumIsHandedOutInIntegersWithItsFigures) {
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.privacy->sum = OneSum(layout_->delta_elements());
  ASSERT_OK_AND_ASSIGN(const Trainer::Round round, Round(1));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round same, Round(2));
  EXPECT_EQ(round.delta, same.delta) << "there is nothing to draw";
  ASSERT_EQ(round.delta.size(), layout_->delta_elements());
  for (const float v : round.delta) ASSERT_EQ(v, std::trunc(v));
  EXPECT_TRUE(std::any_of(round.delta.begin(), round.delta.end(), [](float v) { return v != 0; }));
  ASSERT_TRUE(round.summary.sums.has_value());
  EXPECT_GT(round.summary.sums->loss, 0);
  EXPECT_GT(round.summary.sums->targets, 0);
  EXPECT_EQ(round.summary.steps, 1u);
  ASSERT_FALSE(heard_.empty());
  EXPECT_EQ(heard_.back().permille, 1000u);
  task_.privacy->sum.reset();
  ASSERT_OK_AND_ASSIGN(const Trainer::Round steps, Round(1));
  EXPECT_FALSE(steps.summary.sums.has_value());
}

TEST_F(TrainerPrivateTest, AStepAlongASumLowersTheLoss) {
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.privacy->sum = OneSum(layout_->delta_elements());
  ASSERT_OK(OpenTrainer());
  const auto quiet = [](const sandbox::TrainerProgress&) {};
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated base, trainer_.Evaluate({true, 0}, adapter_, quiet));
  ASSERT_OK_AND_ASSIGN(const Trainer::Round round, trainer_.TrainRound(task_, adapter_, quiet));
  const auto step = static_cast<float>(0.05 * task_.privacy->sum->grid / 48);
  std::vector<float> moved = adapter_;
  for (const AdapterTensor& t : layout_->tensors())
    for (uint64_t k = 0; t.trained && k < t.elements(); ++k)
      moved[t.offset + k] += step * round.delta[t.delta_offset + k];
  ASSERT_OK_AND_ASSIGN(const sandbox::Evaluated after, trainer_.Evaluate({true, 0}, moved, quiet));
  EXPECT_LT(after.bits_per_byte, base.bits_per_byte);
}

TEST_F(TrainerPrivateTest, ARegionWithNothingToTrainOnHandsInZerosWhereTheJobAllowsIt) {
  configure_.held_out_permille = 1000;
  EXPECT_THAT(Round(), HasStatus(StatusCode::kInvalidArgument, "anything to train on"));
  prepare_.may_be_empty = true;
  ASSERT_OK_AND_ASSIGN(const Trainer::Round noise, Round());
  EXPECT_TRUE(std::any_of(noise.delta.begin(), noise.delta.end(), [](float v) { return v != 0; }));
  task_.local_steps = 1;
  task_.privacy->sampling_rate = 1;
  task_.privacy->sum = OneSum(layout_->delta_elements());
  ASSERT_OK_AND_ASSIGN(const Trainer::Round zeros, Round());
  EXPECT_EQ(zeros.delta, std::vector<float>(layout_->delta_elements(), 0));
  EXPECT_EQ(zeros.summary.sums->targets, 0);
  task_.privacy.reset();
  EXPECT_THAT(Round(), HasStatus(StatusCode::kFailedPrecondition, "anything to train on"));
}

}  // namespace
}  // namespace concordat::train
