#include "privacy/accounting/composition_moments.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Least of f over θ > 0: a grid of ln θ, then golden section.
template <typename F>
CompositionMoments::Tilt LeastOverTilt(F f) {
  constexpr double kFirst = -14, kLast = 40, kStep = 0.5, kGolden = 0.6180339887498949;
  CompositionMoments::Tilt best{.theta = std::exp(kFirst), .value = kInfinity};
  const auto at = [&](double x) {
    const double theta = std::exp(x), v = f(theta);
    if (v < best.value) best = {theta, v};
    return v;
  };
  // Every f here falls, then rises.
  int worse = 0;
  for (double x = kFirst; x <= kLast && worse < 5; x += kStep) {
    const double before = best.value;
    worse = at(x) < before || std::isinf(before) ? 0 : worse + 1;
  }
  double low = std::log(best.theta) - kStep, high = low + 2 * kStep;
  for (int i = 0; i < 8; ++i) {
    const double a = high - kGolden * (high - low), b = low + kGolden * (high - low);
    const bool left = at(a) < at(b);
    (left ? high : low) = left ? b : a;
  }
  return best;
}

}  // namespace

double LogPeak(double theta) { return -std::log1p(theta) - theta * std::log1p(1 / theta); }

CompositionMoments::CompositionMoments(std::span<const SubsampledGaussian> steps,
                                       std::span<const StepLoss> losses, double below, double above) {
  coarse_.reserve(steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    coarse_.emplace_back(losses[i], below, above);
    times_.push_back(static_cast<double>(steps[i].steps));
    widest_ = std::max(widest_, coarse_.back().highest() - coarse_.back().lowest());
    largest_ = std::max(largest_, coarse_.back().highest());
  }
}

double CompositionMoments::Log(double theta) const {
  double sum = 0;
  for (size_t i = 0; i < coarse_.size(); ++i) sum += times_[i] * coarse_[i].LogMoment(theta);
  return sum;
}

CompositionMoments::Tilt CompositionMoments::ForDelta(double log_delta) const {
  return LeastOverTilt([&](double t) { return (Log(t) + LogPeak(t) - log_delta) / t; });
}

CompositionMoments::Tilt CompositionMoments::ForEpsilon(double epsilon) const {
  return LeastOverTilt([&](double t) { return Log(t) - t * epsilon + LogPeak(t); });
}

CompositionMoments::Window CompositionMoments::Around(double theta, double outside) const {
  const double here = Log(theta), d = std::max(1e-6, theta * 1e-3);
  const double variance = (Log(theta + d) - 2 * here + Log(theta - d)) / (d * d);
  const double scale = std::sqrt(2 * outside / std::max(variance, 1e-300));
  // E[e^{sL}] of the tilted steps must stay a number.
  constexpr double kLargestExponent = 600;
  Window w{.low = -kInfinity, .high = kInfinity};
  for (double s = scale / 512; s <= scale * 16; s *= 2) {
    const double above = (Log(theta + s) - here + outside) / s, below = (here - Log(theta - s) - outside) / s;
    if (above < w.high && s * largest_ < kLargestExponent) w.high = above, w.tail_theta = s;
    if (std::isfinite(below)) w.low = std::max(w.low, below);
  }
  return w;
}

}  // namespace concordat
