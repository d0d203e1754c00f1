#include "privacy/mechanism/rounded_gaussian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/lazy_rounding.h"
#include "tests/unit/privacy/mechanism/sampling.h"

namespace concordat {
namespace {

using Kind = SamplerKind;

std::unique_ptr<RoundedGaussianSampler> Make(Kind kind, double sigma) {
  const RoundedGaussianScale scale = RoundedGaussianScale::FromStddev(sigma).value();
  if (kind == Kind::kExact) return std::make_unique<ExactRoundedGaussian>(scale);
  return std::make_unique<FastRoundedGaussian>(scale);
}

std::vector<int64_t> Draw(Kind kind, double sigma, size_t count, uint8_t seed = 1) {
  return DrawFrom(*Make(kind, sigma), count, seed);
}

TEST(RoundedGaussianScaleTest, IsNeverBelowWhatWasAskedAndHardlyAbove) {
  for (const double s : {0x1p-7, 0.01, 0.3, 1.0, std::nextafter(2.0, 0.0), 1e5 / 3, 0x1p40 - 1, 0x1p40}) {
    const RoundedGaussianScale scale = RoundedGaussianScale::FromStddev(s).value();
    EXPECT_GE(scale.stddev(), s);
    EXPECT_LE(scale.stddev(), s * (1 + 0x1p-43));
    EXPECT_GE(scale.mantissa(), uint64_t{1} << 43);
    EXPECT_LT(scale.mantissa(), uint64_t{1} << 44);
  }
  EXPECT_TRUE(RoundedGaussianScale::FromStddev(0)->is_zero());
}

TEST(RoundedGaussianScaleTest, RefusesWhatSamplersCannotHold) {
  for (const double s : {-1.0, 1e-3, 0x1.1p40, HUGE_VAL, std::nan("")})
    EXPECT_EQ(RoundedGaussianScale::FromStddev(s).status().code(), StatusCode::kInvalidArgument) << s;
}

// P(first <= k <= last) = Φ((last+½)/s) − Φ((first−½)/s), from the side where nothing cancels.
double Probability(double s, int64_t first, int64_t last) {
  const long double a = (static_cast<long double>(first) - 0.5L) / s / std::sqrt(2.0L);
  const long double b = (static_cast<long double>(last) + 0.5L) / s / std::sqrt(2.0L);
  if (a > 0) return static_cast<double>((std::erfc(a) - std::erfc(b)) / 2);
  if (b < 0) return static_cast<double>((std::erfc(-b) - std::erfc(-a)) / 2);
  return static_cast<double>((std::erf(b) - std::erf(a)) / 2);
}

void ExpectDistribution(Kind kind, double sigma, size_t count) {
  std::vector<int64_t> draws = Draw(kind, sigma, count);
  std::sort(draws.begin(), draws.end());
  const auto width = std::max<int64_t>(1, std::llrint(sigma / 8));
  double statistic = 0, covered = 0, covered_seen = 0;
  int cells = 0;
  // Cells around zero, so that a bias of half a step shows.
  for (int64_t cell = -64; cell <= 64; ++cell) {
    const int64_t first = cell * width - width / 2, last = first + width - 1;
    const double expected = Probability(sigma, first, last) * static_cast<double>(count);
    if (expected < 20) continue;
    const auto seen = static_cast<double>(std::upper_bound(draws.begin(), draws.end(), last) -
                                          std::lower_bound(draws.begin(), draws.end(), first));
    statistic += (seen - expected) * (seen - expected) / expected;
    covered += expected;
    covered_seen += seen;
    ++cells;
  }
  const double rest = static_cast<double>(count) - covered;
  const double rest_seen = static_cast<double>(count) - covered_seen;
  if (rest >= 5) {
    statistic += (rest_seen - rest) * (rest_seen - rest) / rest;
    ++cells;
  } else {
    EXPECT_LT(rest_seen, 40) << "sigma " << sigma;
  }
  EXPECT_LT(statistic, ChiSquareLimit(std::max(cells - 1, 1))) << "sigma " << sigma << ", cells " << cells;
}

class RoundedGaussianTest : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Samplers, RoundedGaussianTest, ::testing::Values(Kind::kExact, Kind::kFast),
                         [](const auto& info) { return info.param == Kind::kExact ? "Exact" : "Fast"; });

// χ² against exact probabilities; false alarm 1e-6 for each s, and the seed is fixed.
TEST_P(RoundedGaussianTest, MatchesExactProbabilities) {
  const size_t count = GetParam() == Kind::kExact ? 60'000 : 1'000'000;
  for (const double sigma : {0.15, 0.3, 0.5, 1.0, 1.7, 4.0, 25.0, 777.0, 221'000.0, 0x1p30, 0x1p40})
    ExpectDistribution(GetParam(), sigma, count);
}

// Mean within 6·s/√n, variance s² (+ 1/12) within 6·s²·√(2/n): false alarm 4e-9 each.
TEST_P(RoundedGaussianTest, HasItsMeanAndVariance) {
  const double count = GetParam() == Kind::kExact ? 1e5 : 1e6;
  for (const double sigma : {1.0, 3.0, 1000.0, 1e6, 0x1p40}) {
    double sum = 0, squares = 0;
    for (const int64_t v : Draw(GetParam(), sigma, static_cast<size_t>(count), 2)) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    const double variance = sigma * sigma + 1.0 / 12;
    EXPECT_LT(std::abs(sum / count), 6 * sigma / std::sqrt(count)) << sigma;
    EXPECT_NEAR(squares / count / variance, 1, 6 * std::sqrt(2.0 / count)) << sigma;
  }
}

// 2e7 draws: E|X| within 6·√(1 − 2/π)/√n, E X² within 6·√(2/n); false alarm 2e-9 each. What a wrong slope of
// the density within a cell of the table would do shows here first: half a cell is 0.5% of E|X|, five times
// the limit.
TEST(FastRoundedGaussianTest, MomentsAreRightToATenthOfAPercent) {
  constexpr double kSigma = 1e6;
  constexpr int kPieces = 20, kPiece = 1'000'000;
  double absolute = 0, squares = 0;
  for (uint8_t piece = 0; piece < kPieces; ++piece)
    for (const int64_t v : Draw(Kind::kFast, kSigma, kPiece, piece)) {
      const double x = static_cast<double>(v) / kSigma;
      absolute += std::abs(x);
      squares += x * x;
    }
  constexpr double kDraws = double{kPieces} * kPiece;
  EXPECT_NEAR(absolute / kDraws, std::sqrt(2 / M_PI), 6 * std::sqrt((1 - 2 / M_PI) / kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 6 * std::sqrt(2 / kDraws));
}

// A difference of two binomials within 6·√n: false alarm 2e-9 for each magnitude.
TEST_P(RoundedGaussianTest, IsSymmetricForEveryMagnitude) {
  const std::vector<int64_t> draws = Draw(GetParam(), 3, 100'000, 3);
  for (int64_t k = 1; k < 8; ++k) {
    const auto plus = std::count(draws.begin(), draws.end(), k);
    const auto minus = std::count(draws.begin(), draws.end(), -k);
    EXPECT_LT(std::abs(plus - minus), 6 * std::sqrt(static_cast<double>(plus + minus))) << k;
  }
}

// Beyond 3s and 4s: counts within 6 Poisson deviations of the exact tail (false alarm about 1e-7 each).
TEST_P(RoundedGaussianTest, HasItsTails) {
  const size_t count = GetParam() == Kind::kExact ? 100'000 : 1'000'000;
  for (const double sigma : {5.0, 1e5}) {
    const std::vector<int64_t> draws = Draw(GetParam(), sigma, count, 5);
    for (const double times : {3.0, 4.0}) {
      const auto limit = static_cast<int64_t>(times * sigma);
      const double expected =
          2 * Probability(sigma, limit, std::llrint(20 * sigma)) * static_cast<double>(count);
      const auto seen =
          std::count_if(draws.begin(), draws.end(), [&](int64_t v) { return std::abs(v) >= limit; });
      EXPECT_NEAR(static_cast<double>(seen), expected, 6 * std::sqrt(expected) + 1)
          << sigma << " beyond " << times;
    }
  }
}

TEST_P(RoundedGaussianTest, OfTinyScaleIsAlwaysZero) {
  // P(not 0) = erfc(½/0.01/√2) < 1e-500.
  EXPECT_EQ(Draw(GetParam(), 0.01, 10'000), std::vector<int64_t>(10'000, 0));
}

TEST_P(RoundedGaussianTest, OfNoScaleIsZeroAndAsksForNoRandomness) {
  class Refusing final : public RandomSource {
    void Fill(std::span<uint8_t>) override { FAIL() << "asked for bytes"; }
  } refusing;
  std::vector<int64_t> out(10, 7);
  Make(GetParam(), 0)->Sample(refusing, out);
  EXPECT_EQ(out, std::vector<int64_t>(10, 0));
}

TEST_P(RoundedGaussianTest, RepeatsWithTheSameSeedOnly) {
  EXPECT_EQ(Draw(GetParam(), 30, 1000, 1), Draw(GetParam(), 30, 1000, 1));
  EXPECT_NE(Draw(GetParam(), 30, 1000, 1), Draw(GetParam(), 30, 1000, 2));
}

// The same random bytes are the same normal deviates, whatever the scale: so a coarse value is the fine one's
// rounding, but for a fine value right at the middle (which then tells nothing).
TEST_P(RoundedGaussianTest, ScalesRoundOneAndTheSameDeviate) {
  const std::vector<int64_t> fine = Draw(GetParam(), 0x1p36, 20'000),
                             coarse = Draw(GetParam(), 0x1p4, 20'000);
  constexpr int64_t kHalf = int64_t{1} << 31;
  for (size_t i = 0; i < fine.size(); ++i) {
    const int64_t remainder = std::abs(fine[i]) & (2 * kHalf - 1);
    if (remainder == kHalf) continue;
    const int64_t magnitude = (std::abs(fine[i]) + kHalf) >> 32;
    ASSERT_EQ(coarse[i], fine[i] < 0 ? -magnitude : magnitude) << i;
  }
}

unsigned __int128 Join(uint64_t high, uint64_t low) {
  return (static_cast<unsigned __int128>(high) << 64) | low;
}

// 2^128·P(y <= index), computed with 120 decimal digits (Python's decimal).
TEST(FastRoundedGaussianTest, TableHasAHundredAndTwentySixRightBits) {
  const auto expect = [](size_t index, uint64_t high, uint64_t low) {
    const unsigned __int128 want = Join(high, low), got = FastRoundedGaussian::Threshold(index);
    const unsigned __int128 gap = want > got ? want - got : got - want;
    EXPECT_LE(static_cast<uint64_t>(gap), 4U) << index;
    EXPECT_EQ(static_cast<uint64_t>(gap >> 64), 0U) << index;
  };
  expect(0, 0x032bf8ee0ac6da56, 0x4d561aec7d66cb59);
  expect(1, 0x0657d87cb39b6d90, 0xeec9659a2140273b);
  expect(50, 0x92957bd4785eab22, 0x7e286ecd738bf885);
  expect(128, 0xf4a339ab85588bd2, 0xc2344b6f34ecd91f);
  expect(256, 0xfffc026006e4b018, 0x92dda329b3fb4a0e);
}

TEST(FastRoundedGaussianTest, TableReachesFarEnoughAndNotBeyondItsBound) {
  // The tail that is cut: erfc(x/√2) below 2^-128 beyond 13.1.
  EXPECT_GT(static_cast<double>(FastRoundedGaussian::table_size()), 13.1 * 64);
  EXPECT_LT(static_cast<double>(FastRoundedGaussian::table_size()), FastRoundedGaussian::kReach * 64);
}

// Words in an order of our choosing, then zeros.
class Script final : public RandomSource {
 public:
  explicit Script(std::vector<uint64_t> words) : words_(std::move(words)) { words_.resize(512); }
  void Fill(std::span<uint8_t> out) override {
    ASSERT_EQ(out.size(), words_.size() * 8);
    std::memcpy(out.data(), words_.data(), out.size());
  }

 private:
  std::vector<uint64_t> words_;
};

int64_t Scripted(std::vector<uint64_t> words, double sigma) {
  Script script(std::move(words));
  std::vector<int64_t> out(1);
  FastRoundedGaussian(RoundedGaussianScale::FromStddev(sigma).value()).Sample(script, out);
  return out[0];
}

// y = 40, u = ½: exp(−0.004913330078125) = 0.febeca2d32d586567bd87b7182279687… in base 16, from Python's
// decimal.
TEST(FastRoundedGaussianTest, CoinWithinTheMarginIsDecidedByA127Bits) {
  const auto draw = [](uint64_t p_high, uint64_t p_low, uint64_t sign = 0) {
    const uint64_t cell = static_cast<uint64_t>(FastRoundedGaussian::Threshold(40) >> 64) - 1;
    // 63 bits of the coin stand above the sign; one more bit is the first of the next word.
    const uint64_t coin = (p_high & ~uint64_t{1}) | sign;
    const uint64_t rest = (p_high & 1) << 63 | p_low >> 1;
    return Scripted({cell, uint64_t{1} << 63, coin, 0, rest}, 6400);
  };
  EXPECT_EQ(draw(0xfebeca2d32d58656, 0x7bd87b7182279687), 4050);
  EXPECT_EQ(draw(0xfebeca2d32d58656, 0x7bd87b7182279683), 4050);
  EXPECT_EQ(draw(0xfebeca2d32d58656, 0x7bd87b718227968b), 0);
  EXPECT_EQ(draw(0xfebeca2d32d58657, 0), 0);
  EXPECT_EQ(draw(0xfebeca2d32d58655, ~uint64_t{0}), 4050);
  // The sign is no digit of it.
  EXPECT_EQ(draw(0xfebeca2d32d58656, 0x7bd87b7182279683, 1), -4050);
  EXPECT_EQ(draw(0xfebeca2d32d58656, 0x7bd87b718227968b, 1), 0);
}

TEST(FastRoundedGaussianTest, TiesOnTheFirstWordAreDecidedByTheNext) {
  const auto high = static_cast<uint64_t>(FastRoundedGaussian::Threshold(5) >> 64);
  const auto low = static_cast<uint64_t>(FastRoundedGaussian::Threshold(5));
  // u = 0, coin = 0: the cell's left end, y/64, accepted.
  EXPECT_EQ(Scripted({high, low - 1}, 64), 5);
  EXPECT_EQ(Scripted({high, low}, 64), 6);
  EXPECT_EQ(Scripted({high - 1}, 64), 5);
  EXPECT_EQ(Scripted({high + 1}, 64), 6);
  EXPECT_EQ(Scripted({0, 0, 1}, 64), 0);
  EXPECT_EQ(Scripted({high + 1, 0, 1}, 64), -6);
}

TEST(FastRoundedGaussianTest, LargestWordGivesTheEndOfTheTable) {
  EXPECT_EQ(Scripted({~uint64_t{0}, ~uint64_t{0}}, 64),
            static_cast<int64_t>(FastRoundedGaussian::table_size()) - 1);
}

class Words {
 public:
  explicit Words(std::vector<uint64_t> words) : words_(std::move(words)) {}
  uint64_t Word() { return words_.at(next_++); }
  size_t drawn() const { return next_; }

 private:
  std::vector<uint64_t> words_;
  size_t next_ = 0;
};

// Scale ¾, a = 0: the boundary between 0 and 1 is at u = ⅔, which has infinitely many digits.
TEST(LazyRoundingTest, BoundaryIsFoundDigitByDigitAndNoDigitIsDrawnInVain) {
  using internal::RoundLazily;
  using internal::Uint128;
  const uint64_t m = uint64_t{3} << 42;
  const int shift = 44;
  constexpr uint64_t kDigit = 0xaaaaaaaaaaaaaaaaU;
  Words none({});
  EXPECT_EQ(RoundLazily(none, m, shift, 0, kDigit - 1, nullptr, 0), 0U);
  EXPECT_EQ(RoundLazily(none, m, shift, 0, kDigit + 1, nullptr, 0), 1U);
  EXPECT_EQ(none.drawn(), 0U);
  Words below({kDigit, kDigit, kDigit - 1}), above({kDigit, kDigit, kDigit, kDigit + 1});
  EXPECT_EQ(RoundLazily(below, m, shift, 0, kDigit, nullptr, 0), 0U);
  EXPECT_EQ(below.drawn(), 3U);
  EXPECT_EQ(RoundLazily(above, m, shift, 0, kDigit, nullptr, 0), 1U);
  EXPECT_EQ(above.drawn(), 4U);
  // Digits that are known already come first.
  const uint64_t known[] = {kDigit, kDigit + 1};
  Words unused({});
  EXPECT_EQ(RoundLazily(unused, m, shift, 0, kDigit, known, 2), 1U);
  Words one({0});
  EXPECT_EQ(RoundLazily(one, m, shift, 0, kDigit, known, 1), 0U);
  EXPECT_EQ(one.drawn(), 1U);
}

TEST(LazyRoundingTest, ExactMiddleGoesUpWithoutAnyFurtherDigit) {
  Words none({});
  // Scale 1: u = ½ exactly at the boundary; just below it all completions round down.
  const uint64_t m = uint64_t{1} << 43;
  EXPECT_EQ(internal::RoundLazily(none, m, 43, 7, uint64_t{1} << 63, nullptr, 0), 8U);
  EXPECT_EQ(internal::RoundLazily(none, m, 43, 7, (uint64_t{1} << 63) - 1, nullptr, 0), 7U);
  // Scale 2^40: far beyond 64 bits of the product, still exact.
  EXPECT_EQ(internal::RoundLazily(none, m, 3, 5, 0, nullptr, 0), uint64_t{5} << 40);
}

}  // namespace
}  // namespace concordat
