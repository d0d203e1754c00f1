#include "privacy/mechanism/encoding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "privacy/mechanism/rotation.h"

namespace concordat {
namespace {

EncodingConfig Good() {
  EncodingConfig c;
  c.elements = 1'000'000;
  c.clip = 1;
  c.sites = 10;
  c.noise_stddev = 4;
  c.metrics = {{.name = MetricName::kTrainLossSum, .bound = 1e5, .scale = 10, .noise_stddev = 100},
               {.name = MetricName::kTrainTokens, .bound = 1e6, .scale = 1, .noise_stddev = 100}};
  return c;
}

TEST(EncodingPlanTest, DefaultScaleMakesScaleTimesClipFiveRootsOfD) {
  const EncodingPlan plan = EncodingPlan::Make(Good()).value();
  EXPECT_DOUBLE_EQ(plan.scale() * 1.0, 5000);
  EXPECT_EQ(plan.total_elements(), 1'000'002U);
}

// At s·c = 5√d and large d rounding costs about 0.5% of sensitivity: √(1 + 1/100 + …).
TEST(EncodingPlanTest, RoundingInflatesSensitivityByHalfAPercent) {
  const EncodingPlan plan = EncodingPlan::Make(Good()).value();
  EXPECT_NEAR(plan.sensitivity() / 5000, 1.0055, 5e-4);
  // min{6000², 5000² + 250000 + 6.438·5500}
  EXPECT_EQ(plan.sensitivity_squared(),
            static_cast<uint64_t>(5000.0 * 5000 + 250000 + std::sqrt(2 * std::log(1e9)) * 5500));
}

TEST(EncodingPlanTest, TheTriangleBoundHoldsWhereItIsTheSmaller) {
  EncodingConfig c = Good();
  c.elements = 1;
  EXPECT_EQ(EncodingPlan::Make(c)->sensitivity_squared(), 36U);
}

TEST(EncodingPlanTest, MetricSensitivityIsItsBoundInUnits) {
  const EncodingPlan plan = EncodingPlan::Make(Good()).value();
  EXPECT_EQ(plan.metric_sensitivity(0), 1'000'000U);
  EXPECT_EQ(plan.metric_sensitivity(1), 1'000'000U);
}

TEST(EncodingPlanTest, WithoutNoiseAVectorThatFitsNeverOverflows) {
  EncodingConfig c = Good();
  c.noise_stddev = 0;
  for (MetricSpec& m : c.metrics) m.noise_stddev = 0;
  EXPECT_EQ(EncodingPlan::Make(c)->log2_overflow(), -std::numeric_limits<double>::infinity());
}

TEST(EncodingPlanTest, RefusesOverflowWithoutNoiseExactlyAtTheBound) {
  EncodingConfig c = Good();
  c.metrics.clear();
  c.noise_stddev = 0;
  c.sites = 4;
  // n·(⌈sc⌉ + 1) < 2^31 − 1
  c.scale = (1U << 29) - 2;
  EXPECT_TRUE(EncodingPlan::Make(c).ok());
  c.scale = (1U << 29) - 1;
  const Status status = EncodingPlan::Make(c).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("lower its scale"), std::string_view::npos);
}

TEST(EncodingPlanTest, RefusesNoiseThatWrapsMoreOftenThanTwoToTheMinusSixty) {
  EncodingConfig c = Good();
  c.metrics.clear();
  c.sites = 4;
  c.scale = (1U << 29) - 1'000'000;
  // Room M = 4e6 − 5; 2d·exp(−M²/(2·4·σ²)) = 2^-60 at σ = M/√(8·ln(2d·2^60)) = 189,000.
  c.noise_stddev = 185'000;
  ASSERT_TRUE(EncodingPlan::Make(c).ok());
  EXPECT_LE(EncodingPlan::Make(c)->log2_overflow(), -60);
  EXPECT_GT(EncodingPlan::Make(c)->log2_overflow(), -64);
  c.noise_stddev = 190'000;
  EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument);
}

TEST(EncodingPlanTest, RefusesAMetricThatWraps) {
  EncodingConfig c = Good();
  c.metrics[0].bound = 3e7;
  const Status status = EncodingPlan::Make(c).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("train_loss_sum"), std::string_view::npos);
}

