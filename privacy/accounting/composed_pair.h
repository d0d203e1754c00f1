#ifndef CONCORDAT_PRIVACY_ACCOUNTING_COMPOSED_PAIR_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_COMPOSED_PAIR_H_

#include <optional>
#include <vector>

#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// One direction of composed steps with 0 < q <= 1, σ > 0, T > 0: the work behind PldAccountant, whose header
/// says what is computed and why it is an upper bound.
class ComposedPair {
 public:
  ComposedPair(std::vector<SubsampledGaussian> steps, LossPair pair);

  /// Least ε >= 0 with δ(ε) <= delta, rounded up; nothing when no grid of bearable size holds it.
  /// \param delta in (0, 1)
  std::optional<double> Epsilon(double delta) const;
  /// δ(ε), rounded up; nothing in the same case. \param epsilon >= 0, finite
  std::optional<double> Delta(double epsilon) const;
  /// An upper bound on ε from moments alone, cheap: to see that this direction cannot be the worse one. The
  /// trapezoid sums behind it are exact to 1e-12 where losses are bounded above: for kAdd with q < 1 only.
  double EpsilonBound(double delta) const;
  /// The same for δ(ε).
  double DeltaBound(double epsilon) const;

 private:
  std::optional<double> DeltaWith(double epsilon, double below, double above) const;

  std::vector<SubsampledGaussian> steps_;
  std::vector<StepLoss> losses_;
  double count_ = 0;  // Σ T
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_COMPOSED_PAIR_H_
