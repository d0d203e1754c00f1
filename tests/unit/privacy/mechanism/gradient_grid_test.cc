#include "privacy/mechanism/gradient_grid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

namespace concordat {
namespace {

Secret32 Seed(uint8_t v) {
  Secret32 seed;
  seed.mutable_view()[3] = v;
  return seed;
}

GradientGrid Grid(uint64_t elements, double clip, double noise = 0, double grid = 0) {
  return GradientGrid::Make({.elements = elements, .clip = clip, .noise_multiplier = noise, .grid = grid})
      .value();
}

// Numbers in [−size, size), different for each `seed`.
std::vector<float> Vector(uint64_t elements, uint64_t seed, double size = 1) {
  std::vector<float> out(elements);
  uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  for (float& v : out) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    v = static_cast<float>(size * (static_cast<double>(state >> 11) * 0x1p-52 - 1));
  }
  return out;
}

double Norm(const std::vector<float>& v) {
  double squares = 0;
  for (const float x : v) squares += static_cast<double>(x) * x;
  return std::sqrt(squares);
}

// What Finish gives for a grid of 1 and a divisor of 1 is the integer sum itself.
std::vector<float> Finish(GridSum& sum, const Secret32& seed = Seed(1), double divisor = 1) {
  std::vector<float> out(sum.grid().config().elements);
  const Status status = sum.Finish(seed, divisor, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void ManyThreads(size_t blocks, const std::function<void(size_t)>& body) {
  std::vector<std::thread> threads;
  for (size_t b = blocks; b-- > 0;) threads.emplace_back([&body, b] { body(b); });
  for (std::thread& t : threads) t.join();
}

TEST(GradientGridTest, SensitivityIsTheClipAndHalfTheDiagonalOfACell) {
  const GradientGrid grid = Grid(10'000, 2, 0, 0.01);
  EXPECT_GE(grid.sensitivity(), 200 + 50);
  EXPECT_LE(grid.sensitivity(), 250 * (1 + 1e-8));
}

TEST(GradientGridTest, NoiseIsAtLeastTheMultipleOfTheSensitivity) {
  for (const double z : {0.3, 1.0, 2.7, 300.0}) {
    const GradientGrid grid = Grid(5000, 1.5, z);
    EXPECT_GE(grid.noise().stddev(), z * grid.sensitivity());
    EXPECT_LE(grid.noise().stddev(), z * grid.sensitivity() * (1 + 1e-12));
    EXPECT_DOUBLE_EQ(grid.noise_stddev(), grid.noise().stddev() * grid.grid());
  }
  EXPECT_TRUE(Grid(5000, 1.5, 0).noise().is_zero());
}

TEST(GradientGridTest, DefaultGridIsAPowerOfTwoThatCostsHalfAPercent) {
  for (const double clip : {1e-3, 0.1, 1.0, 7.0, 1e4}) {
    for (const uint64_t d : {uint64_t{1}, uint64_t{1000}, uint64_t{5'000'000}, uint64_t{1} << 31}) {
      const GradientGrid grid = Grid(d, clip);
      int exponent = 0;
      EXPECT_EQ(std::frexp(grid.grid(), &exponent), 0.5);
      EXPECT_LE(grid.sensitivity() * grid.grid(), clip * 1.00501) << clip << " " << d;
    }
  }
}

TEST(GradientGridTest, RefusesWhatMakesNoSenseOrCouldOverflow) {
  const auto code = [](const GradientGridConfig& c) { return GradientGrid::Make(c).status().code(); };
  const auto bad = StatusCode::kInvalidArgument;
  EXPECT_EQ(code({.elements = 10, .clip = 1}), StatusCode::kOk);
  EXPECT_EQ(code({.elements = 0, .clip = 1}), bad);
  EXPECT_EQ(code({.elements = (uint64_t{1} << 31) + 1, .clip = 1}), bad);
  for (const double clip : {0.0, -1.0, HUGE_VAL, std::nan("")})
    EXPECT_EQ(code({.elements = 10, .clip = clip}), bad);
  for (const double grid : {-1.0, HUGE_VAL, std::nan(""), 1e-12})
    EXPECT_EQ(code({.elements = 10, .clip = 1, .grid = grid}), bad) << grid;
  for (const double z : {-1.0, HUGE_VAL, std::nan(""), 1e12})
    EXPECT_EQ(code({.elements = 10, .clip = 1, .noise_multiplier = z}), bad) << z;
}

TEST(GridSumTest, ShortGradientIsRoundedToTheNearestGridPoint) {
  const std::vector<float> gradient = Vector(70'000, 3, 1e-3);
  GridSum sum(Grid(gradient.size(), 1, 0, 0x1p-12));
  const auto added = sum.Add(gradient, 0.5);
  ASSERT_TRUE(added.ok()) << added.status();
  EXPECT_TRUE(added->counted);
  EXPECT_FALSE(added->clipped);
  EXPECT_NEAR(added->norm, Norm(gradient) / 2, 1e-12);
  const std::vector<float> out = Finish(sum);
  for (size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(out[i], std::nearbyint(gradient[i] * 0.5 * 4096) / 4096) << i;
}

TEST(GridSumTest, LongGradientIsClippedToTheBound) {
  const std::vector<float> gradient = Vector(70'000, 4);
  const double norm = Norm(gradient);
  GridSum sum(Grid(gradient.size(), 2.5, 0, 0x1p-20));
  const auto added = sum.Add(gradient, 3);
  ASSERT_TRUE(added.ok());
  EXPECT_TRUE(added->clipped);
  EXPECT_NEAR(added->norm, 3 * norm, 1e-9);
  const std::vector<float> out = Finish(sum);
  EXPECT_NEAR(Norm(out), 2.5, 1e-4);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], gradient[i] * 2.5 / norm, 0x1p-21 + 1e-9) << i;
}

// The law the promise rests on: whatever comes in, the integers are no longer than S.
TEST(GridSumTest, NoGradientLeavesMoreThanTheSensitivity) {
  for (const uint64_t d : {1U, 7U, 1000U, 66'000U}) {
    for (const double size : {1e-30, 1e-3, 0.99, 1.0, 1e5, 3e38}) {
      for (const double grid : {1.0, 0.3, 0.01}) {
        std::vector<std::vector<float>> cases{Vector(d, d, size),
                                              std::vector<float>(d, static_cast<float>(size)),
                                              std::vector<float>(d, static_cast<float>(grid / 2))};
        for (const auto& gradient : cases) {
          GridSum sum(Grid(d, 1, 0, grid));
          const auto added = sum.Add(gradient, 1);
          ASSERT_TRUE(added.ok()) << added.status();
          const double units = Norm(Finish(sum, Seed(1), sum.grid().grid()));
          EXPECT_LE(units, sum.grid().sensitivity()) << d << " " << size << " " << grid;
        }
      }
    }
  }
}

TEST(GridSumTest, OppositeGradientsLeaveNothing) {
  std::vector<float> gradient = Vector(1000, 4);
  GridSum sum(Grid(1000, 0.1));
  ASSERT_TRUE(sum.Add(gradient, 1).ok());
  for (float& v : gradient) v = -v;
  ASSERT_TRUE(sum.Add(gradient, 1).ok());
  EXPECT_EQ(sum.units(), 2U);
  EXPECT_EQ(Finish(sum), std::vector<float>(1000, 0));
}

TEST(GridSumTest, OrderAndThreadsDoNotChangeABit) {
  const uint64_t d = 3 * GridSum::kBlockElements + 11;
  std::vector<std::vector<float>> all;
  for (uint64_t i = 0; i < 5; ++i) all.push_back(Vector(d, i, 0.01 * static_cast<double>(i)));
  GridSum forward(Grid(d, 1, 1.5)), backward(Grid(d, 1, 1.5), ManyThreads);
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(forward.Add(all[i], 0.7).ok());
    ASSERT_TRUE(backward.Add(all[all.size() - 1 - i], 0.7).ok());
  }
  EXPECT_EQ(Finish(forward), Finish(backward));
}

TEST(GridSumTest, GradientThatIsNotFiniteIsLeftOutAndChangesNothing) {
  const std::vector<float> good = Vector(70'000, 4);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const size_t where : {size_t{0}, size_t{69'999}}) {
      GridSum sum(Grid(good.size(), 1, 0, 0.001)), clean(Grid(good.size(), 1, 0, 0.001));
      std::vector<float> poisoned = good;
      poisoned[where] = bad;
      ASSERT_TRUE(sum.Add(good, 1).ok());
      ASSERT_TRUE(clean.Add(good, 1).ok());
      const auto added = sum.Add(poisoned, 1);
      ASSERT_TRUE(added.ok()) << added.status();
      EXPECT_FALSE(added->counted);
      EXPECT_EQ(sum.units(), 1U);
      EXPECT_EQ(Finish(sum), Finish(clean));
    }
  }
}

// n draws: the variance is within 6·√(2/n) of the true one, false alarm 2e-9; rounding to the grid adds 1/12.
TEST(GridSumTest, EmptySumIsNoiseOfTheStatedSize) {
  const uint64_t d = 2 * GridSum::kBlockElements;
  for (const double z : {0.5, 4.0}) {
    GridSum sum(Grid(d, 3, z));
    const std::vector<float> out = Finish(sum, Seed(2), 10);
    const double expected = sum.grid().noise_stddev() / 10;
    EXPECT_NEAR(Norm(out) * Norm(out) / static_cast<double>(d) / (expected * expected), 1,
                6 * std::sqrt(2.0 / static_cast<double>(d)));
    double mean = 0;
    for (const float v : out) mean += v;
    EXPECT_LT(std::abs(mean / static_cast<double>(d)), 6 * expected / std::sqrt(static_cast<double>(d)));
  }
}

TEST(GridSumTest, NoiseIsAddedToTheIntegersAndDependsOnTheSeedAlone) {
  const uint64_t d = GridSum::kBlockElements + 100;
  // A grid of one and small numbers: f32 holds every integer of the sum.
  GridSum empty(Grid(d, 50, 1, 1)), full(Grid(d, 50, 1, 1)), plain(Grid(d, 50, 0, 1));
  const std::vector<float> gradient = Vector(d, 9, 1000);
  ASSERT_TRUE(full.Add(gradient, 1).ok());
  ASSERT_TRUE(plain.Add(gradient, 1).ok());
  const std::vector<float> noise = Finish(empty), noised = Finish(full), sum = Finish(plain);
  for (size_t i = 0; i < d; ++i) ASSERT_EQ(noised[i], noise[i] + sum[i]) << i;
  GridSum other(Grid(d, 50, 1, 1));
  EXPECT_NE(Finish(other, Seed(7)), noise);
}

TEST(GridSumTest, BlocksHaveNoiseOfTheirOwn) {
  const uint64_t block = GridSum::kBlockElements;
  GridSum sum(Grid(2 * block, 1, 1, 1));
  const std::vector<float> out = Finish(sum);
  EXPECT_FALSE(std::equal(out.begin(), out.begin() + static_cast<int64_t>(block),
                          out.begin() + static_cast<int64_t>(block)));
}

TEST(GridSumTest, FinishAndClearLeaveItEmpty) {
  const std::vector<float> gradient = Vector(100, 9);
  GridSum sum(Grid(100, 1));
  ASSERT_TRUE(sum.Add(gradient, 1).ok());
  Finish(sum);
  EXPECT_EQ(sum.units(), 0U);
  EXPECT_EQ(Finish(sum), std::vector<float>(100, 0));
  ASSERT_TRUE(sum.Add(gradient, 1).ok());
  sum.Clear();
  EXPECT_EQ(Finish(sum), std::vector<float>(100, 0));
}

TEST(GridSumTest, RefusesWrongSizesWeightsAndDivisors) {
  GridSum sum(Grid(100, 1));
  EXPECT_EQ(sum.Add(std::vector<float>(99), 1).status().code(), StatusCode::kInvalidArgument);
  for (const double weight : {-1.0, HUGE_VAL, std::nan("")})
    EXPECT_EQ(sum.Add(std::vector<float>(100), weight).status().code(), StatusCode::kInvalidArgument);
  std::vector<float> out(99);
  EXPECT_EQ(sum.Finish(Seed(1), 1, out).code(), StatusCode::kInvalidArgument);
  out.resize(100);
  for (const double divisor : {0.0, -1.0, HUGE_VAL, std::nan("")})
    EXPECT_EQ(sum.Finish(Seed(1), divisor, out).code(), StatusCode::kInvalidArgument);
}

std::vector<float> Integers(GridSum& sum, uint64_t largest = 1 << 24) {
  std::vector<float> out(sum.grid().config().elements);
  const Status status = sum.TakeIntegers(largest, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

TEST(GridSumTest, IntegersAreTheSumWithoutNoiseAndLeaveItEmpty) {
  const uint64_t d = GridSum::kBlockElements + 100;
  GridSum plain(Grid(d, 50, 0, 1)), noisy(Grid(d, 50, 3, 1));
  for (uint64_t unit = 0; unit < 3; ++unit) {
    ASSERT_TRUE(plain.Add(Vector(d, unit, 1000), 1).ok());
    ASSERT_TRUE(noisy.Add(Vector(d, unit, 1000), 1).ok());
  }
  const std::vector<float> integers = Integers(noisy);
  EXPECT_EQ(integers, Finish(plain)) << "whatever noise the grid is for";
  EXPECT_EQ(noisy.units(), 0U);
  EXPECT_EQ(Integers(noisy), std::vector<float>(d, 0));
}

TEST(GridSumTest, IntegersAreLinearInTheUnitsAndClampedOneByOne) {
  const uint64_t d = 1000;
  const auto sum = [&](std::initializer_list<uint64_t> units, uint64_t largest) {
    GridSum s(Grid(d, 3, 0, GradientGrid::SumGrid(3, d, 0, 32)), ManyThreads);
    for (const uint64_t unit : units) EXPECT_TRUE(s.Add(Vector(d, unit, unit), 1).ok());
    return Integers(s, largest);
  };
  const auto one = sum({1, 2}, 1 << 24), two = sum({5}, 1 << 24), all = sum({1, 2, 5}, 1 << 24);
  const auto clamped = sum({1, 2, 5}, 40);
  size_t cut = 0;
  for (size_t i = 0; i < d; ++i) {
    ASSERT_EQ(all[i], one[i] + two[i]) << i;
    ASSERT_EQ(clamped[i], std::clamp(all[i], -40.0F, 40.0F)) << i;
    cut += clamped[i] != all[i];
  }
  EXPECT_GT(cut, 0U);
  EXPECT_LT(cut, d);
}

TEST(GridSumTest, IntegersNeedRoomAndABoundThatFloatsHold) {
  GridSum sum(Grid(10, 1));
  std::vector<float> out(10), small(9);
  EXPECT_EQ(sum.TakeIntegers(5, small).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(sum.TakeIntegers(0, out).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(sum.TakeIntegers((1 << 24) + 1, out).code(), StatusCode::kInvalidArgument);
}

TEST(GradientGridTest, GridOfASumAddsOnePercentAndLeavesNoiseItsRoom) {
  for (const uint64_t d : {100UL, 200'000UL, 40'000'000UL}) {
    const double root = std::sqrt(static_cast<double>(d));
    const GradientGrid quiet = Grid(d, 2, 0, GradientGrid::SumGrid(2, d, 0, 32));
    EXPECT_NEAR(quiet.sensitivity() / (50.5 * root), 1, 1e-8);
    for (const double z : {0.5, 8.0, 15.0}) {
      const GradientGrid grid = Grid(d, 2, 0, GradientGrid::SumGrid(2, d, z, 32));
      EXPECT_LE(z * grid.sensitivity(), 0x1p20) << d << " " << z;
      EXPECT_LE(grid.sensitivity() * grid.grid(), 2 * (1 + 0.5 / 4 + 1e-6))
          << "rounding costs at most an eighth";
    }
    EXPECT_GE(GradientGrid::SumGrid(2, d, 8, 24), GradientGrid::SumGrid(2, d, 8, 32));
  }
}

}  // namespace
}  // namespace concordat
