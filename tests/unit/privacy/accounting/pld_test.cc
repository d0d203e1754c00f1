#include "privacy/accounting/pld.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "privacy/accounting/gaussian_delta.h"
#include "privacy/accounting/subsampled_rdp.h"
#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// What the accountant promises, relative to the exact value: never below but for printed digits, hardly
// above.
constexpr double kLow = -1e-6, kHigh = 1e-3;

using Steps = std::vector<SubsampledGaussian>;

template <typename Relation>
PldAccountant<Relation> Accountant(const Steps& steps) {
  PldAccountant<Relation> accountant;
  for (const SubsampledGaussian& s : steps) EXPECT_OK(accountant.Add(s));
  return accountant;
}

template <typename Relation = AddRemove>
double Epsilon(const Steps& steps, double delta) {
  return Accountant<Relation>(steps).Epsilon(delta).value();
}
template <typename Relation = AddRemove>
double Delta(const Steps& steps, double epsilon) {
  return Accountant<Relation>(steps).Delta(epsilon).value();
}

void ExpectTight(double value, double exact, const std::string& what) {
  EXPECT_GE(value, exact * (1 + kLow)) << what << ": too low by " << 1 - value / exact;
  EXPECT_LE(value, exact * (1 + kHigh)) << what << ": too high by " << value / exact - 1;
}

// Reference values known before this code was written, to the digits given.
TEST(PldAccountantTest, GivesTheReferenceValues) {
  struct Case {
    SubsampledGaussian step;
    double delta, add_remove, replace;  // 0: not given
  };
  for (const Case& c :
       {Case{{.04, 1.5, 2250}, 1e-5, 6.76878042, 13.4884733},
        Case{{.001, .8, 1000}, 1e-6, 0.467683111, 0.50580863},
        Case{{.05, 2, 1000}, 1e-6, 4.16260626, 8.29667254}, Case{{.0025, 1.3, 6000}, 1e-5, 0.640004185, 0},
        Case{{.01, .7, 120}, 1e-5, 2.46123769, 0}, Case{{1, 2, 50}, 1e-6, 22.4245158, 57.8485495}}) {
    const std::string what = fmt::format("q {} sigma {} steps {}", c.step.q, c.step.sigma, c.step.steps);
    ExpectTight(Epsilon({c.step}, c.delta), c.add_remove, what);
    if (c.replace > 0) ExpectTight(Epsilon<ReplaceOne>({c.step}, c.delta), c.replace, what + " replaced");
  }
  const SubsampledGaussian full{1, std::sqrt(3.0), 3};
  ExpectTight(Delta({full}, 1), 0.126936738, "delta of full batches");
  ExpectTight(Delta<ReplaceOne>({full}, 1), 0.50986166, "delta of full batches, replaced");
}

TEST(PldAccountantTest, TakesTheWorseOfBothDirections) {
  const Steps steps = {{.04, 1.5, 2250}};
  const double add = EpsilonOfPair(steps, LossPair::kAdd, 1e-5).value();
  const double remove = EpsilonOfPair(steps, LossPair::kRemove, 1e-5).value();
  ExpectTight(add, 6.178553, "add direction");
  EXPECT_GT(remove, add);
  EXPECT_EQ(Epsilon(steps, 1e-5), remove);
}

class PldTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream in("tests/data/accounting/subsampled_gaussian.json");
    const auto json = nlohmann::json::parse(in, nullptr, false);
    ASSERT_FALSE(json.is_discarded());
    rows_ = json["rows"];
    // Ten reference settings and thirty more at the least: a table cut short must not pass.
    ASSERT_GE(rows_.size(), 60U);
  }
  static Steps StepsOf(const nlohmann::json& row) {
    Steps steps;
    for (const auto& s : row["steps"])
      steps.push_back({s[0].get<double>(), s[1].get<double>(), s[2].get<uint64_t>()});
    return steps;
  }
  template <typename Relation>
  static double Value(const nlohmann::json& row) {
    return row["computed"] == "epsilon" ? Epsilon<Relation>(StepsOf(row), row["delta"])
                                        : Delta<Relation>(StepsOf(row), row["epsilon"]);
  }
  nlohmann::json rows_;
};

