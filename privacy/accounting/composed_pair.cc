#include "privacy/accounting/composed_pair.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "privacy/accounting/gridded_composition.h"

namespace concordat {
namespace {

// What the grid may add, relative: aimed at, and accepted without making it finer.
constexpr double kAim = 2.5e-4, kAccept = 5e-4;
constexpr int kMostAttempts = 6;
// Of the first grid, which only has to say where to look.
constexpr double kFewPoints = 1 << 14;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Mass moved up at the lower end of each step, tilted: e^-46 of the composition, 1e-20.
constexpr double kBelow = 46;
// Mass at infinity: e^-9.2 of δ, 1e-4. Less would let in losses so large and rare that no tilt suits them.
constexpr double kShareAtInfinity = 9.2;
// A normal variable is this far out (37 deviations) with a probability below any double.
constexpr double kWide = 700;

// What an answer says about the point (ε, ln δ) that it is for.
struct Point {
  double epsilon = 0, log_delta = 0;
};

// The tilt with the least work. The best one for moments puts the mean at ε, but where one step can lose much
// with a small probability, its window reaches far up. A smaller tilt leaves less mass at ε, e^{ln δ + θε −
// K(θ)} of it: that may be small, so long as it stays well above the rounding.
GriddedComposition::Plan Retilted(const CompositionMoments& moments, const Point& at, double error,
                                  GriddedComposition::Plan plan) {
  constexpr double kAboveRounding = 14;                   // 1e6
  constexpr double kPreciseCost = 8, kPreciseGain = 6.9;  // e^6.9: 10 of 11 bits
  const double saddle = std::min(moments.ForEpsilon(at.epsilon).theta, plan.theta);
  const double log_error = std::log(error) + (plan.precise ? kPreciseGain : 0) + kAboveRounding;
  double least = kInfinity;
  for (double theta = saddle; theta > saddle / 300; theta /= 2) {
    const double log_share = std::min(0.0, at.log_delta + theta * at.epsilon - moments.Log(theta));
    const bool precise = log_share < log_error;
    if (theta < saddle && log_share < log_error - kPreciseGain) break;
    const double outside = 16 - log_share;
    const CompositionMoments::Window w = moments.Around(theta, outside);
    const double work = (w.high - w.low) * (precise ? kPreciseCost : 1);
    // A good deal narrower, or not worth the lost digits.
    if (!(work < 0.8 * least)) continue;
    least = work;
    plan.theta = theta;
    plan.outside = outside;
    plan.precise = precise;
  }
  return plan;
}

// A first grid of few points, then finer ones until the answer is tight. `ask` is Epsilon or Delta of a grid.
template <typename Ask, typename ToPoint>
std::optional<double> Refine(std::span<const SubsampledGaussian> steps, std::span<const StepLoss> losses,
                             const CompositionMoments& moments, GriddedComposition::Plan plan, Ask ask,
                             ToPoint point_of) {
  std::optional<double> best;
  const double most_points = std::exchange(plan.most_points, kFewPoints);
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const auto grid = GriddedComposition::Make(steps, losses, moments, plan);
    if (!grid) return best;
    const GriddedComposition::Answer answer = ask(*grid);
    if (std::isfinite(answer.value)) best = std::min(best.value_or(answer.value), answer.value);
    if (answer.value == 0 && answer.in_window) return best;
    if (!answer.in_window) {
      if (!std::isfinite(answer.value)) return best;
      plan.theta /= 2;  // the answer lies below what this tilt shows
      continue;
    }
    if (answer.grid_share + answer.noise_share <= kAccept) return best;
    if (grid->coarsened() && plan.most_points == most_points) return best;
    if (answer.grid_share > kAim)
      plan.spacing = grid->spacing() * std::max(0.9 * std::sqrt(kAim / answer.grid_share), 0.02);
    plan = Retilted(moments, point_of(answer.value), grid->error(), plan);
    plan.most_points = std::min(plan.most_points * 8, most_points);
  }
  return best;
}

}  // namespace

ComposedPair::ComposedPair(std::vector<SubsampledGaussian> steps, LossPair pair) : steps_(std::move(steps)) {
  for (const SubsampledGaussian& s : steps_) {
    losses_.emplace_back(s.q, s.sigma, pair);
    count_ += static_cast<double>(s.steps);
  }
}

std::optional<double> ComposedPair::Epsilon(double delta) const {
  const double log_delta = std::log(delta), below = kBelow + std::log(count_);
  const double above = std::log(count_) - log_delta + kShareAtInfinity;
  const CompositionMoments moments(steps_, losses_, below, above);
  const auto [theta, epsilon] = moments.ForDelta(log_delta);
  if (!std::isfinite(epsilon)) return std::nullopt;
  const double size = std::max(epsilon, std::numeric_limits<double>::min());
  return Refine(
      steps_, losses_, moments,
      {.theta = theta,
       .spacing = std::sqrt(12 * kAim * size / (count_ * (theta + 1))),
       .log_mass_below = below,
       .log_mass_above = above},
      [&](const GriddedComposition& g) { return g.Epsilon(delta); },
      [&](double found) {
        return Point{found, log_delta};
      });
}

std::optional<double> ComposedPair::Delta(double epsilon) const {
  const double below = kBelow + std::log(count_);
  const double bound = CompositionMoments(steps_, losses_, below, kWide).ForEpsilon(epsilon).value;
  if (!std::isfinite(bound)) return std::nullopt;
  // What goes to infinity must be little beside a δ that is not known yet: it is found with more of it, then
  // less.
  double log_delta = std::min(bound, 0.0) - 7;
  std::optional<double> best;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const double above = std::log(count_) - log_delta + kShareAtInfinity;
    const auto found = DeltaWith(epsilon, below, above);
    if (!found) return best;
    best = std::min(best.value_or(1), *found);
    const double infinite = count_ * std::exp(-above);
    if (!(infinite > 2e-4 * *found)) return best;
    log_delta = std::max(std::log(std::max(*found - infinite, 0.0)), log_delta - 20);
  }
  return best;
}

std::optional<double> ComposedPair::DeltaWith(double epsilon, double below, double above) const {
  const CompositionMoments moments(steps_, losses_, below, above);
  const double theta = moments.ForEpsilon(epsilon).theta;
  return Refine(
      steps_, losses_, moments,
      {.theta = theta,
       .spacing = std::sqrt(12 * kAim / (count_ * theta * (theta + 1))),
       .log_mass_below = below,
       .log_mass_above = above},
      [&](const GriddedComposition& g) { return g.Delta(epsilon); },
      [&](double found) {
        return Point{epsilon, std::log(found)};
      });
}

double ComposedPair::DeltaBound(double epsilon) const {
  const CompositionMoments moments(steps_, losses_, kWide, kWide);
  return std::exp(std::min(moments.ForEpsilon(epsilon).value, 0.0)) * (1 + 1e-6);
}

double ComposedPair::EpsilonBound(double delta) const {
  const CompositionMoments moments(steps_, losses_, kWide, kWide);
  return moments.ForDelta(std::log(delta)).value * (1 + 1e-6);
}

}  // namespace concordat
