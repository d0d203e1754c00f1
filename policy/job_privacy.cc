#include "policy/job_privacy.h"

#include <algorithm>
#include <cmath>

#include "privacy/mechanism/gradient_grid.h"
#include "privacy/mechanism/rotation.h"
#include "privacy/secagg/worker_bounds.h"

namespace concordat::policy {
namespace {

/// Integer units of a metric's bound: fine enough for a loss to four digits, small enough that its noise and
/// the sum of 100 sites stay far from 2^31. With 24 bits the sum has 2^23 and a third digit is what fits.
double MetricUnits(const JobSpec& job) { return job.privacy.modulus_bits == kPackedBits ? 2048 : 16384; }

/// Less noise than there is, by more than three roundings add.
constexpr double kRoundedDown = 1 - 0x1p-48;

struct Cohort {
  uint32_t sites = 0;
  uint32_t honest = 0;
  RoundIndex round = 0;
  Digest rotation;  // RotationSeed of the attempt; a plan encodes nothing and has none
};

/// Standard deviation of one site's noise for sensitivity `sensitivity`.
double SiteNoise(const JobSpec& job, double multiplier, double sensitivity, uint32_t honest) {
  if (IsPerUnit(job) && !IsUnitSum(job)) return 0;
  const double total = multiplier * sensitivity;
  return job.privacy.noise == NoisePlacement::kLocal ? total : total / std::sqrt(static_cast<double>(honest));
}

MetricSpec SiteMetric(const JobSpec& job, MetricName name, double bound, uint32_t honest) {
  MetricSpec metric;
  metric.name = name;
  metric.bound = bound;
  metric.scale = MetricUnits(job) / bound;
  metric.noise_stddev = SiteNoise(job, job.metrics.noise_multiplier, MetricUnits(job), honest);
  return metric;
}

/// Of a sum over units: a unit adds at most 1/expected_units of `bound`, which is metric_units integers.
/// Twice the expected units fit.
MetricSpec SummedMetric(const JobSpec& job, const UnitSumSpec& sum, MetricName name, double bound,
                        uint32_t honest) {
  MetricSpec metric;
  metric.name = name;
  metric.bound = 2 * bound;
  metric.scale = sum.metric_units * job.privacy.expected_units / bound;
  metric.noise_stddev = SiteNoise(job, job.metrics.noise_multiplier, sum.metric_units, honest);
  metric.sensitivity = sum.metric_units;
  return metric;
}

StatusOr<EncodingPlan> SumEncoding(const JobSpec& job, const Cohort& cohort, uint64_t elements) {
  ASSIGN_OR_RETURN(const UnitSumSpec sum, UnitSumFor(job));
  EncodingConfig config;
  config.elements = elements;
  config.clip = job.privacy.clip;
  config.scale = 1 / UnitSumStep(job, sum, cohort.round);
  config.modulus_bits = job.privacy.modulus_bits;
  config.rounding = Rounding::kIntegers;
  config.sites = cohort.sites;
  config.noise_stddev = SiteNoise(job, job.privacy.noise_multiplier, sum.sensitivity, cohort.honest);
  config.unit_sensitivity = sum.sensitivity;
  config.largest = sum.largest;
  config.metrics = {SummedMetric(job, sum, MetricName::kTrainLossSum, job.metrics.loss_bound, cohort.honest),
                    SummedMetric(job, sum, MetricName::kTrainTokens, 1, cohort.honest)};
  return EncodingPlan::Make(config);
}

StatusOr<EncodingPlan> Encoding(const JobSpec& job, const Cohort& cohort) {
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
  if (IsUnitSum(job)) return SumEncoding(job, cohort, layout.delta_elements());
  EncodingConfig config;
  config.elements = layout.delta_elements();
  config.clip = job.privacy.clip;
  config.modulus_bits = job.privacy.modulus_bits;
  if (config.modulus_bits == kPackedBits) config.rotation = cohort.rotation;
  config.rounding =
      job.privacy.rounding == RoundingMode::kNearest ? Rounding::kNearest : Rounding::kStochastic;
  config.sites = cohort.sites;
  config.metrics = {SiteMetric(job, MetricName::kTrainLossSum, job.metrics.loss_bound, cohort.honest),
                    SiteMetric(job, MetricName::kTrainTokens, 1, cohort.honest)};
  if (job.privacy.noise_multiplier > 0) {
    // Noise is a multiple of the sensitivity, which follows from the rest of the config.
    ASSIGN_OR_RETURN(const EncodingPlan quiet, EncodingPlan::Make(config));
    config.noise_stddev = SiteNoise(job, job.privacy.noise_multiplier, quiet.sensitivity(), cohort.honest);
  }
  return EncodingPlan::Make(config);
}

StatusOr<LedgerCharge> Charge(const JobSpec& job, const AttemptId& attempt, const Cohort& cohort) {
  ASSIGN_OR_RETURN(const EncodingPlan plan, Encoding(job, cohort));
  LedgerCharge charge;
  charge.attempt = attempt;
  charge.unit = job.privacy.unit;
  charge.neighbour = NeighbourOf(job.privacy.unit);
  if (IsUnitSum(job)) {
    ASSIGN_OR_RETURN(charge.price, UnitRoundCurve(plan, cohort.honest));
    return charge;
  }
  if (IsPerUnit(job)) {
    RETURN_IF_ERROR(charge.price.Add(RoundSteps(job)));
    return charge;
  }
  const uint32_t shares = job.privacy.noise == NoisePlacement::kLocal ? 1 : cohort.honest;
  ASSIGN_OR_RETURN(charge.price, SiteRoundCurve(plan, charge.neighbour, shares));
  return charge;
}

StatusOr<PrivacyStatement> Statement(const JobSpec& job, uint32_t rounds, const Cohort& cohort) {
  ASSIGN_OR_RETURN(const EncodingPlan plan, Encoding(job, cohort));
  if (IsUnitSum(job))
    return UnitSumStatement(job.privacy.unit, plan, job.privacy.delta, rounds, cohort.honest);
  if (IsPerUnit(job))
    return SampledStatement(job.privacy.unit, RoundSteps(job), job.privacy.delta, rounds, cohort.sites);
  const bool distributed = job.privacy.noise == NoisePlacement::kDistributed;
  return SiteStatement(plan, Neighbour::kZeroOut, job.privacy.delta, rounds, distributed ? cohort.honest : 0);
}

Cohort Planned(const JobSpec& job, uint32_t sites) { return {sites, HonestSurvivorsFor(job, sites), 0, {}}; }
Cohort Offered(const secagg::Offer& offer) {
  return {static_cast<uint32_t>(offer.roster.size()), HonestSurvivorsFor(offer), offer.id.round,
          RotationSeed(offer.id)};
}

/// Metrics of a sum are this fine, or coarser where many units are expected: twice those of a hundred sites
/// stay far from 2^31 (2^23 with 24 bits), and in one dimension rounding a sum costs nothing.
uint32_t SummedMetricUnits(const JobSpec& job) {
  const double room = job.privacy.modulus_bits == kPackedBits ? 0x1p14 : 0x1p22;
  return static_cast<uint32_t>(std::clamp(room / job.privacy.expected_units, 1.0, MetricUnits(job)));
}

}  // namespace

double UnitSumStep(const JobSpec& job, const UnitSumSpec& sum, RoundIndex round) {
  return StepRateOf(job, round) * sum.grid / job.privacy.expected_units;
}

StatusOr<UnitSumSpec> UnitSumFor(const JobSpec& job) {
  const auto& p = job.privacy;
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
  GradientGridConfig config;
  config.elements = layout.delta_elements();
  config.clip = p.unit_clip;
  config.grid = GradientGrid::SumGrid(p.unit_clip, config.elements, p.noise_multiplier, p.modulus_bits);
  ASSIGN_OR_RETURN(const GradientGrid grid, GradientGrid::Make(config));
  UnitSumSpec out;
  out.grid = grid.grid();
  out.sensitivity = grid.sensitivity();
  out.metric_units = SummedMetricUnits(job);
  const double step = job.training.learning_rate * out.grid / p.expected_units;
  const double largest = std::floor(p.clip / step);
  if (!(largest >= 1) || largest > static_cast<double>(kLargestInteger))
    return InvalidArgument(
        "expected {:.3g} to {:.3g}, what an f32 holds in steps of learning_rate, unit_clip and "
        "expected_units; "
        "got {}: with unit {} and noise distributed it bounds each weight of a site's delta",
        step, step * static_cast<double>(kLargestInteger), p.clip, PrivacyUnitText(p.unit));
  out.largest = static_cast<uint32_t>(largest);
  return out;
}

RoundFigures FiguresOf(const JobSpec& job, std::span<const double> metric_sums, size_t sites) {
  const auto metric = [&](Metric m) {
    const auto index = static_cast<size_t>(m);
    return index < metric_sums.size() ? metric_sums[index] : std::nan("");
  };
  const double loss = metric(Metric::kLoss), share = metric(Metric::kTokens), planned = PlannedTokens(job);
  if (!IsUnitSum(job)) return {loss / static_cast<double>(sites), share * planned};
  // As of one token at least: noise on nothing gives no loss beyond its bound.
  const double mean = loss / std::max(share, 1 / planned);
  return {std::isnan(loss) ? loss : std::clamp(mean, 0.0, job.metrics.loss_bound),
          std::max(0.0, share * planned)};
}

SubsampledGaussian RoundSteps(const JobSpec& job) {
  const double z = job.privacy.noise_multiplier, metrics = job.metrics.noise_multiplier;
  const double moved = 1 / (z * z) + static_cast<double>(kMetricCount) / (metrics * metrics);
  return {job.privacy.sampling_rate, z > 0 && metrics > 0 ? kRoundedDown / std::sqrt(moved) : 0,
          job.training.local_steps};
}

double NoiseMultiplierFor(double sigma) {
  constexpr double kMetrics = static_cast<double>(kMetricCount) / (kUnitMetricNoise * kUnitMetricNoise);
  return sigma * std::sqrt(1 + kMetrics) / kRoundedDown * (1 + 0x1p-48);
}

uint32_t MinSurvivorsFor(const JobSpec& job, uint32_t sites) {
  return std::max(job.cohort.min_survivors, secagg::ThresholdFor(sites));
}

uint32_t HonestSurvivorsFor(const JobSpec& job, uint32_t sites) {
  const uint32_t survivors = MinSurvivorsFor(job, sites);
  return survivors > job.cohort.assumed_colluding ? survivors - job.cohort.assumed_colluding : 1;
}

uint32_t HonestSurvivorsFor(const secagg::Offer& offer) {
  return static_cast<uint32_t>(std::max<int64_t>(1, secagg::CountCohort(offer).honest_sites));
}

StatusOr<EncodingPlan> EncodingFor(const JobSpec& job, uint32_t sites) {
  return Encoding(job, Planned(job, sites));
}
StatusOr<EncodingPlan> EncodingFor(const JobSpec& job, const secagg::Offer& offer) {
  return Encoding(job, Offered(offer));
}

StatusOr<LedgerCharge> RoundCharge(const JobSpec& job, const AttemptId& attempt, uint32_t sites) {
  return Charge(job, attempt, Planned(job, sites));
}
StatusOr<LedgerCharge> RoundCharge(const JobSpec& job, const secagg::Offer& offer) {
  return Charge(job, offer.id, Offered(offer));
}

uint32_t PricedSites(const JobSpec& job, uint32_t sites) {
  if (job.privacy.noise == NoisePlacement::kLocal) return job.cohort.minimum;
  return std::clamp(sites, job.cohort.minimum, static_cast<uint32_t>(kMaxSites));
}

StatusOr<double> PlanEpsilon(const JobSpec& job, uint32_t rounds, uint32_t sites) {
  ASSIGN_OR_RETURN(const LedgerCharge charge, RoundCharge(job, AttemptId{}, sites));
  ASSIGN_OR_RETURN(const Price all, charge.price.Times(rounds));
  return EpsilonFor(all, charge.neighbour, job.privacy.delta);
}

StatusOr<PrivacyStatement> PlanStatement(const JobSpec& job, uint32_t rounds, uint32_t sites) {
  return Statement(job, rounds, Planned(job, sites));
}
StatusOr<PrivacyStatement> PlanStatement(const JobSpec& job, uint32_t rounds, const secagg::Offer& offer) {
  return Statement(job, rounds, Offered(offer));
}

StatusOr<uint64_t> MaskedBytes(const JobSpec& job) {
  ASSIGN_OR_RETURN(const uint64_t elements, MaskedElements(job));
  return VectorBytes(elements, job.privacy.modulus_bits);
}

}  // namespace concordat::policy
