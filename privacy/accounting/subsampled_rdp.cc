#include "privacy/accounting/subsampled_rdp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <type_traits>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double LogAdd(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
}

// ln E_Q[(P/Q)^α] for an integer α. Σ C(α,k)(1−q)^{α−k}q^k = 1, so that what is left is a sum of positive
// terms with e^{(k²−k)/(2σ²)} − 1, whose first two are zero: no digit is lost however small q is.
double LogMomentAtInteger(double q, double sigma, double alpha) {
  double sum = -kInfinity, log_binomial = std::log(alpha);  // of C(α, 1)
  const double log_q = std::log(q), log_not = std::log1p(-q);
  for (double k = 2; k <= alpha; ++k) {
    log_binomial += std::log((alpha - k + 1) / k);
    const double power = (k * k - k) / (2 * sigma * sigma);
    const double log_excess = power > 40 ? power : std::log(std::expm1(power));
    sum = LogAdd(sum, log_binomial + (alpha - k) * log_not + k * log_q + log_excess);
  }
  return sum > 40 ? sum : std::log1p(std::exp(sum));
}

// ln erfc(x).
double LogErfc(double x) {
  if (x < 20) return std::log(std::erfc(x));
  const double r = 1 / (2 * x * x);
  return -x * x - std::log(x * std::sqrt(std::numbers::pi)) + std::log1p(-r * (1 - 3 * r * (1 - 5 * r)));
}

// A number as sign and logarithm of a sum, scaled so that large terms may cancel.
struct Sum {
  double value = 0, scale = -kInfinity, largest = -kInfinity;
  void Add(double sign, double log_term) {
    largest = std::max(largest, log_term);
    if (log_term > scale) {
      value = value * (std::isinf(scale) ? 0 : std::exp(scale - log_term)) + sign;
      scale = log_term;
    } else {
      value += sign * std::exp(log_term - scale);
    }
  }
  double Log() const { return value > 0 ? scale + std::log(value) : -kInfinity; }
};

// ln E_Q[(P/Q)^α] for a real α, or nothing when the series does not settle.
std::optional<double> LogMomentBySeries(double q, double sigma, double alpha) {
  const double log_q = std::log(q), log_not = std::log1p(-q);
  const double cut = sigma * sigma * (log_not - log_q) + 0.5;
  const double scale = 1 / (sigma * std::numbers::sqrt2);
  Sum sum;
  double log_binomial = 0, sign = 1;  // of C(α, k)
  constexpr int kMostTerms = 4000;
  for (int k = 0; k < kMostTerms; ++k) {
    if (k > 0) {
      // C(α, k) = C(α, k−1)·(α−k+1)/k changes its sign whenever k passes α+1.
      const double factor = (alpha - k + 1) / k;
      log_binomial += std::log(std::abs(factor));
      if (factor < 0) sign = -sign;
    }
    const double rest = alpha - k;
    const double left = log_binomial + rest * log_not + k * log_q + (k * k - k) / (2 * sigma * sigma) +
                        LogErfc((k - cut) * scale) - std::numbers::ln2;
    const double right = log_binomial + k * log_not + rest * log_q +
                         (rest * rest - rest) / (2 * sigma * sigma) + LogErfc((cut - rest) * scale) -
                         std::numbers::ln2;
    sum.Add(sign, left);
    sum.Add(sign, right);
    if (k > alpha + 1 && std::max(left, right) < sum.scale + std::log(std::abs(sum.value)) - 40) {
      // Cancellation may have eaten no more than four digits.
      if (!(sum.value > 0) || sum.largest > sum.Log() + 9) return std::nullopt;
      return sum.Log();
    }
  }
  return std::nullopt;
}

// (1+w)^α − 1 − αw >= 0 for w = e^{log_one} − 1, times e^{log_density}.
double ConvexPart(double alpha, double w, double log_one, double log_density) {
  if (alpha * std::abs(w) < 1e-3)
    return std::exp(log_density) * alpha * (alpha - 1) / 2 * w * w *
           (1 + (alpha - 2) / 3 * w * (1 + (alpha - 3) / 4 * w * (1 + (alpha - 4) / 5 * w)));
  if (alpha * log_one > 1)
    return std::exp(log_density + alpha * log_one) - std::exp(log_density) * (1 + alpha * w);
  return std::exp(log_density) * (std::expm1(alpha * log_one) - alpha * w);
}

// The same by the trapezoid rule, whose error falls faster than any power of the step.
double LogMomentByQuadrature(double q, double sigma, double alpha) {
  const double variance = sigma * sigma;
  const double low = -12 * sigma, high = alpha + 1 + 12 * sigma;
  const double step = std::min(sigma / 5, std::numbers::pi * variance / 10);
  const double log_norm = std::log(step / (sigma * std::sqrt(2 * std::numbers::pi)));
  // The peak at x = α may be larger than any double: the logarithm of the largest is taken out.
  const double out = std::max(0.0, (alpha * alpha - alpha) / (2 * variance) - 600);
  double excess = 0;
  for (double x = low; x <= high; x += step) {
    const double t = (x - 0.5) / variance, w = t > 700 ? kInfinity : q * std::expm1(t);
    const double log_one = t > 36 ? t + std::log(q) + std::log1p((1 - q) / q * std::exp(-t)) : std::log1p(w);
    const double log_density = log_norm - x * x / (2 * variance) - out;
    excess +=
        std::isinf(w) ? std::exp(log_density + alpha * log_one) : ConvexPart(alpha, w, log_one, log_density);
  }
  return out > 0 ? out + std::log(excess + std::exp(-out)) : std::log1p(excess);
}

