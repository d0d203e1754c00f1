#include "privacy/mechanism/variance.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace concordat {

StatusOr<NoiseVariance> NoiseVariance::FromStddev(double stddev) {
  if (!(stddev >= 0) || stddev > 0x1p20 || (stddev > 0 && stddev < 1e-3)) {
    return InvalidArgument(
        "noise standard deviation: expected 0, or 0.001 to {} integer units, got {}; change the scale or the "
        "noise",
        1 << 20, stddev);
  }
  if (stddev == 0) return NoiseVariance{};
  double variance = stddev * stddev;
  if (std::fma(stddev, stddev, -variance) > 0) variance = std::nextafter(variance, HUGE_VAL);
  const int shift = std::clamp(40 - std::ilogb(variance), 0, 40);
  const auto numerator = static_cast<uint64_t>(std::ceil(std::ldexp(variance, shift)));
  const int common = std::min(shift, std::countr_zero(numerator));
  return NoiseVariance{.numerator = numerator >> common, .denominator = uint64_t{1} << (shift - common)};
}

}  // namespace concordat