// The arbiter: no grid of losses at all, twelve digits and more (experiments/reference/accountant).
TEST_F(PldTableTest, EveryRowIsWithinTheToleranceOfTheArbiter) {
  for (const auto& row : rows_) {
    ASSERT_LT(row["error"].get<double>(), 1e-9);
    const double value = row["relation"] == "add-remove" ? Value<AddRemove>(row) : Value<ReplaceOne>(row);
    ExpectTight(value, row[row["computed"].get<std::string>()], row.dump());
  }
}

TEST_F(PldTableTest, TheAddDirectionAloneIsWithinTheTolerance) {
  for (const auto& row : rows_) {
    if (row["computed"] != "epsilon" || !row["by_direction"].contains("add")) continue;
    const double exact = row["by_direction"]["add"];
    const double value = EpsilonOfPair(StepsOf(row), LossPair::kAdd, row["delta"]).value();
    // In one step losses gather at the largest, and this direction never is the worse one: bounded only.
    const bool gathered = row["steps"].size() == 1 && row["steps"][0][2] == 1;
    if (gathered)
      EXPECT_GE(value, exact) << row.dump();
    else
      ExpectTight(value, exact, row.dump());
    EXPECT_LE(value, row["epsilon"].get<double>() * (1 + kHigh)) << row.dump();
  }
}

TEST_F(PldTableTest, RenyiIsNeverLower) {
  for (const auto& row : rows_) {
    if (row["computed"] != "epsilon") continue;
    const Steps steps = StepsOf(row);
    const double delta = row["delta"], exact = row["epsilon"];
    const double rdp = row["relation"] == "add-remove" ? RdpEpsilon<AddRemove>(steps, delta)
                                                       : RdpEpsilon<ReplaceOne>(steps, delta);
    EXPECT_GE(rdp, exact) << row.dump();
  }
}

// --- Exact small cases by direct convolution: δ of n+1 steps is E_P[δ of n steps at ε − ℓ(x)], down to the
// closed form of one. Nothing is shared with the accountant but the definition of the pair.

long double Tail(long double z) { return std::erfc(z / std::sqrt(2.0L)) / 2; }

// One step, mixture first, at any real ε.
long double OneStepDelta(double q, double sigma, long double epsilon) {
  const long double ratio = (std::expm1(epsilon) + q) / q;
  if (ratio <= 0) return -std::expm1(epsilon);  // Σ(P − e^ε Q)_+ is all of it
  const long double x = static_cast<long double>(sigma) * sigma * std::log(ratio) + 0.5L;
  return (1 - q) * Tail(x / sigma) + q * Tail((x - 1) / sigma) - std::exp(epsilon) * Tail(x / sigma);
}

// Pieces on which δ of the remaining steps at ε − ℓ(x) is smooth: it bends within about q of ε = ℓ.
std::vector<long double> Pieces(double q, double sigma, long double epsilon) {
  std::vector<long double> ends;
  const long double low = -11.0L * sigma, high = 1 + 11.0L * sigma,
                    s2 = static_cast<long double>(sigma) * sigma;
  for (long double x = low; x < high; x += sigma / 4.0L) ends.push_back(x);
  ends.push_back(high);
  const long double ratio = (std::expm1(epsilon) + q) / q;
  const long double bend = ratio > 0 ? s2 * std::log(ratio) + 0.5L : low;
  for (long double away = s2 * q / 8; away < sigma; away *= 2)
    for (const long double x : {bend - away, bend + away})
      if (x > low && x < high) ends.push_back(x);
  std::sort(ends.begin(), ends.end());
  return ends;
}

