#include "privacy/accounting/tilted_fft.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace concordat {
namespace {

using Vector = std::vector<double>;

// By definition, in long double.
std::vector<long double> Circular(const std::vector<long double>& a, const Vector& b) {
  std::vector<long double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j) out[(i + j) % a.size()] += a[i] * static_cast<long double>(b[j]);
  return out;
}

Vector Bump(size_t size, size_t at, double width) {
  Vector p(size);
  double total = 0;
  for (size_t i = 0; i < size; ++i) {
    const double x = (static_cast<double>(i) - static_cast<double>(at)) / width;
    total += p[i] = std::exp(-x * x / 2);
  }
  for (double& v : p) v /= total;
  return p;
}

template <typename Scalar>
class CircularProductTest : public ::testing::Test {};
using Scalars = ::testing::Types<double, long double>;
TYPED_TEST_SUITE(CircularProductTest, Scalars);

TYPED_TEST(CircularProductTest, IsTheConvolutionWithinTheErrorItStates) {
  constexpr size_t kSize = 160;
  const Vector a = Bump(kSize, 3, 2), b = Bump(kSize, 150, 1);
  std::vector<long double> exact(kSize);
  exact[0] = 1;
  for (int i = 0; i < 5; ++i) exact = Circular(exact, a);
  for (int i = 0; i < 9; ++i) exact = Circular(exact, b);
  CircularProduct<TypeParam> product(kSize);
  Vector copy = a;
  product.Multiply(copy, 1, 5);
  copy = b;
  product.Multiply(copy, 1, 9);
  const auto result = product.Take();
  double square = 0;
  for (size_t i = 0; i < kSize; ++i) square += std::pow(static_cast<double>(result.mass[i] - exact[i]), 2);
  // The vectors themselves sum to 1 but for a unit in the last place, fourteen times.
  EXPECT_LE(std::sqrt(square), result.error_norm + 14 * 0x1p-53);
  // A bound that says nothing would hold too.
  EXPECT_LT(result.error_norm, 1e-12);
}

// A step that mostly does nothing: its distance from doing nothing keeps its digits after a million of them.
TYPED_TEST(CircularProductTest, KeepsTheDigitsOfRareEvents) {
  constexpr size_t kSize = 64;
  constexpr double kRare = 1e-7;
  constexpr uint64_t kTimes = 1'000'000;
  Vector p(kSize);
  p[0] = 1 - kRare;
  p[1] = kRare;
  CircularProduct<TypeParam> product(kSize);
  product.Multiply(p, 1, kTimes);
  const auto result = product.Take();
  long double binomial = std::exp(kTimes * std::log1p(-static_cast<long double>(kRare)));
  for (size_t k = 0; k < 8; ++k) {
    EXPECT_NEAR(result.mass[k], static_cast<double>(binomial), 1e-15 + result.error_norm) << k;
    binomial *= static_cast<long double>(kTimes - k) / static_cast<long double>(k + 1) * kRare / (1 - kRare);
  }
  EXPECT_LT(result.error_norm, 1e-8);
}

TYPED_TEST(CircularProductTest, DividesByTheTotal) {
  Vector p(64);
  p[1] = 3;
  p[0] = 1;
  CircularProduct<TypeParam> product(64);
  product.Multiply(p, 4, 2);
  const auto mass = product.Take().mass;
  EXPECT_NEAR(mass[0], 1.0 / 16, 1e-15);
  EXPECT_NEAR(mass[1], 6.0 / 16, 1e-15);
  EXPECT_NEAR(mass[2], 9.0 / 16, 1e-15);
}

TYPED_TEST(CircularProductTest, SaysInfinityWhenTooManyStepsMakeTheBoundWorthless) {
  Vector p = Bump(64, 5, 2);
  CircularProduct<TypeParam> product(64);
  product.Multiply(p, 1, uint64_t{1} << 60);
  EXPECT_TRUE(std::isinf(product.Take().error_norm));
}

TEST(GoodTransformSizeTest, SizesAreLargeEnoughAndFast) {
  for (size_t least = 1; least < 5000; least += 7) {
    size_t size = GoodTransformSize(least);
    EXPECT_GE(size, least);
    EXPECT_LE(size, std::max<size_t>(64, least * 4 / 3 + 4));
    EXPECT_EQ(size % 4, 0U);
    while (size % 2 == 0) size /= 2;
    EXPECT_TRUE(size == 1 || size == 3 || size == 5) << least;
  }
}

}  // namespace
}  // namespace concordat
