#ifndef CONCORDAT_PRIVACY_MECHANISM_ROUNDED_GAUSSIAN_H_
#define CONCORDAT_PRIVACY_MECHANISM_ROUNDED_GAUSSIAN_H_

#include <cstdint>
#include <span>

#include "common/random.h"
#include "common/status.h"

namespace concordat {

namespace internal {
class RandomWords;
}

/// Standard deviation of a Gaussian in units of the grid that it is rounded to, as the exact dyadic number
/// mantissa·2^exponent that samplers compute with. Rounded **up** to 44 significant bits: what is drawn is
/// never less than what was asked and priced, and at most 2^-43 more.
class RoundedGaussianScale {
 public:
  static constexpr double kSmallest = 0x1p-7;
  static constexpr double kLargest = 0x1p40;

  /// No noise.
  RoundedGaussianScale() = default;
  /// InvalidArgument unless `stddev` is 0 or from 2^-7 to 2^40 units.
  static StatusOr<RoundedGaussianScale> FromStddev(double stddev);

  bool is_zero() const { return mantissa_ == 0; }
  double stddev() const;
  uint64_t mantissa() const { return mantissa_; }
  int exponent() const { return exponent_; }

 private:
  uint64_t mantissa_ = 0;  // from 2^43 to 2^44, or 0
  int exponent_ = 0;
};

/// Draws round(s·X), X a standard normal deviate, to the nearest integer: P(k) = Φ((k+½)/s) − Φ((k−½)/s).
///
/// For an integer x, round(x + s·X) = x + round(s·X). So noise of this kind on integers is the *continuous*
/// Gaussian mechanism followed by rounding, which is post-processing: the price of the continuous Gaussian is
/// a true upper bound, and since no floating point number of the data meets one of the noise, the result's
/// low bits say nothing (Mironov 2012; Haney et al. 2022, arXiv 2207.10635).
///
/// The source of a call must be a cryptographic generator; a call takes whole 4 KiB pieces from it. Samplers
/// are immutable: any thread. Running time depends on the values drawn: who can time single draws learns
/// about them.
class RoundedGaussianSampler {
 public:
  virtual ~RoundedGaussianSampler() = default;
  /// Fills `out` with independent draws; zeros without noise, and then no randomness is asked for.
  virtual void Sample(RandomSource& source, std::span<int64_t> out) const = 0;
};

/// Karney, "Sampling exactly from the normal distribution", ACM TOMS 42 (2016), arXiv 1303.6257, Algorithms
/// H, B and N: only comparisons of uniform deviates whose digits are made when they are looked at. The normal
/// deviate comes out as integer part and the digits seen so far, the rest of them being uniform; digits are
/// then added until the rounded value is certain. Exactly the distribution, given uniform bits: the oracle
/// for FastRoundedGaussian.
class ExactRoundedGaussian final : public RoundedGaussianSampler {
 public:
  explicit ExactRoundedGaussian(RoundedGaussianScale scale) : scale_(scale) {}
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

 private:
  RoundedGaussianScale scale_;
};

/// The same distribution, for millions of draws.
///
/// |X| = (y + u)/64 with y from a table of weights exp(−(y/64)²/2), u uniform in [0, 1), accepted with
/// probability exp(−u(2y + u)/8192): the product of the two is the density at (y + u)/64, whatever s is. The
/// table has 128-bit thresholds. u is a lazy uniform deviate of which 64 bits are drawn; acceptance is
/// decided by a double with a margin of 2^-45 around it (its error is below 2^-50) and, inside the margin,
/// with 64 more bits of u, 127 of the other side and 192-bit fixed point. Where the decision is certain it is
/// the same for every continuation of u, so the digits of u not drawn yet stay uniform, and the product s·|X|
/// is rounded in 128-bit integers; when the digits so far leave two results (probability s·2^-70), more
/// digits decide, as many as it takes. Exact are so the scale and the rounding.
///
/// **Approximate**: the table's thresholds (each within 2^-126, 890 of them), its tail beyond 2^-140, and a
/// tie that not even 127 bits break (2^-126 after an event of 2^-44). Statistical distance from the exact
/// distribution: below 2^-100 a draw. |value| <= kReach·s + 1, always. The same random bytes give the same
/// draws on every machine.
class FastRoundedGaussian final : public RoundedGaussianSampler {
 public:
  /// Bound on |X|: where the table ends.
  static constexpr double kReach = 15;

  explicit FastRoundedGaussian(RoundedGaussianScale scale) : scale_(scale) {}
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

  /// 2^128·P(y <= index) and the number of indexes; for tests of the table against exact sums.
  static unsigned __int128 Threshold(size_t index);
  static size_t table_size();

 private:
  RoundedGaussianScale scale_;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_ROUNDED_GAUSSIAN_H_
