#ifndef CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_
#define CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/random.h"
#include "privacy/mechanism/variance.h"

namespace concordat {

namespace internal {
class RandomWords;
}

/// Draws from the discrete Gaussian N_Z(0, σ²): P(k) proportional to exp(−k²/(2σ²)) on the integers.
/// The source of a call must be a cryptographic generator; a call takes whole 4 KiB pieces from it. Samplers
/// are immutable: any thread. Running time depends on the values drawn: who can time single draws learns
/// about them.
class DiscreteGaussianSampler {
 public:
  virtual ~DiscreteGaussianSampler() = default;
  /// Fills `out` with independent draws; zeros when the variance is 0.
  virtual void Sample(RandomSource& source, std::span<int64_t> out) const = 0;
};

/// Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (arXiv 2004.00010), section 5:
/// integers only, exactly the distribution, given uniform bits. The oracle for FastDiscreteGaussian.
class ExactDiscreteGaussian final : public DiscreteGaussianSampler {
 public:
  explicit ExactDiscreteGaussian(NoiseVariance variance) : variance_(variance) {}
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

 private:
  NoiseVariance variance_;
};

/// The same distribution, for millions of draws.
///
/// Up to σ = 128: |k| by inversion from a table, then a sign. Above: K a power of two with σ0 = σ/K from 64
/// to 128; y >= 0 with weights exp(−y²/(2σ0²)) from the table, z uniform in [0, K), |k| = K·y + z accepted
/// with probability exp(−(z² + 2Kyz)/(2σ²)), a sign, and −0 refused. The product of the two factors is the
/// weight of |k|, so nothing but the table's rounding is approximate.
///
/// Thresholds have 128 bits, made in 192-bit fixed point; a comparison looks at the first 64 and goes on to
/// the rest only on equality. The acceptance is decided by a double with a margin of 2^-45 around it (its
/// error is below 2^-50), and inside the margin by fixed point and 128 more random bits. A table's tail
/// beyond 2^-140 is cut. Statistical distance from the exact distribution: below 2^-100 a draw. The same
/// random bytes give the same draws on every machine.
class FastDiscreteGaussian final : public DiscreteGaussianSampler {
 public:
  explicit FastDiscreteGaussian(NoiseVariance variance);
  void Sample(RandomSource& source, std::span<int64_t> out) const override;

  /// P(y <= index), 2^128 for one; for tests of the table against exact sums.
  unsigned __int128 Threshold(size_t index) const;
  size_t table_size() const { return high_.size(); }
  /// K.
  uint64_t multiple() const { return uint64_t{1} << shift_; }

 private:
  void BuildTable();
  uint64_t Invert(internal::RandomWords& words) const;
  bool Accept(internal::RandomWords& words, uint64_t y, uint64_t z) const;

  NoiseVariance variance_;
  uint32_t shift_ = 0;               // log2 K
  double inverse_two_variance_ = 0;  // 1/(2σ²)
  std::vector<uint64_t> high_;       // thresholds, leading 64 bits
  std::vector<uint64_t> low_;        // and the 64 after them
  std::vector<uint16_t> guide_;      // first index worth a look, by the leading 10 bits
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_DISCRETE_GAUSSIAN_H_
