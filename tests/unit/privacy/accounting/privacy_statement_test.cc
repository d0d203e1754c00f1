#include "privacy/accounting/privacy_statement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace concordat {
namespace {

EncodingPlan Plan(double noise, double metric_noise, uint64_t elements = 10'000) {
  EncodingConfig c;
  c.elements = elements;
  c.clip = 1;
  c.sites = 5;
  c.noise_stddev = noise;
  c.metrics = {{.name = MetricName::kTrainTokens, .bound = 1000, .noise_stddev = metric_noise}};
  return EncodingPlan::Make(c).value();
}

TEST(SiteRoundCurveTest, AddsTheDeltaAndEveryMetric) {
  const EncodingPlan plan = Plan(100, 500);
  const RdpCurve curve = SiteRoundCurve(plan, Neighbour::kZeroOut, 1).value();
  const double expected =
      2 * (static_cast<double>(plan.sensitivity_squared()) / (2 * 100.0 * 100) + 1e6 / (2 * 500.0 * 500));
  EXPECT_NEAR(curve.Rdp(2), expected, 1e-9 * expected);
}

TEST(SiteRoundCurveTest, ReplaceOneDoublesTheSensitivity) {
  const EncodingPlan plan = Plan(100, 500);
  EXPECT_NEAR(SiteRoundCurve(plan, Neighbour::kReplaceOne, 1)->Rdp(3),
              4 * SiteRoundCurve(plan, Neighbour::kZeroOut, 1)->Rdp(3), 1e-9);
}

TEST(SiteRoundCurveTest, RefusesAddRemoveAndSharesTooSmallToPrice) {
  EXPECT_EQ(SiteRoundCurve(Plan(100, 500), Neighbour::kAddRemove, 1).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_FALSE(SiteRoundCurve(Plan(0.4, 500), Neighbour::kZeroOut, 3).ok());
  EXPECT_TRUE(SiteRoundCurve(Plan(0.4, 500), Neighbour::kZeroOut, 1).ok());
}

TEST(SiteStatementTest, MoreHonestSurvivorsCostLess) {
  const EncodingPlan plan = Plan(100, 500);
  double last = SiteStatement(plan, Neighbour::kZeroOut, 1e-6, 3, 0)->epsilon_local;
  for (uint32_t h = 2; h < 5; ++h) {
    const PrivacyStatement s = SiteStatement(plan, Neighbour::kZeroOut, 1e-6, 3, h).value();
    EXPECT_LT(s.epsilon_distributed.value(), last);
    last = s.epsilon_distributed.value();
  }
}

TEST(SiteStatementTest, MoreRoundsCostMoreAndNoneCostNothing) {
  const EncodingPlan plan = Plan(100, 500);
  EXPECT_EQ(SiteStatement(plan, Neighbour::kZeroOut, 1e-6, 0, 2)->epsilon_local, 0);
  EXPECT_GT(SiteStatement(plan, Neighbour::kZeroOut, 1e-6, 2, 2)->epsilon_local,
            SiteStatement(plan, Neighbour::kZeroOut, 1e-6, 1, 2)->epsilon_local);
}

TEST(SiteStatementTest, WithoutNoiseThereIsNoGuaranteeAndItSaysSo) {
  const PrivacyStatement s = SiteStatement(Plan(0, 0), Neighbour::kZeroOut, 1e-6, 3, 2).value();
  EXPECT_TRUE(std::isinf(s.epsilon_local));
  EXPECT_TRUE(std::isinf(s.epsilon_distributed.value()));
  EXPECT_EQ(ToJson(s)["epsilon_local"], "infinity");
  EXPECT_NE(Describe(s).find("no guarantee"), std::string::npos);
  // Noise on the delta alone does not cover the metrics.
  EXPECT_TRUE(std::isinf(SiteStatement(Plan(10, 0), Neighbour::kZeroOut, 1e-6, 3, 0)->epsilon_local));
}

TEST(SiteStatementTest, RefusesADeltaThatIsNoProbability) {
  for (const double bad : {-1e-9, 1.0, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_FALSE(SiteStatement(Plan(10, 10), Neighbour::kZeroOut, bad, 3, 0).ok());
}

TEST(PrivacyStatementTest, JsonHasEveryKeyInTheOrderOfThePrintedStatement) {
  PrivacyStatement s = SiteStatement(Plan(100, 500), Neighbour::kZeroOut, 1e-6, 3, 0).value();
  std::vector<std::string> keys;
  const nlohmann::ordered_json json = ToJson(s);
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_EQ(keys,
            (std::vector<std::string>{"unit", "neighbour", "epsilon_local", "epsilon_distributed",
                                      "honest_survivors", "delta", "sampler", "rounds", "cohort", "ledger"}));
  EXPECT_TRUE(ToJson(s)["epsilon_distributed"].is_null());
  EXPECT_TRUE(ToJson(s)["ledger"].is_null());
  EXPECT_EQ(ToJson(s)["cohort"], 5);
  s.ledger.bytes[0] = 0xab;
  EXPECT_EQ(ToJson(s)["ledger"].get<std::string>().substr(0, 2), "ab");
}

TEST(PrivacyStatementTest, NamesAreReadBackAndOthersRefused) {
  for (uint8_t i = 1; i <= 3; ++i) {
    const auto unit = static_cast<PrivacyUnit>(i);
    const auto neighbour = static_cast<Neighbour>(i);
    EXPECT_EQ(ParsePrivacyUnit(PrivacyUnitText(unit)).value(), unit);
    EXPECT_EQ(ParseNeighbour(NeighbourText(neighbour)).value(), neighbour);
  }
  EXPECT_EQ(ParseNoisePlace("distributed").value(), NoisePlace::kDistributed);
  EXPECT_FALSE(ParsePrivacyUnit("people").ok());
  EXPECT_FALSE(ParseNeighbour("add/remove").ok());
  EXPECT_FALSE(ParseNoisePlace("").ok());
}

TEST(SiteSigmaForTest, KeepsThePromiseForSharesWithTheLeastNoise) {
  const EncodingPlan plan = Plan(1, 1);
  for (const uint32_t shares : {1U, 3U, 10U}) {
    const double sigma =
        SiteSigmaFor(50, 1e-6, plan.sensitivity(), plan.sensitivity_l1(), plan.config().elements, 5, shares)
            .value();
    const auto epsilon = [&](double s) {
      RdpCurve curve;
      EXPECT_TRUE(curve
                      .Add(RdpTerm{.delta2_squared = static_cast<double>(plan.sensitivity_squared()),
                                   .delta1 = plan.sensitivity_l1(),
                                   .share_variance = s * s,
                                   .shares = shares,
                                   .dimension = plan.config().elements,
                                   .count = 5})
                      .ok());
      return EpsilonFor(curve, 1e-6);
    };
    EXPECT_LE(epsilon(sigma), 50 * (1 + 1e-9)) << shares;
    EXPECT_GT(epsilon(sigma * (1 - 1e-6)), 50) << shares;
  }
}

TEST(SiteSigmaForTest, NeverGoesBelowWhatASumCanBePricedAt) {
  EXPECT_GE(SiteSigmaFor(1e6, 1e-6, 1, 1, 10, 1, 10).value(), 0.5);
}

EncodingPlan UnitPlan(double noise, double metric_noise, uint64_t elements = 10'000) {
  EncodingConfig c;
  c.elements = elements;
  c.clip = c.scale = 1;
  c.sites = 5;
  c.rounding = Rounding::kIntegers;
  c.unit_sensitivity = 5050;
  c.largest = 1 << 20;
  c.noise_stddev = noise;
  c.metrics = {
      {.name = MetricName::kTrainTokens, .bound = 1000, .noise_stddev = metric_noise, .sensitivity = 40}};
  return EncodingPlan::Make(c).value();
}

TEST(UnitRoundCurveTest, PricesOneUnitsPartOfTheSumAndOfEveryMetric) {
  const double gaussian = 2 * (5050.0 * 5050 / (2 * 3 * 9000.0 * 9000) + 1600 / (2 * 3 * 70.0 * 70));
  EXPECT_NEAR(UnitRoundCurve(UnitPlan(9000, 70), 3)->Rdp(2) / gaussian, 1, 1e-9);
  EXPECT_NEAR(UnitRoundCurve(UnitPlan(9000, 70), 1)->Rdp(2) / (3 * gaussian), 1, 1e-9);
  // Of shares this small the sum is priced above a Gaussian of its variance, by the bound's second terms.
  const RdpCurve small = UnitRoundCurve(UnitPlan(0.6, 70), 3).value();
  EXPECT_GT(small.Rdp(2), 2 * 5050.0 * 5050 / (2 * 3 * 0.36));
}

TEST(UnitRoundCurveTest, RefusesPlansOfSitesAndSharesTooSmallToPrice) {
  EXPECT_EQ(UnitRoundCurve(Plan(100, 500), 3).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(SiteRoundCurve(UnitPlan(9000, 70), Neighbour::kZeroOut, 3).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_FALSE(UnitRoundCurve(UnitPlan(0.4, 70), 3).ok());
  EXPECT_FALSE(UnitRoundCurve(UnitPlan(9000, 0.4), 3).ok());
  EXPECT_TRUE(UnitRoundCurve(UnitPlan(0.4, 70), 1).ok());
}

TEST(UnitSumStatementTest, SaysBothPricesAndThatNobodyIsDrawn) {
  const EncodingPlan plan = UnitPlan(9000, 700);
  const PrivacyStatement s = UnitSumStatement(PrivacyUnit::kRecord, plan, 1e-6, 4, 3).value();
  EXPECT_EQ(s.unit, PrivacyUnit::kRecord);
  EXPECT_EQ(s.neighbour, Neighbour::kAddRemove);
  EXPECT_EQ(s.sampler, "every record, every round (q = 1, no amplification)");
  EXPECT_EQ(s.honest_survivors, 3U);
  EXPECT_EQ(s.cohort, 5U);
  const auto times = [&](uint32_t shares) {
    return EpsilonFor(Price(UnitRoundCurve(plan, shares).value()).Times(4).value(), Neighbour::kAddRemove,
                      1e-6);
  };
  EXPECT_DOUBLE_EQ(s.epsilon_local, times(1));
  EXPECT_DOUBLE_EQ(s.epsilon_distributed.value(), times(3));
  EXPECT_LT(*s.epsilon_distributed, s.epsilon_local);
  EXPECT_TRUE(std::isinf(
      UnitSumStatement(PrivacyUnit::kPerson, UnitPlan(9000, 0), 1e-6, 4, 3)->epsilon_distributed.value()))
      << "metrics without noise";
  EXPECT_FALSE(UnitSumStatement(PrivacyUnit::kRecord, plan, 1, 4, 3).ok());
}

}  // namespace
}  // namespace concordat
