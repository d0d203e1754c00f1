#include "privacy/mechanism/discrete_gaussian.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "tests/unit/privacy/mechanism/sampling.h"

namespace concordat {
namespace {

using Kind = SamplerKind;

std::unique_ptr<DiscreteGaussianSampler> Make(Kind kind, double sigma) {
  const NoiseVariance variance = NoiseVariance::FromStddev(sigma).value();
  if (kind == Kind::kExact) return std::make_unique<ExactDiscreteGaussian>(variance);
  return std::make_unique<FastDiscreteGaussian>(variance);
}

std::vector<int64_t> Draw(Kind kind, double sigma, size_t count, uint8_t seed = 1) {
  return DrawFrom(*Make(kind, sigma), count, seed);
}

// Probability of first … last, by summing in long double: relative error below 1e-15.
struct Distribution {
  explicit Distribution(double sigma) : sigma(sigma), reach(static_cast<int64_t>(40 * sigma) + 8) {
    for (int64_t k = -reach; k <= reach; ++k) total += Weight(k);
  }
  long double Weight(int64_t k) const {
    return std::exp(-static_cast<long double>(k) * k / (2 * static_cast<long double>(sigma) * sigma));
  }
  long double Probability(int64_t first, int64_t last) const {
    long double sum = 0;
    for (int64_t k = std::max(first, -reach); k <= std::min(last, reach); ++k) sum += Weight(k);
    return sum / total;
  }
  double sigma;
  int64_t reach;
  long double total = 0;
};

void ExpectDistribution(Kind kind, double sigma, size_t count) {
  const std::vector<int64_t> draws = Draw(kind, sigma, count);
  const Distribution exact(sigma);
  const auto width = std::max<int64_t>(1, static_cast<int64_t>(sigma / 4));
  double statistic = 0, covered = 0;
  int cells = 0;
  std::vector<int64_t> sorted = draws;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t first = -64 * width; first < 64 * width; first += width) {
    const double expected = static_cast<double>(exact.Probability(first, first + width - 1)) * count;
    if (expected < 20) continue;
    const auto seen = std::lower_bound(sorted.begin(), sorted.end(), first + width) -
                      std::lower_bound(sorted.begin(), sorted.end(), first);
    statistic += (seen - expected) * (seen - expected) / expected;
    covered += expected;
    ++cells;
  }
  // Everything else is one cell more, when enough is expected in it.
  const double rest = count - covered;
  if (rest >= 5) ++cells;
  if (cells < 2) FAIL() << "too few draws for a test";
  EXPECT_LT(statistic, ChiSquareLimit(cells)) << "sigma " << sigma << ", cells " << cells;
}

class DiscreteGaussianTest : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Samplers, DiscreteGaussianTest, ::testing::Values(Kind::kExact, Kind::kFast),
                         [](const auto& info) { return info.param == Kind::kExact ? "Exact" : "Fast"; });

// χ² against exact probabilities; false alarm 1e-6 for each σ, and the seed is fixed.
TEST_P(DiscreteGaussianTest, MatchesExactProbabilities) {
  const size_t count = GetParam() == Kind::kExact ? 100'000 : 400'000;
  for (const double sigma : {0.3, 0.5, 1.0, 1.7, 4.0, 25.0, 127.5, 128.5, 700.0, 3000.0})
    ExpectDistribution(GetParam(), sigma, count);
}

