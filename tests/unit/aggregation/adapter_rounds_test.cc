// The initial adapter, the server's step and the content-addressed chain between rounds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "aggregation/adapter_blob.h"
#include "aggregation/initial_adapter.h"
#include "aggregation/server_optimizer.h"
#include "privacy/crypto/hash.h"

namespace concordat {
namespace {

AdapterLayout Layout(LoraMethod method, uint32_t rank = 4) {
  const ModelShape shape{
      .layers = 2, .hidden = 48, .intermediate = 96, .heads = 6, .kv_heads = 2, .head_dim = 8};
  const LoraSpec spec{.rank = rank,
                      .alpha = 8,
                      .targets = {kAllLoraTargets.begin(), kAllLoraTargets.end()},
                      .method = method};
  return AdapterLayout::Make(shape, spec).value();
}

Digest Seed(uint8_t v) {
  Digest d;
  d.bytes[5] = v;
  return d;
}

ByteView AsBytes(const std::vector<float>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(float)};
}

TEST(InitialAdapterTest, BIsZeroAndAIsUniformWithinOneOverRootIn) {
  const AdapterLayout layout = Layout(LoraMethod::kFedIt, 64);
  const std::vector<float> adapter = InitialAdapter(layout, Seed(1)).value();
  for (const AdapterTensor& t : layout.tensors()) {
    double squares = 0, sum = 0, largest = 0;
    for (uint64_t i = 0; i < t.elements(); ++i) {
      const double v = adapter[t.offset + i];
      squares += v * v;
      sum += v;
      largest = std::max(largest, std::abs(v));
    }
    if (t.factor == LoraFactor::kB) {
      EXPECT_EQ(largest, 0) << t.PeftName();
      continue;
    }
    const double bound = 1 / std::sqrt(static_cast<double>(t.cols)), n = static_cast<double>(t.elements());
    EXPECT_LE(largest, bound) << t.PeftName();
    EXPECT_GT(largest, 0.99 * bound) << t.PeftName();
    // Variance of a uniform is bound²/3; six standard deviations (false alarm 2e-9 each).
    EXPECT_NEAR(squares / n / (bound * bound / 3), 1, 6 * std::sqrt(0.8 / n)) << t.PeftName();
    EXPECT_LT(std::abs(sum / n), 6 * bound / std::sqrt(3 * n)) << t.PeftName();
  }
}

/// `count` vectors of `length`, elements `step` apart and vectors `stride`: orthogonal, each of squared
/// length `square`.
void ExpectOrthogonal(const float* first, uint64_t count, uint64_t length, uint64_t stride, uint64_t step,
                      double square) {
  for (uint64_t p = 0; p < count; ++p)
    for (uint64_t q = 0; q <= p; ++q) {
      double dot = 0;
      for (uint64_t i = 0; i < length; ++i)
        dot += static_cast<double>(first[p * stride + i * step]) * first[q * stride + i * step];
      // f32 storage: each product is off by 6e-8 relative.
      ASSERT_NEAR(dot / square, p == q ? 1.0 : 0.0, 3e-7) << p << " " << q;
    }
}

TEST(InitialAdapterTest, FfaRowsAreOrthonormalOverRootThree) {
  for (const uint32_t rank : {1U, 4U, 48U}) {
    const AdapterLayout layout = Layout(LoraMethod::kFfa, rank);
    const std::vector<float> adapter = InitialAdapter(layout, Seed(1)).value();
    for (const AdapterTensor& t : layout.tensors()) {
      if (t.factor == LoraFactor::kB) continue;
      SCOPED_TRACE(t.PeftName());
      ExpectOrthogonal(adapter.data() + t.offset, t.rows, t.cols, t.cols, 1, 1.0 / 3);
    }
  }
}

TEST(InitialAdapterTest, ACoreLiesBetweenOrthogonalRowsAndOrthogonalColumnsAndIsZero) {
  for (const uint32_t rank : {1U, 4U, 16U}) {  // 16: as many as k's outputs
    const AdapterLayout layout = Layout(LoraMethod::kCore, rank);
    const std::vector<float> adapter = InitialAdapter(layout, Seed(1)).value();
    for (const AdapterTensor& t : layout.tensors()) {
      SCOPED_TRACE(t.PeftName());
      const float* first = adapter.data() + t.offset;
      if (t.factor == LoraFactor::kA) {
        ExpectOrthogonal(first, t.rows, t.cols, t.cols, 1, 1.0 / 3);
      } else if (t.factor == LoraFactor::kB) {
        const double square = static_cast<double>(t.rows) / rank;
        ExpectOrthogonal(first, t.cols, t.rows, 1, t.cols, square);
      } else {
        EXPECT_EQ(std::count(first, first + t.elements(), 0.0F), static_cast<int64_t>(t.elements()));
      }
    }
  }
}

TEST(InitialAdapterTest, FfaRefusesMoreRowsThanColumns) {
  EXPECT_EQ(InitialAdapter(Layout(LoraMethod::kFfa, 49), Seed(1)).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(InitialAdapterTest, EachTensorAndEachSeedHasItsOwnValues) {
  for (const LoraMethod method : kAllLoraMethods) {
    const AdapterLayout layout = Layout(method);
    const std::vector<float> adapter = InitialAdapter(layout, Seed(1)).value();
    std::set<float> firsts;
    size_t tensors = 0;
    for (const AdapterTensor& t : layout.tensors())
      if (t.factor == LoraFactor::kA || (t.factor == LoraFactor::kB && method == LoraMethod::kCore)) {
        firsts.insert(adapter[t.offset]);
        ++tensors;
      }
    EXPECT_EQ(firsts.size(), tensors);
    EXPECT_EQ(adapter, InitialAdapter(layout, Seed(1)).value());
    EXPECT_NE(adapter, InitialAdapter(layout, Seed(2)).value());
  }
}

// The bits themselves: a compiler or machine that differs fails here. The values are this code's own; what
// they must satisfy is tested above.
TEST(InitialAdapterTest, HasTheSameBitsOnEveryMachine) {
  EXPECT_EQ(crypto::Sha256(AsBytes(InitialAdapter(Layout(LoraMethod::kFedIt), Seed(1)).value())).hex(),
            "a193e4d07cd7ff2ff133b1fb189bb526f802f599e68b25a363e652aca45e81c7");
  EXPECT_EQ(crypto::Sha256(AsBytes(InitialAdapter(Layout(LoraMethod::kFfa), Seed(1)).value())).hex(),
            "4e12e61d37d3e97b2e0bcab3b1f12e0c71b66d2a124bb988863fa767ca33ecff");
  EXPECT_EQ(crypto::Sha256(AsBytes(InitialAdapter(Layout(LoraMethod::kCore), Seed(1)).value())).hex(),
            "5901eb45ff94660fb788475a3f00ada9c37411ab2d5989a0559660d761023690");
}

TEST(ServerOptimizerTest, FedAvgAddsTheMeanDeltaToTrainedTensorsOnly) {
  for (const LoraMethod method : kAllLoraMethods) {
    const AdapterLayout layout = Layout(method);
    const std::vector<float> old = InitialAdapter(layout, Seed(1)).value();
    std::vector<float> delta(layout.delta_elements());
    for (size_t i = 0; i < delta.size(); ++i) delta[i] = static_cast<float>(i + 1) * 1e-3F;
    const std::vector<float> made = NewAdapter(layout, old, delta).value();
    for (const AdapterTensor& t : layout.tensors())
      for (uint64_t i = 0; i < t.elements(); ++i) {
        const float before = old[t.offset + i];
        const float expected =
            t.trained ? static_cast<float>(static_cast<double>(before) + delta[t.delta_offset + i]) : before;
        ASSERT_EQ(made[t.offset + i], expected) << t.PeftName();
      }
  }
}

TEST(ServerOptimizerTest, TheRuleInItsInterfaceIsTheFunction) {
  const AdapterLayout layout = Layout(LoraMethod::kFedIt);
  const std::vector<float> old = InitialAdapter(layout, Seed(1)).value();
  const std::vector<float> delta(layout.delta_elements(), 0.25F);
  const auto optimizer = MakeServerOptimizer({.learning_rate = 0.5}).value();
  const auto result = optimizer->Step(layout, old, delta, {}).value();
  EXPECT_EQ(result.adapter, NewAdapter(layout, old, delta, 0.5).value());
  EXPECT_TRUE(result.state.empty());
  EXPECT_FALSE(optimizer->Step(layout, old, delta, Bytes{1}).ok());
}

TEST(ServerOptimizerTest, RefusesSizesRatesAndResultsThatMakeNoSense) {
  const AdapterLayout layout = Layout(LoraMethod::kFedIt);
  std::vector<float> old(layout.adapter_elements()), delta(layout.delta_elements());
  EXPECT_FALSE(NewAdapter(layout, std::vector<float>(3), delta).ok());
  EXPECT_FALSE(NewAdapter(layout, old, std::vector<float>(3)).ok());
  delta[3] = std::numeric_limits<float>::max();
  old[3] = std::numeric_limits<float>::max();
  EXPECT_EQ(NewAdapter(layout, old, delta).status().code(), StatusCode::kDataLoss);
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()})
    EXPECT_FALSE(MakeServerOptimizer({.learning_rate = bad}).ok());
  EXPECT_EQ(ParseServerRule(ServerRuleText(ServerRule::kFedAvg)).value(), ServerRule::kFedAvg);
  EXPECT_FALSE(ParseServerRule("fedadam").ok());
}

class AdapterBlobTest : public ::testing::Test {
 protected:
  AdapterBlob Make(RoundIndex round) const {
    AdapterBlob blob;
    blob.job = Seed(9);
    blob.round = round;
    if (round > 0) blob.parent = Seed(8);
    blob.layout = LayoutDigest(layout_);
    blob.weights = InitialAdapter(layout_, Seed(1)).value();
    return blob;
  }
  AdapterLayout layout_ = Layout(LoraMethod::kFedIt);
};

TEST_F(AdapterBlobTest, IsReadBackBitForBit) {
  for (const RoundIndex round : {0U, 5U}) {
    const AdapterBlob blob = Make(round);
    const Bytes bytes = EncodeAdapterBlob(blob);
    EXPECT_EQ(bytes.size(), 8 + 32 + 4 + 32 + 32 + 8 + 4 * blob.weights.size());
    EXPECT_EQ(DecodeAdapterBlob(bytes, layout_).value(), blob);
  }
}

TEST_F(AdapterBlobTest, HashChangesWithEveryField) {
  std::set<Digest> hashes;
  AdapterBlob blob = Make(5);
  hashes.insert(AdapterHash(EncodeAdapterBlob(blob)));
  blob.round = 6;
  hashes.insert(AdapterHash(EncodeAdapterBlob(blob)));
  blob.job = Seed(1);
  hashes.insert(AdapterHash(EncodeAdapterBlob(blob)));
  blob.parent = Seed(2);
  hashes.insert(AdapterHash(EncodeAdapterBlob(blob)));
  blob.weights[0] += 1;
  hashes.insert(AdapterHash(EncodeAdapterBlob(blob)));
  EXPECT_EQ(hashes.size(), 5U);
}

TEST_F(AdapterBlobTest, RefusesAnyLengthButItsOwn) {
  const Bytes bytes = EncodeAdapterBlob(Make(5));
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, size_t{116}, bytes.size() - 1})
    EXPECT_EQ(DecodeAdapterBlob(ByteView(bytes).first(size), layout_).status().code(),
              StatusCode::kInvalidArgument)
        << size;
  Bytes longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(DecodeAdapterBlob(longer, layout_).ok());
}

