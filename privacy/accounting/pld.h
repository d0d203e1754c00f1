#ifndef CONCORDAT_PRIVACY_ACCOUNTING_PLD_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_PLD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// Privacy loss distribution (PLD) accountant of composed Poisson-subsampled Gaussians: the number of record
/// for continuous Gaussian noise, and for noise rounded to the grid that its data lie on.
///
/// **Definition.** For neighbours that lead to output distributions P and Q, δ(ε) = E_P[(1 − e^{ε−ℓ})_+] +
/// P(ℓ = ∞), ℓ = ln(P/Q). A pair that dominates each step's (larger δ at every ε) dominates the composition
/// when the pairs are composed (Zhu, Dong, Wang 2022, arXiv 2106.08567, Theorem 10), where losses add. For
/// add/remove both directions are composed and the worse counts; replace-one is its own reverse.
///
/// **Method.** Each step's pair is replaced by a dominating one on a grid (connect_dots.h) whose spacing
/// comes from the composition: what the grid adds to ε is Σ T·E[u(h−u)]/2·(1 + tilt), measured while it is
/// made and asked to be below 5e-4 of ε (of ln δ, for Delta). Masses are multiplied by e^{θℓ}, which puts
/// the composition's mass where the answer is, composed in the Fourier domain (tilted_fft.h), and
/// multiplied back.
///
/// **Direction of every error: up.**
///  1. Grid: dominates. Tails of a step: the upper is mass at infinity, the lower moves up to the edge.
///  2. Quadrature and rounding of a mass: relative error below kMassError; δ grows by (1 + kMassError)^T.
///  3. Circle: mass from below its window comes in at its top, which only adds; mass from above it is lost
///  and
///     a Chernoff bound with the exact moment of the gridded steps is added.
///  4. Fourier transforms, logarithms, powers: a bound on the Euclidean norm of the error is added (Cauchy
///     and Schwarz with the weights of δ).
///  5. Between grid points ε and δ are read off the chord of a convex curve.
/// Where that fails to give a number (steps beyond all reason), the Rényi bound is taken, an upper bound too.
///
/// **Tolerance.** At most 1e-3 relative above the exact ε for Epsilon(), above the exact δ for Delta(), and
/// not below either, except by rounding of the last printed digits; held against an independent arbiter for δ
/// from 1e-2 to 1e-14, q from 1e-5 to 1, up to 1e6 steps (experiments/reference/accountant). A composition
/// of full batches only is a Gaussian and is priced in closed form (gaussian_delta.h).
///
/// Pure: no state but the steps, no threads; one object per thread, or constant.
/// \tparam Relation AddRemove or ReplaceOne
template <typename Relation>
class PldAccountant {
 public:
  /// InvalidArgument as CheckStep, and when steps exceed 2^63 in all. Equal steps are counted together.
  Status Add(const SubsampledGaussian& step);

  /// Least ε such that the composition is (ε, δ)-DP, rounded up. 0 without a step that does something (no
  /// steps, q = 0) and for δ = 1; infinity, else, for σ = 0 or δ = 0. InvalidArgument unless 0 <= δ <= 1.
  StatusOr<double> Epsilon(double delta) const;

  /// δ at ε, rounded up: 0 without a step that does something, 1 for σ = 0. InvalidArgument unless ε >= 0.
  StatusOr<double> Delta(double epsilon) const;

  const std::vector<SubsampledGaussian>& steps() const { return steps_; }

 private:
  std::vector<SubsampledGaussian> steps_;
};

using AddRemoveAccountant = PldAccountant<AddRemove>;
using ReplaceOneAccountant = PldAccountant<ReplaceOne>;

/// One direction alone, for checks. The same refusals.
StatusOr<double> EpsilonOfPair(std::span<const SubsampledGaussian> steps, LossPair pair, double delta);
StatusOr<double> DeltaOfPair(std::span<const SubsampledGaussian> steps, LossPair pair, double epsilon);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_PLD_H_
