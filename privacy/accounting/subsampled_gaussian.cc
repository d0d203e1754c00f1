#include "privacy/accounting/subsampled_gaussian.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUlp = 0x1p-52;

// ln(1 − q + q·e^t) without cancellation anywhere.
double LogMix(double q, double t) {
  if (q == 1) return t;
  if (t > 36) return t + std::log(q + (1 - q) * std::exp(-t));
  const double change = q * std::expm1(t);
  return change < -0.5 ? std::log((1 - q) + q * std::exp(t)) : std::log1p(change);
}

// t with ln(1 − q + q·e^t) = loss.
double InverseLogMix(double q, double loss) {
  if (q == 1) return loss;
  if (loss > 36) return loss - std::log(q) + std::log1p(-(1 - q) * std::exp(-loss));
  const double ratio = std::expm1(loss) / q;
  return ratio <= -1 ? -kInfinity : std::log1p(ratio);
}

// asinh(e^a·sinh(b)) for b >= 0, where e^a may not be a number.
double AsinhOfProduct(double a, double b) {
  if (b == 0) return 0;
  const double log_sinh = b > 20 ? b - std::numbers::ln2 : std::log(std::sinh(b));
  const double log_value = a + log_sinh;
  return log_value > 300 ? log_value + std::numbers::ln2 : std::asinh(std::exp(log_value));
}

// ln of the probability that a normal variable exceeds z, from above: φ(z)/z bounds it.
double LogNormalTail(double z) {
  if (z < 30) return std::log(std::erfc(z / std::numbers::sqrt2) / 2);
  return -z * z / 2 - std::log(z * std::sqrt(2 * std::numbers::pi));
}

}  // namespace

Status CheckStep(const SubsampledGaussian& step) {
  if (!(step.q >= 0) || !(step.q <= 1))
    return InvalidArgument("sampling probability: expected a number from 0 to 1, got {}", step.q);
  if (!(step.sigma >= 0 && step.sigma <= kMostSigma))
    return InvalidArgument("noise multiplier: expected a number from 0 to {:g}, got {}", kMostSigma,
                           step.sigma);
  return OkStatus();
}

StepLoss::StepLoss(double q, double sigma, LossPair pair)
    : q_(q), sigma_(sigma), pair_(pair), log_norm_(-std::log(sigma * std::sqrt(2 * std::numbers::pi))) {}

StepLoss::Point StepLoss::At(double x) const {
  const double z = x / sigma_, log_base = log_norm_ - z * z / 2;
  const double s2 = sigma_ * sigma_;
  const double up = (x - 0.5) / s2, down = (-x - 0.5) / s2;
  switch (pair_) {
    case LossPair::kRemove: {
      const double loss = LogMix(q_, up);
      return {loss, 8 * kUlp * std::abs(loss), log_base + loss};
    }
    case LossPair::kAdd: {
      const double loss = -LogMix(q_, down);
      return {loss, 8 * kUlp * std::abs(loss), log_base};
    }
    case LossPair::kReplace:
      break;
  }
  const double above = LogMix(q_, up), below = LogMix(q_, down);
  return {above - below, 8 * kUlp * (std::abs(above) + std::abs(below)), log_base + above};
}

double StepLoss::Inverse(double loss) const {
  const double s2 = sigma_ * sigma_;
  switch (pair_) {
    case LossPair::kRemove:
      return s2 * InverseLogMix(q_, loss) + 0.5;
    case LossPair::kAdd:
      return -(s2 * InverseLogMix(q_, -loss) + 0.5);
    case LossPair::kReplace:
      break;
  }
  // With A = e^{x/σ²} and c = e^{−1/(2σ²)}: (1−q+qcA)/(1−q+qc/A) = e^ℓ is quadratic in A.
  const double half = std::abs(loss) / 2;
  const double bent = q_ == 1 ? 0 : AsinhOfProduct(std::log((1 - q_) / q_) + 0.5 / s2, half);
  return std::copysign(s2 * (half + bent), loss);
}

double StepLoss::LogMassAbove(double x) const {
  if (pair_ == LossPair::kAdd) return LogNormalTail(x / sigma_);
  const double away = q_ == 1 ? -kInfinity : std::log1p(-q_) + LogNormalTail(x / sigma_);
  const double with = std::log(q_) + LogNormalTail((x - 1) / sigma_);
  const double high = std::max(away, with);
  return high + std::log1p(std::exp(std::min(away, with) - high));
}

// Every density here is a mixture of normals with means 0 and 1 (0 alone for kAdd), and a normal variable
// exceeds z standard deviations with probability at most e^{−z²/2}.
double StepLoss::Upper(double log_mass) const {
  double low = 0, high = 1 + sigma_ * std::sqrt(2 * std::max(log_mass, 1.0));
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    (LogMassAbove(middle) <= -log_mass ? high : low) = middle;
  }
  return high;
}

double StepLoss::Lower(double log_mass) const {
  const double z = std::sqrt(2 * std::max(log_mass, 0.0));
  return (pair_ != LossPair::kAdd && q_ == 1 ? 1 : 0) - sigma_ * z;
}

CoarseLoss::CoarseLoss(const StepLoss& loss, double log_mass_below, double log_mass_above) {
  const double low = loss.Lower(log_mass_below), high = loss.Upper(log_mass_above);
  const double s = loss.sigma();
  // ln(1 − q + q·e^t) has its nearest singularity at a distance of πσ² from the real line.
  constexpr double kMost = 20'000;
  const double step = std::min(s / 4, std::numbers::pi * s * s / 8);
  const double count = std::clamp(std::ceil((high - low) / step), 8.0, kMost);
  const double width = (high - low) / count;
  for (double i = 0; i <= count; ++i) {
    const StepLoss::Point p = loss.At(low + i * width);
    loss_.push_back(p.loss);
    log_weight_.push_back(p.log_density + std::log(width));
  }
}

double CoarseLoss::LogMoment(double theta) const {
  double top = -kInfinity;
  for (size_t i = 0; i < loss_.size(); ++i) top = std::max(top, log_weight_[i] + theta * loss_[i]);
  if (!std::isfinite(top)) return top;
  double sum = 0;
  for (size_t i = 0; i < loss_.size(); ++i) {
    const double e = log_weight_[i] + theta * loss_[i] - top;
    if (e > -50) sum += std::exp(e);
  }
  return top + std::log(sum);
}

}  // namespace concordat
