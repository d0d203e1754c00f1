#ifndef CONCORDAT_PRIVACY_ACCOUNTING_CALIBRATION_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_CALIBRATION_H_

#include <cstdint>

#include "common/status.h"
#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// Noise multipliers outside this range are not looked at: below, a release is no more private than one
/// without noise; above, it says nothing.
inline constexpr double kLeastSigma = 0.01, kLargestSigma = 1e9;

/// Smallest noise multiplier, to 1e-3 relative and rounded up, with which `steps` steps at sampling
/// probability `q` are (ε, δ)-DP: PldAccountant<Relation>::Epsilon(delta) of the result is never above
/// `epsilon`. 0 when nothing is released (q = 0 or no steps); kLeastSigma when any noise does, because a unit
/// is so seldom sampled that δ covers it. InvalidArgument unless 0 < ε < ∞, 0 < δ < 1, 0 <= q <= 1, and when
/// no noise up to kLargestSigma reaches ε.
template <typename Relation>
StatusOr<double> SampledSigmaFor(double epsilon, double delta, double q, uint64_t steps);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_CALIBRATION_H_
