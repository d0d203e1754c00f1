#include "privacy/mechanism/rotation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "privacy/crypto/hash.h"

namespace concordat {
namespace {

Digest Seed(std::string_view text) { return crypto::Sha256(AsBytes(text)); }

std::vector<float> Numbers(size_t count, uint32_t seed = 1) {
  std::mt19937 generator(seed);  // test data
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& v : out) v = normal(generator);
  return out;
}

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}
double Norm(const std::vector<float>& a) { return std::sqrt(Dot(a, a)); }
double Distance(std::vector<float> a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return Norm(a);
}

std::vector<float> Rotated(std::vector<float> x, std::string_view seed = "seed", unsigned threads = 0) {
  Rotation(Seed(seed), x.size()).Apply(x, threads);
  return x;
}

// Around every seam of the structure: 8 numbers, a tile of 8,192, one group of rows (8,192 to 524,288), two.
constexpr size_t kSizes[] = {1,      2,      3,       4,       5,       6,         7,        8,    9,
                             15,     16,     17,      33,      100,     8191,      8192,     8193, 12'345,
                             16'384, 65'536, 100'000, 524'288, 524'289, 1'048'576, 1'500'000};

TEST(RotationTest, KeepsLengthsWithinItsErrorBound) {
  for (const size_t d : kSizes) {
    const auto x = Numbers(d);
    EXPECT_NEAR(Norm(Rotated(x)) / Norm(x), 1, Rotation::ErrorBound(d)) << d;
  }
}

TEST(RotationTest, KeepsAngles) {
  for (const size_t d : {3, 100, 12'345}) {
    const auto x = Numbers(d, 1), y = Numbers(d, 2);
    EXPECT_NEAR(Dot(Rotated(x), Rotated(y)), Dot(x, y), 4 * Rotation::ErrorBound(d) * Norm(x) * Norm(y)) << d;
  }
}

TEST(RotationTest, UndoGivesTheNumbersBack) {
  for (const size_t d : kSizes) {
    const auto x = Numbers(d);
    auto back = Rotated(x);
    const Rotation rotation(Seed("seed"), d);
    EXPECT_EQ(rotation.block(), std::bit_floor(d));
    rotation.Undo(back);
    EXPECT_LE(Distance(back, x), 2 * Rotation::ErrorBound(d) * Norm(x)) << d;
  }
}

// The definition, number by number, in f64: signs from the seed's stream are what the vectors check
// (tests/vectors/v1/packed.json), so here they are taken from what the rotation does to unit vectors.
TEST(RotationTest, OneStepIsTheHadamardMatrixOfSignedNumbers) {
  constexpr size_t kSize = 64;
  for (size_t k = 0; k < kSize; ++k) {
    std::vector<float> unit(kSize, 0);
    unit[k] = 1;
    const auto column = Rotated(unit);
    for (size_t i = 0; i < kSize; ++i)
      ASSERT_EQ(column[i] * (std::popcount(i & k) % 2 != 0 ? -1 : 1), column[0]) << i << ' ' << k;
    EXPECT_EQ(std::abs(column[0]), 0.125F);
  }
}

TEST(RotationTest, OneNumberKeepsItsSizeAndTakesASign) {
  int negative = 0;
  for (int i = 0; i < 64; ++i) {
    const auto y = Rotated({2.5F}, fmt::format("seed {}", i));
    EXPECT_EQ(std::abs(y[0]), 2.5F);
    negative += y[0] < 0 ? 1 : 0;
  }
  EXPECT_GT(negative, 0);
  EXPECT_LT(negative, 64);
}

// One number that holds everything, wherever it is, and all numbers alike: what wraps without a rotation.
TEST(RotationTest, SpreadsSpikesAndConstantsOverAllCoordinates) {
  constexpr size_t kSize = 40'000;  // D = 32,768: the first 7,232 are touched by the first step only
  const double root = std::sqrt(static_cast<double>(std::bit_floor(kSize)));
  std::vector<std::vector<float>> bad;
  for (const size_t at : {size_t{0}, size_t{5'000}, size_t{20'000}, kSize - 1}) {
    bad.emplace_back(kSize, 0.0F)[at] = 1;
  }
  bad.emplace_back(kSize, static_cast<float>(1 / std::sqrt(static_cast<double>(kSize))));
  for (size_t i = 0; i < bad.size(); ++i) {
    double largest = 0;
    for (const float v : Rotated(bad[i])) largest = std::max(largest, std::abs(static_cast<double>(v)));
    // Sub-Gaussian with 1/√D: beyond 8.5/√D with probability 2·40,000·exp(−36) = 2e-11 for fair signs.
    EXPECT_LT(largest * root, 8.5) << i;
  }
}

// A spike that the first step spreads evenly, with magnitudes that the second step's matrix would gather
// again if it had no signs of its own: they are gathered for the seed whose second signs are all alike only.
TEST(RotationTest, TheSecondStepHasSignsOfItsOwn) {
  constexpr size_t kSize = 129;  // D = 128: 127 numbers are in both steps
  std::vector<float> spike(kSize, 0);
  spike[1] = 1;
  for (int i = 0; i < 32; ++i) {
    double largest = 0;
    for (const float v : Rotated(spike, fmt::format("signs {}", i)))
      largest = std::max(largest, std::abs(static_cast<double>(v)));
    EXPECT_LT(largest * std::sqrt(128.0), 6.5) << i;  // 32·2·129·exp(−6.5²/2) = 6e-6
  }
}

TEST(RotationTest, TheSameBitsForAnyNumberOfThreads) {
  const auto x = Numbers(1'500'000);
  const auto one = Rotated(x, "seed", 1);
  auto back = x;
  Rotation(Seed("seed"), x.size()).Undo(back, 1);
  for (const unsigned threads : {2U, 3U, 7U, 16U}) {
    EXPECT_EQ(Rotated(x, "seed", threads), one) << threads;
    auto again = x;
    Rotation(Seed("seed"), x.size()).Undo(again, threads);
    EXPECT_EQ(again, back) << threads;
  }
}

TEST(RotationTest, EveryAttemptHasItsOwn) {
  const AttemptId id{Seed("job"), 1, 0};
  const AttemptId others[] = {{Seed("another job"), 1, 0}, {Seed("job"), 0, 1}, {Seed("job"), 1, 1}};
  for (const AttemptId& other : others) EXPECT_NE(RotationSeed(other), RotationSeed(id));
  const auto x = Numbers(1000);
  EXPECT_GT(Distance(Rotated(x, "a"), Rotated(x, "b")), Norm(x));
}

}  // namespace
}  // namespace concordat
