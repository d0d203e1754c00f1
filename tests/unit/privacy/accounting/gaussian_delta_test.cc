#include "privacy/accounting/gaussian_delta.h"

#include <gtest/gtest.h>

#include <cmath>

namespace concordat {
namespace {

// E_P[(1 − e^{ε−ℓ})_+] with ℓ normal with mean μ²/2 and variance μ²: a fine sum in long double, no
// cancellation.
long double BySum(double mu, double epsilon) {
  const long double m = mu, step = m / 2000;
  long double sum = 0;
  for (long double l = epsilon + step / 2; l < epsilon + 40 * m + m * m; l += step) {
    const long double z = (l - m * m / 2) / m;
    sum += std::exp(-z * z / 2) * -std::expm1(epsilon - l);
  }
  return sum * step / (m * std::sqrt(2 * std::acos(-1.0L)));
}

TEST(GaussianDeltaTest, IsNeverBelowTheIntegralAndNear) {
  for (const double mu : {0.01, 0.3, 1.0, 5.0, 20.0})
    for (const double at : {0.0, 0.5, 3.0, 6.0}) {
      const double epsilon = mu * at;
      const auto exact = static_cast<double>(BySum(mu, epsilon));
      if (!(exact > 1e-280)) continue;
      // The midpoint rule above is off by (1/2000)²/24·curvature: 1e-6.
      EXPECT_NEAR(GaussianDelta(mu, epsilon), exact, 2e-6 * exact) << mu << " " << epsilon;
    }
}

TEST(GaussianDeltaTest, AgreesWithBothTailsWhereTheyCancelLittle) {
  const auto phi = [](double z) { return std::erfc(-z / std::sqrt(2.0)) / 2; };
  for (const double mu : {0.5, 1.0, 4.0}) {
    const double exact = phi(mu / 2 - 1 / mu) - std::exp(1.0) * phi(-mu / 2 - 1 / mu);
    EXPECT_NEAR(GaussianDelta(mu, 1), exact, 1e-12 * exact);
  }
}

TEST(GaussianEpsilonTest, IsTheWayBackFromDelta) {
  for (const double mu : {1e-6, 0.01, 1.0, 30.0, 1e5})
    for (const double delta : {1e-300, 1e-14, 1e-5, 0.1}) {
      const double epsilon = GaussianEpsilon(mu, delta);
      if (epsilon == 0) {
        EXPECT_GE(delta, GaussianDelta(mu, 0) * (1 - 1e-9));
        continue;
      }
      EXPECT_LE(GaussianDelta(mu, epsilon * (1 + 1e-12)), delta * (1 + 1e-6)) << mu << " " << delta;
      EXPECT_GE(GaussianDelta(mu, epsilon * (1 - 1e-6)), delta) << mu << " " << delta;
    }
}

TEST(GaussianEpsilonTest, GivesTheReferenceValue) {
  EXPECT_NEAR(GaussianEpsilon(std::sqrt(50.0) / 2, 1e-6), 22.4245158, 5e-8);
  EXPECT_NEAR(GaussianDelta(std::sqrt(3.0) / std::sqrt(3.0), 1), 0.126936738, 5e-10);
}

TEST(GaussianEpsilonTest, IsZeroWhenDeltaCoversTheDistance) {
  EXPECT_EQ(GaussianEpsilon(0.1, 0.05), 0);
  EXPECT_EQ(GaussianEpsilon(5, 1), 0);
  EXPECT_EQ(GaussianDelta(1, INFINITY), 0);
}

}  // namespace
}  // namespace concordat