TEST_F(AdapterBlobTest, RefusesAnotherMagicLayoutCountOrAWeightThatIsNotFinite) {
  Bytes bad = EncodeAdapterBlob(Make(5));
  bad[0] ^= 1;
  EXPECT_FALSE(DecodeAdapterBlob(bad, layout_).ok());
  EXPECT_FALSE(DecodeAdapterBlob(EncodeAdapterBlob(Make(5)), Layout(LoraMethod::kFfa)).ok());
  AdapterBlob blob = Make(5);
  blob.weights.pop_back();
  EXPECT_FALSE(DecodeAdapterBlob(EncodeAdapterBlob(blob), layout_).ok());
  blob = Make(5);
  blob.weights[17] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(DecodeAdapterBlob(EncodeAdapterBlob(blob), layout_).ok());
  // A count that would overflow when multiplied by four.
  bad = EncodeAdapterBlob(Make(5));
  for (size_t i = 108; i < 116; ++i) bad[i] = 0xff;
  EXPECT_FALSE(DecodeAdapterBlob(bad, layout_).ok());
}

TEST_F(AdapterBlobTest, OnlyTheFirstHasNoParent) {
  AdapterBlob blob = Make(5);
  blob.parent = Digest{};
  EXPECT_FALSE(DecodeAdapterBlob(EncodeAdapterBlob(blob), layout_).ok());
  blob = Make(0);
  blob.parent = Seed(1);
  EXPECT_FALSE(DecodeAdapterBlob(EncodeAdapterBlob(blob), layout_).ok());
}

