#ifndef CONCORDAT_POLICY_JOB_PRIVACY_H_
#define CONCORDAT_POLICY_JOB_PRIVACY_H_

#include <cstdint>
#include <span>

#include "policy/job.h"
#include "privacy/accounting/ledger_arithmetic.h"
#include "privacy/accounting/privacy_statement.h"
#include "privacy/mechanism/encoding.h"

// What a job's numbers mean once its roster is known. Worker, coordinator and plan all ask here, so that they
// cannot differ. Functions that take an offer are for rounds: they count honest survivors as CountCohort
// does, all sites of one jurisdiction as one coalition. Functions that take a number of sites are for plans
// and suppose one site in each jurisdiction.
namespace concordat::policy {

/// m of an attempt with `sites` in its roster: the job's, or t where that is more.
uint32_t MinSurvivorsFor(const JobSpec& job, uint32_t sites);
/// h = m − nC, the honest survivors that distributed noise counts on; at least 1.
uint32_t HonestSurvivorsFor(const JobSpec& job, uint32_t sites);
uint32_t HonestSurvivorsFor(const secagg::Offer& offer);

/// The checked encoding of a round with `sites` in the roster. σ_s = noise_multiplier·Δ₂ with local noise,
/// that over √h with distributed; metrics likewise, on a grid of 2^-14 of their bound (2^-11 with 24 bits).
/// With units person and record and local noise none: what is encoded has it already. With theirs
/// distributed the integers of UnitSumFor, Δ₂ that of one unit. Only that of an offer can encode and decode:
/// its rotation is the attempt's, its scale the round's. InvalidArgument when overflow is too likely or a
/// number is out of the mechanism's range.
StatusOr<EncodingPlan> EncodingFor(const JobSpec& job, uint32_t sites);
StatusOr<EncodingPlan> EncodingFor(const JobSpec& job, const secagg::Offer& offer);

/// Whether the job's trainers clip each unit: it is a person or a record.
inline bool IsPerUnit(const JobSpec& job) { return job.privacy.unit != PrivacyUnit::kSite; }
/// Whether a round is one sum of clipped gradients over all units, whose noise the sites share
/// (docs/decisions/0010-shared-noise-for-records.md). Otherwise trainers of units run DP-SGD with noise of
/// their own.
inline bool IsUnitSum(const JobSpec& job) {
  return IsPerUnit(job) && job.privacy.noise == NoisePlacement::kDistributed;
}

/// The integers of a sum over units; the same for every site, roster, round and attempt of a job.
struct UnitSumSpec {
  double grid = 0;            // γ: a unit's clipped gradient is rounded to its multiples
  double sensitivity = 0;     // S, L2 bound on a unit's integers
  uint32_t largest = 0;       // each integer of a site is clamped to it: privacy.clip in the first round
  uint32_t metric_units = 0;  // what a unit adds at most to each metric, in integers
};
/// InvalidArgument: privacy.clip is below the grid, or beyond what 2^24 of its steps hold. \pre IsUnitSum
StatusOr<UnitSumSpec> UnitSumFor(const JobSpec& job);
/// Weights for each integer of a site's sum, in `round`: the step of SGD over expected_units.
double UnitSumStep(const JobSpec& job, const UnitSumSpec& sum, RoundIndex round);

/// What the metrics of a round say, summed over `sites` survivors.
struct RoundFigures {
  double mean_loss = 0;  // nats per token
  double tokens = 0;     // that the loss counted
};
/// \param metric_sums in the order of Metric; NaN for what is missing.
RoundFigures FiguresOf(const JobSpec& job, std::span<const double> metric_sums, size_t sites);

/// One round of DP-SGD as one mechanism. A step releases the gradient's sum, with noise of z sensitivities,
/// and two figures, each with noise of z_m of its own, all over the same drawn units: scaled by their noise
/// they are one vector, of which a unit moves √(1/z² + 2/z_m²) at most, so that the step is a subsampled
/// Gaussian with multiplier 1/√(1/z² + 2/z_m²). Priced apart, two mechanisms with one draw would not be
/// independent. 0 where either has no noise. \pre IsPerUnit and not IsUnitSum
SubsampledGaussian RoundSteps(const JobSpec& job);

/// privacy.noise_multiplier with which a step of RoundSteps is priced as `sigma`, where a job file leaves the
/// metrics' noise at its usual multiple. Rounded up.
double NoiseMultiplierFor(double sigma);

/// What one attempt is charged, kind delta. Site: zero-out; one share of noise with local noise, h with
/// distributed. Person and record: add/remove, RoundSteps with local noise, the sum's with h shares of noise
/// with distributed.
StatusOr<LedgerCharge> RoundCharge(const JobSpec& job, const AttemptId& attempt, uint32_t sites);
StatusOr<LedgerCharge> RoundCharge(const JobSpec& job, const secagg::Offer& offer);

/// The number of sites with which a job is priced for readers that do not have its offers. With shared noise
/// a site's own share is smaller the more sites there are, and ε against everyone else larger: as many as a
/// round had or may have, `sites`. With local noise nothing depends on it: the smallest cohort. At least
/// that, at most kMaxSites.
uint32_t PricedSites(const JobSpec& job, uint32_t sites);

/// ε at the job's δ after `rounds` rounds, for a reader outside the region; infinity without noise. Failed
/// attempts cost more: this is the price of an undisturbed job.
StatusOr<double> PlanEpsilon(const JobSpec& job, uint32_t rounds, uint32_t sites);
/// The whole statement, printed on every release.
StatusOr<PrivacyStatement> PlanStatement(const JobSpec& job, uint32_t rounds, uint32_t sites);
StatusOr<PrivacyStatement> PlanStatement(const JobSpec& job, uint32_t rounds, const secagg::Offer& offer);

/// Bytes of one masked vector on the wire, and of a published sum.
StatusOr<uint64_t> MaskedBytes(const JobSpec& job);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_JOB_PRIVACY_H_