// Mean within 6 σ/√n, variance within 6·σ²·√(2/n): false alarm 4e-9 each.
TEST_P(DiscreteGaussianTest, HasItsMeanAndVarianceEvenForAHugeSigma) {
  const size_t count = 100'000;
  for (const double sigma : {2.0, 1000.0, 1e5, 1e6}) {
    double sum = 0, squares = 0;
    for (const int64_t v : Draw(GetParam(), sigma, count)) {
      sum += static_cast<double>(v);
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    EXPECT_LT(std::abs(sum / count), 6 * sigma / std::sqrt(count)) << sigma;
    EXPECT_NEAR(squares / count / (sigma * sigma), 1, 6 * std::sqrt(2.0 / count)) << sigma;
  }
}

// A difference of two binomials: within 6·√n (false alarm 2e-9), for each magnitude that is common.
TEST_P(DiscreteGaussianTest, IsSymmetricForEveryMagnitude) {
  const std::vector<int64_t> draws = Draw(GetParam(), 3, 100'000, 3);
  for (int64_t k = 1; k < 8; ++k) {
    const auto plus = std::count(draws.begin(), draws.end(), k);
    const auto minus = std::count(draws.begin(), draws.end(), -k);
    EXPECT_LT(std::abs(plus - minus), 6 * std::sqrt(static_cast<double>(plus + minus))) << k;
  }
}

// Beyond 3σ, 4σ: counts within 6 Poisson deviations of the exact tail (false alarm about 1e-7 each).
TEST_P(DiscreteGaussianTest, HasItsTails) {
  const size_t count = 200'000;
  for (const double sigma : {5.0, 300.0}) {
    const std::vector<int64_t> draws = Draw(GetParam(), sigma, count, 5);
    const Distribution exact(sigma);
    for (const double times : {3.0, 4.0}) {
      const auto limit = static_cast<int64_t>(times * sigma);
      const double expected = 2 * static_cast<double>(exact.Probability(limit, exact.reach)) * count;
      const auto seen =
          std::count_if(draws.begin(), draws.end(), [&](int64_t v) { return std::abs(v) >= limit; });
      EXPECT_NEAR(seen, expected, 6 * std::sqrt(expected) + 1) << sigma << " beyond " << times;
    }
  }
}

TEST_P(DiscreteGaussianTest, OfTinySigmaIsAlmostAlwaysZero) {
  const std::vector<int64_t> draws = Draw(GetParam(), 0.01, 10'000);
  // P(not 0) = 2·exp(−5000).
  EXPECT_TRUE(std::all_of(draws.begin(), draws.end(), [](int64_t v) { return v == 0; }));
}

TEST_P(DiscreteGaussianTest, OfNoVarianceIsZeroAndAsksForNoRandomness) {
  class Refusing final : public RandomSource {
    void Fill(std::span<uint8_t>) override { FAIL() << "asked for bytes"; }
  } refusing;
  std::vector<int64_t> out(10, 7);
  Make(GetParam(), 0)->Sample(refusing, out);
  EXPECT_EQ(out, std::vector<int64_t>(10, 0));
}

TEST_P(DiscreteGaussianTest, RepeatsWithTheSameSeedOnly) {
  EXPECT_EQ(Draw(GetParam(), 30, 1000, 1), Draw(GetParam(), 30, 1000, 1));
  EXPECT_NE(Draw(GetParam(), 30, 1000, 1), Draw(GetParam(), 30, 1000, 2));
}

unsigned __int128 Join(uint64_t high, uint64_t low) {
  return (static_cast<unsigned __int128>(high) << 64) | low;
}

void ExpectThreshold(double sigma, size_t index, uint64_t high, uint64_t low) {
  const FastDiscreteGaussian sampler(NoiseVariance::FromStddev(sigma).value());
  const unsigned __int128 want = Join(high, low), got = sampler.Threshold(index);
  const unsigned __int128 gap = want > got ? want - got : got - want;
  EXPECT_LE(static_cast<uint64_t>(gap), 4U) << sigma << " index " << index;
  EXPECT_EQ(static_cast<uint64_t>(gap >> 64), 0U) << sigma << " index " << index;
}

// 2^128·P(y <= index), computed with 120 decimal digits (Python's decimal): the table is right to two bits of
// its 128, so that a draw is within 1800·2^-126 < 2^-100 of the exact distribution.
TEST(FastDiscreteGaussianTest, TableHasAHundredAndTwentySixRightBits) {
  ExpectThreshold(2, 0, 0x33108a67a86ca11a, 0x1f9678a017570135);
  ExpectThreshold(2, 1, 0x8d317e702a8751bf, 0x4dbbe2ec640f7b5a);
  ExpectThreshold(2, 5, 0xfe9a706b08e4c937, 0x198066b547060ee1);
  ExpectThreshold(2, 12, 0xfffffffed0298033, 0xde3b109ca313fef9);
  ExpectThreshold(0.5, 0, 0xc95cb2a6bc9c8229, 0x87c3c68d1966c28e);
  ExpectThreshold(0.5, 1, 0xffdd69c15982a796, 0x1bceda296b0a6a29);
  ExpectThreshold(0.5, 3, 0xfffffffffffa646e, 0x4e47d46e351cdec4);
  ExpectThreshold(1000, 0, 0x01a0fd8ec2e7b4a3, 0x646743dc1fb0bd19);
  ExpectThreshold(1000, 100, 0x9477449b521a4591, 0x6beff945ad6e6188);
  ExpectThreshold(1000, 500, 0xfffbee7ae88bd39f, 0x4e9787834aada922);
}

TEST(FastDiscreteGaussianTest, SplitsALargeSigmaAndReachesFarEnough) {
  for (const double sigma : {0.4, 127.0, 129.0, 1e4, 1e6}) {
    const FastDiscreteGaussian sampler(NoiseVariance::FromStddev(sigma).value());
    const double base = sigma / static_cast<double>(sampler.multiple());
    EXPECT_LE(base, 128) << sigma;
    EXPECT_TRUE(sampler.multiple() == 1 || base > 64) << sigma;
    // The tail that is cut: 2·exp(−y²/2σ0²) below 2^-128 beyond 13.4 σ0.
    EXPECT_GT(static_cast<double>(sampler.table_size()), 13.4 * base) << sigma;
  }
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

// u exactly at a threshold's first 64 bits: the next 64 decide, as once in 2^64 draws they must.
TEST(FastDiscreteGaussianTest, TiesOnTheFirstWordAreDecidedByTheNext) {
  const FastDiscreteGaussian sampler(NoiseVariance::FromStddev(2).value());
  const auto high = static_cast<uint64_t>(sampler.Threshold(5) >> 64);
  const auto low = static_cast<uint64_t>(sampler.Threshold(5));
  const auto draw = [&](uint64_t first, uint64_t second) {
    Script script({first, second, 0});  // the third word's low bit is the sign: +
    std::vector<int64_t> out(1);
    sampler.Sample(script, out);
    return out[0];
  };
  EXPECT_EQ(draw(high, low - 1), 5);
  EXPECT_EQ(draw(high, low), 6);
  EXPECT_EQ(draw(high, ~uint64_t{0}), 6);
  EXPECT_EQ(draw(high - 1, 0), 5);
  EXPECT_EQ(draw(high + 1, 0), 6);
  EXPECT_EQ(draw(0, 0), 0);
}

TEST(FastDiscreteGaussianTest, TheLargestWordGivesTheEndOfTheTable) {
  const FastDiscreteGaussian sampler(NoiseVariance::FromStddev(2).value());
  Script script({~uint64_t{0}, ~uint64_t{0}, 0});
  std::vector<int64_t> out(1);
  sampler.Sample(script, out);
  EXPECT_EQ(out[0], static_cast<int64_t>(sampler.table_size() - 1));
}

}  // namespace
}  // namespace concordat
