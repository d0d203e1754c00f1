#include "privacy/mechanism/clip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace concordat {
namespace {

TEST(ClipTest, NormOfNothingIsZero) { EXPECT_EQ(L2Norm({}).value(), 0.0); }

TEST(ClipTest, NormIsExactWhereItsSquaresAre) {
  const std::vector<float> v = {3, -4, 12};
  EXPECT_EQ(L2Norm(v).value(), 13.0);
}

// 1e7 equal elements: a naive f32 sum is off by percents, naive f64 by about 1e-10; blocks stay below 1e-13.
TEST(ClipTest, NormOfTenMillionElementsKeepsThirteenDigits) {
  const std::vector<float> v(10'000'000, 0.1F);
  const double expected = static_cast<double>(0.1F) * std::sqrt(1e7);
  EXPECT_NEAR(L2Norm(v).value() / expected, 1.0, 1e-13);
}

TEST(ClipTest, NormOfTheLargestFloatsIsFinite) {
  const std::vector<float> v(100, std::numeric_limits<float>::max());
  EXPECT_NEAR(L2Norm(v).value() / (10.0 * std::numeric_limits<float>::max()), 1.0, 1e-13);
}

TEST(ClipTest, RefusesNotANumberAndInfinityAndNamesTheElement) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> v(10'000, 1);
    v[8191] = bad;
    const auto norm = L2Norm(v);
    ASSERT_FALSE(norm.ok());
    EXPECT_EQ(norm.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(Message(norm.status()).find("8191"), std::string_view::npos);
  }
}

TEST(ClipTest, FactorBringsAVectorToTheBoundAndLeavesShorterOnesAlone) {
  EXPECT_EQ(ClipFactor(4, 1), 0.25);
  EXPECT_EQ(ClipFactor(1, 1), 1.0);
  EXPECT_EQ(ClipFactor(0.5, 1), 1.0);
  EXPECT_EQ(ClipFactor(0, 1), 1.0);
}

}  // namespace
}  // namespace concordat
