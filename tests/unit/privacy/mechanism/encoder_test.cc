#include "privacy/mechanism/encoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "privacy/crypto/hash.h"
#include "privacy/mechanism/clip.h"
#include "privacy/mechanism/gradient_grid.h"
#include "privacy/mechanism/rotation.h"

namespace concordat {

// Reaches a bound that no honest rounding breaks.
struct EncodingPlanTestPeer {
  static void SetSensitivitySquared(EncodingPlan& plan, uint64_t v) { plan.sensitivity_squared_ = v; }
};

namespace {

Secret32 Seed(uint8_t v) {
  Secret32 seed;
  seed.mutable_view()[0] = v;
  return seed;
}

std::vector<float> Weights(size_t n, uint32_t seed, float size = 1) {
  std::mt19937 generator(seed);  // test data, not noise
  std::uniform_real_distribution<float> uniform(-size, size);
  std::vector<float> out(n);
  for (float& v : out) v = uniform(generator);
  return out;
}

EncodingConfig Config(uint64_t elements, uint32_t sites) {
  EncodingConfig c;
  c.elements = elements;
  c.clip = 2;
  c.sites = sites;
  c.max_weight = 8;
  return c;
}

EncodingPlan Plan(const EncodingConfig& c) { return EncodingPlan::Make(c).value(); }

std::vector<uint32_t> EncodeAll(const Encoder& encoder) {
  std::vector<uint32_t> out(encoder.plan().total_elements());
  EXPECT_TRUE(encoder.Encode(0, out).ok());
  return out;
}

TEST(EncoderTest, DecodeUndoesNearestEncodingWithinHalfAStep) {
  EncodingConfig c = Config(100'000, 1);
  c.rounding = Rounding::kNearest;
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 1, 0.001F);
  const Encoder encoder = Encoder::Make(plan, delta, 1, {}, Seed(1)).value();
  const DecodedSum back = Decode(plan, EncodeAll(encoder), 1).value();
  EXPECT_FALSE(encoder.clipped());
  for (size_t i = 0; i < delta.size(); ++i)
    ASSERT_NEAR(back.mean_delta[i], delta[i], 0.5 / plan.scale() * (1 + 1e-6)) << i;
}

TEST(EncoderTest, DecodeUndoesStochasticEncodingWithinAStepAndWithoutBias) {
  const EncodingConfig c = Config(200'000, 1);
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 2, 0.001F);
  const DecodedSum back =
      Decode(plan, EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(1)).value()), 1).value();
  double error = 0;
  for (size_t i = 0; i < delta.size(); ++i) {
    ASSERT_NEAR(back.mean_delta[i], delta[i], 1 / plan.scale() * (1 + 1e-6)) << i;
    error += (static_cast<double>(back.mean_delta[i]) - delta[i]) * plan.scale();
  }
  // Each error has a variance of at most 1/4: six standard deviations of the mean (false alarm 2e-9).
  EXPECT_LT(std::abs(error / delta.size()), 6 * 0.5 / std::sqrt(static_cast<double>(delta.size())));
}

TEST(EncoderTest, ClipsToTheBoundAndSaysSo) {
  EncodingConfig c = Config(1000, 1);
  c.rounding = Rounding::kNearest;
  c.scale = 1e6;
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 3, 5);
  const Encoder encoder = Encoder::Make(plan, delta, 1, {}, Seed(1)).value();
  EXPECT_TRUE(encoder.clipped());
  const DecodedSum back = Decode(plan, EncodeAll(encoder), 1).value();
  EXPECT_NEAR(L2Norm(back.mean_delta).value(), c.clip, 1e-4);
}

