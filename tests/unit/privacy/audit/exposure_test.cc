#include "privacy/audit/exposure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace concordat::audit {
namespace {

using concordat::testing::HasStatus;

/// Scores without training: of canaries and references alike.
std::vector<double> Noise(size_t count, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<double> out(count);
  for (double& x : out) x = normal(random);
  return out;
}

TEST(ExposureTest, IsTheRankAmongReferencesInBits) {
  const std::vector<double> references = {1, 2, 3};
  ASSERT_OK_AND_ASSIGN(const Exposure first, MeasureExposure(std::vector<double>{4}, references));
  EXPECT_DOUBLE_EQ(first.mean, 2);  // log2(4) − log2(1)
  ASSERT_OK_AND_ASSIGN(const Exposure second, MeasureExposure(std::vector<double>{2.5}, references));
  EXPECT_DOUBLE_EQ(second.mean, 1);
  ASSERT_OK_AND_ASSIGN(const Exposure last, MeasureExposure(std::vector<double>{0}, references));
  EXPECT_DOUBLE_EQ(last.mean, 0);
  ASSERT_OK_AND_ASSIGN(const Exposure all, MeasureExposure(std::vector<double>{0, 4, 2.5, 9}, references));
  EXPECT_DOUBLE_EQ(all.mean, 5.0 / 4);
  EXPECT_DOUBLE_EQ(all.median, 1.5);
  EXPECT_DOUBLE_EQ(all.most, 2);
  EXPECT_EQ(all.planted, 4u);
  EXPECT_EQ(all.references, 3u);
  EXPECT_DOUBLE_EQ(all.flag, 1 / std::log(2.0) + 4.3 * std::sqrt(1.0 / 4 + 1.0 / 3));
}

// Every order of two canaries and four references is as likely as any other.
TEST(ExposureTest, WithoutTrainingTheMeanOverAllOrdersIsThatOfAUniformRank) {
  std::vector<double> order = {0, 1, 2, 3, 4, 5};
  double sum = 0;
  int orders = 0;
  do {
    const auto exposure = MeasureExposure(std::span(order).first(2), std::span(order).subspan(2));
    ASSERT_OK(exposure);
    sum += exposure->mean;
    ++orders;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(orders, 720);
  double uniform = std::log2(5.0);
  for (int rank = 1; rank <= 5; ++rank) uniform -= std::log2(rank) / 5;
  EXPECT_NEAR(sum / orders, uniform, 1e-12);
  EXPECT_LT(uniform, kNullExposure) << "few references: the flag stays on the safe side";
}

// 2,000 models that know nothing; with three per thousand 6 are expected, and more than 20 come up once in
// 300,000 runs.
TEST(ExposureTest, AModelThatKnowsNothingIsHardlyEverFlagged) {
  std::mt19937_64 random(20261122);
  int flagged = 0;
  double sum = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto exposure = MeasureExposure(Noise(128, random), Noise(512, random));
    ASSERT_OK(exposure);
    flagged += exposure->found();
    sum += exposure->mean;
  }
  EXPECT_LE(flagged, 20);
  // The mean of one has a deviation of 1.44·√(1/128 + 1/512): of 2,000, 0.0036; and 512 references take
  // 0.0114.
  EXPECT_NEAR(sum / 2000, kNullExposure - 0.0114, 5 * 0.0036);
}

// Held against as few references as there are canaries the mean spreads more: without the term for them the
// flag would go up eight times too often.
TEST(ExposureTest, TheFlagAllowsForTheSpreadOfTheReferences) {
  std::mt19937_64 random(7);
  int flagged = 0, without = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto exposure = MeasureExposure(Noise(128, random), Noise(128, random));
    ASSERT_OK(exposure);
    flagged += exposure->found();
    without += exposure->mean > kNullExposure + kExposureMargin / std::sqrt(128.0);
  }
  EXPECT_LE(flagged, 14);
  EXPECT_GT(without, flagged);
}

TEST(ExposureTest, CanariesThatAreRememberedALittleAreFound) {
  std::mt19937_64 random(3);
  std::vector<double> planted = Noise(128, random);
  const std::vector<double> references = Noise(512, random);
  for (double& x : planted) x += 1;  // one deviation
  ASSERT_OK_AND_ASSIGN(const Exposure exposure, MeasureExposure(planted, references));
  EXPECT_TRUE(exposure.found()) << exposure.mean << " against " << exposure.flag;
  for (double& x : planted) x += 100;
  ASSERT_OK_AND_ASSIGN(const Exposure all, MeasureExposure(planted, references));
  EXPECT_NEAR(all.mean, std::log2(513.0), 1e-12);
  // Forgetting is no leak, however plain.
  for (double& x : planted) x -= 1000;
  ASSERT_OK_AND_ASSIGN(const Exposure none, MeasureExposure(planted, references));
  EXPECT_EQ(none.mean, 0);
  EXPECT_FALSE(none.found());
}

TEST(ExposureTest, AnAdapterThatChangesNothingIsNotAccused) {
  const std::vector<double> same(100, 0.0);
  ASSERT_OK_AND_ASSIGN(const Exposure exposure, MeasureExposure(same, same));
  EXPECT_LE(exposure.mean, 1.02);
  EXPECT_FALSE(exposure.found());
}

TEST(ExposureTest, RefusesScoresThatSayNothingWithoutQuotingThem) {
  const std::vector<double> some = {1, 2}, none;
  EXPECT_THAT(MeasureExposure(none, some), HasStatus(StatusCode::kInvalidArgument, "canaries"));
  EXPECT_THAT(MeasureExposure(some, none), HasStatus(StatusCode::kInvalidArgument, "references"));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(MeasureExposure(std::vector<double>{1, bad}, some),
                HasStatus(StatusCode::kInvalidArgument, "not finite"));
    EXPECT_THAT(MeasureExposure(some, std::vector<double>{bad}),
                HasStatus(StatusCode::kInvalidArgument, "not finite"));
  }
}

}  // namespace
}  // namespace concordat::audit
