#include "privacy/accounting/discrete_delta.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "privacy/accounting/gaussian_delta.h"
#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

TEST(DiscreteGaussianDeltaTest, GivesTheReferenceValues) {
  EXPECT_NEAR(DiscreteGaussianDelta(4, 1, 1, 1).value(), 0.00724877684595, 1e-14);
  EXPECT_NEAR(DiscreteGaussianDelta(4, 1, 2, 1).value(), 0.1196, 5e-5);
  EXPECT_NEAR(DiscreteGaussianDelta(.4, 10, 1, 1).value(), 0.0071360, 5e-8);
  EXPECT_NEAR(DiscreteGaussianDelta(1, 4, 1, 1).value(), 0.007248869, 5e-10);
  EXPECT_NEAR(DiscreteGaussianDelta(2.25, 10, 1, .5).value(), 0.00080322406, 5e-12);
}

// A sum of shares of small variance is no discrete Gaussian of the summed variance.
TEST(DiscreteGaussianDeltaTest, ASumIsNotOneOfTheSameVariance) {
  EXPECT_NEAR(DiscreteGaussianDelta(.25, 10, 1, 1).value(), 0.0313626, 5e-8);
  EXPECT_NEAR(DiscreteGaussianDelta(2.5, 1, 1, 1).value(), 0.0207647, 5e-8);
}

// Integer noise is not free: the same σ and distance cost more than with continuous noise.
TEST(DiscreteGaussianDeltaTest, IsNotTheContinuousOne) {
  EXPECT_NEAR(GaussianDelta(0.5, 1), 0.0068296, 5e-8);
  EXPECT_GT(DiscreteGaussianDelta(4, 1, 1, 1).value(), GaussianDelta(0.5, 1));
  // At large σ they meet.
  EXPECT_NEAR(DiscreteGaussianDelta(1e6, 1, 1000, 1).value(), GaussianDelta(1, 1),
              1e-3 * GaussianDelta(1, 1));
}

TEST(DiscreteGaussianDeltaTest, FallsWithEpsilonAndIsTheDistanceAtZero) {
  // δ(0) is the total variation distance: Σ(p(k) − p(k−1))_+ telescopes to p(0) over the rising half.
  double total = 0;
  for (int k = -60; k <= 60; ++k) total += std::exp(-k * k / 8.0);
  EXPECT_NEAR(DiscreteGaussianDelta(4, 1, 1, 0).value(), 1 / total, 1e-13);
  double last = 1;
  for (const double epsilon : {0.0, 0.5, 1.0, 2.0, 4.0}) {
    const double now = DiscreteGaussianDelta(4, 1, 1, epsilon).value();
    EXPECT_LT(now, last);
    last = now;
  }
  EXPECT_EQ(DiscreteGaussianDelta(4, 1, 0, 0).value(), 0);
}

TEST(DiscreteGaussianDeltaTest, RefusesNonsense) {
  for (const double bad : {0.0, -1.0, 1e9, std::nan("")})
    EXPECT_FALSE(DiscreteGaussianDelta(bad, 1, 1, 1).ok());
  EXPECT_FALSE(DiscreteGaussianDelta(1, 0, 1, 1).ok());
  EXPECT_FALSE(DiscreteGaussianDelta(100, 1000, 1, 1).ok());
  EXPECT_FALSE(DiscreteGaussianDelta(1, 1, -1, 1).ok());
  for (const double bad : {-1.0, std::numeric_limits<double>::infinity(), std::nan("")})
    EXPECT_FALSE(DiscreteGaussianDelta(1, 1, 1, bad).ok());
}

}  // namespace
}  // namespace concordat
