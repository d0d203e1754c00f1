#ifndef CONCORDAT_PRIVACY_AUDIT_ONE_RUN_H_
#define CONCORDAT_PRIVACY_AUDIT_ONE_RUN_H_

#include <cstdint>
#include <span>

#include "common/status.h"

namespace concordat::audit {

/// A lower bound on ε from one training run (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846): each of m
/// canaries was trained on or not by a coin of its own. Whoever sees the adapter guesses r of the coins and
/// has v right. Were training (ε, δ)-DP for adding or removing one canary, then (Theorem 5.2)
///
///   P[at least v right] <= f(v) + 2mδ · max_{1<=i<=v} (f(v−i) − f(v))/i,   f(v) = P[Binomial(r, q) >= v],
///
/// with q = e^ε/(e^ε + 1): with δ = 0 nobody guesses better than randomised response lets them.
///
/// **Direction: never optimistic.** Probabilities are rounded up, ε down. Every ε at which the right side is
/// at most β is refuted at confidence 1 − β, also where it is not monotone: who is (ε, δ)-DP is (ε', δ)-DP
/// for every larger ε'. A bound of one adapter; several adapters, or runs that are repeated until one
/// pleases, share the confidence.

/// The right side above, at most 1. \param canaries m; \param guesses r <= m; \param correct v <= r;
/// \param epsilon at least 0, finite; \param delta 0 to 1.
/// InvalidArgument: any of it out of range, more than 2^20 canaries.
StatusOr<double> OneRunPValue(uint32_t canaries, uint32_t guesses, uint32_t correct, double epsilon,
                              double delta);

/// An ε that v of r right guesses refute at confidence 1 − β, 1e-9 under the largest that bisection finds,
/// and at most 64; 0 when not even ε = 0 is refuted. \param beta above 0, below 1. Errors as OneRunPValue.
StatusOr<double> OneRunEpsilon(uint32_t canaries, uint32_t guesses, uint32_t correct, double delta,
                               double beta);

struct OneRunAudit {
  uint32_t canaries = 0;  ///< m
  uint32_t guesses = 0;   ///< r with the highest bound
  uint32_t correct = 0;   ///< v of them
  double delta = 0;
  double confidence = 0;  ///< of `epsilon`, over all numbers of guesses that were tried
  double epsilon = 0;     ///< training is not (ε', delta)-DP for any ε' below this
  double ceiling = 0;     ///< what the same audit would say had every guess been right: it cannot see beyond
  bool operator==(const OneRunAudit&) const = default;
};

/// Guesses "trained on" for the r/2 highest scores and "not" for the r/2 lowest, for r = m, m/2, m/4, m/8 and
/// m/16 (rounded down to even, at least 2), each at a share of 1 − confidence that their number divides
/// evenly (Bonferroni): the highest of the bounds is one at `confidence`. Scores must come from the adapter
/// and the canaries alone, never from the coins; equal scores are taken in their order.
/// \param trained_on the coins, as many as scores, independent and fair. InvalidArgument: fewer than 2
/// scores, more than 2^20, one that is not finite, another number of coins, delta outside 0 to 1, confidence
/// not between 0 and 1.
StatusOr<OneRunAudit> AuditOneRun(std::span<const double> scores, std::span<const uint8_t> trained_on,
                                  double delta, double confidence);

}  // namespace concordat::audit

#endif  // CONCORDAT_PRIVACY_AUDIT_ONE_RUN_H_