TEST(EncoderTest, ModularSumOfEncodingsDecodesToTheWeightedMean) {
  EncodingConfig c = Config(70'000, 4);
  c.clip = 50;
  c.metrics = {{.name = MetricName::kTrainLossSum, .bound = 1000, .scale = 100}};
  const EncodingPlan plan = Plan(c);
  std::vector<uint32_t> sum(plan.total_elements());
  std::vector<double> expected(c.elements);
  uint64_t total_weight = 0;
  double metric = 0;
  for (uint32_t site = 0; site < 4; ++site) {
    const uint32_t weight = site + 1;
    const std::vector<float> delta = Weights(c.elements, site, 0.01F);
    const std::vector<double> metrics = {10.25 * weight};
    const auto words =
        EncodeAll(Encoder::Make(plan, delta, weight, metrics, Seed(static_cast<uint8_t>(site))).value());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += words[i];
    for (size_t i = 0; i < delta.size(); ++i) expected[i] += static_cast<double>(weight) * delta[i];
    total_weight += weight;
    metric += metrics[0];
  }
  const DecodedSum back = Decode(plan, sum, total_weight).value();
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(back.mean_delta[i], expected[i] / total_weight, 4.0 / plan.scale() / total_weight) << i;
  EXPECT_NEAR(back.metric_sums[0], metric, 4 * 0.5 / 100 + 1e-9);
}

TEST(EncoderTest, NegativeSumsAreReadAsNegative) {
  EncodingConfig c = Config(3, 2);
  c.rounding = Rounding::kNearest;
  c.scale = 8;
  const EncodingPlan plan = Plan(c);
  const std::vector<uint32_t> sum = {0xffffffffU, 0xfffffff8U, 8};
  const DecodedSum back = Decode(plan, sum, 1).value();
  EXPECT_EQ(back.mean_delta, (std::vector<float>{-0.125F, -1, 1}));
}

TEST(EncoderTest, BlocksInAnyOrderAndOnAnyThreadMakeTheSameVector) {
  EncodingConfig c = Config(3 * kEncodeBlockElements + 777, 3);
  c.noise_stddev = 3;
  c.metrics = {{.name = MetricName::kTrainTokens, .bound = 1e6, .noise_stddev = 10},
               {.name = MetricName::kExamples, .bound = 100, .noise_stddev = 1}};
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 5, 0.01F);
  const std::vector<double> metrics = {12345, 7};
  const Encoder encoder = Encoder::Make(plan, delta, 2, metrics, Seed(9)).value();
  const std::vector<uint32_t> whole = EncodeAll(encoder);

  std::vector<uint32_t> parts(whole.size());
  std::vector<std::thread> threads;
  for (int block = 3; block >= 0; --block)
    threads.emplace_back([&, block] {
      const uint64_t first = block * kEncodeBlockElements;
      const uint64_t count = std::min<uint64_t>(kEncodeBlockElements, parts.size() - first);
      EXPECT_TRUE(encoder.Encode(first, std::span(parts).subspan(first, count)).ok());
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(parts, whole);
}

// The vector ends so that its metrics begin a block of their own.
TEST(EncoderTest, MetricsThatBeginABlockAreEncodedAlone) {
  EncodingConfig c = Config(kEncodeBlockElements, 3);
  c.metrics = {{.name = MetricName::kExamples, .bound = 100}};
  const Encoder encoder =
      Encoder::Make(Plan(c), Weights(c.elements, 5, 0.01F), 1, std::vector<double>{42}, Seed(9)).value();
  std::vector<uint32_t> last(1);
  ASSERT_TRUE(encoder.Encode(kEncodeBlockElements, last).ok());
  EXPECT_EQ(last[0], 42U);
}

TEST(EncoderTest, TheSameSeedGivesTheSameBytesAndAnotherOthers) {
  EncodingConfig c = Config(10'000, 3);
  c.noise_stddev = 1;
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 6, 0.01F);
  const auto first = EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(1)).value());
  EXPECT_EQ(first, EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(1)).value()));
  EXPECT_NE(first, EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(2)).value()));
}

