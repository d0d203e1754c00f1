#ifndef CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_GAUSSIAN_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_GAUSSIAN_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace concordat {

/// `steps` releases of a sum of clipped contributions with Gaussian noise, continuous or rounded to a grid,
/// over a batch that every privacy unit joins independently with probability `q` (Poisson sampling).
struct SubsampledGaussian {
  double q = 1;      // 0 to 1
  double sigma = 0;  // noise standard deviation divided by the bound on one contribution; 0: no noise
  uint64_t steps = 1;
  bool operator==(const SubsampledGaussian&) const = default;
};

/// The most noise that is priced: grids over more would have no end, and nobody needs it.
constexpr double kMostSigma = 1e100;

/// InvalidArgument unless 0 <= q <= 1 and 0 <= sigma <= kMostSigma: what was expected and what came.
Status CheckStep(const SubsampledGaussian& step);

/// Neighbour relations are types: a price under one says nothing under the other, and they never add.
///
/// A unit is added or removed. Pair N(0,σ²) against (1−q)N(0,σ²) + qN(1,σ²), in both directions.
struct AddRemove {
  static constexpr std::string_view kName = "add-remove";
};
/// A unit is replaced by another. Pair (1−q)N(0,σ²) + qN(1,σ²) against (1−q)N(0,σ²) + qN(−1,σ²), which is
/// its own reverse: N(−1,σ²) against N(1,σ²) when the unit is in the batch.
struct ReplaceOne {
  static constexpr std::string_view kName = "replace-one";
};

/// One direction of a pair: the loss ℓ = ln(P/Q) of a sample drawn from P.
enum class LossPair : uint8_t {
  kRemove,   // P the mixture, Q = N(0,σ²)
  kAdd,      // P = N(0,σ²), Q the mixture
  kReplace,  // both mixtures
};

/// Privacy loss of one step as an increasing function ℓ(x) of a real sample x with a density under P.
/// For kAdd x is the negated sample. Needs 0 < q <= 1, σ > 0.
class StepLoss {
 public:
  StepLoss(double q, double sigma, LossPair pair);

  struct Point {
    double loss;   // ℓ(x)
    double slack;  // what ℓ(x) may be off by: a few units in the last place of the terms it is made of
    double log_density;  // ln of the density of P at x
  };
  Point At(double x) const;
  /// x with ℓ(x) = loss; −∞ or +∞ where ℓ does not reach it. For laying out intervals: not rounded any way.
  double Inverse(double loss) const;
  /// x above which P has at most e^{−log_mass}, and hardly less: what lies there may have large losses.
  double Upper(double log_mass) const;
  /// x below which P has at most e^{−log_mass}.
  double Lower(double log_mass) const;
  double sigma() const { return sigma_; }

 private:
  double LogMassAbove(double x) const;

  double q_, sigma_;
  LossPair pair_;
  double log_norm_;
};

/// ln E_P[e^{θℓ}] of one step for choosing tilt, grid and window: the trapezoid rule in x, whose error for
/// such integrands falls faster than any power of its step. Between the quantiles given to the constructor
/// only.
class CoarseLoss {
 public:
  CoarseLoss(const StepLoss& loss, double log_mass_below, double log_mass_above);
  double LogMoment(double theta) const;
  double lowest() const { return loss_.front(); }
  double highest() const { return loss_.back(); }

 private:
  std::vector<double> loss_, log_weight_;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_SUBSAMPLED_GAUSSIAN_H_
