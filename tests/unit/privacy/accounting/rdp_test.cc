#include "privacy/accounting/rdp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

RdpCurve Gaussian(double sigma, uint64_t count, double delta2 = 1) {
  RdpCurve curve;
  EXPECT_TRUE(curve
                  .Add(RdpTerm{.delta2_squared = delta2 * delta2,
                               .delta1 = delta2,
                               .share_variance = sigma * sigma,
                               .count = count})
                  .ok());
  return curve;
}

RdpTerm Sum(double share_variance, uint32_t shares, uint64_t dimension = 1) {
  return RdpTerm{.delta2_squared = 1,
                 .delta1 = 1,
                 .share_variance = share_variance,
                 .shares = shares,
                 .dimension = dimension};
}

TEST(RdpTest, OfAGaussianIsLinearInTheOrder) {
  EXPECT_DOUBLE_EQ(Gaussian(2, 1).Rdp(8), 1.0);
  EXPECT_DOUBLE_EQ(Gaussian(2, 50).Rdp(1.5), 50 * 1.5 / 8);
  EXPECT_DOUBLE_EQ(Gaussian(2, 1, 4).Rdp(3), 3 * 16 / 8.0);
}

// Renyi divergence at `alpha` between the sum of `shares` discrete Gaussians and the same moved by one, by
// convolution in long double.
double ExactSumRdp(double share_variance, uint32_t shares, double alpha) {
  constexpr int kReach = 60;
  const auto half = static_cast<size_t>(kReach) * shares;
  std::vector<long double> one(2 * kReach + 1), sum = {1};
  long double total = 0;
  for (int k = -kReach; k <= kReach; ++k)
    total += one[k + kReach] = std::exp(-static_cast<long double>(k) * k / (2 * share_variance));
  for (uint32_t n = 0; n < shares; ++n) {
    std::vector<long double> next(sum.size() + one.size() - 1);
    for (size_t i = 0; i < sum.size(); ++i)
      for (size_t j = 0; j < one.size(); ++j) next[i + j] += sum[i] * one[j] / total;
    sum = std::move(next);
  }
  long double divergence = 0;
  for (size_t i = 1; i < 2 * half + 1; ++i)
    if (sum[i] > 0 && sum[i - 1] > 0)
      divergence += std::exp(alpha * std::log(sum[i - 1]) + (1 - alpha) * std::log(sum[i]));
  return static_cast<double>(std::log(divergence) / (alpha - 1));
}

// Reference values at α = 8, ten shares, Δ₂ = Δ₁ = d = 1, of the sum that is really drawn (six digits were
// given): the bound must not be below them.
TEST(RdpTest, OfSumsOfDiscreteGaussiansIsNeverBelowTheExactValue) {
  struct Case {
    double share_variance, exact, tolerance;
  };
  for (const Case& c : {Case{0.25, 1.50706, 5e-6}, Case{0.4, 0.994137, 5e-7}, Case{2.25, 0.1777778, 5e-8}}) {
    const double exact = ExactSumRdp(c.share_variance, 10, 8);
    EXPECT_NEAR(exact, c.exact, c.tolerance);
    EXPECT_GE(Sum(c.share_variance, 10).Rdp(8), exact * (1 - 1e-12));
  }
  // From σ_s² = 2.25 on a sum is as good as a Gaussian of the summed variance.
  EXPECT_NEAR(Sum(2.25, 10).Rdp(8), 0.1777778, 5e-8);
}

TEST(RdpTest, OfASumIsNeverBelowTheGaussianOfTheSameVariance) {
  for (const double v : {0.25, 0.3, 0.5, 1.0, 4.0})
    for (const uint32_t n : {2U, 5U, 50U})
      for (const double alpha : {1.01, 2.0, 8.0, 200.0})
        EXPECT_GE(Sum(v, n, 1000).Rdp(alpha), alpha / (2 * v * n)) << v << " " << n << " " << alpha;
}