long double DirectDelta(double q, double sigma, int steps, long double epsilon) {
  if (steps == 1) return OneStepDelta(q, sigma, epsilon);
  // Gauss–Legendre, eight nodes a piece.
  constexpr std::array<std::array<long double, 2>, 4> kNodes = {
      {{0.1834346424956498049L, 0.3626837833783619830L},
       {0.5255324099163289858L, 0.3137066458778872873L},
       {0.7966664774136267396L, 0.2223810344533744706L},
       {0.9602898564975362317L, 0.1012285362903762591L}}};
  const long double s2 = static_cast<long double>(sigma) * sigma;
  const std::vector<long double> ends = Pieces(q, sigma, epsilon);
  long double sum = 0;
  for (size_t i = 0; i + 1 < ends.size(); ++i)
    for (const auto& [at, weight] : kNodes)
      for (const long double side : {-at, at}) {
        const long double half = (ends[i + 1] - ends[i]) / 2, x = (ends[i + 1] + ends[i]) / 2 + half * side;
        const long double ratio = 1 - q + q * std::exp((x - 0.5L) / s2);
        sum += half * weight * std::exp(-x * x / (2 * s2)) * ratio *
               DirectDelta(q, sigma, steps - 1, epsilon - std::log(ratio));
      }
  return sum / (sigma * std::sqrt(2 * std::acos(-1.0L)));
}

TEST(PldFalsificationTest, DeltaIsNeverBelowTheExactOneOfOneToThreeSteps) {
  for (const double q : {0.01, 0.3, 0.9})
    for (const double sigma : {0.6, 1.0, 3.0})
      for (const int steps : {1, 2, 3})
        for (const double epsilon : {0.0, 0.2, 1.0, 4.0}) {
          if (steps == 3 && (q == 0.9 || epsilon == 0.2)) continue;  // to save time
          const auto exact = static_cast<double>(DirectDelta(q, sigma, steps, epsilon));
          if (!(exact > 1e-15)) continue;  // below what the sum above can hold
          const double value =
              DeltaOfPair(Steps{{q, sigma, static_cast<uint64_t>(steps)}}, LossPair::kRemove, epsilon)
                  .value();
          const std::string what = fmt::format("q {} sigma {} steps {} epsilon {}", q, sigma, steps, epsilon);
          EXPECT_GE(value, exact * (1 - 1e-9)) << what;
          EXPECT_LE(value, exact * (1 + kHigh)) << what;
        }
}

// ε read off at δ must not be below the ε whose exact δ that is.
TEST(PldFalsificationTest, EpsilonIsNeverBelowTheExactOneOfTwoSteps) {
  for (const double q : {0.05, 0.5})
    for (const double sigma : {0.7, 2.0})
      for (const double epsilon : {0.05, 0.5, 2.0}) {
        const auto delta = static_cast<double>(DirectDelta(q, sigma, 2, epsilon));
        if (!(delta > 1e-13)) continue;
        const double value = EpsilonOfPair(Steps{{q, sigma, 2}}, LossPair::kRemove, delta).value();
        EXPECT_GE(value, epsilon * (1 - 1e-10)) << q << " " << sigma << " " << epsilon;
        EXPECT_LE(value, epsilon * (1 + kHigh)) << q << " " << sigma << " " << epsilon;
      }
}

// The closed form of the Gaussian, reached through the grid by a sampling probability next to 1.
TEST(PldFalsificationTest, NearlyFullBatchesMeetTheClosedForm) {
  const double mu = std::sqrt(40.0) / 5;
  for (const double delta : {1e-3, 1e-6, 1e-10, 1e-14}) {
    const double exact = GaussianEpsilon(mu, delta);
    const double value = Epsilon({{1 - 0x1p-50, 5, 40}}, delta);
    EXPECT_GE(value, exact * (1 - 1e-9)) << delta;
    EXPECT_LE(value, exact * (1 + kHigh)) << delta;
  }
}

TEST(PldAccountantTest, DifferentStepsEqualASplitOfEqualOnes) {
  const double whole = Epsilon({{.02, 1.1, 900}}, 1e-6);
  // Equal parts are counted together, parts that differ in the last digits are not.
  EXPECT_EQ(Epsilon({{.02, 1.1, 400}, {.02, 1.1, 500}}, 1e-6), whole);
  EXPECT_NEAR(Epsilon({{.02, 1.1, 300}, {.02, 1.1 * (1 + 1e-12), 300}, {.02 * (1 + 1e-12), 1.1, 300}}, 1e-6),
              whole, whole * 1e-3);
}

