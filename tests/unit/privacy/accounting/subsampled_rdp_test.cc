#include "privacy/accounting/subsampled_rdp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// By the definition, E_Q[(P/Q)^α], a fine trapezoid sum in long double; E_Q[P/Q − 1] = 0 is taken out, so
// that small q keep their digits.
double ByDefinition(double q, double sigma, double alpha) {
  const long double s2 = static_cast<long double>(sigma) * sigma,
                    step = std::min<long double>(sigma, s2) / 40;
  long double excess = 0;
  for (long double x = -14 * sigma; x < alpha + 14 * sigma; x += step) {
    const long double w = q * std::expm1((x - 0.5L) / s2);
    excess += std::exp(-x * x / (2 * s2)) * (std::expm1(alpha * std::log1p(w)) - alpha * w);
  }
  excess *= step / (sigma * std::sqrt(2 * std::numbers::pi_v<long double>));
  return static_cast<double>(std::log1p(excess) / (alpha - 1));
}

TEST(SubsampledRdpTest, GivesTheReferenceValues) {
  struct Case {
    double alpha, rdp;
  };
  for (const Case& c : {Case{1.5, 6.5007090e-4}, Case{2.5, 1.0854181e-3}, Case{5, 2.1807566e-3},
                        Case{50, 2.3846038e-2}, Case{100, 167.41631}})
    EXPECT_NEAR(50 * SubsampledGaussianRdp(.01, 2.5, c.alpha), c.rdp, 5e-8 * c.rdp) << c.alpha;
}

// Past k = α+1 the signs of C(α,k) alternate: adding them all is 3% too high at α = 1.5.
TEST(SubsampledRdpTest, IsTheDefinitionAtEveryOrder) {
  for (const double q : {1e-5, 0.01, 0.2, 0.7})
    for (const double sigma : {0.7, 1.0, 2.5, 8.0})
      for (const double alpha : {1.01, 1.5, 2.0, 2.5, 3.7, 6.0, 12.5, 30.3}) {
        const double exact = ByDefinition(q, sigma, alpha);
        EXPECT_NEAR(SubsampledGaussianRdp(q, sigma, alpha), exact, 1e-7 * exact)
            << q << " " << sigma << " " << alpha;
      }
}

TEST(SubsampledRdpTest, GrowsWithTheOrderAcrossTheKindsOfSum) {
  for (const double sigma : {0.5, 1.0, 4.0}) {
    double last = 0;
    for (const double alpha :
         {1.001, 1.9999, 2.0, 2.0001, 9.5, 10.0, 99.5, 299.9, 300.5, 301.0, 5000.5, 19'999.5, 30'000.0}) {
      const double now = SubsampledGaussianRdp(.02, sigma, alpha);
      EXPECT_GE(now, last * (1 - 1e-9)) << sigma << " " << alpha;
      last = now;
    }
  }
}

TEST(SubsampledRdpTest, FullBatchesAreTheGaussian) {
  EXPECT_DOUBLE_EQ(SubsampledGaussianRdp(1, 2, 3), 3.0 / 8);
  EXPECT_LE(SubsampledGaussianRdp(0.999, 2, 3), 3.0 / 8);
}

TEST(SubsampledRdpTest, ReplaceOneDoublesTheDistance) {
  const std::vector<SubsampledGaussian> steps = {{1, 2, 5}};
  EXPECT_DOUBLE_EQ(ComposedRdp<ReplaceOne>(steps, 3), 4 * ComposedRdp<AddRemove>(steps, 3));
  const std::vector<SubsampledGaussian> sampled = {{.1, 2, 5}}, halved = {{.1, 1, 5}};
  EXPECT_DOUBLE_EQ(ComposedRdp<ReplaceOne>(sampled, 3.5), ComposedRdp<AddRemove>(halved, 3.5));
}

TEST(RdpEpsilonTest, GivesTheReferenceValues) {
  const auto epsilon = [](const SubsampledGaussian& s, double delta) {
    return RdpEpsilon<AddRemove>(std::span(&s, 1), delta);
  };
  EXPECT_NEAR(epsilon({.04, 1.5, 2250}, 1e-5), 7.32835, 1e-5);
  EXPECT_NEAR(epsilon({.0025, 1.3, 6000}, 1e-5), 0.724059, 1e-6);
  EXPECT_NEAR(epsilon({.01, .7, 120}, 1e-5), 3.237167, 1e-6);
  // Given by a search over a table of orders, so that the best real order is a little better.
  EXPECT_LE(epsilon({.04, 1.4158732, 2250}, 1e-5), 8);
  EXPECT_NEAR(epsilon({.04, 1.4158732, 2250}, 1e-5), 8, 2e-3);
}

TEST(RdpEpsilonTest, DeltaIsTheWayBack) {
  const std::vector<SubsampledGaussian> steps = {{.02, 1.1, 800}};
  for (const double delta : {1e-3, 1e-8, 1e-14})
    EXPECT_NEAR(std::log(RdpDelta<AddRemove>(steps, RdpEpsilon<AddRemove>(steps, delta))), std::log(delta),
                1e-5);
  EXPECT_EQ(RdpDelta<AddRemove>({}, 1), 0);
  EXPECT_LE(RdpDelta<ReplaceOne>(steps, 0), 1);
}

TEST(RdpEpsilonTest, SaysZeroAndInfinityPlainly) {
  const std::vector<SubsampledGaussian> idle = {{0, 1, 5}, {0.5, 1, 0}}, silent = {{0.5, 0, 1}},
                                        real = {{0.5, 1, 1}};
  EXPECT_EQ(RdpEpsilon<AddRemove>(idle, 0), 0);
  EXPECT_EQ(RdpEpsilon<AddRemove>({}, 1e-6), 0);
  EXPECT_EQ(RdpEpsilon<AddRemove>(silent, 1e-6), kInfinity);
  EXPECT_EQ(RdpEpsilon<AddRemove>(real, 0), kInfinity);
  EXPECT_EQ(RdpEpsilon<AddRemove>(real, std::nan("")), kInfinity);
  EXPECT_EQ(RdpEpsilon<ReplaceOne>(real, 1), 0);
}

}  // namespace
}  // namespace concordat
