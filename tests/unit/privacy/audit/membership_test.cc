#include "privacy/audit/membership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/support/status_matchers.h"

namespace concordat::audit {
namespace {

using concordat::testing::HasStatus;

std::vector<double> Normal(size_t count, double mean, std::mt19937_64& random) {
  std::normal_distribution<double> normal(mean);
  std::vector<double> out(count);
  for (double& x : out) x = normal(random);
  return out;
}

TEST(MembershipTest, CountsThePairsThatAMemberWins) {
  ASSERT_OK_AND_ASSIGN(const Membership m,
                       MeasureMembership(std::vector<double>{3, 1}, std::vector<double>{2, 0}));
  EXPECT_DOUBLE_EQ(m.auc, 0.75);
  // Members win 1 and 1/2 of their pairs, non-members lose 1/2 and 1: variance 1/8 on each side, over 2.
  EXPECT_DOUBLE_EQ(m.standard_error, std::sqrt(1.0 / 8));
  EXPECT_EQ(m.members, 2u);
  EXPECT_EQ(m.non_members, 2u);
  EXPECT_FALSE(m.tpr_at_1_percent.has_value()) << "two cannot show one in a hundred";
  ASSERT_OK_AND_ASSIGN(const Membership tie,
                       MeasureMembership(std::vector<double>{1, 1}, std::vector<double>{1, 1}));
  EXPECT_DOUBLE_EQ(tie.auc, 0.5);
  EXPECT_EQ(tie.standard_error, 0);
  EXPECT_FALSE(tie.told_apart());
}

// Every way to call two of five documents members is as likely as any other.
TEST(MembershipTest, OverAllAssignmentsAGuessHasOneHalf) {
  const std::vector<double> scores = {-1, 0.5, 2, 2, 7};
  double sum = 0;
  int ways = 0;
  for (size_t a = 0; a < scores.size(); ++a) {
    for (size_t b = a + 1; b < scores.size(); ++b) {
      std::vector<double> rest;
      for (size_t i = 0; i < scores.size(); ++i)
        if (i != a && i != b) rest.push_back(scores[i]);
      const auto m = MeasureMembership(std::vector<double>{scores[a], scores[b]}, rest);
      ASSERT_OK(m);
      sum += m->auc;
      ++ways;
    }
  }
  EXPECT_EQ(ways, 10);
  EXPECT_NEAR(sum / ways, 0.5, 1e-12);
}

TEST(MembershipTest, AgreesWithEveryPairCountedByHand) {
  std::mt19937_64 random(11);
  const std::vector<double> in = Normal(40, 0.7, random), out = Normal(60, 0, random);
  double won = 0;
  for (const double a : in)
    for (const double b : out) won += a > b ? 1 : a == b ? 0.5 : 0;
  ASSERT_OK_AND_ASSIGN(const Membership m, MeasureMembership(in, out));
  EXPECT_NEAR(m.auc, won / (40 * 60), 1e-12);
}

// The deviation of the area over many draws is what the standard error says: of 400 draws, to a fifth (five
// deviations of an estimate of a deviation are 5/√800).
TEST(MembershipTest, TheStandardErrorIsTheSpreadOverManyDraws) {
  std::mt19937_64 random(20261122);
  std::vector<double> areas;
  double said = 0;
  for (int i = 0; i < 400; ++i) {
    const auto m = MeasureMembership(Normal(50, 0.5, random), Normal(80, 0, random));
    ASSERT_OK(m);
    areas.push_back(m->auc);
    said += m->standard_error / 400;
  }
  double mean = 0, squares = 0;
  for (const double a : areas) mean += a / 400;
  for (const double a : areas) squares += (a - mean) * (a - mean) / 399;
  EXPECT_NEAR(std::sqrt(squares) / said, 1, 0.2);
  EXPECT_NEAR(mean, std::erfc(-0.5 / 2) / 2, 0.02);  // P[N(0.5, 2) > 0]
}

TEST(MembershipTest, TellsMembersApartWhenTheyStandOutAndOnlyThen) {
  std::mt19937_64 random(5);
  const std::vector<double> out = Normal(300, 0, random);
  // Three standard errors: 1.4 of 1,000 models that know nothing, and more than 8 in one of 50,000 runs.
  int alarms = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto same = MeasureMembership(Normal(100, 0, random), Normal(100, 0, random));
    ASSERT_OK(same);
    alarms += same->told_apart();
  }
  EXPECT_LE(alarms, 8);
  ASSERT_OK_AND_ASSIGN(const Membership trained, MeasureMembership(Normal(300, 0.5, random), out));
  EXPECT_TRUE(trained.told_apart());
  ASSERT_OK_AND_ASSIGN(const Membership forgotten, MeasureMembership(Normal(300, -3, random), out));
  EXPECT_LT(forgotten.auc, 0.5);
  EXPECT_FALSE(forgotten.told_apart());
}

TEST(MembershipTest, AllowsOneOfAHundredNonMembersAboveTheThreshold) {
  std::vector<double> out(200), in = {198.5, 197.5, 199.5, 300};
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(i);
  // 198 and 199 may be above it: the threshold is 197.
  ASSERT_OK_AND_ASSIGN(const Membership m, MeasureMembership(in, out));
  ASSERT_TRUE(m.tpr_at_1_percent.has_value());
  EXPECT_DOUBLE_EQ(*m.tpr_at_1_percent, 1);
  in = {197, 197.1, 0, 5};
  ASSERT_OK_AND_ASSIGN(const Membership edge, MeasureMembership(in, out));
  EXPECT_DOUBLE_EQ(*edge.tpr_at_1_percent, 0.25) << "at the threshold is not above it";
  out.resize(99);
  ASSERT_OK_AND_ASSIGN(const Membership few, MeasureMembership(in, out));
  EXPECT_FALSE(few.tpr_at_1_percent.has_value());
  // Where all tie nobody is above anything.
  const std::vector<double> flat(150, 1.0);
  ASSERT_OK_AND_ASSIGN(const Membership none, MeasureMembership(flat, flat));
  EXPECT_DOUBLE_EQ(*none.tpr_at_1_percent, 0);
}

TEST(MembershipTest, RefusesTooFewScoresAndWhatIsNoNumber) {
  const std::vector<double> two = {1, 2}, one = {1};
  EXPECT_THAT(MeasureMembership(one, two), HasStatus(StatusCode::kInvalidArgument, "members"));
  EXPECT_THAT(MeasureMembership(two, one), HasStatus(StatusCode::kInvalidArgument, "non-members"));
  EXPECT_THAT(MeasureMembership(std::vector<double>{1, std::nan("")}, two),
              HasStatus(StatusCode::kInvalidArgument, "not finite"));
}

}  // namespace
}  // namespace concordat::audit