TEST(PldAccountantTest, OrderOfStepsDoesNotMatter) {
  const Steps a = {{.02, 1.1, 90}, {.3, 4, 20}, {1, 9, 3}}, b = {{1, 9, 3}, {.02, 1.1, 90}, {.3, 4, 20}};
  EXPECT_NEAR(Epsilon(a, 1e-7), Epsilon(b, 1e-7), 1e-3 * Epsilon(a, 1e-7));
}

TEST(PldAccountantTest, ManyDifferentSigmasCompose) {
  // A hundred rounds whose noise grows: between a hundred of the least and of the largest.
  Steps rounds;
  for (int i = 0; i < 100; ++i) rounds.push_back({0.05, 1.0 + 0.01 * i, 1});
  const double epsilon = Epsilon(rounds, 1e-6);
  EXPECT_LT(epsilon, Epsilon({{0.05, 1.0, 100}}, 1e-6));
  EXPECT_GT(epsilon, Epsilon({{0.05, 1.99, 100}}, 1e-6));
}

// Neighbouring settings differ by far more than the tolerance here.
TEST(PldAccountantTest, GrowsWithStepsAndSamplingAndFallsWithNoiseAndDelta) {
  double last = 0;
  for (uint64_t steps = 1; steps <= 1 << 16; steps *= 4) {
    const double now = Epsilon({{0.01, 0.9, steps}}, 1e-7);
    EXPECT_GT(now, last) << steps;
    last = now;
  }
  last = 0;
  for (const double q : {1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0}) {
    const double now = Epsilon({{q, 2, 200}}, 1e-8);
    EXPECT_GE(now, last) << q;
    last = now;
  }
  last = kInfinity;
  for (const double sigma : {0.3, 0.5, 0.8, 1.0, 1.5, 4.0, 30.0}) {
    const double now = Epsilon({{0.02, sigma, 300}}, 1e-6);
    EXPECT_LT(now, last) << sigma;
    last = now;
  }
  last = kInfinity;
  for (const double delta : {1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 0.1}) {
    const double now = Epsilon({{0.02, 0.8, 300}}, delta);
    EXPECT_LT(now, last) << delta;
    last = now;
  }
}

TEST(PldAccountantTest, DeltaOfEpsilonIsTheWayBack) {
  for (const double delta : {1e-3, 1e-6, 1e-12}) {
    const Steps steps = {{.01, .7, 500}};
    const double epsilon = Epsilon(steps, delta);
    // Both are rounded up, so that going there and back ends above, by the slope of ln δ.
    const double back = Delta(steps, epsilon);
    EXPECT_NEAR(std::log(back), std::log(delta), 0.05) << delta;
  }
}

TEST(PldAccountantTest, ReplaceOneCostsMoreThanAddRemoveAndLessThanTwiceTheDistance) {
  for (const double q : {0.001, 0.05, 1.0}) {
    const Steps steps = {{q, 1.2, 100}}, doubled = {{q, 0.6, 100}};
    EXPECT_GT(Epsilon<ReplaceOne>(steps, 1e-6), Epsilon(steps, 1e-6)) << q;
    EXPECT_LE(Epsilon<ReplaceOne>(steps, 1e-6), Epsilon(doubled, 1e-6) * (1 + kHigh)) << q;
  }
}

TEST(PldAccountantTest, NothingDoneCostsNothing) {
  EXPECT_EQ(Epsilon({}, 1e-6), 0);
  EXPECT_EQ(Epsilon({}, 0), 0);
  EXPECT_EQ(Epsilon({{0, 1, 100}}, 0), 0);
  EXPECT_EQ(Epsilon({{0, 0, 100}}, 1e-6), 0);
  EXPECT_EQ(Epsilon({{0.5, 1, 0}}, 1e-6), 0);
  EXPECT_EQ(Delta({}, 0), 0);
  EXPECT_EQ(Delta<ReplaceOne>({{0, 1, 9}}, 1), 0);
}

