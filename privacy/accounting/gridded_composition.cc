#include "privacy/accounting/gridded_composition.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "privacy/accounting/connect_dots.h"
#include "privacy/accounting/tilted_fft.h"

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMostCells = 1 << 23;

// At most 21 significant bits, so that index·h is exact.
double Rounded(double h) {
  int exponent = 0;
  const double fraction = std::frexp(h, &exponent);
  return std::ldexp(std::floor(std::ldexp(fraction, 21)), exponent - 21);
}

}  // namespace

std::optional<GriddedComposition> GriddedComposition::Make(std::span<const SubsampledGaussian> steps,
                                                           std::span<const StepLoss> losses,
                                                           const CompositionMoments& moments,
                                                           const Plan& plan) {
  const CompositionMoments::Window window = moments.Around(plan.theta, plan.outside);
  const double range = window.high - window.low;
  if (!std::isfinite(range)) return std::nullopt;
  GriddedComposition c;
  c.theta_ = plan.theta;
  c.h_ = Rounded(std::max({plan.spacing, range / plan.most_points, moments.widest_range() / kMostCells}));
  if (!(c.h_ > 0) || !(std::max(std::abs(window.high), moments.widest_range()) / c.h_ < 0x1p31))
    return std::nullopt;
  c.coarsened_ = c.h_ > plan.spacing * 1.01;
  c.r_ = std::exp(-c.theta_ * c.h_);
  c.rho_ = std::exp(-c.h_);
  c.fall_ = -std::expm1(-c.h_);
  c.top_ = std::max(std::ceil(window.high / c.h_) + 1, 2.0);
  c.mass_.resize(GoodTransformSize(static_cast<size_t>(range / c.h_) + 8));
  if (plan.precise)
    c.Lay<long double>(steps, losses, moments, plan, window.tail_theta);
  else
    c.Lay<double>(steps, losses, moments, plan, window.tail_theta);
  if (!std::isfinite(c.error_) || !std::isfinite(c.log_scale_)) return std::nullopt;
  return c;
}

template <typename Scalar>
void GriddedComposition::Lay(std::span<const SubsampledGaussian> steps, std::span<const StepLoss> losses,
                             const CompositionMoments& moments, const Plan& plan, double tail_theta) {
  CircularProduct<Scalar> product(mass_.size());
  double log_tail = -tail_theta * top_ * h_, rounding = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    std::fill(mass_.begin(), mass_.end(), 0.0);
    const auto times = static_cast<double>(steps[i].steps);
    const double log_moment = moments.LogOfStep(i, theta_);
    const Dots dots = ConnectDots(losses[i],
                                  {.spacing = h_,
                                   .theta = theta_,
                                   .log_moment = log_moment,
                                   .tail_theta = tail_theta,
                                   .log_mass_below = plan.log_mass_below,
                                   .log_mass_above = plan.log_mass_above},
                                  mass_);
    product.Multiply(mass_, dots.total, steps[i].steps);
    log_tail += times * std::log(dots.tail_moment / dots.total);
    log_scale_ += times * (log_moment + std::log(dots.total));
    rounding += times * (kMassError + 0x1p-50 * std::abs(log_moment));
    infinite_ += times * dots.infinite;
    split_ += times * dots.split / dots.total;
  }
  typename CircularProduct<Scalar>::Result product_mass = product.Take();
  mass_ = std::move(product_mass.mass);
  log_scale_ += rounding;
  tail_ = std::isnan(log_tail) ? 1 : std::exp(std::min(log_tail + rounding, 0.0));
  // Cauchy–Schwarz: the error of a weighted sum is at most the product of both norms. Three bounds on that of
  // the weights r^m(1−ρ^m): all of them at their largest, 1−ρ^m <= 1, and 1−ρ^m <= mh.
  const double all = static_cast<double>(mass_.size()), square = r_ * r_,
               rest = -std::expm1(-2 * theta_ * h_);
  const double weights = std::min({std::sqrt(all) * std::exp(LogPeak(theta_)), std::sqrt(square / rest),
                                   h_ * std::sqrt(square * (1 + square) / rest) / rest});
  error_ = product_mass.error_norm * weights;
}

