#include "privacy/accounting/price.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "privacy/accounting/pld.h"
#include "privacy/accounting/privacy_statement.h"
#include "privacy/accounting/subsampled_rdp.h"

namespace concordat {
namespace {

constexpr SubsampledGaussian kSteps{.04, 1.5, 750};
constexpr RdpTerm kRelease{.delta2_squared = 1, .delta1 = 1, .share_variance = 100};

Price Of(const SubsampledGaussian& steps) {
  Price price;
  EXPECT_TRUE(price.Add(steps).ok());
  return price;
}

TEST(PriceTest, SampledStepsArePricedByTheirLossDistribution) {
  // Three rounds of 750 steps are the reference of 2250: exact 6.76878042 at delta 1e-5.
  const Price all = Of(kSteps).Times(3).value();
  const double epsilon = EpsilonFor(all, Neighbour::kAddRemove, 1e-5);
  EXPECT_GE(epsilon, 6.76878042 * (1 - 1e-6));
  EXPECT_LE(epsilon, 6.76878042 * (1 + 1e-3));
  EXPECT_EQ(EpsilonFor(all, Neighbour::kZeroOut, 1e-5), epsilon);
  const double replace = EpsilonFor(all, Neighbour::kReplaceOne, 1e-5);
  EXPECT_GE(replace, 13.4884733 * (1 - 1e-6));
  EXPECT_LE(replace, 13.4884733 * (1 + 1e-3));
}

TEST(PriceTest, EqualStepsAreCountedTogetherWhateverTheOrder) {
  Price a = Of(kSteps), b = Of({.01, 2, 5});
  a.Add(b);
  a.Add(Of(kSteps));
  b.Add(Of(kSteps).Times(2).value());
  EXPECT_EQ(a.size(), 2u);
  EXPECT_EQ(a.steps()[0].steps, 1500u);
  EXPECT_NEAR(EpsilonFor(a, Neighbour::kAddRemove, 1e-5), EpsilonFor(b, Neighbour::kAddRemove, 1e-5), 1e-9);
  Price twice = a;
  twice.Add(twice);
  EXPECT_EQ(twice.steps()[0].steps, 3000u);
}

TEST(PriceTest, ReleasesAloneArePricedAsTheirCurve) {
  Price price;
  ASSERT_TRUE(price.Add(kRelease).ok());
  EXPECT_EQ(EpsilonFor(price, Neighbour::kZeroOut, 1e-6), EpsilonFor(price.curve(), 1e-6));
}

TEST(PriceTest, AMixtureCostsMoreThanEitherAndNoMoreThanBothApart) {
  Price mixed = Of(kSteps);
  ASSERT_TRUE(mixed.Add(kRelease).ok());
  const double epsilon = EpsilonFor(mixed, Neighbour::kAddRemove, 1e-5);
  const double steps = RdpEpsilon<AddRemove>(std::vector{kSteps}, 1e-5);
  EXPECT_GT(epsilon, steps);
  EXPECT_GT(epsilon, EpsilonFor(mixed.curve(), 1e-5));
  EXPECT_LT(epsilon, RdpEpsilon<AddRemove>(std::vector{kSteps}, 5e-6) + EpsilonFor(mixed.curve(), 5e-6));
}

TEST(PriceTest, NothingCostsNothingAndNoNoiseCostsEverything) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(EpsilonFor(Price(), Neighbour::kAddRemove, 1e-5), 0);
  EXPECT_TRUE(Of({0, 1, 5}).empty());
  EXPECT_TRUE(Of({.5, 1, 0}).empty());
  EXPECT_EQ(EpsilonFor(Of({.5, 0, 1}), Neighbour::kAddRemove, 1e-5), infinity);
  EXPECT_EQ(EpsilonFor(Of(kSteps), Neighbour::kAddRemove, 0), infinity);
  Price mixed = Of({.5, 0, 1});
  ASSERT_TRUE(mixed.Add(kRelease).ok());
  EXPECT_EQ(EpsilonFor(mixed, Neighbour::kAddRemove, 1e-5), infinity);
}

TEST(PriceTest, RefusesWhatIsNoPrice) {
  Price price;
  EXPECT_EQ(price.Add(SubsampledGaussian{1.5, 1, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(price.Add(SubsampledGaussian{.5, std::nan(""), 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(price.Add(SubsampledGaussian{.5, -1, 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(price.empty());
  EXPECT_EQ(Of({.5, 1, uint64_t{1} << 63}).Times(2).status().code(), StatusCode::kInvalidArgument);
}

TEST(SampledStatementTest, SaysUnitRelationSamplerAndTheExactPrice) {
  const auto s = SampledStatement(PrivacyUnit::kPerson, kSteps, 1e-5, 3, 4).value();
  EXPECT_EQ(s.unit, PrivacyUnit::kPerson);
  EXPECT_EQ(s.neighbour, Neighbour::kAddRemove);
  EXPECT_NEAR(s.epsilon_local, 6.76878042, 6.8e-3);
  EXPECT_GE(s.epsilon_local, 6.768780);
  EXPECT_FALSE(s.epsilon_distributed.has_value());
  EXPECT_EQ(s.sampler, "Poisson, every person with probability 0.04 in each of 750 steps a round");
  EXPECT_EQ(s.cohort, 4u);
  EXPECT_EQ(SampledStatement(PrivacyUnit::kRecord, kSteps, 1, 3, 4).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace concordat
