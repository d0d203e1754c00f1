#include "worker/train/dp_accumulator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "privacy/crypto/ctr_stream.h"

namespace concordat::train {
namespace {

// Steps of the loss: a unit's loss is bound·k/2^20.
constexpr int64_t kLossSteps = int64_t{1} << 20;

}  // namespace

Status AddMetricNoise(double noise_multiplier, const Secret32& seed, DpMetrics& metrics) {
  if (!(noise_multiplier >= 1e-2 && noise_multiplier <= 1e6))
    return InvalidArgument("metrics' noise multiplier: expected 0.01 to 1e6, got {}", noise_multiplier);
  crypto::CtrRandom random(seed);
  for (DpMetrics::Coordinate& c : metrics.all) {
    const double stddev = std::nextafter(noise_multiplier * static_cast<double>(c.sensitivity), HUGE_VAL);
    ASSIGN_OR_RETURN(const RoundedGaussianScale scale, RoundedGaussianScale::FromStddev(stddev));
    int64_t draw = 0;
    FastRoundedGaussian(scale).Sample(random, {&draw, 1});
    c.sum += draw;
  }
  return OkStatus();
}

StatusOr<std::unique_ptr<DpAccumulator>> DpAccumulator::Make(const DpStepConfig& config, uint64_t elements,
                                                             ForBlocks for_blocks) {
  if (!(config.divisor > 0 && std::isfinite(config.divisor)))
    return InvalidArgument("divisor: expected a positive number, got {}", config.divisor);
  if (config.bounds.target_tokens == 0 || config.bounds.target_tokens > (1U << 24))
    return InvalidArgument("bound on a unit's target tokens: expected 1 to 2^24, got {}",
                           config.bounds.target_tokens);
  if (!(config.bounds.loss > 0 && config.bounds.loss <= 1e9))
    return InvalidArgument("bound on a unit's loss: expected more than 0, at most 1e9, got {}",
                           config.bounds.loss);
  ASSIGN_OR_RETURN(GradientGrid grid, GradientGrid::Make({.elements = elements,
                                                          .clip = config.clip,
                                                          .noise_multiplier = config.noise_multiplier,
                                                          .grid = config.grid}));
  std::unique_ptr<DpAccumulator> out(new DpAccumulator(config, std::move(grid), std::move(for_blocks)));
  out->ClearCounts();
  return out;
}

void DpAccumulator::ClearCounts() {
  result_ = {};
  result_.metrics[DpMetric::kLossSum] = {.sensitivity = kLossSteps,
                                         .unit = config_.bounds.loss / static_cast<double>(kLossSteps)};
  result_.metrics[DpMetric::kTargetTokens].sensitivity = config_.bounds.target_tokens;
  result_.metrics[DpMetric::kCorrectTokens].sensitivity = config_.bounds.target_tokens;
  open_.reset();
  last_.reset();
  unit_ = {};
  poisoned_ = false;
}

void DpAccumulator::Reset() {
  sum_.Clear();
  ClearCounts();
}

Status DpAccumulator::Admit(uint64_t unit) const {
  if (open_ == unit || !last_.has_value() || unit > *last_) return OkStatus();
  return InvalidArgument(
      "a unit's records must follow one another, units ascending: one came again or too late");
}

void DpAccumulator::Count(uint64_t unit, const Record& record) {
  open_ = last_ = unit;
  unit_.loss_sum += record.loss_sum;
  unit_.target_tokens += record.target_tokens;
  unit_.correct_tokens += record.correct_tokens;
  result_.tokens += record.tokens;
  ++result_.records;
}

void DpAccumulator::Poison(uint64_t unit, uint64_t tokens) {
  Count(unit, {.tokens = tokens});
  poisoned_ = true;
}

void DpAccumulator::AddMetrics() {
  // More targets than the bound count in proportion, so that loss and accuracy per token keep their meaning.
  const double bound = config_.bounds.target_tokens;
  const double share = std::min(1.0, bound / std::max(1.0, static_cast<double>(unit_.target_tokens)));
  const auto clipped = [](double value, int64_t limit) {
    return std::clamp<int64_t>(std::llrint(std::min(value, static_cast<double>(limit))), 0, limit);
  };
  const auto add = [&](DpMetric metric, double value) {
    DpMetrics::Coordinate& c = result_.metrics[metric];
    c.sum += clipped(value, c.sensitivity);
  };
  add(DpMetric::kLossSum, unit_.loss_sum * share / result_.metrics[DpMetric::kLossSum].unit);
  add(DpMetric::kTargetTokens, static_cast<double>(unit_.target_tokens) * share);
  add(DpMetric::kCorrectTokens, static_cast<double>(unit_.correct_tokens) * share);
  add(DpMetric::kUnits, 1);
}

Status DpAccumulator::Close(std::span<const float> gradient) {
  if (!open_.has_value()) return FailedPrecondition("no unit is open");
  bool counted = false;
  if (!poisoned_ && std::isfinite(unit_.loss_sum)) {
    const double weight = unit_.target_tokens == 0 ? 0 : 1.0 / static_cast<double>(unit_.target_tokens);
    ASSIGN_OR_RETURN(const GridSum::Added added, sum_.Add(gradient, weight));
    counted = added.counted;
    if (counted) {
      ++result_.units;
      result_.clipped += added.clipped ? 1 : 0;
      result_.unit_norms.push_back(static_cast<float>(added.norm));
      AddMetrics();
    }
  }
  if (!counted) ++result_.dropped;
  open_.reset();
  unit_ = {};
  poisoned_ = false;
  return OkStatus();
}

StatusOr<DpStepResult> DpAccumulator::Finish(const Secret32& noise_seed, std::span<float> mean) {
  if (open_.has_value()) return FailedPrecondition("a unit is open");
  RETURN_IF_ERROR(sum_.Finish(noise_seed, config_.divisor, mean));
  DpStepResult result = std::move(result_);
  result.noise_stddev = sum_.grid().noise_stddev() / config_.divisor;
  ClearCounts();
  return result;
}

StatusOr<DpStepResult> DpAccumulator::TakeIntegers(uint64_t largest, std::span<float> out) {
  if (open_.has_value()) return FailedPrecondition("a unit is open");
  RETURN_IF_ERROR(sum_.TakeIntegers(largest, out));
  DpStepResult result = std::move(result_);
  ClearCounts();
  return result;
}

}  // namespace concordat::train