TEST_F(AdapterBlobTest, ChainHoldsOnlyForTheNextRoundOfTheSameJob) {
  const AdapterBlob parent = Make(0);
  const Digest hash = AdapterHash(EncodeAdapterBlob(parent));
  AdapterBlob child = Make(1);
  child.parent = hash;
  EXPECT_TRUE(CheckChain(parent, hash, child).ok());
  AdapterBlob bad = child;
  bad.parent = Seed(3);
  EXPECT_EQ(CheckChain(parent, hash, bad).code(), StatusCode::kDataLoss);
  bad = child;
  bad.round = 2;
  EXPECT_EQ(CheckChain(parent, hash, bad).code(), StatusCode::kDataLoss);
  bad = child;
  bad.job = Seed(3);
  EXPECT_EQ(CheckChain(parent, hash, bad).code(), StatusCode::kDataLoss);
  bad = child;
  bad.layout = Seed(3);
  EXPECT_EQ(CheckChain(parent, hash, bad).code(), StatusCode::kDataLoss);
}

TEST_F(AdapterBlobTest, AFactorThatIsNotTrainedMayNotChange) {
  for (const LoraMethod method : kAllLoraMethods) {
    const AdapterLayout layout = Layout(method);
    AdapterBlob known;
    known.weights.assign(layout.adapter_elements(), 0.5F);
    EXPECT_TRUE(CheckFrozen(layout, known, known).ok());
    for (const AdapterTensor& t : layout.tensors()) {
      AdapterBlob blob = known;
      blob.weights[t.offset + t.elements() - 1] = 0.25F;
      const Status checked = CheckFrozen(layout, known, blob);
      EXPECT_EQ(checked.code(), t.trained ? StatusCode::kOk : StatusCode::kDataLoss) << t.PeftName();
      EXPECT_EQ(Message(checked).find(t.PeftName()) != std::string::npos, !t.trained);
    }
  }
}