// Each of the three bounds is the smallest somewhere; the closed forms are written out again here.
TEST(RdpTest, OfASumTakesTheSmallestOfThreeBounds) {
  const auto three = [](const RdpTerm& t, double a) {
    double tau = 0;
    for (uint32_t k = 1; k < t.shares; ++k)
      tau += 10 * std::exp(-2 * M_PI * M_PI * t.share_variance * k / (k + 1.0));
    const double s2 = t.share_variance * t.shares, s = std::sqrt(s2), d = static_cast<double>(t.dimension);
    const double d2 = std::sqrt(t.delta2_squared);
    return std::array<double, 3>{a * t.delta2_squared / (2 * s2) + tau * d,
                                 a / 2 * (t.delta2_squared / s2 + 2 * t.delta1 * tau / s + tau * tau * d),
                                 a / 2 * std::pow(d2 / s + std::sqrt(d) * tau, 2)};
  };
  RdpTerm large_order = Sum(0.4, 4);
  RdpTerm sparse{.delta2_squared = 1, .delta1 = 1, .share_variance = 0.5, .shares = 4, .dimension = 10'000};
  RdpTerm dense{.delta2_squared = 1, .delta1 = 1000, .share_variance = 0.5, .shares = 4, .dimension = 10'000};
  const auto a = three(large_order, 500), b = three(sparse, 2), c = three(dense, 2);
  EXPECT_LT(a[0], std::min(a[1], a[2]));
  EXPECT_LT(b[1], std::min(b[0], b[2]));
  EXPECT_LT(c[2], std::min(c[0], c[1]));
  EXPECT_DOUBLE_EQ(large_order.Rdp(500), a[0]);
  EXPECT_DOUBLE_EQ(sparse.Rdp(2), b[1]);
  EXPECT_DOUBLE_EQ(dense.Rdp(2), c[2]);
}

TEST(RdpTest, CurvesAddAndEqualReleasesAreCounted) {
  RdpCurve a = Gaussian(2, 3);
  a.Add(Gaussian(2, 4));
  a.Add(Gaussian(5, 1));
  EXPECT_EQ(a.terms().size(), 2U);
  EXPECT_DOUBLE_EQ(a.Rdp(3), Gaussian(2, 7).Rdp(3) + Gaussian(5, 1).Rdp(3));
  a.Add(a);
  EXPECT_DOUBLE_EQ(a.Rdp(3), Gaussian(2, 14).Rdp(3) + Gaussian(5, 2).Rdp(3));
}

TEST(RdpTest, RefusesSumsOfSharesBelowOneHalf) {
  RdpCurve curve;
  EXPECT_EQ(curve.Add(Sum(0.2499, 2)).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(curve.Add(Sum(0.25, 2)).ok());
  EXPECT_TRUE(curve.Add(Sum(0.0001, 1)).ok());
}

TEST(RdpTest, RefusesNumbersThatMakeNoSense) {
  for (const double bad : {-1.0, std::nan(""), kInfinity}) {
    RdpCurve curve;
    RdpTerm t = Sum(1, 1);
    t.delta2_squared = bad;
    EXPECT_FALSE(curve.Add(t).ok());
    t = Sum(1, 1);
    t.delta1 = bad;
    EXPECT_FALSE(curve.Add(t).ok());
    EXPECT_FALSE(curve.Add(Sum(bad, 1)).ok());
    EXPECT_FALSE(curve.Add(Sum(1, 0)).ok());
    EXPECT_FALSE(curve.Add(Sum(1, 1, 0)).ok());
    EXPECT_TRUE(curve.empty());
  }
}

// The exact values are of the privacy loss distribution; RDP is an upper bound, never lower, and within the
// stated share here.
TEST(EpsilonForTest, IsAnUpperBoundOnExactValuesAndNear) {
  const double gaussian = EpsilonFor(Gaussian(2, 50), 1e-6);
  EXPECT_GE(gaussian, 22.4245158);
  EXPECT_LE(gaussian, 22.4245158 * 1.06);
  const double replaced = EpsilonFor(Gaussian(2, 50, 2), 1e-6);
  EXPECT_GE(replaced, 57.8485495);
  EXPECT_LE(replaced, 57.8485495 * 1.06);
  // δ(1) = 0.126936738 at σ = √3, three releases: at that δ, ε is at least 1.
  EXPECT_GE(EpsilonFor(Gaussian(std::sqrt(3.0), 3), 0.126936738), 1);
  EXPECT_GE(EpsilonFor(Gaussian(2, 1), 0.00724877684595), 1);
}

TEST(EpsilonForTest, IsAnUpperBoundForSumsToo) {
  const auto epsilon = [](double share_variance, uint32_t shares, double delta) {
    RdpCurve curve;
    EXPECT_TRUE(curve.Add(Sum(share_variance, shares)).ok());
    return EpsilonFor(curve, delta);
  };
  EXPECT_GE(epsilon(0.4, 10, 0.0071360), 1);
  EXPECT_GE(epsilon(1, 4, 0.007248869), 1);
  EXPECT_GE(epsilon(2.25, 10, 0.00080322406), 0.5);
  // Price what is drawn: ten shares of 0.25 are not one of 2.5.
  EXPECT_GE(epsilon(0.25, 10, 0.0313626), 1);
}

// A fine scan over orders in long double, as an independent search for the same minimum.
TEST(EpsilonForTest, FindsTheMinimumOverRealOrders) {
  for (const double rho : {1e-12, 1e-4, 0.125, 6.25, 1e4, 1e8, 1e12})
    for (const double delta : {1e-14, 1e-6, 0.1}) {
      RdpCurve curve;
      ASSERT_TRUE(curve.Add(RdpTerm{.delta2_squared = 2 * rho, .delta1 = 1, .share_variance = 1}).ok());
      long double best = std::numeric_limits<long double>::infinity();
      for (long double x = -25; x < 28; x += 0.0005L) {
        const long double gap = std::exp(x), log_alpha = std::log1p(gap);
        best = std::min(best, rho * (1 + gap) + x - log_alpha -
                                  (std::log(static_cast<long double>(delta)) + log_alpha) / gap);
      }
      const auto expected = static_cast<double>(std::max(best, 0.0L));
      EXPECT_NEAR(EpsilonFor(curve, delta), expected, 1e-6 * expected + 1e-12) << rho << " " << delta;
    }
}

TEST(EpsilonForTest, GrowsWithReleasesAndFallsWithNoiseAndDelta) {
  double last = 0;
  for (uint64_t count = 1; count < 2000; count *= 2) {
    const double now = EpsilonFor(Gaussian(3, count), 1e-6);
    EXPECT_GT(now, last);
    last = now;
  }
  EXPECT_LT(EpsilonFor(Gaussian(4, 10), 1e-6), EpsilonFor(Gaussian(3, 10), 1e-6));
  EXPECT_LT(EpsilonFor(Gaussian(3, 10), 1e-5), EpsilonFor(Gaussian(3, 10), 1e-6));
}

TEST(EpsilonForTest, SaysInfinityAndZeroPlainly) {
  EXPECT_EQ(EpsilonFor(RdpCurve(), 1e-6), 0);
  EXPECT_EQ(EpsilonFor(RdpCurve(), 0), 0);
  EXPECT_EQ(EpsilonFor(Gaussian(1, 0), 0), 0);
  EXPECT_EQ(EpsilonFor(Gaussian(0, 5, 0), 1e-6), 0);
  EXPECT_EQ(EpsilonFor(Gaussian(0, 1), 1e-6), kInfinity);
  EXPECT_EQ(EpsilonFor(Gaussian(1, 1), 0), kInfinity);
  EXPECT_EQ(EpsilonFor(Gaussian(1, 1), std::nan("")), kInfinity);
}

// A site unit with hardly any noise: huge, finite, and honest.
TEST(EpsilonForTest, StaysFiniteWhenItIsHuge) {
  const double epsilon = EpsilonFor(Gaussian(1, 3, 15'000), 1e-6);
  const double rho = 3 * 15'000.0 * 15'000 / 2;
  EXPECT_GT(epsilon, rho);
  EXPECT_LT(epsilon, rho * 1.001);
}

TEST(SigmaForTest, IsTheSmallestNoiseThatKeepsThePromise) {
  for (const double epsilon : {0.1, 1.0, 8.0, 1000.0})
    for (const uint64_t count : {1ULL, 3ULL, 1000ULL}) {
      const double sigma = SigmaFor(epsilon, 1e-6, 7, count).value();
      EXPECT_LE(EpsilonFor(Gaussian(sigma, count, 7), 1e-6), epsilon * (1 + 1e-12));
      EXPECT_GT(EpsilonFor(Gaussian(sigma * (1 - 1e-6), count, 7), 1e-6), epsilon);
    }
}

TEST(SigmaForTest, NeedsNoNoiseForNothingAndRefusesNonsense) {
  EXPECT_EQ(SigmaFor(1, 1e-6, 1, 0).value(), 0);
  EXPECT_EQ(SigmaFor(1, 1e-6, 0, 5).value(), 0);
  for (const double bad : {0.0, -1.0, kInfinity, std::nan("")}) EXPECT_FALSE(SigmaFor(bad, 1e-6, 1, 1).ok());
  for (const double bad : {0.0, 1.0, -1.0, std::nan("")}) EXPECT_FALSE(SigmaFor(1, bad, 1, 1).ok());
  EXPECT_FALSE(SigmaFor(1, 1e-6, std::nan(""), 1).ok());
}

}  // namespace
}  // namespace concordat
