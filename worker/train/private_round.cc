#include "worker/train/private_round.h"

#include <algorithm>
#include <cmath>

#include "privacy/mechanism/encoding.h"

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

/// A round that is one sum takes every unit, once.
Status CheckSum(const sandbox::Train& task) {
  const UnitPrivacy& p = *task.privacy;
  if (!p.sum) return OkStatus();
  if (task.local_steps != 1)
    return InvalidArgument("privacy: a round that is one sum has one step, not {}", task.local_steps);
  if (p.sampling_rate != 1)
    return InvalidArgument(
        "privacy: a round that is one sum takes every unit: expected sampling rate 1, got {}",
        p.sampling_rate);
  if (!(p.sum->grid > 0 && std::isfinite(p.sum->grid)))
    return InvalidArgument("privacy: grid: expected a positive number, got {}", p.sum->grid);
  if (p.sum->largest == 0 || p.sum->largest > kLargestInteger)
    return InvalidArgument("privacy: largest integer: expected 1 to {}, got {}", kLargestInteger,
                           p.sum->largest);
  if (p.sum->metric_units == 0 || p.sum->metric_units > (1U << 20))
    return InvalidArgument("privacy: a unit's part of the figures: expected 1 to 2^20, got {}",
                           p.sum->metric_units);
  return OkStatus();
}

/// `sum` of which a unit adds 0 to `sensitivity`, in steps of which it adds 0 to `units`, rounded to nearest.
/// In whole numbers: a sum that is larger by the sensitivity gives exactly `units` more, and a larger sum
/// never less, so that rounding the sum adds nothing to what one unit changes.
int64_t InUnits(const DpMetrics::Coordinate& c, uint32_t units) {
  const auto sensitivity = static_cast<__int128>(c.sensitivity);
  return static_cast<int64_t>((static_cast<__int128>(c.sum) * units * 2 + sensitivity) / (2 * sensitivity));
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
  RETURN_IF_ERROR(CheckSum(task));
  ASSIGN_OR_RETURN(const std::vector<Digest> owners, Owners(examples, p.unit));
  std::unique_ptr<PrivateRound> out(new PrivateRound(p, random));
  out->units_ = PrivacyUnits(owners);
  out->elements_ = engine.layout().delta_elements();
  // Without the numbers: how many units there are is the region's to say.
  if (p.delta * out->units_.size() >= 1)
    return InvalidArgument("privacy: delta is not below one over the number of privacy units");
  out->sequences_.reserve(examples.size());
  for (const model::Example& e : examples) out->sequences_.push_back({e.tokens, e.target});
  DpTrainingConfig config;
  config.step = {.clip = p.clip,
                 .noise_multiplier = p.sum ? 0 : p.noise_multiplier,
                 .grid = p.sum ? p.sum->grid : 0,
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
  if (privacy_.sum) return FailedPrecondition("privacy: a round that is one sum has no steps with noise");
  ASSIGN_OR_RETURN(const DpStepResult result, training_->Step(step, learning_rate, on_batch));
  RETURN_IF_ERROR(Count(result.metrics));
  return StepReport{.tokens = result.tokens, .gradient_norm = result.gradient_norm};
}

StatusOr<PrivateRound::Sum> PrivateRound::TakeSum(const std::function<void()>& on_batch) {
  if (!privacy_.sum) return FailedPrecondition("privacy: the round's steps have noise: it is no sum");
  Sum out;
  out.descent.resize(elements_);
  ASSIGN_OR_RETURN(const DpStepResult result, training_->Sum(privacy_.sum->largest, out.descent, on_batch));
  for (float& v : out.descent) v = -v;
  const uint32_t units = privacy_.sum->metric_units;
  out.figures = {InUnits(result.metrics[DpMetric::kLossSum], units),
                 InUnits(result.metrics[DpMetric::kTargetTokens], units)};
  out.tokens = result.tokens;
  noised_loss_ = result.metrics[DpMetric::kLossSum].value();
  noised_targets_ = result.metrics[DpMetric::kTargetTokens].value();
  return out;
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