TEST(EncoderTest, NoiseHasTheVarianceThatIsPriced) {
  EncodingConfig c = Config(300'000, 3);
  const std::vector<float> delta(c.elements, 0);
  for (const double sigma : {0.7, 5.0, 400.0}) {
    c.noise_stddev = sigma;
    const auto words = EncodeAll(Encoder::Make(Plan(c), delta, 1, {}, Seed(4)).value());
    double squares = 0;
    for (const uint32_t w : words) squares += std::pow(static_cast<double>(static_cast<int32_t>(w)), 2);
    // Relative standard deviation of a variance is about √(2/n); six of them (false alarm 2e-9). At σ = 0.7
    // the discrete Gaussian's variance differs from σ² by less than 0.3%.
    EXPECT_NEAR(squares / words.size() / (sigma * sigma), 1, 6 * std::sqrt(2.0 / words.size()) + 3e-3)
        << sigma;
  }
}

TEST(EncoderTest, IntegersStayWithinTheSensitivity) {
  for (const uint64_t elements : {1ULL, 2ULL, 50ULL, 5000ULL}) {
    const EncodingPlan plan = Plan(Config(elements, 3));
    for (uint8_t seed = 0; seed < 20; ++seed) {
      const std::vector<float> delta = Weights(elements, seed, 100);
      uint64_t squares = 0;
      for (const uint32_t w : EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(seed)).value())) {
        const int64_t v = static_cast<int32_t>(w);
        squares += static_cast<uint64_t>(v * v);
      }
      EXPECT_LE(squares, plan.sensitivity_squared());
    }
  }
}

TEST(EncoderTest, GivesUpWhenNoRoundingFitsTheBound) {
  EncodingPlan plan = Plan(Config(100, 3));
  EncodingPlanTestPeer::SetSensitivitySquared(plan, 10);
  const auto encoder = Encoder::Make(plan, Weights(100, 1, 5), 1, {}, Seed(1));
  EXPECT_EQ(encoder.status().code(), StatusCode::kInternal);
  EXPECT_NE(Message(encoder.status()).find("64"), std::string_view::npos);
}

// A bound in the middle of what draws give: some draws fail and a later one is taken and replayed.
TEST(EncoderTest, DrawsAgainUntilARoundingFits) {
  const EncodingConfig c = Config(400, 3);
  const std::vector<float> delta = Weights(c.elements, 1, 5);
  const auto norm_of = [&](const EncodingPlan& plan, uint8_t seed) {
    uint64_t squares = 0;
    for (const uint32_t w : EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(seed)).value())) {
      const int64_t v = static_cast<int32_t>(w);
      squares += static_cast<uint64_t>(v * v);
    }
    return squares;
  };
  uint64_t total = 0;
  for (uint8_t seed = 0; seed < 32; ++seed) total += norm_of(Plan(c), seed);
  EncodingPlan tight = Plan(c);
  EncodingPlanTestPeer::SetSensitivitySquared(tight, total / 32);
  int redrawn = 0;
  for (uint8_t seed = 0; seed < 32; ++seed) {
    EXPECT_LE(norm_of(tight, seed), total / 32);
    redrawn += norm_of(tight, seed) != norm_of(Plan(c), seed) ? 1 : 0;
  }
  EXPECT_GT(redrawn, 0);
  EXPECT_LT(redrawn, 32);
}

TEST(EncoderTest, MetricsAreClippedToTheirBound) {
  EncodingConfig c = Config(10, 3);
  c.metrics = {{.name = MetricName::kTrainLossSum, .bound = 100, .scale = 4},
               {.name = MetricName::kHeldOutLossSum, .bound = 100, .scale = 4}};
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta(10, 0);
  const auto words =
      EncodeAll(Encoder::Make(plan, delta, 1, std::vector<double>{1e30, -1e30}, Seed(1)).value());
  const DecodedSum back = Decode(plan, words, 1).value();
  EXPECT_EQ(back.metric_sums, (std::vector<double>{100, -100}));
}

TEST(EncoderTest, RefusesWhatIsNotANumberWithoutSayingMore) {
  EncodingConfig c = Config(10, 3);
  c.metrics = {{.name = MetricName::kExamples, .bound = 100}};
  std::vector<float> delta(10, 0);
  const std::vector<double> nan = {std::numeric_limits<double>::quiet_NaN()};
  EXPECT_EQ(Encoder::Make(Plan(c), delta, 1, nan, Seed(1)).status().code(), StatusCode::kInvalidArgument);
  delta[7] = std::numeric_limits<float>::infinity();
  const auto encoder = Encoder::Make(Plan(c), delta, 1, std::vector<double>{1}, Seed(1));
  EXPECT_EQ(encoder.status().code(), StatusCode::kInvalidArgument);
}