TEST(EncodingPlanTest, RefusesEachValueThatMakesNoSense) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::function<void(EncodingConfig&)>> bad = {
      [](auto& c) { c.elements = 0; },
      [](auto& c) { c.elements = uint64_t{1} << 40; },
      [](auto& c) { c.clip = 0; },
      [](auto& c) { c.clip = -1; },
      [&](auto& c) { c.clip = nan; },
      [](auto& c) { c.scale = -1; },
      [&](auto& c) { c.scale = nan; },
      [](auto& c) { c.scale = 1e300; },
      [](auto& c) { c.clip = 1e-320; },
      [](auto& c) { c.modulus_bits = 0; },
      [](auto& c) { c.modulus_bits = 25; },
      [](auto& c) { c.modulus_bits = 16; },
      [](auto& c) { c.modulus_bits = 64; },
      [](auto& c) { c.rounding = static_cast<Rounding>(7); },
      [](auto& c) { c.rounding = Rounding::kNearest; },
      [](auto& c) { c.noise_stddev = -1; },
      [&](auto& c) { c.noise_stddev = nan; },
      [](auto& c) { c.max_weight = 0; },
      [](auto& c) { c.sites = 0; },
      [](auto& c) { c.sites = 101; },
      [](auto& c) { c.metrics[1].name = c.metrics[0].name; },
      [](auto& c) { c.metrics[0].name = static_cast<MetricName>(99); },
      [](auto& c) { c.metrics[0].bound = 0; },
      [&](auto& c) { c.metrics[0].bound = nan; },
      [](auto& c) { c.metrics[0].scale = 0; },
      [](auto& c) { c.metrics[0].scale = 1e-9; },
      [&](auto& c) { c.metrics[0].noise_stddev = nan; },
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EncodingConfig c = Good();
    bad[i](c);
    EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument) << "case " << i;
  }
}

// ---- Words of 24 bits.

EncodingConfig Packed() {
  EncodingConfig c = Good();
  c.modulus_bits = kPackedBits;
  c.metrics = {{.name = MetricName::kTrainLossSum, .bound = 8, .scale = 256, .noise_stddev = 100}};
  return c;
}

// The bound as the header states it, worked out here from its parts.
double RotatedLog2(double d, double block, double n, double sc, double share_variance) {
  const double variance = n * n * sc * sc / block + n / 4 + n * share_variance;
  const double room = 8388607 - n * sc * Rotation::ErrorBound(static_cast<uint64_t>(d)) - n * 0x1p-32;
  return 1 + std::log2(d) - room * room / (2 * variance) / std::log(2.0) - n * std::log2(1 - 1e-9);
}

TEST(EncodingPlanTest, PackedVectorsHaveThreeBytesAnElement) {
  const EncodingPlan plan = EncodingPlan::Make(Packed()).value();
  EXPECT_TRUE(plan.rotated());
  EXPECT_EQ(plan.vector_bytes(), 3'000'003U);
  EXPECT_FALSE(EncodingPlan::Make(Good())->rotated());
  EXPECT_EQ(EncodingPlan::Make(Good())->vector_bytes(), 4'000'008U);
}

// Lengths stay, so what one site can change does.
TEST(EncodingPlanTest, TheRotationLeavesTheSensitivityAlone) {
  EncodingConfig plain = Packed();
  plain.modulus_bits = kPlainBits;
  EXPECT_EQ(EncodingPlan::Make(Packed())->sensitivity_squared(),
            EncodingPlan::Make(plain)->sensitivity_squared());
}

TEST(EncodingPlanTest, TheRotatedBoundIsTheOneThatTheHeaderStates) {
  EncodingConfig c = Packed();
  c.metrics.clear();
  // Without the rotation 10 sites could reach 8.4e6 each and overflow with one coordinate; rotated they are
  // spread over 2^19 coordinates. Noise takes the rest of the room.
  c.scale = 1e6;
  c.noise_stddev = 200'000;
  const double expected = RotatedLog2(1e6, 524'288, 10, 1e6, 4e10);
  ASSERT_LT(expected, -60);
  EXPECT_NEAR(EncodingPlan::Make(c)->log2_overflow(), expected, 1e-3);
  c.scale = 1e8;
  EXPECT_GT(RotatedLog2(1e6, 524'288, 10, 1e8, 4e10), -60);
  EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument);
}

// k standard deviations of room, k² / 2 = ln(2d·2^60): the bound begins to refuse where it says.
TEST(EncodingPlanTest, RefusesPackedNoiseExactlyWhereTheBoundPassesTwoToTheMinusSixty) {
  EncodingConfig c = Packed();
  c.metrics.clear();
  const double k = std::sqrt(2 * (std::log(2e6) + 60 * std::log(2.0)));
  c.noise_stddev = 8388607 / k / std::sqrt(10.0) * 0.9999;
  ASSERT_TRUE(EncodingPlan::Make(c).ok());
  EXPECT_NEAR(EncodingPlan::Make(c)->log2_overflow(), -60, 0.05);
  c.noise_stddev *= 1.0002;
  const Status status = EncodingPlan::Make(c).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* said : {"24 bits", "lower its scale, its noise", "modulus_bits 32"})
    EXPECT_NE(Message(status).find(said), std::string_view::npos) << said << " in: " << Message(status);
  c.modulus_bits = kPlainBits;
  EXPECT_TRUE(EncodingPlan::Make(c).ok());
}

TEST(EncodingPlanTest, MoreSitesThanFitAreRefused) {
  EncodingConfig c = Packed();
  c.metrics.clear();
  c.noise_stddev = 120'000;
  EXPECT_TRUE(EncodingPlan::Make(c).ok());
  c.sites = 100;
  EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument);
}

