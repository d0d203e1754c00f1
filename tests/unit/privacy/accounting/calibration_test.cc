#include "privacy/accounting/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "privacy/accounting/pld.h"
#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

template <typename Relation>
double EpsilonOf(double sigma, double delta, double q, uint64_t steps) {
  PldAccountant<Relation> accountant;
  EXPECT_OK(accountant.Add({q, sigma, steps}));
  return accountant.Epsilon(delta).value();
}

// The smallest σ, to the digits given; never below, and at most a thousandth above.
TEST(SampledSigmaForTest, GivesTheReferenceValues) {
  const auto expect = [](double sigma, double exact) {
    EXPECT_GE(sigma, exact * (1 - 1e-6));
    EXPECT_LE(sigma, exact * (1 + 1e-3));
  };
  expect(SampledSigmaFor<AddRemove>(8, 1e-5, .04, 2250).value(), 1.3458986);
  expect(SampledSigmaFor<ReplaceOne>(8, 1e-5, .04, 2250).value(), 2.2754840);
  expect(SampledSigmaFor<AddRemove>(1, 1e-6, .01, 2000).value(), 2.0558006);
  expect(SampledSigmaFor<AddRemove>(3, 1e-6, .01, 2000).value(), 0.9925511);
  expect(SampledSigmaFor<AddRemove>(8, 1e-6, .01, 2000).value(), 0.6741781);
  expect(SampledSigmaFor<AddRemove>(1, 1e-5, .01, 1).value(), 0.6737929);
}

TEST(SampledSigmaForTest, KeepsThePromiseAndHardlyMore) {
  for (const double epsilon : {0.1, 1.0, 12.0})
    for (const double q : {0.002, 0.1, 1.0}) {
      const double sigma = SampledSigmaFor<AddRemove>(epsilon, 1e-6, q, 300).value();
      EXPECT_LE(EpsilonOf<AddRemove>(sigma, 1e-6, q, 300), epsilon) << epsilon << " " << q;
      EXPECT_GT(EpsilonOf<AddRemove>(sigma * (1 - 2e-3), 1e-6, q, 300), epsilon) << epsilon << " " << q;
      const double replaced = SampledSigmaFor<ReplaceOne>(epsilon, 1e-6, q, 300).value();
      EXPECT_LE(EpsilonOf<ReplaceOne>(replaced, 1e-6, q, 300), epsilon) << epsilon << " " << q;
      EXPECT_GT(replaced, sigma);
    }
}

TEST(SampledSigmaForTest, NeedsNoNoiseForNothingAndTheLeastForWhatDeltaCovers) {
  EXPECT_EQ(SampledSigmaFor<AddRemove>(1, 1e-6, 0, 100).value(), 0);
  EXPECT_EQ(SampledSigmaFor<AddRemove>(1, 1e-6, .5, 0).value(), 0);
  EXPECT_EQ(SampledSigmaFor<AddRemove>(1, 1e-2, 1e-6, 10).value(), kLeastSigma);
}

TEST(SampledSigmaForTest, RefusesNonsense) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, kInfinity, std::nan("")})
    EXPECT_THAT(SampledSigmaFor<AddRemove>(bad, 1e-6, .1, 1),
                testing::HasStatus(StatusCode::kInvalidArgument, "epsilon"));
  for (const double bad : {0.0, 1.0, -1.0, std::nan("")})
    EXPECT_THAT(SampledSigmaFor<AddRemove>(1, bad, .1, 1),
                testing::HasStatus(StatusCode::kInvalidArgument, "delta"));
  for (const double bad : {-0.5, 1.5, std::nan("")})
    EXPECT_THAT(SampledSigmaFor<ReplaceOne>(1, 1e-6, bad, 1),
                testing::HasStatus(StatusCode::kInvalidArgument, "0 to 1"));
  EXPECT_THAT(SampledSigmaFor<AddRemove>(1e-12, 1e-15, 1, uint64_t{1} << 50),
              testing::HasStatus(StatusCode::kInvalidArgument, "no noise"));
}

}  // namespace
}  // namespace concordat
