#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/worker/train/tiny_trainer.h"

namespace concordat::train {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::kTinyShape;
using sandbox::UnitPrivacy;

constexpr uint32_t kCanaries = 32;

/// With canaries, and an adapter large enough to remember them.
class TrainerLeakTest : public TinyTrainerTest {
 protected:
  void SetUp() override {
    TinyTrainerTest::SetUp();
    configure_.held_out_permille = 300;
    configure_.canaries = kCanaries;
    configure_.canary_key = crypto::Sha256(AsBytes("canaries"));
    prepare_.shape = kTinyShape;
    prepare_.adapter = {16, 32, {kAllLoraTargets.begin(), kAllLoraTargets.end()}, LoraMethod::kFedIt};
    prepare_.sequence_tokens = 160;
    task_.local_steps = 150;
    task_.learning_rate = 1e-2;
    task_.gradient_clip = 1;
    MakeAdapter();
  }
  /// DP-SGD with much the same number of sequences a step.
  void ProtectRecords(double noise_multiplier, double clip) {
    task_.privacy = UnitPrivacy{.unit = UnitPrivacy::Unit::kRecord,
                                .clip = clip,
                                .noise_multiplier = noise_multiplier,
                                .sampling_rate = 0.15,
                                .expected_units = 9,
                                .metrics_noise_multiplier = 5,
                                .loss_bound = 60,
                                .delta = 1e-5};
  }
  void Open() {
    trainer_.emplace(clock_, random_);
    ASSERT_OK_AND_ASSIGN(ready_, trainer_->Open(configure_));
    ASSERT_OK(trainer_->Prepare(prepare_));
  }
  std::vector<float> Trained() {
    const auto round = trainer_->TrainRound(task_, adapter_, quiet_);
    EXPECT_OK(round);
    std::vector<float> moved = adapter_;
    for (const AdapterTensor& t : layout_->tensors()) {
      for (uint64_t k = 0; t.trained && k < t.elements(); ++k)
        moved[t.offset + k] += round->delta[t.delta_offset + k];
    }
    return moved;
  }
  sandbox::Audited Audit(const std::vector<float>& adapter, uint32_t documents = 0) {
    const auto audited = trainer_->Audit({documents, 1e-5, 0.95}, adapter, quiet_);
    EXPECT_OK(audited);
    return *audited;
  }