TEST(EncoderTest, RefusesSizesAndWeightsThatDoNotMatch) {
  const EncodingPlan plan = Plan(Config(10, 3));
  const std::vector<float> delta(10, 0), longer(11, 0);
  EXPECT_FALSE(Encoder::Make(plan, longer, 1, {}, Seed(1)).ok());
  EXPECT_FALSE(Encoder::Make(plan, delta, 0, {}, Seed(1)).ok());
  EXPECT_FALSE(Encoder::Make(plan, delta, 9, {}, Seed(1)).ok());
  EXPECT_FALSE(Encoder::Make(plan, delta, 1, std::vector<double>{1}, Seed(1)).ok());
  EXPECT_FALSE(Decode(plan, std::vector<uint32_t>(11), 1).ok());
  EXPECT_FALSE(Decode(plan, std::vector<uint32_t>(10), 0).ok());
  EXPECT_FALSE(Decode(plan, std::vector<uint32_t>(10), 3 * 8 + 1).ok());
}

TEST(EncoderTest, RefusesPiecesThatAreNotBlocks) {
  const EncodingConfig c = Config(2 * kEncodeBlockElements, 3);
  const std::vector<float> delta(c.elements, 0);
  const Encoder encoder = Encoder::Make(Plan(c), delta, 1, {}, Seed(1)).value();
  std::vector<uint32_t> out(c.elements + 1);
  EXPECT_FALSE(encoder.Encode(1, std::span(out).first(kEncodeBlockElements - 1)).ok());
  EXPECT_FALSE(encoder.Encode(0, std::span(out).first(100)).ok());
  EXPECT_FALSE(encoder.Encode(0, out).ok());
  EXPECT_FALSE(encoder.Encode(4 * kEncodeBlockElements, std::span(out).first(1)).ok());
}

// ---- Words of 24 bits: the delta is rotated.

EncodingConfig Packed(uint64_t elements, uint32_t sites) {
  EncodingConfig c = Config(elements, sites);
  c.modulus_bits = kPackedBits;
  c.rotation = RotationSeed({crypto::Sha256(AsBytes("job")), 3, 1});
  return c;
}

// What travels: packed, unpacked, added up.
void AddAsSent(std::span<const uint32_t> words, std::vector<uint32_t>& sum) {
  Bytes packed(VectorBytes(words.size(), kPackedBits));
  PackWords(words, kPackedBits, packed);
  AddPackedWords(packed, kPackedBits, sum);
}