TEST_F(AdapterBlobTest, LayoutDigestTellsShapesAndSpecsApart) {
  std::set<Digest> digests = {LayoutDigest(layout_), LayoutDigest(Layout(LoraMethod::kFfa)),
                              LayoutDigest(Layout(LoraMethod::kCore)),
                              LayoutDigest(Layout(LoraMethod::kFedIt, 5))};
  ModelShape shape = layout_.shape();
  shape.layers = 3;
  digests.insert(LayoutDigest(AdapterLayout::Make(shape, layout_.spec()).value()));
  LoraSpec spec = layout_.spec();
  spec.alpha = 9;
  digests.insert(LayoutDigest(AdapterLayout::Make(layout_.shape(), spec).value()));
  EXPECT_EQ(digests.size(), 6U);
}

// Blobs and journals that exist name these.
TEST_F(AdapterBlobTest, LayoutDigestsStayWhatTheyAre) {
  EXPECT_EQ(LayoutDigest(Layout(LoraMethod::kFedIt)).hex(),
            "48486e33fc9b35c40d6d59a9c4fdd514d0252ef0d10eeb4cee265e10a0c4b5d1");
  EXPECT_EQ(LayoutDigest(Layout(LoraMethod::kFfa)).hex(),
            "317088cc19a898b9a66644c271ecac7eb330b1d8e988281e26824b8840398c36");
  EXPECT_EQ(LayoutDigest(Layout(LoraMethod::kCore)).hex(),
            "e5ae84d783df70cc77c2becffadfe87ab74bf061b6496a3a4bffdbfada4fc4a0");
}

}  // namespace
}  // namespace concordat
