#include "privacy/mechanism/fixed_point.h"

#include <gtest/gtest.h>

#include <cmath>

namespace concordat::internal {
namespace {

double ToDouble(const Fixed192& v) {
  return static_cast<double>(v.integer()) + std::ldexp(static_cast<double>(v.fraction() >> 64), -64);
}

// floor(2^128·exp(−1)), from the digits of 1/e (OEIS A068985).
TEST(Fixed192Test, ExpOfMinusOneHasAHundredAndTwentyEightRightBits) {
  const Fixed192 v = Fixed192::ExpMinus(1, 1);
  EXPECT_EQ(v.integer(), 0U);
  EXPECT_EQ(static_cast<uint64_t>(v.fraction() >> 64), 0x5e2d58d8b3bcdf1aULL);
  EXPECT_EQ(static_cast<uint64_t>(v.fraction()), 0xbadec7829054f90dULL);
}

TEST(Fixed192Test, ExpAgreesWithTheLibraryToItsPrecision) {
  for (uint64_t a = 0; a < 400; a += 7)
    EXPECT_NEAR(ToDouble(Fixed192::ExpMinus(a, 13)), std::exp(-static_cast<double>(a) / 13), 1e-15) << a;
}

// exp(−x)·exp(−y) = exp(−x−y): a law that no rounding of the library hides.
TEST(Fixed192Test, ExpTurnsSumsIntoProductsToAHundredAndFiftyBits) {
  for (uint64_t a : {1ULL, 5ULL, 12ULL, 100ULL}) {
    const Fixed192 product = Fixed192::ExpMinus(a, 7) * Fixed192::ExpMinus(3, 7);
    const Fixed192 direct = Fixed192::ExpMinus(a + 3, 7);
    const Fixed192 gap = product < direct ? direct - product : product - direct;
    EXPECT_EQ(gap.integer(), 0U);
    EXPECT_EQ(gap.fraction(), Uint128{0});
    EXPECT_LT(gap.last_fraction(), 1ULL << 40);
  }
}

TEST(Fixed192Test, ExpOfAHugeNumberIsZero) {
  EXPECT_EQ(Fixed192::ExpMinus(Uint128{1} << 100, 1), Fixed192{});
}

TEST(Fixed192Test, RatioAndShareInvertEachOther) {
  const Fixed192 third = Fixed192::Ratio(1, 3);
  EXPECT_EQ(static_cast<uint64_t>(third.fraction() >> 64), 0x5555555555555555ULL);
  EXPECT_EQ(static_cast<uint64_t>(Fixed192::Integer(1).ShareOf(Fixed192::Integer(3)) >> 64),
            0x5555555555555555ULL);
  const Fixed192 gap = Fixed192::Integer(1) - (third + third + third);
  EXPECT_EQ(gap.fraction(), Uint128{0});
  EXPECT_EQ(gap.last_fraction(), 1U);
}

TEST(Fixed192Test, FractionIsExactAndItsExpIsThatOfTheRatio) {
  const Fixed192 v = Fixed192::Fraction(uint64_t{1} << 63, uint64_t{1} << 63);
  EXPECT_EQ(v, Fixed192::Integer(1).Half() + Fixed192::Ratio(1, uint64_t{1} << 63).DividedBy(4));
  EXPECT_EQ(Fixed192::ExpMinus(Fixed192::Fraction(uint64_t{3} << 62, 0)), Fixed192::ExpMinus(3, 4));
  EXPECT_EQ(Fixed192::ExpMinus(Fixed192::Integer(7)), Fixed192::ExpMinus(7, 1));
  EXPECT_EQ(Fixed192::ExpMinus(Fixed192{}), Fixed192::Integer(1));
}

}  // namespace
}  // namespace concordat::internal
