#include "privacy/accounting/ledger_arithmetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace concordat {
namespace {

LedgerCharge Charge(uint32_t round, double sigma, ChargeKind kind = ChargeKind::kDelta) {
  LedgerCharge c;
  c.kind = kind;
  c.attempt.job.bytes[0] = 1;
  c.attempt.round = round;
  EXPECT_TRUE(c.price.Add(RdpTerm{.delta2_squared = 1, .delta1 = 1, .share_variance = sigma * sigma}).ok());
  return c;
}

PrivacyBudget Budget(double epsilon) { return {.epsilon = epsilon, .delta = 1e-6}; }

TEST(LedgerArithmeticTest, SpendsUntilTheBudgetAndThenStops) {
  const PrivacyBudget budget = Budget(10);
  std::vector<LedgerCharge> charges;
  Status status;
  for (uint32_t round = 0; round < 1000; ++round) {
    const LedgerCharge next = Charge(round, 5);
    status = CanCharge(budget, charges, next);
    if (!status.ok()) break;
    charges.push_back(next);
    ASSERT_LE(EpsilonSpent(budget, charges), budget.epsilon);
  }
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(Message(status).find("left"), std::string_view::npos);
  EXPECT_GT(charges.size(), 5U);
  EXPECT_GT(EpsilonAfter(budget, charges, std::vector{Charge(1000, 5)}), budget.epsilon);
  // A smaller one may still fit.
  EXPECT_TRUE(CanCharge(budget, charges, Charge(1001, 500)).ok());
}

TEST(LedgerArithmeticTest, AChargeNeverLowersWhatIsSpentWhateverTheOrder) {
  const PrivacyBudget budget = Budget(10);
  std::vector<LedgerCharge> charges;
  double last = 0;
  for (uint32_t round = 0; round < 20; ++round) {
    charges.push_back(Charge(round, 3 + round % 7));
    const double now = EpsilonSpent(budget, charges);
    EXPECT_GE(now, last);
    last = now;
  }
  std::reverse(charges.begin(), charges.end());
  EXPECT_NEAR(EpsilonSpent(budget, charges), last, 1e-12 * last);
}

TEST(LedgerArithmeticTest, AnAttemptIsChargedOnceForEachKind) {
  const std::vector<LedgerCharge> charges = {Charge(0, 5)};
  EXPECT_EQ(CanCharge(Budget(100), charges, Charge(0, 5)).code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(CanCharge(Budget(100), charges, Charge(0, 5, ChargeKind::kEvaluation)).ok());
  LedgerCharge retry = Charge(0, 5);
  retry.attempt.attempt = 1;
  EXPECT_TRUE(CanCharge(Budget(100), charges, retry).ok());
}

TEST(LedgerArithmeticTest, PricesOfOtherKindsDoNotMix) {
  LedgerCharge other = Charge(0, 5);
  other.neighbour = Neighbour::kReplaceOne;
  EXPECT_EQ(CanCharge(Budget(100), {}, other).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::isinf(EpsilonSpent(Budget(100), std::vector{other})));
  other = Charge(0, 5);
  other.unit = PrivacyUnit::kPerson;
  EXPECT_EQ(CanCharge(Budget(100), {}, other).code(), StatusCode::kInvalidArgument);
}

TEST(LedgerArithmeticTest, RefusesAChargeWithoutAPrice) {
  LedgerCharge empty = Charge(0, 5);
  empty.price = RdpCurve();
  EXPECT_EQ(CanCharge(Budget(100), {}, empty).code(), StatusCode::kInvalidArgument);
}

TEST(LedgerArithmeticTest, WithoutNoiseOnlyABudgetWithoutLimitIsEnough) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(CanCharge(Budget(1e300), {}, Charge(0, 0)).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(CanCharge(Budget(infinity), {}, Charge(0, 0)).ok());
  EXPECT_FALSE(CanCharge(Budget(std::nan("")), {}, Charge(0, 5)).ok());
  PrivacyBudget no_delta = Budget(1e300);
  no_delta.delta = 0;
  EXPECT_EQ(CanCharge(no_delta, {}, Charge(0, 5)).code(), StatusCode::kResourceExhausted);
}

TEST(LedgerArithmeticTest, ChargesAreReadBackFromTheirBytes) {
  LedgerCharge charge = Charge(7, 5, ChargeKind::kEvaluation);
  charge.attempt.attempt = 2;
  ASSERT_TRUE(charge.price
                  .Add(RdpTerm{.delta2_squared = 9,
                               .delta1 = 3,
                               .share_variance = 4,
                               .shares = 3,
                               .dimension = 10,
                               .count = 2})
                  .ok());
  CanonicalWriter out;
  WriteCharge(out, charge);
  CanonicalReader in(out.bytes());
  const LedgerCharge back = ReadCharge(in).value();
  EXPECT_TRUE(in.Finish().ok());
  EXPECT_EQ(back.kind, charge.kind);
  EXPECT_EQ(back.attempt, charge.attempt);
  EXPECT_EQ(back.price.curve().terms(), charge.price.curve().terms());
}

LedgerCharge Sampled(uint32_t round) {
  LedgerCharge c;
  c.unit = PrivacyUnit::kRecord;
  c.neighbour = Neighbour::kAddRemove;
  c.attempt.round = round;
  EXPECT_TRUE(c.price.Add(SubsampledGaussian{.04, 1.5, 225}).ok());
  return c;
}

TEST(LedgerArithmeticTest, SampledStepsStopAtABudgetForRecords) {
  // Ten rounds of 225 steps cost 6.76878; the eleventh is too much for 6.8.
  const PrivacyBudget budget{PrivacyUnit::kRecord, Neighbour::kAddRemove, 6.8, 1e-5};
  std::vector<LedgerCharge> charges;
  for (uint32_t round = 0; round < 10; ++round) {
    ASSERT_TRUE(CanCharge(budget, charges, Sampled(round)).ok()) << round;
    charges.push_back(Sampled(round));
  }
  EXPECT_NEAR(EpsilonSpent(budget, charges), 6.76878, 7e-3);
  EXPECT_EQ(CanCharge(budget, charges, Sampled(10)).code(), StatusCode::kResourceExhausted);
  PrivacyBudget persons = budget;
  persons.unit = PrivacyUnit::kPerson;
  EXPECT_EQ(CanCharge(persons, {}, Sampled(0)).code(), StatusCode::kInvalidArgument);
}

TEST(LedgerArithmeticTest, SampledStepsAreReadBackFromTheirBytes) {
  LedgerCharge charge = Sampled(3);
  ASSERT_TRUE(charge.price.Add(SubsampledGaussian{1, 7, 1}).ok());
  ASSERT_TRUE(charge.price.Add(RdpTerm{.delta2_squared = 1, .delta1 = 1, .share_variance = 4}).ok());
  CanonicalWriter out;
  WriteCharge(out, charge);
  CanonicalReader in(out.bytes());
  const LedgerCharge back = ReadCharge(in).value();
  EXPECT_TRUE(in.Finish().ok());
  EXPECT_EQ(back.unit, PrivacyUnit::kRecord);
  EXPECT_EQ(back.price.steps(), charge.price.steps());
  EXPECT_EQ(back.price.curve().terms(), charge.price.curve().terms());
  for (size_t size = 0; size < out.bytes().size(); ++size) {
    CanonicalReader cut(ByteView(out.bytes()).first(size));
    EXPECT_FALSE(ReadCharge(cut).ok()) << size;
  }
}

TEST(LedgerArithmeticTest, RefusesStepsThatAreNamedTwiceOrNotThere) {
  for (const bool twice : {false, true}) {
    CanonicalWriter out;
    WriteCharge(out, Sampled(3));
    Bytes bytes = out.Take();
    // The list is last: a count of four bytes, then 24 for each.
    const Bytes step(bytes.end() - 24, bytes.end());
    bytes.resize(bytes.size() - 28);
    CanonicalWriter list;
    list.Count(twice ? 2 : 0);
    bytes.insert(bytes.end(), list.bytes().begin(), list.bytes().end());
    for (int i = 0; twice && i < 2; ++i) bytes.insert(bytes.end(), step.begin(), step.end());
    CanonicalReader in(bytes);
    EXPECT_EQ(ReadCharge(in).status().code(), StatusCode::kInvalidArgument) << twice;
  }
}

TEST(LedgerArithmeticTest, RefusesBytesThatNoChargeHas) {
  CanonicalWriter out;
  WriteCharge(out, Charge(7, 5));
  for (size_t size = 0; size < out.bytes().size(); ++size) {
    CanonicalReader in(ByteView(out.bytes()).first(size));
    EXPECT_FALSE(ReadCharge(in).ok()) << size;
  }
  for (const size_t code : {0, 1, 2}) {
    Bytes bad = out.bytes();
    bad[code] = 9;
    CanonicalReader in(bad);
    EXPECT_FALSE(ReadCharge(in).ok()) << code;
  }
  LedgerCharge twice = Charge(7, 5);
  CanonicalWriter doubled;
  WriteCharge(doubled, twice);
  Bytes bytes = doubled.bytes();
  const Bytes term(bytes.end() - 44, bytes.end());
  bytes.insert(bytes.end(), term.begin(), term.end());
  bytes[43] = 2;  // the count of terms
  CanonicalReader in(bytes);
  EXPECT_FALSE(ReadCharge(in).ok());
}

}  // namespace
}  // namespace concordat
