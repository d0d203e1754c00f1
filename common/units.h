#ifndef CONCORDAT_COMMON_UNITS_H_
#define CONCORDAT_COMMON_UNITS_H_

#include <cmath>
#include <compare>
#include <string_view>

#include "common/status.h"

namespace concordat {

/// A finite number with a meaning. The factories refuse NaN and whatever the meaning excludes.
template <typename Tag>
class Quantity {
 public:
  static StatusOr<Quantity> Make(double value) {
    if (std::isnan(value)) return InvalidArgument("{}: not a number", Tag::kName);
    if (value < 0 || (value == 0 && !Tag::kMayBeZero)) {
      return InvalidArgument("{}: expected {} 0, got {}", Tag::kName,
                             Tag::kMayBeZero ? "at least" : "more than", value);
    }
    if (std::isinf(value) && !Tag::kMayBeInfinite)
      return InvalidArgument("{}: expected a finite number", Tag::kName);
    if (value > Tag::kMax)
      return InvalidArgument("{}: expected at most {}, got {}", Tag::kName, Tag::kMax, value);
    return Quantity(value);
  }
  double value() const { return value_; }
  auto operator<=>(const Quantity&) const = default;

 private:
  explicit Quantity(double value) : value_(value) {}
  double value_;
};

struct EpsilonTag {
  static constexpr std::string_view kName = "epsilon";
  static constexpr bool kMayBeZero = true, kMayBeInfinite = true;
  static constexpr double kMax = HUGE_VAL;
};
struct DeltaTag {
  static constexpr std::string_view kName = "delta";
  static constexpr bool kMayBeZero = true, kMayBeInfinite = false;
  static constexpr double kMax = 1;
};
struct ClipNormTag {
  static constexpr std::string_view kName = "clip norm";
  static constexpr bool kMayBeZero = false, kMayBeInfinite = false;
  static constexpr double kMax = 1e9;
};
struct NoiseMultiplierTag {
  static constexpr std::string_view kName = "noise multiplier";
  static constexpr bool kMayBeZero = true, kMayBeInfinite = false;
  static constexpr double kMax = 1e9;
};

/// Privacy loss bound, natural units. Infinity says plainly that there is no guarantee.
using Epsilon = Quantity<EpsilonTag>;
/// Probability outside the bound, 0 to 1.
using Delta = Quantity<DeltaTag>;
/// L2 bound on what one privacy unit contributes, in units of the adapter's weights.
using ClipNorm = Quantity<ClipNormTag>;
/// Standard deviation of the noise divided by the L2 sensitivity.
using NoiseMultiplier = Quantity<NoiseMultiplierTag>;

}  // namespace concordat

#endif  // CONCORDAT_COMMON_UNITS_H_