TEST(PldAccountantTest, NoNoiseOrNoDeltaIsInfinite) {
  EXPECT_EQ(Epsilon({{0.01, 0, 1}}, 1e-6), kInfinity);
  EXPECT_EQ(Epsilon({{0.01, 1, 100}, {1, 0, 1}}, 1e-6), kInfinity);
  EXPECT_EQ(Epsilon({{0.01, 1, 1}}, 0), kInfinity);
  EXPECT_EQ(Epsilon<ReplaceOne>({{1, 1, 1}}, 0), kInfinity);
  EXPECT_EQ(Delta({{0.01, 0, 1}}, 3), 1);
}

TEST(PldAccountantTest, DeltaThatCoversEveryTouchCostsNothing) {
  EXPECT_EQ(Epsilon({{1e-6, 0.5, 10}}, 1.1e-5), 0);
  EXPECT_GT(Epsilon({{1e-6, 0.05, 10}}, 0.9e-5), 0);
  EXPECT_EQ(Epsilon({{0.5, 1, 10}}, 1), 0);
  EXPECT_LE(Delta({{1e-6, 0.1, 10}}, 0.5), 1e-5 * (1 + 1e-9));
}

TEST(PldAccountantTest, RefusesNumbersThatMakeNoSense) {
  AddRemoveAccountant accountant;
  for (const double bad : {-0.1, 1.1, std::nan(""), kInfinity})
    EXPECT_THAT(accountant.Add({bad, 1, 1}), testing::HasStatus(StatusCode::kInvalidArgument, "0 to 1"));
  for (const double bad : {-1.0, std::nan(""), kInfinity})
    EXPECT_THAT(accountant.Add({0.5, bad, 1}),
                testing::HasStatus(StatusCode::kInvalidArgument, "noise multiplier"));
  EXPECT_TRUE(accountant.steps().empty());
  ASSERT_OK(accountant.Add({0.5, 1, uint64_t{1} << 62}));
  EXPECT_FALSE(accountant.Add({0.5, 2, (uint64_t{1} << 62) + 1}).ok());
  for (const double bad : {-1e-9, 1.0001, std::nan(""), kInfinity})
    EXPECT_FALSE(accountant.Epsilon(bad).ok());
  for (const double bad : {-1e-9, std::nan("")}) EXPECT_FALSE(accountant.Delta(bad).ok());
  EXPECT_FALSE(EpsilonOfPair(Steps{{2, 1, 1}}, LossPair::kAdd, 1e-6).ok());
  EXPECT_FALSE(DeltaOfPair(Steps{{0.5, 1, 1}}, LossPair::kAdd, -1).ok());
}

// Beyond all reason, and still a number or a plain infinity, never NaN, and never below a bound that must
// hold.
TEST(PldAccountantTest, ExtremesAreNumbers) {
  for (const SubsampledGaussian& s :
       {SubsampledGaussian{1e-300, 1, 1}, SubsampledGaussian{1 - 1e-16, 1, 5},
        SubsampledGaussian{0.5, 1e-3, 10}, SubsampledGaussian{0.5, 1e8, 10},
        SubsampledGaussian{1e-9, 0.05, 1'000'000}, SubsampledGaussian{0.01, 1, uint64_t{1} << 62},
        SubsampledGaussian{1, 1e-200, 1}, SubsampledGaussian{1, kMostSigma, 1},
        SubsampledGaussian{0.5, kMostSigma, 10}, SubsampledGaussian{0.3, 1e-150, 3}})
    for (const double delta : {1e-300, 1e-9, 0.5}) {
      const double epsilon = Epsilon({s}, delta), replaced = Epsilon<ReplaceOne>({s}, delta);
      EXPECT_GE(epsilon, 0) << s.q << " " << s.sigma << " " << delta;
      EXPECT_GE(replaced, epsilon * (1 - 1e-3)) << s.q << " " << s.sigma << " " << delta;
      const double back = Delta({s}, 1.0);
      EXPECT_GE(back, 0);
      EXPECT_LE(back, 1);
    }
  EXPECT_EQ(Delta({{0.5, 1, 3}}, kInfinity), 0);
}

}  // namespace
}  // namespace concordat
