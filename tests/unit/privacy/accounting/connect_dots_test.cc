#include "privacy/accounting/connect_dots.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

namespace concordat {
namespace {

constexpr double kSpacing = 0x1p-5;

struct Laid {
  std::vector<double> circle = std::vector<double>(8192);
  Dots dots;
  double Mass(int index) const { return circle[static_cast<size_t>((index + 8192) % 8192)]; }
};

Laid Lay(double q, double sigma, LossPair pair, double theta = 0, double log_moment = 0) {
  Laid laid;
  laid.dots = ConnectDots(StepLoss(q, sigma, pair),
                          {.spacing = kSpacing,
                           .theta = theta,
                           .log_moment = log_moment,
                           .tail_theta = 0.5,
                           .log_mass_below = 60,
                           .log_mass_above = 60},
                          laid.circle);
  return laid;
}

double Phi(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

// δ of one step with the mixture first, in closed form.
double ExactDelta(double q, double sigma, double epsilon) {
  const double ratio = (std::expm1(epsilon) + q) / q;
  if (ratio <= 0) return -std::expm1(epsilon);
  const double x = sigma * sigma * std::log(ratio) + 0.5;
  return (1 - q) * Phi(-x / sigma) + q * Phi((1 - x) / sigma) - std::exp(epsilon) * Phi(-x / sigma);
}

double GridDelta(const Laid& laid, double epsilon) {
  double sum = laid.dots.infinite;
  for (int i = -2000; i < 2000; ++i)
    if (i * kSpacing > epsilon) sum += laid.Mass(i) * -std::expm1(epsilon - i * kSpacing);
  return sum;
}

TEST(ConnectDotsTest, CurveMeetsTheExactOneAtGridPointsAndIsAboveBetween) {
  for (const double q : {0.01, 0.3, 0.999})
    for (const double sigma : {0.5, 1.0, 4.0}) {
      const Laid laid = Lay(q, sigma, LossPair::kRemove);
      for (int i = -40; i < 40; ++i) {
        const double at = i * kSpacing, between = (i + 0.5) * kSpacing;
        EXPECT_NEAR(GridDelta(laid, at), ExactDelta(q, sigma, at), 1e-12) << q << " " << sigma << " " << at;
        EXPECT_GE(GridDelta(laid, between), ExactDelta(q, sigma, between) - 1e-12) << q << " " << sigma;
      }
    }
}

TEST(ConnectDotsTest, KeepsTheMassUnderBothOfThePair) {
  for (const LossPair pair : {LossPair::kRemove, LossPair::kAdd, LossPair::kReplace})
    for (const double q : {1e-4, 0.2, 1.0})
      for (const double sigma : {0.8, 1.0, 9.0}) {
        const Laid laid = Lay(q, sigma, pair);
        double other = 0;
        for (int i = -2000; i < 2000; ++i) other += laid.Mass(i) * std::exp(-i * kSpacing);
        EXPECT_NEAR(laid.dots.total, 1, 1e-12) << q << " " << sigma;
        // Under replace-one and full batches Q has e^-42 where P has e^-60.
        EXPECT_NEAR(other, 1, 1e-9) << q << " " << sigma;
      }
}

// The other direction is the mirror image: p'(−ℓ) = p(ℓ)·e^{−ℓ}, also on the grid.
TEST(ConnectDotsTest, DirectionsAreMirrorImages) {
  const Laid remove = Lay(0.1, 0.8, LossPair::kRemove), add = Lay(0.1, 0.8, LossPair::kAdd);
  for (int i = -1000; i < 1000; ++i)
    EXPECT_NEAR(add.Mass(-i), remove.Mass(i) * std::exp(-i * kSpacing), 1e-14) << i;
}

TEST(ConnectDotsTest, TiltMultipliesEveryMassByItsExponential) {
  const Laid plain = Lay(0.1, 0.8, LossPair::kRemove), tilted = Lay(0.1, 0.8, LossPair::kRemove, 3, 1.5);
  double tail = 0;
  for (int i = -100; i < 200; ++i) {
    const double expected = plain.Mass(i) * std::exp(3 * i * kSpacing - 1.5);
    EXPECT_NEAR(tilted.Mass(i), expected, 1e-12 * expected + 1e-300) << i;
  }
  for (int i = -2000; i < 2000; ++i) tail += tilted.Mass(i) * std::exp(0.5 * i * kSpacing);
  EXPECT_GE(tilted.dots.tail_moment, tail * (1 - 1e-12));
  EXPECT_LE(tilted.dots.tail_moment, tail * (1 + 1e-8));
}

// E[u(h−u)]/2: splitting adds this to half the variance of the loss.
TEST(ConnectDotsTest, SaysWhatTheGridAddsToTheVariance) {
  const double sigma = 2;
  const Laid laid = Lay(1, sigma, LossPair::kRemove);
  double mean = 0, square = 0;
  for (int i = -2000; i < 2000; ++i) {
    mean += laid.Mass(i) * i * kSpacing;
    square += laid.Mass(i) * std::pow(i * kSpacing, 2);
  }
  // A full batch's loss is normal with variance 1/σ².
  EXPECT_NEAR(square - mean * mean - 1 / (sigma * sigma), 2 * laid.dots.split, 1e-5);
  EXPECT_NEAR(laid.dots.split, kSpacing * kSpacing / 12, 1e-6);
}

TEST(StepLossTest, InverseUndoesTheLoss) {
  for (const LossPair pair : {LossPair::kRemove, LossPair::kAdd, LossPair::kReplace})
    for (const double q : {1e-5, 0.3, 0.999, 1.0})
      for (const double sigma : {0.2, 1.0, 7.0}) {
        const StepLoss loss(q, sigma, pair);
        double last = -1e300;
        for (const double z : {-2.0, -0.5, 0.0, 0.3, 1.0, 5.0}) {
          const StepLoss::Point p = loss.At(z * sigma);
          EXPECT_GE(p.loss, last);
          last = p.loss;
          // As close as the loss's own digits allow.
          EXPECT_NEAR(loss.At(loss.Inverse(p.loss)).loss, p.loss, 1e-12 * (1 + std::abs(p.loss)));
        }
      }
}

TEST(StepLossTest, HasNoLossBelowOrAboveWhatSamplingAllows) {
  EXPECT_EQ(StepLoss(0.1, 1, LossPair::kRemove).Inverse(-0.2), -INFINITY);
  EXPECT_EQ(StepLoss(0.1, 1, LossPair::kAdd).Inverse(0.2), INFINITY);
  EXPECT_GE(StepLoss(0.1, 1, LossPair::kRemove).At(-50).loss, std::log1p(-0.1) * (1 + 1e-15));
}

}  // namespace
}  // namespace concordat
