#include "privacy/accounting/gaussian_delta.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace concordat {
namespace {

// e^{z²}·erfc(z), z >= 0.
double ScaledErfc(double z) {
  if (z < 10) return std::exp(z * z) * std::erfc(z);
  // Asymptotic series; its terms fall to 1e-17 of the sum and below before they grow.
  double term = 1, sum = 1;
  for (int k = 1; k < 40; ++k) {
    const double next = -term * (2 * k - 1) / (2 * z * z);
    if (std::abs(next) >= std::abs(term) || std::abs(next) < 1e-18) break;
    term = next;
    sum += term;
  }
  return sum / (z * std::sqrt(std::numbers::pi));
}

// ln of the same δ, so that it has no underflow.
double LogDelta(double mu, double epsilon) {
  const double low = epsilon / mu - mu / 2, high = epsilon / mu + mu / 2;
  constexpr double kUp = 0x1p-48;
  const double second = ScaledErfc(high / std::numbers::sqrt2);
  if (low < 0) {
    // e^ε·Φ(−high) = ½·e^{−low²/2}·scaled.
    const double a = std::erfc(low / std::numbers::sqrt2), b = std::exp(-low * low / 2) * second;
    return std::log((a - b) / 2 + (a + b) * kUp / 2);
  }
  const double first = ScaledErfc(low / std::numbers::sqrt2);
  return -low * low / 2 * (1 - 0x1p-50) + std::log((first - second) / 2 + (first + second) * kUp / 2);
}

}  // namespace

double GaussianDelta(double mu, double epsilon) {
  if (std::isinf(epsilon)) return 0;
  const double delta = std::exp(LogDelta(mu, epsilon));
  return std::clamp(delta * (1 + 0x1p-40), std::numeric_limits<double>::min(), 1.0);
}

double GaussianEpsilon(double mu, double delta) {
  const double wanted = std::log(delta);
  if (delta >= 1 || LogDelta(mu, 0) <= wanted) return 0;
  // A normal variable exceeds s deviations with probability at most e^{−s²/2}.
  double low = 0, high = mu * mu / 2 + mu * std::sqrt(-2 * wanted);
  for (int i = 0; i < 200 && high - low > high * 0x1p-51; ++i) {
    const double middle = low + (high - low) / 2;
    (LogDelta(mu, middle) <= wanted ? high : low) = middle;
  }
  return high * (1 + 0x1p-50);
}

}  // namespace concordat
