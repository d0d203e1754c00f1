#include "privacy/mechanism/poisson_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "privacy/crypto/ctr_stream.h"

namespace concordat {
namespace {

Secret32 Seed(uint64_t v) {
  Secret32 seed;
  for (size_t i = 0; i < 8; ++i) seed.mutable_view()[i] = static_cast<uint8_t>(v >> (8 * i));
  return seed;
}

TEST(SamplingRateTest, RatioIsRoundedDownToA64thPowerOfTwo) {
  EXPECT_EQ(SamplingRate::FromRatio(1, 3)->threshold(), 0x5555555555555555U);
  EXPECT_EQ(SamplingRate::FromRatio(2, 3)->threshold(), 0xaaaaaaaaaaaaaaaaU);
  EXPECT_EQ(SamplingRate::FromRatio(1, 2)->threshold(), uint64_t{1} << 63);
  EXPECT_EQ(SamplingRate::FromRatio(0, 7)->threshold(), 0U);
  EXPECT_EQ(SamplingRate::FromRatio(UINT64_MAX - 1, UINT64_MAX)->threshold(), UINT64_MAX - 1);
  EXPECT_FALSE(SamplingRate::FromRatio(UINT64_MAX - 1, UINT64_MAX)->always());
  EXPECT_TRUE(SamplingRate::FromRatio(9, 9)->always());
}

TEST(SamplingRateTest, DoubleIsTakenExactlyAndWhatDoesNotFitIsDropped) {
  EXPECT_EQ(SamplingRate::FromDouble(0.25)->threshold(), uint64_t{1} << 62);
  EXPECT_EQ(SamplingRate::FromDouble(0x1p-64)->threshold(), 1U);
  EXPECT_EQ(SamplingRate::FromDouble(0x1.8p-64)->threshold(), 1U);
  EXPECT_EQ(SamplingRate::FromDouble(0x1.fp-65)->threshold(), 0U);
  EXPECT_EQ(SamplingRate::FromDouble(1 - 0x1p-53)->threshold(), UINT64_MAX - 2047);
  EXPECT_TRUE(SamplingRate::FromDouble(1)->always());
  EXPECT_EQ(SamplingRate::FromDouble(0).value(), SamplingRate());
}

TEST(SamplingRateTest, UpperIsNeverBelowTheTrueProbability) {
  for (const auto& [a, b] : std::vector<std::pair<uint64_t, uint64_t>>{{1, 3},
                                                                       {2, 3},
                                                                       {1, 1000},
                                                                       {0, 5},
                                                                       {5, 5},
                                                                       {UINT64_MAX - 1, UINT64_MAX},
                                                                       {(1U << 20) + 1, 3U << 29}}) {
    const SamplingRate rate = SamplingRate::FromRatio(a, b).value();
    const long double exact = rate.always() ? 1 : static_cast<long double>(rate.threshold()) * 0x1p-64L;
    EXPECT_GE(static_cast<long double>(rate.upper()), exact) << a << "/" << b;
    EXPECT_LE(static_cast<long double>(rate.upper()), exact * (1 + 0x1p-51L)) << a << "/" << b;
  }
}

TEST(SamplingRateTest, RefusesWhatIsNoProbability) {
  EXPECT_EQ(SamplingRate::FromRatio(0, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SamplingRate::FromRatio(4, 3).status().code(), StatusCode::kInvalidArgument);
  for (const double q : {-1e-300, 1 + 1e-15, std::nan(""), HUGE_VAL})
    EXPECT_EQ(SamplingRate::FromDouble(q).status().code(), StatusCode::kInvalidArgument) << q;
}

TEST(PoissonSamplerTest, NeverAndAlwaysAreExact) {
  EXPECT_TRUE(PoissonSampler(SamplingRate(), 1000).Draw(Seed(1)).empty());
  std::vector<uint32_t> all(1000);
  std::iota(all.begin(), all.end(), 0U);
  EXPECT_EQ(PoissonSampler(SamplingRate::FromDouble(1).value(), 1000).Draw(Seed(1)), all);
  EXPECT_TRUE(PoissonSampler(SamplingRate::FromDouble(1).value(), 0).Draw(Seed(1)).empty());
}

TEST(PoissonSamplerTest, UnitIsDecidedByItsOwnBytesOfTheKeystreamAlone) {
  const SamplingRate rate = SamplingRate::FromRatio(1, 3).value();
  const std::vector<uint32_t> drawn = PoissonSampler(rate, 2000).Draw(Seed(5));
  const std::set<uint32_t> in(drawn.begin(), drawn.end());
  crypto::CtrStream stream(Seed(5));
  for (uint32_t unit = 0; unit < 2000; ++unit) {
    std::array<uint8_t, 8> bytes{};
    stream.Keystream(uint64_t{unit} * 8, bytes);
    uint64_t word = 0;
    for (size_t i = 0; i < 8; ++i) word |= uint64_t{bytes[i]} << (8 * i);
    EXPECT_EQ(in.contains(unit), word < rate.threshold()) << unit;
  }
  // Fewer units: the same decisions.
  std::vector<uint32_t> first = drawn;
  std::erase_if(first, [](uint32_t unit) { return unit >= 700; });
  EXPECT_EQ(PoissonSampler(rate, 700).Draw(Seed(5)), first);
}

TEST(PoissonSamplerTest, UnitIsInWhenItsWordIsBelowTheThresholdAndNotOtherwise) {
  crypto::CtrStream stream(Seed(9));
  std::array<uint8_t, 8> bytes{};
  stream.Keystream(0, bytes);
  uint64_t word = 0;
  for (size_t i = 0; i < 8; ++i) word |= uint64_t{bytes[i]} << (8 * i);
  // floor(t·2^64/(2^64 − 1)) = t: any threshold can be had.
  const auto rate = [](uint64_t t) { return SamplingRate::FromRatio(t, UINT64_MAX).value(); };
  EXPECT_EQ(rate(word).threshold(), word);
  EXPECT_EQ(PoissonSampler(rate(word), 1).Draw(Seed(9)).size(), 0U);
  EXPECT_EQ(PoissonSampler(rate(word + 1), 1).Draw(Seed(9)).size(), 1U);
}

TEST(PoissonSamplerTest, SeedsOfStepsDifferByStepAndPurpose) {
  const StepSeeds a = StepSeedsFor(Seed(1), 0), b = StepSeedsFor(Seed(1), 1), c = StepSeedsFor(Seed(2), 0);
  EXPECT_FALSE(a.sampling == a.noise);
  EXPECT_FALSE(a.sampling == b.sampling);
  EXPECT_FALSE(a.noise == b.noise);
  EXPECT_FALSE(a.sampling == c.sampling);
  EXPECT_TRUE(a.sampling == StepSeedsFor(Seed(1), 0).sampling);
}

// Points of χ² with `df` degrees by Wilson–Hilferty at ±4.9: false alarm 5e-7 for each side, 1e-6 a test.
bool ChiSquareFits(double statistic, double df) {
  const double a = 2 / (9 * df);
  const auto point = [&](double z) { return df * std::pow(std::max(0.0, 1 - a + z * std::sqrt(a)), 3); };
  return statistic > point(-4.9) && statistic < point(4.9);
}

constexpr uint32_t kUnits = 40;
constexpr int kDraws = 20'000;
constexpr double kRate = 0.2;
using Batches = std::vector<std::vector<uint32_t>>;

// Sizes of batches against the binomial distribution; cells with less than 20 expected are joined at the
// ends.
bool SizesAreBinomial(const Batches& batches) {
  std::vector<double> seen(kUnits + 1), expected(kUnits + 1);
  for (const auto& batch : batches) seen[batch.size()] += 1;
  for (uint32_t k = 0; k <= kUnits; ++k) {
    const double log_p = std::lgamma(kUnits + 1.0) - std::lgamma(k + 1.0) - std::lgamma(kUnits - k + 1.0) +
                         k * std::log(kRate) + (kUnits - k) * std::log1p(-kRate);
    expected[k] = std::exp(log_p) * static_cast<double>(batches.size());
  }
  double statistic = 0, rest_seen = 0, rest_expected = 0;
  int cells = 0;
  for (uint32_t k = 0; k <= kUnits; ++k) {
    if (expected[k] < 20) {
      rest_seen += seen[k];
      rest_expected += expected[k];
      continue;
    }
    statistic += (seen[k] - expected[k]) * (seen[k] - expected[k]) / expected[k];
    ++cells;
  }
  statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
  return ChiSquareFits(statistic, cells);
}

// How often each unit is in a batch: a sum of squares of 40 independent standard deviates, and their plain
// sum.
bool InclusionsAreBinomial(const Batches& batches) {
  std::vector<double> seen(kUnits);
  for (const auto& batch : batches)
    for (const uint32_t unit : batch) seen[unit] += 1;
  const auto n = static_cast<double>(batches.size());
  double statistic = 0, sum = 0;
  for (const double s : seen) {
    const double z = (s - n * kRate) / std::sqrt(n * kRate * (1 - kRate));
    statistic += z * z;
    sum += z;
  }
  return ChiSquareFits(statistic, kUnits) && std::abs(sum) < 5 * std::sqrt(kUnits);
}

// Centred products of every pair: uncorrelated, variance n·(q(1−q))²; their squares add up to χ² of 780.
bool PairsAreIndependent(const Batches& batches) {
  std::vector<double> products(kUnits * kUnits);
  for (const auto& batch : batches) {
    std::array<double, kUnits> x;
    x.fill(-kRate);
    for (const uint32_t unit : batch) x[unit] = 1 - kRate;
    for (uint32_t i = 0; i < kUnits; ++i)
      for (uint32_t j = 0; j < i; ++j) products[i * kUnits + j] += x[i] * x[j];
  }
  const double variance = static_cast<double>(batches.size()) * std::pow(kRate * (1 - kRate), 2);
  double statistic = 0;
  for (const double p : products) statistic += p * p / variance;
  return ChiSquareFits(statistic, kUnits * (kUnits - 1) / 2.0);
}

Batches Draws(const std::function<std::vector<uint32_t>(uint64_t)>& draw) {
  Batches out;
  for (int i = 0; i < kDraws; ++i) out.push_back(draw(static_cast<uint64_t>(i)));
  return out;
}

// False alarm about 1e-6 for each of the three, and the seeds are fixed.
TEST(PoissonSamplerTest, BatchSizesInclusionsAndPairsAreThoseOfIndependentUnits) {
  const PoissonSampler sampler(SamplingRate::FromRatio(1, 5).value(), kUnits);
  const Batches batches = Draws([&](uint64_t i) { return sampler.Draw(StepSeedsFor(Seed(7), i).sampling); });
  EXPECT_TRUE(SizesAreBinomial(batches));
  EXPECT_TRUE(InclusionsAreBinomial(batches));
  EXPECT_TRUE(PairsAreIndependent(batches));
}

// The control: epochs of a shuffled list cut into batches of 8, the sampler that is not Poisson.
TEST(PoissonSamplerTest, ShuffledSamplerFailsEachOfTheseTests) {
  std::vector<uint32_t> order(kUnits);
  std::iota(order.begin(), order.end(), 0U);
  const auto size = static_cast<uint32_t>(kUnits * kRate);
  const Batches batches = Draws([&](uint64_t i) {
    const uint64_t at = i * size % kUnits;
    if (at == 0) {
      crypto::CtrRandom random(Seed(1000 + i));
      for (uint32_t left = kUnits; left > 1; --left) {
        std::array<uint8_t, 8> bytes{};
        random.Fill(bytes);
        uint64_t word = 0;
        for (const uint8_t b : bytes) word = word << 8 | b;
        std::swap(order[left - 1], order[word % left]);
      }
    }
    return std::vector<uint32_t>(order.begin() + static_cast<int64_t>(at),
                                 order.begin() + static_cast<int64_t>(at + size));
  });
  EXPECT_FALSE(SizesAreBinomial(batches));
  EXPECT_FALSE(InclusionsAreBinomial(batches));
  EXPECT_FALSE(PairsAreIndependent(batches));
}

// And one that is Poisson at a rate a fiftieth too high.
TEST(PoissonSamplerTest, WrongRateIsSeenInSizesAndInclusions) {
  const PoissonSampler sampler(SamplingRate::FromDouble(kRate * 1.02).value(), kUnits);
  const Batches batches = Draws([&](uint64_t i) { return sampler.Draw(StepSeedsFor(Seed(7), i).sampling); });
  EXPECT_FALSE(SizesAreBinomial(batches));
  EXPECT_FALSE(InclusionsAreBinomial(batches));
}

}  // namespace
}  // namespace concordat