double LogMoment(double q, double sigma, double alpha) {
  const double whole = std::floor(alpha);
  if (whole == alpha) return LogMomentAtInteger(q, sigma, alpha);
  constexpr double kFewTerms = 300;
  if (alpha < kFewTerms) {
    // The series gives E, of which ln E may be the last digits only.
    const auto log_moment = LogMomentBySeries(q, sigma, alpha);
    if (log_moment && *log_moment > 1e-2) return *log_moment;
    if (sigma > 0.05) return LogMomentByQuadrature(q, sigma, alpha);
  }
  // The chord: between neighbours as high as these it is less than a thousandth of a percent too high.
  const double below = whole == 1 ? 0 : LogMomentAtInteger(q, sigma, whole);
  const double above = LogMomentAtInteger(q, sigma, whole + 1);
  return below + (alpha - whole) * (above - below);
}

}  // namespace

double SubsampledGaussianRdp(double q, double sigma, double alpha) {
  if (q == 0) return 0;
  if (sigma == 0) return kInfinity;
  if (q == 1) return alpha / (2 * sigma * sigma);
  // Past this the sum over k would take longer than it is worth: joint convexity, q = 1.
  constexpr double kLargestOrder = 4096;
  if (alpha > kLargestOrder) return alpha / (2 * sigma * sigma);
  const double rdp = LogMoment(q, sigma, alpha) / (alpha - 1);
  return std::isnan(rdp) ? kInfinity : std::max(rdp, 0.0);
}

namespace {

bool Idle(std::span<const SubsampledGaussian> steps) {
  return std::all_of(steps.begin(), steps.end(),
                     [](const SubsampledGaussian& s) { return s.q == 0 || s.steps == 0; });
}

// Least of f(ln(α−1)): a grid, then golden section.
template <typename F>
double LeastOverOrders(F f) {
  // From 1 + 1e-7 to 4096.
  constexpr double kFirst = -16, kLast = 8.3, kStep = 0.5, kGolden = 0.6180339887498949;
  double best = kInfinity, best_at = 0;
  const auto at = [&](double x) {
    const double v = f(x);
    if (v < best) best = v, best_at = x;
    return v;
  };
  for (double x = kFirst; x <= kLast; x += kStep) at(x);
  double low = best_at - kStep, high = std::min(best_at + kStep, kLast);
  for (int i = 0; i < 20; ++i) {
    const double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
    const bool left = at(a) < at(b);
    (left ? high : low) = left ? b : a;
  }
  return best;
}

}  // namespace

template <typename Relation>
double ComposedRdp(std::span<const SubsampledGaussian> steps, double alpha) {
  const double factor = std::is_same_v<Relation, ReplaceOne> ? 0.5 : 1;
  double sum = 0;
  for (const SubsampledGaussian& s : steps)
    if (s.steps > 0)
      sum += static_cast<double>(s.steps) * SubsampledGaussianRdp(s.q, s.sigma * factor, alpha);
  return sum;
}

template <typename Relation>
double RdpEpsilon(std::span<const SubsampledGaussian> steps, double delta) {
  if (Idle(steps)) return 0;
  if (!(delta > 0)) return kInfinity;
  if (delta >= 1) return 0;
  const double log_delta = std::log(delta);
  const double best = LeastOverOrders([&](double log_gap) {
    const double gap = std::exp(log_gap), log_alpha = std::log1p(gap);
    return ComposedRdp<Relation>(steps, 1 + gap) + (log_gap - log_alpha) - (log_delta + log_alpha) / gap;
  });
  return std::max(best, 0.0);
}

template <typename Relation>
double RdpDelta(std::span<const SubsampledGaussian> steps, double epsilon) {
  if (Idle(steps)) return 0;
  const double best = LeastOverOrders([&](double log_gap) {
    const double gap = std::exp(log_gap), log_alpha = std::log1p(gap);
    return gap * (ComposedRdp<Relation>(steps, 1 + gap) - epsilon + (log_gap - log_alpha)) - log_alpha;
  });
  return std::exp(std::min(best, 0.0));
}

template double ComposedRdp<AddRemove>(std::span<const SubsampledGaussian>, double);
template double ComposedRdp<ReplaceOne>(std::span<const SubsampledGaussian>, double);
template double RdpDelta<AddRemove>(std::span<const SubsampledGaussian>, double);
template double RdpDelta<ReplaceOne>(std::span<const SubsampledGaussian>, double);
template double RdpEpsilon<AddRemove>(std::span<const SubsampledGaussian>, double);
template double RdpEpsilon<ReplaceOne>(std::span<const SubsampledGaussian>, double);

}  // namespace concordat