double Distance(std::span<const float> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

TEST(PackedEncoderTest, SumsOfPackedVectorsDecodeToTheWeightedMeanForEveryLength) {
  for (const uint64_t d : {1, 2, 3, 4, 7, 100, 8192, 70'001}) {
    EncodingConfig c = Packed(d, 4);
    c.clip = 50;
    c.metrics = {{.name = MetricName::kTrainLossSum, .bound = 1000, .scale = 100}};
    const EncodingPlan plan = Plan(c);
    std::vector<uint32_t> sum(plan.total_elements());
    std::vector<double> expected(d);
    double metric = 0;
    for (uint32_t site = 0; site < 4; ++site) {
      const uint32_t weight = site + 1;
      const std::vector<float> delta = Weights(d, site, 0.01F);
      const double value = site % 2 == 0 ? 10.25 * weight : -20.5;
      AddAsSent(EncodeAll(Encoder::Make(plan, delta, weight, std::vector<double>{value},
                                        Seed(static_cast<uint8_t>(site)))
                              .value()),
                sum);
      for (size_t i = 0; i < d; ++i) expected[i] += weight / 10.0 * delta[i];
      metric += value;
    }
    const DecodedSum back = Decode(plan, sum, 10).value();
    // Each of the d integers of a site is off by less than 1; a rotation keeps the length of all that.
    EXPECT_LT(Distance(back.mean_delta, expected), 4 * std::sqrt(static_cast<double>(d)) / plan.scale() / 10)
        << d;
    EXPECT_NEAR(back.metric_sums[0], metric, 4 * 0.5 / 100 + 1e-9);
  }
}

TEST(PackedEncoderTest, NoiseAndRoundingAreUnbiasedAfterTheRotationIsUndone) {
  EncodingConfig c = Packed(100'000, 3);
  c.noise_stddev = 1000;
  const EncodingPlan plan = Plan(c);
  const std::vector<float> delta = Weights(c.elements, 2, 0.001F);
  std::vector<uint32_t> sum(plan.total_elements());
  for (uint8_t site = 0; site < 3; ++site)
    AddAsSent(EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(site)).value()), sum);
  const DecodedSum back = Decode(plan, sum, 3).value();
  double mean = 0, squares = 0;
  for (size_t i = 0; i < delta.size(); ++i) {
    const double error = (static_cast<double>(back.mean_delta[i]) - delta[i]) * plan.scale();
    mean += error / static_cast<double>(delta.size());
    squares += error * error / static_cast<double>(delta.size());
  }
  // Of the mean of three: variance σ²/3 and up to 1/12 from rounding. Six standard deviations of each.
  const double variance = 1000.0 * 1000 / 3, root_d = std::sqrt(static_cast<double>(delta.size()));
  EXPECT_LT(std::abs(mean), 6 * std::sqrt(variance) / root_d);
  EXPECT_NEAR(squares, variance, 6 * variance * std::sqrt(2.0) / root_d + 1);
}

// One coordinate holds the whole clip at every site: of 32 bits it would take 23, here it is spread.
TEST(PackedEncoderTest, ASpikeThatWouldWrapIsSpreadAndComesBackWhole) {
  EncodingConfig c = Packed(100'000, 10);
  c.scale = 1e6;  // s·c = 2e6, ten sites: 2e7 > 2^23
  const EncodingPlan plan = Plan(c);
  EXPECT_LE(plan.log2_overflow(), -60);
  std::vector<float> delta(c.elements, 0);
  delta[77'777] = 2;
  std::vector<uint32_t> sum(plan.total_elements());
  for (uint8_t site = 0; site < 10; ++site) {
    const auto words = EncodeAll(Encoder::Make(plan, delta, 1, {}, Seed(site)).value());
    int32_t largest = 0;
    for (const uint32_t word : words) largest = std::max(largest, std::abs(CentreLift(word, kPackedBits)));
    EXPECT_LT(largest, 2e6 / 256 * 9);  // D = 2^16
    AddAsSent(words, sum);
  }
  const DecodedSum back = Decode(plan, sum, 10).value();
  const std::vector<double> expected(delta.begin(), delta.end());
  EXPECT_NEAR(back.mean_delta[77'777], 2, 1e-4);
  EXPECT_LT(Distance(back.mean_delta, expected), 1e-3);
}

TEST(PackedEncoderTest, EveryVectorThatIsSentIsWithinTheSensitivity) {
  for (uint8_t seed = 0; seed < 20; ++seed) {
    const EncodingPlan plan = Plan(Packed(5000, 3));
    const auto words = EncodeAll(Encoder::Make(plan, Weights(5000, seed, 5), 1, {}, Seed(seed)).value());
    uint64_t squares = 0;
    for (const uint32_t word : words) {
      const int64_t v = CentreLift(word, kPackedBits);
      squares += static_cast<uint64_t>(v * v);
    }
    EXPECT_LE(squares, plan.sensitivity_squared());
  }
}

TEST(PackedEncoderTest, ClipsToTheBoundAlsoWhatIsHuge) {
  for (const float size : {5.0F, 1e30F}) {
    EncodingConfig c = Packed(1000, 1);
    c.rounding = Rounding::kNearest;
    c.scale = 1e6;
    const EncodingPlan plan = Plan(c);
    const Encoder encoder = Encoder::Make(plan, Weights(c.elements, 3, size), 1, {}, Seed(1)).value();
    EXPECT_TRUE(encoder.clipped());
    EXPECT_NEAR(L2Norm(Decode(plan, EncodeAll(encoder), 1)->mean_delta).value(), c.clip, 1e-4);
  }
}

TEST(PackedEncoderTest, BlocksInAnyOrderMakeTheSameVectorAndTheDeltaMayGo) {
  EncodingConfig c = Packed(2 * kEncodeBlockElements + 777, 3);
  c.noise_stddev = 3;
  auto delta = std::make_unique<std::vector<float>>(Weights(c.elements, 5, 0.001F));
  const Encoder encoder = Encoder::Make(Plan(c), *delta, 1, {}, Seed(9)).value();
  const auto whole = EncodeAll(encoder);
  delta.reset();  // the encoder has its rotated copy
  std::vector<uint32_t> parts(whole.size());
  const std::span<uint32_t> out(parts);
  ASSERT_TRUE(encoder.Encode(2 * kEncodeBlockElements, out.subspan(2 * kEncodeBlockElements)).ok());
  ASSERT_TRUE(encoder.Encode(0, out.first(2 * kEncodeBlockElements)).ok());
  EXPECT_EQ(parts, whole);
}

TEST(PackedEncoderTest, AnotherAttemptsRotationDoesNotDecode) {
  EncodingConfig c = Packed(1000, 1);
  c.scale = 1e5;
  const std::vector<float> delta = Weights(1000, 1, 0.01F);
  const std::vector<double> expected(delta.begin(), delta.end());
  const auto words = EncodeAll(Encoder::Make(Plan(c), delta, 1, {}, Seed(1)).value());
  EncodingConfig other = c;
  other.rotation = RotationSeed({crypto::Sha256(AsBytes("job")), 3, 2});
  EXPECT_LT(Distance(Decode(Plan(c), words, 1)->mean_delta, expected), 0.02);
  EXPECT_GT(Distance(Decode(Plan(other), words, 1)->mean_delta, expected), 0.1);
}

TEST(PackedEncoderTest, RefusesNumbersThatAreNoneBeforeItRotates) {
  std::vector<float> delta(1000, 0.001F);
  delta[17] = std::numeric_limits<float>::infinity();
  const Status status = Encoder::Make(Plan(Packed(1000, 1)), delta, 1, {}, Seed(1)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("element 17 of 1000"), std::string_view::npos);
}

// ---- Sums over privacy units.

/// A round's integers over units with gradients of d elements, clipped to 1, and the plan that they travel
/// by. On the coarsest grid, four steps to a coordinate of a clipped gradient: rounding shows most there.
struct UnitSumCase {
  explicit UnitSumCase(uint64_t d, uint64_t largest, uint32_t bits = kPlainBits)
      : grid(GradientGrid::Make({.elements = d, .clip = 1, .grid = GradientGrid::SumGrid(1, d, 1e9, bits)})
                 .value()) {
    EncodingConfig c = Config(d, 3);
    c.rounding = Rounding::kIntegers;
    c.max_weight = 1;
    c.modulus_bits = bits;
    c.scale = 1000;
    c.unit_sensitivity = grid.sensitivity();
    c.largest = largest;
    plan = Plan(c);
  }
  std::vector<float> Sum(const std::vector<std::vector<float>>& units) const {
    GridSum sum(grid);
    for (const auto& unit : units) EXPECT_TRUE(sum.Add(unit, 1).ok());
    std::vector<float> out(grid.config().elements);
    EXPECT_TRUE(sum.TakeIntegers(plan.config().largest, out).ok());
    return out;
  }
  /// The words of a site with these units, without noise, read as integers.
  std::vector<int32_t> Encoded(const std::vector<std::vector<float>>& units, uint8_t seed) const {
    std::vector<int32_t> out;
    for (const uint32_t word : EncodeAll(Encoder::Make(plan, Sum(units), 1, {}, Seed(seed)).value()))
      out.push_back(CentreLift(word, plan.config().modulus_bits));
    return out;
  }
  GradientGrid grid;
  EncodingPlan plan;
};

uint64_t SquaredDistance(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  uint64_t out = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t by = int64_t{a[i]} - b[i];
    out += static_cast<uint64_t>(by * by);
  }
  return out;
}

// Neighbouring datasets by brute force, from what the trainer sums to what would be masked: whichever unit is
// taken out, long or short, clamped or not, the words move by at most the plan's sensitivity. Units that are
// far too long, and one as long as the clip allows whose coordinates all lie low in their cells, fail here
// when the clip or the rounding to nearest is left out.
TEST(UnitSumEncoderTest, TakingAnyUnitOutMovesTheWordsByAtMostTheSensitivity) {
  for (const uint64_t largest : {kLargestInteger, uint64_t{7}}) {
    for (const uint64_t d : {uint64_t{1}, uint64_t{40}, kEncodeBlockElements + 3}) {
      const UnitSumCase sums(d, largest);
      std::vector<std::vector<float>> units;
      for (uint32_t u = 0; u < 6; ++u)
        units.push_back(Weights(d, u, u % 2 == 0 ? 100.0F : 0.3F / static_cast<float>(std::sqrt(d))));
      units.emplace_back(d);
      for (size_t i = 0; i < d; ++i)
        units.back()[i] = static_cast<float>((i % 2 == 0 ? 3.01 : 4.79) * sums.grid.grid());
      const auto whole = sums.Encoded(units, 1);
      uint64_t longest = 0;
      for (size_t u = 0; u < units.size(); ++u) {
        auto without = units;
        without.erase(without.begin() + static_cast<ptrdiff_t>(u));
        const uint64_t moved = SquaredDistance(whole, sums.Encoded(without, 2));
        EXPECT_LE(moved, sums.plan.sensitivity_squared()) << d << " " << u << " " << largest;
        longest = std::max(longest, moved);
      }
      if (largest == kLargestInteger) {
        EXPECT_GT(static_cast<double>(longest), 0.75 * static_cast<double>(sums.plan.sensitivity_squared()))
            << d;
      }
    }
  }
}

TEST(UnitSumEncoderTest, SumsOfSitesDecodeToTheStepInEitherKindOfWords) {
  for (const uint32_t bits : {kPlainBits, kPackedBits}) {
    const UnitSumCase sums(500, 30'000, bits);
    std::vector<uint32_t> total(500);
    std::vector<double> expected(500);
    for (uint32_t site = 0; site < 3; ++site) {
      const std::vector<float> sum = sums.Sum({Weights(500, site), Weights(500, site + 10, 0.01F)});
      const auto words = EncodeAll(Encoder::Make(sums.plan, sum, 1, {}, Seed(1)).value());
      Bytes packed(VectorBytes(500, bits));
      PackWords(words, bits, packed);
      AddPackedWords(packed, bits, total);
      for (size_t i = 0; i < sum.size(); ++i) expected[i] += sum[i];
    }
    const DecodedSum back = Decode(sums.plan, total, 3).value();
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(back.mean_delta[i], static_cast<float>(expected[i] / 3000)) << i;
  }
}

TEST(UnitSumEncoderTest, RefusesWhatNoSumOfIntegersIs) {
  const UnitSumCase sums(100, 50);
  const auto with = [&](float value) {
    std::vector<float> delta(100, 7);
    delta[42] = value;
    return Encoder::Make(sums.plan, delta, 1, {}, Seed(1)).status();
  };
  EXPECT_TRUE(with(-50).ok());
  for (const float bad : {0.5F, 50.001F, 51.0F, -51.0F, 1e30F, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(with(bad).code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(Message(with(bad)).find("element 42 is no integer from -50 to 50"), std::string_view::npos);
  }
}

TEST(UnitSumEncoderTest, NoiseOfItsOwnIsAddedToEveryIntegerAndMetric) {
  EncodingConfig c = UnitSumCase(100'000, 1000).plan.config();
  c.noise_stddev = 20;
  c.metrics = {
      {.name = MetricName::kTrainTokens, .bound = 2, .scale = 1000, .noise_stddev = 30, .sensitivity = 10}};
  const std::vector<float> delta(c.elements, -3);
  const auto words = EncodeAll(Encoder::Make(Plan(c), delta, 1, std::vector<double>{1.5}, Seed(3)).value());
  double squares = 0;
  for (size_t i = 0; i < delta.size(); ++i) {
    const double noise = static_cast<int32_t>(words[i]) + 3;
    squares += noise * noise;
  }
  // Six standard deviations of an estimate of a variance from so many draws.
  EXPECT_NEAR(squares / static_cast<double>(c.elements) / 400, 1,
              6 * std::sqrt(2.0 / static_cast<double>(c.elements)));
  EXPECT_NEAR(static_cast<int32_t>(words.back()), 1500, 10 * 30);
  EXPECT_NE(words.back(), 1500U);
}

}  // namespace
}  // namespace concordat
