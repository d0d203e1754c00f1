#include "privacy/mechanism/variance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace concordat {
namespace {

TEST(NoiseVarianceTest, WholeNumbersAreExact) {
  EXPECT_EQ(NoiseVariance::FromStddev(2).value(), (NoiseVariance{.numerator = 4, .denominator = 1}));
  EXPECT_EQ(NoiseVariance::FromStddev(0.5).value(), (NoiseVariance{.numerator = 1, .denominator = 4}));
  EXPECT_EQ(NoiseVariance::FromStddev(1 << 20).value(),
            (NoiseVariance{.numerator = uint64_t{1} << 40, .denominator = 1}));
}

TEST(NoiseVarianceTest, IsNeverLessThanAskedAndHardlyMore) {
  for (double sigma = 1e-3; sigma < 1 << 20; sigma *= 1.0371) {
    const NoiseVariance v = NoiseVariance::FromStddev(sigma).value();
    const long double asked = static_cast<long double>(sigma) * sigma;
    const long double given = static_cast<long double>(v.numerator) / v.denominator;
    EXPECT_GE(given, asked) << sigma;
    EXPECT_LE(given, asked * (1 + 1e-6L)) << sigma;
    EXPECT_LE(v.numerator, uint64_t{1} << 41);
    EXPECT_LE(v.denominator, uint64_t{1} << 40);
  }
}

TEST(NoiseVarianceTest, ZeroIsNoNoise) { EXPECT_TRUE(NoiseVariance::FromStddev(0)->is_zero()); }

TEST(NoiseVarianceTest, RefusesWhatCannotBeDrawn) {
  for (const double bad :
       {-1.0, 1e-4, 2e6, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    EXPECT_EQ(NoiseVariance::FromStddev(bad).status().code(), StatusCode::kInvalidArgument) << bad;
}

}  // namespace
}  // namespace concordat
