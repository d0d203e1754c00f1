#include "privacy/accounting/calibration.h"

#include <algorithm>
#include <cmath>

#include "privacy/accounting/pld.h"

namespace concordat {
namespace {

struct End {
  double log_sigma = 0;
  double excess = 0;  // ln(ε/target); at most 0 on the side that keeps the promise
};

// Narrows [low, high], excess > 0 at low and <= 0 at high, to kClose: the Illinois form of false position,
// which needs a handful of evaluations where halving would need twenty.
constexpr double kClose = 1e-5;

template <typename F>
StatusOr<double> Narrow(End low, End high, F excess_at) {
  int same_side = 0;
  for (int i = 0; i < 80 && high.log_sigma - low.log_sigma > kClose; ++i) {
    const double width = high.log_sigma - low.log_sigma;
    double at = low.log_sigma + width * low.excess / (low.excess - high.excess);
    // Never closer to an end than a tenth of the goal, so that the bracket itself becomes narrow.
    at = std::clamp(at, low.log_sigma + kClose / 10, high.log_sigma - kClose / 10);
    if (i % 8 == 7) at = low.log_sigma + width / 2;
    ASSIGN_OR_RETURN(const double excess, excess_at(at));
    if (excess > 0) {
      low = {at, excess};
      if (same_side == 1) high.excess /= 2;
      same_side = 1;
    } else {
      high = {at, excess};
      if (same_side == -1) low.excess /= 2;
      same_side = -1;
    }
  }
  return high.log_sigma;
}

Status CheckTarget(double epsilon, double delta) {
  if (!(epsilon > 0) || std::isinf(epsilon))
    return InvalidArgument("noise for epsilon: expected a finite epsilon of more than 0, got {}", epsilon);
  if (!(delta > 0) || !(delta < 1))
    return InvalidArgument("noise for epsilon: expected a delta between 0 and 1, got {}", delta);
  return OkStatus();
}

}  // namespace

template <typename Relation>
StatusOr<double> SampledSigmaFor(double epsilon, double delta, double q, uint64_t steps) {
  RETURN_IF_ERROR(CheckTarget(epsilon, delta));
  RETURN_IF_ERROR(CheckStep({.q = q, .sigma = 1}));
  if (q == 0 || steps == 0) return 0.0;
  const auto excess_at = [&](double log_sigma) -> StatusOr<double> {
    PldAccountant<Relation> accountant;
    RETURN_IF_ERROR(accountant.Add({.q = q, .sigma = std::exp(log_sigma), .steps = steps}));
    ASSIGN_OR_RETURN(const double got, accountant.Epsilon(delta));
    // Far from the target the size says nothing; near it the comparison is the exact one.
    if (got <= epsilon) return std::max(std::log(got / epsilon), -3.0);
    return std::clamp(std::log(got / epsilon), 1e-12, 3.0);
  };
  const double least = std::log(kLeastSigma), largest = std::log(kLargestSigma);
  End at{.log_sigma = 0};
  ASSIGN_OR_RETURN(at.excess, excess_at(0));
  End other = at;
  for (double step = 0.7; (at.excess > 0) == (other.excess > 0); step *= 1.5) {
    at = other;
    if (at.excess <= 0 && at.log_sigma <= least) return kLeastSigma;
    if (at.excess > 0 && at.log_sigma >= largest)
      return InvalidArgument("noise for epsilon: no noise up to {:g} reaches epsilon {:g}", kLargestSigma,
                             epsilon);
    other.log_sigma = std::clamp(at.log_sigma + (at.excess > 0 ? step : -step), least, largest);
    ASSIGN_OR_RETURN(other.excess, excess_at(other.log_sigma));
  }
  const bool up = other.log_sigma > at.log_sigma;
  ASSIGN_OR_RETURN(const double log_sigma, Narrow(up ? at : other, up ? other : at, excess_at));
  return std::exp(log_sigma);
}

template StatusOr<double> SampledSigmaFor<AddRemove>(double, double, double, uint64_t);
template StatusOr<double> SampledSigmaFor<ReplaceOne>(double, double, double, uint64_t);

}  // namespace concordat