  // Fixed: a model that knows nothing is flagged by chance, five times in a thousand with so few canaries.
  crypto::CtrRandom random_{Secret32{std::array<uint8_t, 32>{7}}};
  std::optional<Trainer> trainer_;
  sandbox::Ready ready_;
  Trainer::OnProgress quiet_ = [](const sandbox::TrainerProgress&) {};
};

TEST_F(TrainerLeakTest, CanariesArePlantedAmongThoseTrainedOnAndNowhereElse) {
  Open();
  const uint64_t with = ready_.train_documents, held_out = ready_.held_out_documents;
  configure_.canaries = 0;
  Open();
  EXPECT_EQ(ready_.train_documents + ready_.held_out_documents, static_cast<uint64_t>(kRecords));
  EXPECT_EQ(ready_.held_out_documents, held_out);
  EXPECT_GT(with, ready_.train_documents);
  EXPECT_LT(with, ready_.train_documents + kCanaries);
}

TEST_F(TrainerLeakTest, TrainingWithoutProtectionGivesCanariesAway) {
  Open();
  const sandbox::Audited before = Audit(adapter_);
  ASSERT_TRUE(before.exposure && before.one_run && before.membership);
  EXPECT_FALSE(before.exposure->found()) << before.exposure->mean;
  EXPECT_EQ(before.one_run->epsilon, 0);
  EXPECT_NEAR(before.membership->auc, 0.5, 1e-9) << "an adapter that changes nothing";

  const sandbox::Audited after = Audit(Trained());
  EXPECT_TRUE(after.exposure->found()) << after.exposure->mean << " against " << after.exposure->flag;
  EXPECT_GT(after.one_run->epsilon, 0) << after.one_run->correct << " of " << after.one_run->guesses;
  EXPECT_LE(after.one_run->epsilon, after.one_run->ceiling);
  // Members are the region's records, not its canaries.
  EXPECT_EQ(after.membership->members + after.membership->non_members, static_cast<uint32_t>(kRecords));
  EXPECT_EQ(after.membership->non_members, ready_.held_out_documents);
  EXPECT_EQ(after.one_run->canaries, kCanaries);
  EXPECT_EQ(after.exposure->references, kCanaries * model::kReferencesPerCanary);
  EXPECT_EQ(after.exposure->planted + ready_.held_out_documents + kRecords - after.membership->non_members,
            ready_.train_documents + ready_.held_out_documents);
}

TEST_F(TrainerLeakTest, DpSgdKeepsThemToItself) {
  ProtectRecords(/*noise_multiplier=*/1, /*clip=*/1e-3);
  Open();
  const sandbox::Audited after = Audit(Trained());
  EXPECT_FALSE(after.exposure->found()) << after.exposure->mean << " against " << after.exposure->flag;
}

// The same steps with the noise left out: what holds the canaries back is the noise, not the algorithm.
TEST_F(TrainerLeakTest, DpSgdWithoutItsNoiseGivesThemAway) {
  ProtectRecords(/*noise_multiplier=*/0, /*clip=*/1e-3);
  task_.privacy->metrics_noise_multiplier = 0;
  Open();
  const sandbox::Audited after = Audit(Trained());
  EXPECT_TRUE(after.exposure->found()) << after.exposure->mean << " against " << after.exposure->flag;
}

// As much noise as with a clip of 0.001, but units are clipped at 1 only.
TEST_F(TrainerLeakTest, DpSgdWhoseClipIsBypassedGivesThemAway) {
  ProtectRecords(/*noise_multiplier=*/1e-3, /*clip=*/1);
  Open();
  const sandbox::Audited after = Audit(Trained());
  EXPECT_TRUE(after.exposure->found()) << after.exposure->mean << " against " << after.exposure->flag;
}

TEST_F(TrainerLeakTest, CanariesOfPersonsArePersons) {
  configure_.person_field = "who";
  ProtectRecords(1, 1);
  task_.privacy->unit = UnitPrivacy::Unit::kPerson;
  task_.local_steps = 2;
  Open();
  const sandbox::Audited after = Audit(Trained());
  EXPECT_EQ(after.one_run->canaries, kCanaries);
}

TEST_F(TrainerLeakTest, DocumentsAreAsManyAsAskedForOnEitherSide) {
  Open();
  const sandbox::Audited few = Audit(adapter_, 5);
  EXPECT_EQ(few.membership->members, 5u);
  EXPECT_EQ(few.membership->non_members, 5u);
  EXPECT_EQ(few.one_run->canaries, kCanaries) << "canaries are all read";
}

TEST_F(TrainerLeakTest, WithoutCanariesOnlyMembershipIsMeasured) {
  configure_.canaries = 0;
  Open();
  const sandbox::Audited audited = Audit(adapter_);
  EXPECT_TRUE(audited.membership.has_value());
  EXPECT_FALSE(audited.exposure.has_value());
  EXPECT_FALSE(audited.one_run.has_value());
  configure_.held_out_permille = 0;
  Open();
  EXPECT_THAT(trainer_->Audit({0, 1e-5, 0.95}, adapter_, quiet_),
              HasStatus(StatusCode::kInvalidArgument, "nothing to compare"));
}

TEST_F(TrainerLeakTest, ProgressEndsAtTheEndAndBadQuestionsAreRefused) {
  Open();
  uint32_t last = 0;
  ASSERT_OK(trainer_->Audit({4, 1e-5, 0.95}, adapter_,
                            [&](const sandbox::TrainerProgress& p) { last = p.permille; }));
  EXPECT_EQ(last, 1000u);
  EXPECT_THAT(trainer_->Audit({4, 2, 0.95}, adapter_, quiet_),
              HasStatus(StatusCode::kInvalidArgument, "delta"));
  EXPECT_THAT(trainer_->Audit({4, 1e-5, 1}, adapter_, quiet_),
              HasStatus(StatusCode::kInvalidArgument, "confidence"));
  Trainer early(clock_, random_);
  EXPECT_THAT(early.Audit({4, 1e-5, 0.95}, adapter_, quiet_),
              HasStatus(StatusCode::kFailedPrecondition, "before prepare"));
}

}  // namespace
}  // namespace concordat::train
