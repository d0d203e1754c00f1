#include "worker/train/private_round.h"

#include <algorithm>
#include <cmath>

namespace concordat::train {
namespace {

using sandbox::UnitPrivacy;

constexpr uint32_t kMostTargets = 1U << 24;  // what DpMetricBounds takes
constexpr double kMostLoss = 1e9;

/// What a unit adds to the figures at most: one full sequence. Larger units count in proportion.
DpMetricBounds BoundsOf(const UnitPrivacy& p, uint32_t sequence_tokens) {
  const uint32_t targets = std::clamp(sequence_tokens, 1U, kMostTargets);
  return {.target_tokens = targets, .loss = p.loss_bound * targets};
}

/// NaN fails every comparison, and so every check.
Status CheckNumbers(const UnitPrivacy& p, const DpMetricBounds& bounds) {
  if (!(p.clip >= 1e-9 && p.clip <= 1e9))
    return InvalidArgument("privacy: clip: expected 1e-9 to 1e9, got {}", p.clip);
  if (!(p.noise_multiplier >= 0 && std::isfinite(p.noise_multiplier)))
    return InvalidArgument("privacy: noise multiplier: expected at least 0, got {}", p.noise_multiplier);
  if (!(p.sampling_rate > 0 && p.sampling_rate <= 1))
    return InvalidArgument("privacy: sampling rate: expected more than 0, at most 1, got {}",
                           p.sampling_rate);
  if (!(p.expected_units > 0 && std::isfinite(p.expected_units)))
    return InvalidArgument("privacy: expected units of a step: expected a positive number, got {}",
                           p.expected_units);
  const double z = p.metrics_noise_multiplier;
  if (!(z == 0 || (z >= 1e-2 && z <= 1e6)))
    return InvalidArgument("privacy: noise multiplier of the figures: expected 0, or 0.01 to 1e6, got {}", z);
  if (!(p.loss_bound > 0 && bounds.loss <= kMostLoss))
    return InvalidArgument("privacy: loss bound: expected more than 0, at most {}, got {}",
                           kMostLoss / bounds.target_tokens, p.loss_bound);
  if (!(p.delta >= 0 && p.delta < 1))
    return InvalidArgument("privacy: delta: expected at least 0, less than 1, got {}", p.delta);
  return OkStatus();
}

StatusOr<std::vector<Digest>> Owners(std::span<const model::Example> examples, UnitPrivacy::Unit unit) {
  const bool persons = unit == UnitPrivacy::Unit::kPerson;
  std::vector<Digest> owners;
  owners.reserve(examples.size());
  for (const model::Example& example : examples) {
    if (persons && example.person.is_zero()) {
      return FailedPrecondition(
          "the job protects persons, and this dataset does not say whose a record is: set person_id_field in "
          "the dataset card to the field that names each record's person");
    }
    owners.push_back(persons ? example.person : example.document);
  }
  return owners;
}

}  // namespace

StatusOr<std::unique_ptr<PrivateRound>> PrivateRound::Make(Engine& engine,
                                                           std::span<const model::Example> examples,
                                                           const sandbox::Train& task,
                                                           uint32_t sequence_tokens, RandomSource& random) {
  if (!task.privacy.has_value()) return InvalidArgument("privacy: the round asks for none");
  const UnitPrivacy& p = *task.privacy;
  const DpMetricBounds bounds = BoundsOf(p, sequence_tokens);
  RETURN_IF_ERROR(CheckNumbers(p, bounds));
  ASSIGN_OR_RETURN(const std::vector<Digest> owners, Owners(examples, p.unit));
  std::unique_ptr<PrivateRound> out(new PrivateRound(p, random));
  out->units_ = PrivacyUnits(owners);
  // Without the numbers: how many units there are is the region's to say.
  if (p.delta * out->units_.size() >= 1)
    return InvalidArgument("privacy: delta is not below one over the number of privacy units");
  out->sequences_.reserve(examples.size());
  for (const model::Example& e : examples) out->sequences_.push_back({e.tokens, e.target});
  DpTrainingConfig config;
  config.step = {.clip = p.clip,
                 .noise_multiplier = p.noise_multiplier,
                 .grid = 0,
                 .divisor = p.expected_units,
                 .bounds = bounds};
  ASSIGN_OR_RETURN(config.rate, SamplingRate::FromDouble(p.sampling_rate));
  config.physical_batch = task.batch_sequences;
  ASSIGN_OR_RETURN(DpTraining training,
                   DpTraining::Make(engine, out->sequences_, out->units_, config, random.Seed()));
  out->training_ = std::make_unique<DpTraining>(std::move(training));
  return out;
}

StatusOr<PrivateRound::StepReport> PrivateRound::Step(uint32_t step, double learning_rate,
                                                      const std::function<void()>& on_batch) {
  ASSIGN_OR_RETURN(const DpStepResult result, training_->Step(step, learning_rate, on_batch));
  RETURN_IF_ERROR(Count(result.metrics));
  return StepReport{.tokens = result.tokens, .gradient_norm = result.gradient_norm};
}

/// Takes by value: the figures without noise are not kept.
Status PrivateRound::Count(DpMetrics metrics) {
  if (privacy_.metrics_noise_multiplier > 0)
    RETURN_IF_ERROR(AddMetricNoise(privacy_.metrics_noise_multiplier, random_.Seed(), metrics));
  // Two figures are paid for. The other two are not read.
  noised_loss_ += metrics[DpMetric::kLossSum].value();
  noised_targets_ += metrics[DpMetric::kTargetTokens].value();
  return OkStatus();
}

PrivateRound::Figures PrivateRound::figures() const {
  return {.mean_loss = std::clamp(noised_loss_ / std::max(1.0, noised_targets_), 0.0, privacy_.loss_bound),
          .target_tokens = static_cast<uint64_t>(std::max(0.0, noised_targets_))};
}

}  // namespace concordat::train
