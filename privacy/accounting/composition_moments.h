#ifndef CONCORDAT_PRIVACY_ACCOUNTING_COMPOSITION_MOMENTS_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_COMPOSITION_MOMENTS_H_

#include <span>
#include <vector>

#include "privacy/accounting/subsampled_gaussian.h"

namespace concordat {

/// ln E[e^{θL}] of a composition's loss L: where to tilt, how fine a grid must be and how wide. Nothing here
/// is part of a bound, but for what `EpsilonBound` says.
class CompositionMoments {
 public:
  /// Every step's loss is taken between the quantiles e^{−below} and e^{−above}. `losses` and `steps` are
  /// parallel.
  CompositionMoments(std::span<const SubsampledGaussian> steps, std::span<const StepLoss> losses,
                     double below, double above);

  double Log(double theta) const;
  double LogOfStep(size_t i, double theta) const { return coarse_[i].LogMoment(theta); }
  /// The largest range of losses of one step, and the largest loss.
  double widest_range() const { return widest_; }
  double largest_loss() const { return largest_; }

  struct Tilt {
    double theta = 0, value = 0;
  };
  /// The θ that gives the least ε with δ(ε) <= e^{log_delta}, and that ε.
  Tilt ForDelta(double log_delta) const;
  /// The θ that gives the least bound on ln δ(ε), and that bound.
  Tilt ForEpsilon(double epsilon) const;

  /// Holds all of the composition tilted by θ but e^{−outside} on each side.
  struct Window {
    double low = 0, high = 0;
    double tail_theta = 0;  // the further tilt that shows it for the upper side
  };
  Window Around(double theta, double outside) const;

 private:
  std::vector<CoarseLoss> coarse_;
  std::vector<double> times_;
  double widest_ = 0, largest_ = 0;
};

/// ln max_y (1 − e^{−y})·e^{−θy}: δ(ε) <= E[e^{θL}]·e^{−θε} times this (Canonne, Kamath, Steinke 2020,
/// arXiv 2004.00010, Proposition 12, with α = θ + 1).
double LogPeak(double theta);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_COMPOSITION_MOMENTS_H_
