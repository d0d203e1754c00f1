#ifndef CONCORDAT_PRIVACY_MECHANISM_POISSON_SAMPLER_H_
#define CONCORDAT_PRIVACY_MECHANISM_POISSON_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "common/secret.h"
#include "common/status.h"

namespace concordat {

/// Probability with which a privacy unit is part of a step: a whole number of 2^-64ths, or exactly one.
///
/// **Direction of rounding: down.** A unit is included with probability threshold/2^64 <= the q that was
/// asked for and is claimed. Privacy loss of a Poisson-subsampled mechanism does not fall when q grows (the
/// dominating pair at q' < q is a mixture of the one at q with "not sampled"), so that an accountant fed with
/// the claimed q stays an upper bound.
class SamplingRate {
 public:
  /// Never: an empty batch every time.
  SamplingRate() = default;
  /// q = numerator / denominator. InvalidArgument unless denominator > 0 and q <= 1.
  static StatusOr<SamplingRate> FromRatio(uint64_t numerator, uint64_t denominator);
  /// The largest multiple of 2^-64 that is at most `q`: exact but for a q below 2^-11, of which bits under
  /// 2^-64 are dropped. InvalidArgument unless 0 <= q <= 1.
  static StatusOr<SamplingRate> FromDouble(double q);

  bool always() const { return always_; }
  /// A unit is included when its 64 bits, as a number, are below this; of no meaning when always().
  uint64_t threshold() const { return threshold_; }
  /// A double that is at least the true probability: what to give to an accountant when the claimed q is not
  /// at hand.
  double upper() const;
  bool operator==(const SamplingRate&) const = default;

 private:
  uint64_t threshold_ = 0;
  bool always_ = false;
};

/// Real Poisson sampling: each unit by itself with probability `rate`, by a cryptographic generator. Batches
/// have no fixed size; an empty one is as legal as a full one, and must be processed (noise only), or the
/// absence of a step says who was not there.
///
/// Unit i is decided by bytes 8i … 8i+7 (little-endian) of the AES-256-CTR keystream of a step's seed: by the
/// seed and its number alone, not by the other units, how many there are, or the order in which anyone looks.
/// Shuffled batches reported as Poisson overstate privacy up to four times (arXiv 2411.10614):
/// model::BatchPlan must not stand in for this class where amplification is claimed.
///
/// The drawn indexes are secret: amplification rests on nobody knowing them. Time does not depend on which
/// units are drawn but for writing them out. Immutable: any thread.
class PoissonSampler {
 public:
  /// \param units how many there are, numbered from 0.
  PoissonSampler(SamplingRate rate, uint32_t units) : rate_(rate), units_(units) {}

  /// The units of one step, ascending. \param seed fresh for each step (see StepSeed): two steps with one
  /// seed draw the same units, and no accountant allows for that.
  std::vector<uint32_t> Draw(const Secret32& seed) const;

  SamplingRate rate() const { return rate_; }
  uint32_t units() const { return units_; }

 private:
  SamplingRate rate_;
  uint32_t units_;
};

/// Seeds of one step of DP-SGD from a root that the region draws from the operating system and keeps: HKDF
/// over a label and the step's number. A step that is run again after a crash repeats its draw and its noise.
struct StepSeeds {
  Secret32 sampling, noise;
};
StepSeeds StepSeedsFor(const Secret32& root, uint64_t step);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_POISSON_SAMPLER_H_
