#ifndef CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_
#define CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/random.h"
#include "privacy/mechanism/variance.h"

namespace concordat {

/// Draws from the discrete Gaussian N_Z(0, σ²): P(k) proportional to exp(−k²/(2σ²)) on the integers.
/// `source` is borrowed, must outlive the sampler, and must be a cryptographic generator. One thread at a
/// time. Running time depends on the values drawn: someone who can time single draws learns about them.
class DiscreteGaussianSampler {
 public:
  virtual ~DiscreteGaussianSampler() = default;
  /// Fills `out` with independent draws; zeros when the variance is 0.
  virtual void Sample(RandomSource& source, std::span<int64_t> out) const = 0;
};

/// Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (arXiv 2004.00010), Algorithms
/// 1–3: integers only, exactly the distribution, given uniform bits. The oracle for FastDiscreteGaussian.
class ExactDiscreteGaussian final : public DiscreteGaussianSampler {
 public:
  explicit ExactDiscreteGaussian(NoiseVariance variance);
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

 private:
  NoiseVariance variance_;
};

/// The same distribution, for millions of draws.
///
/// |k| = K·y + z: y from a table of exp(−y²/(2σ0²)), σ0 = σ/K, by inversion; z uniform in [0, K); accepted
/// with probability exp(−(z² + 2Kyz)/(2σ²)); then a sign, with −0 refused (CKS's argument for symmetry). K =
/// 1 for σ up to 128: a table only. Thresholds have 128 bits; comparisons look at the first 64 and go on to
/// the rest only on equality. The acceptance is decided by a double with a proven margin, and within the
/// margin by 192-bit fixed point. Statistical distance from the exact distribution: below 2^-100 a draw.
class FastDiscreteGaussian final : public DiscreteGaussianSampler {
 public:
  explicit FastDiscreteGaussian(NoiseVariance variance);
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

  /// P(|K·y + z|'s y <= index) as a 128-bit threshold; for tests of the table against exact sums.
  std::span<const unsigned __int128> thresholds() const { return cumulative_; }

 private:
  class Bits;
  uint64_t SampleBase(Bits& bits) const;
  bool Accept(Bits& bits, uint64_t z, uint64_t y) const;

  NoiseVariance variance_;
  uint64_t multiple_ = 1;                      // K
  double inverse_two_variance_ = 0;            // 1/(2σ²)
  std::vector<unsigned __int128> cumulative_;  // 2^128·P(Y <= y), the last one all ones
  std::vector<uint16_t> guide_;                // first index to look at, by the leading 8 bits
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_