GriddedComposition::Walk GriddedComposition::Start() const {
  const auto size = static_cast<double>(mass_.size());
  // What lies above the top weighs at most 1 there.
  return {.index = top_, .sum = tail_, .slot = static_cast<size_t>(top_ - size * std::floor(top_ / size))};
}

void GriddedComposition::Down(Walk& walk) const {
  const double with = mass_[walk.slot] + walk.light;
  walk.sum = r_ * (walk.sum + fall_ * with);
  walk.light = r_ * rho_ * with;
  walk.index -= 1;
  walk.slot = walk.slot == 0 ? mass_.size() - 1 : walk.slot - 1;
}

double GriddedComposition::DeltaAt(const Walk& walk) const {
  // A million roundings of sums of numbers with one sign.
  const double sum = walk.sum * (1 + 0x1p-30) + error_;
  if (!(sum > 0)) return infinite_;
  return infinite_ + std::exp(log_scale_ - theta_ * walk.index * h_ * (1 - 0x1p-50) + std::log(sum));
}

// ½·variance·(δ''/|δ'| + 1), by the local slope of ln|δ'|: a variance v moves the loss up by v/2 (E[e^{−ℓ}]
// stays) and spreads it.
double GriddedComposition::AddedByGrid(double d0, double d1, double d2) const {
  const double first = d0 - d1, second = d1 - d2;
  if (!(first > 0) || !(second > 0)) return 0;
  // Where one large loss decides, the tilted mean of the split misses it: one step's is the least.
  const double split = std::max(split_, h_ * h_ / 12);
  return split * (1 + std::clamp(std::log(first / second) / h_, 0.0, 4 * (theta_ + 1)));
}

double GriddedComposition::ShareOfNoise(const Walk& walk) const {
  return walk.sum > 0 ? error_ / (walk.sum + error_) : 1;
}

GriddedComposition::Answer GriddedComposition::Epsilon(double delta) const {
  Walk walk = Start();
  double d0 = DeltaAt(walk), d1 = d0, d2 = d0;  // at index, index + 1, index + 2
  if (!(d0 <= delta)) return {.value = kInfinity, .in_window = false};
  const double last = std::max(0.0, Bottom());
  while (walk.index > last) {
    Down(walk);
    d2 = std::exchange(d1, d0);
    d0 = DeltaAt(walk);
    if (d0 <= delta) continue;
    // δ is convex in e^ε: its chord.
    const double part = std::isinf(d0) ? 1 : std::clamp((d0 - delta) / (d0 - d1), 0.0, 1.0);
    const double epsilon = walk.index * h_ + std::log1p(part * std::expm1(h_));
    return {.value = epsilon * (1 + 0x1p-48),
            .grid_share = AddedByGrid(d0, d1, d2) / epsilon,
            .noise_share = ShareOfNoise(walk) * d0 * h_ / (std::max(d0 - d1, 1e-300) * epsilon)};
  }
  return {.value = last * h_, .in_window = last == 0};
}

GriddedComposition::Answer GriddedComposition::Delta(double epsilon) const {
  Walk walk = Start();
  const double index = std::floor(epsilon / h_);
  if (index + 2 > walk.index || index < Bottom()) return {.value = kInfinity, .in_window = false};
  double d0 = DeltaAt(walk), d1 = d0, d2 = d0;
  while (walk.index > index) {
    Down(walk);
    d2 = std::exchange(d1, d0);
    d0 = DeltaAt(walk);
  }
  const double part = std::clamp(std::expm1(epsilon - index * h_) / std::expm1(h_), 0.0, 1.0);
  const double value = (d0 + (d1 - d0) * part) * (1 + 0x1p-48);
  return {.value = value,
          .grid_share = AddedByGrid(d0, d1, d2) * (d0 - d1) / (h_ * value),
          .noise_share = ShareOfNoise(walk)};
}

}  // namespace concordat
