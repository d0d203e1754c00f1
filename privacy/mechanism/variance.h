#ifndef CONCORDAT_PRIVACY_MECHANISM_VARIANCE_H_
#define CONCORDAT_PRIVACY_MECHANISM_VARIANCE_H_

#include <cstdint>

#include "common/status.h"

namespace concordat {

/// Variance parameter σ² of a discrete Gaussian, as an exact ratio: samplers work on integers only.
struct NoiseVariance {
  uint64_t numerator = 0;    // at most 2^41
  uint64_t denominator = 1;  // a power of two, at most 2^40

  /// The smallest representable ratio that is at least `stddev`², within 1e-6 relative: what is drawn is
  /// never less than what was asked and priced. 0 gives no noise. InvalidArgument if `stddev` is negative,
  /// not finite, over 2^20, or positive and below 1e-3 (noise that small is none: it never leaves zero).
  static StatusOr<NoiseVariance> FromStddev(double stddev);

  bool is_zero() const { return numerator == 0; }
  double value() const { return static_cast<double>(numerator) / static_cast<double>(denominator); }
  bool operator==(const NoiseVariance&) const = default;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_VARIANCE_H_