// A handful of coordinates is not spread far: there the worst case is the smaller bound, and it is 0.
TEST(EncodingPlanTest, AFewCoordinatesThatFitAtWorstNeverOverflow) {
  EncodingConfig c = Packed();
  c.metrics.clear();
  c.elements = 3;
  c.noise_stddev = 0;
  c.scale = 800'000;  // 10·(800,000 + 1) < 2^23 − 1
  EXPECT_EQ(EncodingPlan::Make(c)->log2_overflow(), -std::numeric_limits<double>::infinity());
  c.scale = 900'000;
  EXPECT_FALSE(EncodingPlan::Make(c).ok());
}

TEST(EncodingPlanTest, MetricsAreNotRotatedAndKeepTheirWorstCase) {
  EncodingConfig c = Packed();
  c.metrics[0].noise_stddev = 0;
  c.metrics[0].scale = 8388607.0 / 10 / 8 - 1;
  EXPECT_TRUE(EncodingPlan::Make(c).ok());
  c.metrics[0].scale = 8388607.0 / 10 / 8 + 1;
  const Status status = EncodingPlan::Make(c).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("train_loss_sum"), std::string_view::npos);
}

TEST(MetricNameTest, TextsAreReadBackAndOthersRefused) {
  for (uint8_t code = 1; code <= 6; ++code) {
    const auto name = static_cast<MetricName>(code);
    EXPECT_EQ(ParseMetricName(MetricNameText(name)).value(), name);
  }
  EXPECT_EQ(ParseMetricName("accuracy").status().code(), StatusCode::kInvalidArgument);
}

// ---- Sums over privacy units.

EncodingConfig UnitSum() {
  EncodingConfig c = Good();
  c.rounding = Rounding::kIntegers;
  c.scale = 1e6;
  c.unit_sensitivity = 50'500.25;
  c.largest = 1'000'000;
  c.metrics = {
      {.name = MetricName::kTrainTokens, .bound = 2, .scale = 5000, .noise_stddev = 9, .sensitivity = 100}};
  return c;
}

TEST(UnitSumPlanTest, SensitivityIsOneUnitsAndNothingIsAddedForRounding) {
  const EncodingPlan plan = EncodingPlan::Make(UnitSum()).value();
  EXPECT_TRUE(plan.integers());
  EXPECT_EQ(plan.sensitivity_squared(), static_cast<uint64_t>(50'500.25 * 50'500.25));
  EXPECT_EQ(plan.metric_sensitivity(0), 100U);
  EXPECT_EQ(plan.scale(), 1e6);
  EncodingConfig packed = UnitSum();
  packed.modulus_bits = kPackedBits;
  packed.largest = 500'000;
  EXPECT_FALSE(EncodingPlan::Make(packed)->rotated()) << "its integers would not stay integers";
}

TEST(UnitSumPlanTest, OverflowIsOfWhatEachIntegerIsClampedTo) {
  EncodingConfig c = UnitSum();
  c.noise_stddev = c.metrics[0].noise_stddev = 0;
  c.modulus_bits = kPackedBits;
  c.largest = ((1U << 23) - 1) / 10;
  EXPECT_EQ(EncodingPlan::Make(c)->log2_overflow(), -std::numeric_limits<double>::infinity());
  c.largest += 1;
  EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument);
  c.modulus_bits = kPlainBits;
  EXPECT_TRUE(EncodingPlan::Make(c).ok());
}

TEST(UnitSumPlanTest, RefusesEachValueThatMakesNoSense) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::function<void(EncodingConfig&)>> bad = {
      [](auto& c) { c.unit_sensitivity = 0; },
      [](auto& c) { c.unit_sensitivity = -1; },
      [&](auto& c) { c.unit_sensitivity = nan; },
      [](auto& c) { c.unit_sensitivity = 0x1p32; },
      [](auto& c) { c.unit_sensitivity = 0.5; },
      [](auto& c) { c.largest = 0; },
      [](auto& c) { c.largest = kLargestInteger + 1; },
      [](auto& c) { c.scale = 0; },
      [](auto& c) { c.max_weight = 2; },
      [](auto& c) { c.metrics[0].sensitivity = 10'001; },
      [](auto& c) { c.rounding = Rounding::kStochastic; },
      [](auto& c) {
        c.rounding = Rounding::kStochastic;
        c.unit_sensitivity = 0;
      },
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EncodingConfig c = UnitSum();
    bad[i](c);
    EXPECT_EQ(EncodingPlan::Make(c).status().code(), StatusCode::kInvalidArgument) << "case " << i;
  }
}

}  // namespace
}  // namespace concordat
