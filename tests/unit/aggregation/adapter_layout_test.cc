#include "aggregation/adapter_layout.h"

#include <gtest/gtest.h>

namespace concordat {
namespace {

const ModelShape kShape{
    .layers = 3, .hidden = 8, .intermediate = 12, .heads = 4, .kv_heads = 2, .head_dim = 6};

LoraSpec Spec(std::vector<LoraTarget> targets = {kAllLoraTargets.begin(), kAllLoraTargets.end()}) {
  return {.rank = 2, .alpha = 4, .targets = std::move(targets), .method = LoraMethod::kFedIt};
}

void ExpectRefused(const ModelShape& shape, const LoraSpec& spec, std::string_view field) {
  const auto layout = AdapterLayout::Make(shape, spec);
  ASSERT_FALSE(layout.ok()) << field;
  EXPECT_EQ(layout.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(layout.status()).find(field), std::string_view::npos) << layout.status();
}

TEST(AdapterLayoutTest, PlacesEveryElementOnceInBothVectors) {
  for (const LoraMethod method : kAllLoraMethods) {
    const bool core = method == LoraMethod::kCore;
    LoraSpec spec = Spec();
    spec.method = method;
    const auto layout = AdapterLayout::Make(kShape, spec);
    ASSERT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->tensors().size(), 3u * 7 * (core ? 3 : 2));
    uint64_t adapter = 0, delta = 0;
    for (const AdapterTensor& t : layout->tensors()) {
      EXPECT_EQ(t.offset, adapter);
      adapter += t.elements();
      EXPECT_EQ(t.trained, core ? t.factor == LoraFactor::kR
                                : t.factor == LoraFactor::kB || method == LoraMethod::kFedIt);
      if (t.trained) {
        EXPECT_EQ(t.delta_offset, delta);
        delta += t.elements();
      }
    }
    EXPECT_EQ(adapter, layout->adapter_elements());
    EXPECT_EQ(delta, layout->delta_elements());
  }
}

TEST(AdapterLayoutTest, TakesWidthsFromTheModelsShape) {
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kQ), 24u);
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kK), 12u);
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kV), 12u);
  EXPECT_EQ(AdapterLayout::InWidth(kShape, LoraTarget::kO), 24u);
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kO), 8u);
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kGate), 12u);
  EXPECT_EQ(AdapterLayout::InWidth(kShape, LoraTarget::kDown), 12u);
  EXPECT_EQ(AdapterLayout::OutWidth(kShape, LoraTarget::kDown), 8u);
}

TEST(AdapterLayoutTest, NamesTensorsAsPeftDoes) {
  const auto layout = AdapterLayout::Make(kShape, Spec({LoraTarget::kK, LoraTarget::kDown}));
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->tensors()[0].PeftName(),
            "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight");
  EXPECT_EQ(layout->tensors()[7].PeftName(), "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight");
}

TEST(AdapterLayoutTest, CountsSmolLm2WithRankSixteenOnSevenLinears) {
  const ModelShape smol{
      .layers = 30, .hidden = 576, .intermediate = 1536, .heads = 9, .kv_heads = 3, .head_dim = 64};
  LoraSpec spec = Spec();
  spec.rank = 16;
  const auto layout = AdapterLayout::Make(smol, spec);
  ASSERT_TRUE(layout.ok());
  // 30 · 16 · (q 1152 + k 768 + v 768 + o 1152 + gate 2112 + up 2112 + down 2112).
  EXPECT_EQ(layout->adapter_elements(), 30u * 16 * 10176);
}

TEST(AdapterLayoutTest, ACoreHasRankTimesRankElementsALayerThatLeaveAndEveryFactorInTheAdapter) {
  const ModelShape smol{
      .layers = 30, .hidden = 576, .intermediate = 1536, .heads = 9, .kv_heads = 3, .head_dim = 64};
  LoraSpec spec = Spec();
  spec.rank = 64;
  spec.method = LoraMethod::kCore;
  const auto layout = AdapterLayout::Make(smol, spec);
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_EQ(layout->delta_elements(), 30u * 7 * 64 * 64);
  EXPECT_EQ(layout->adapter_elements(), 30u * (64 * 10176 + 7 * 64 * 64));
  const auto& tensors = layout->tensors();
  EXPECT_EQ(std::vector({tensors[3].factor, tensors[4].factor, tensors[5].factor}),
            (std::vector{LoraFactor::kA, LoraFactor::kB, LoraFactor::kR}));
  // The second target, k: 576 in, 192 out.
  EXPECT_EQ(tensors[3].rows, 64u);
  EXPECT_EQ(tensors[3].cols, 576u);
  EXPECT_EQ(tensors[4].rows, 192u);
  EXPECT_EQ(tensors[4].cols, 64u);
  EXPECT_EQ(tensors[5].rows, 64u);
  EXPECT_EQ(tensors[5].cols, 64u);
  EXPECT_EQ(tensors[5].offset, 64u * (576 + 576) + 64 * 64 + 64 * (576 + 192));
  EXPECT_EQ(tensors[5].delta_offset, 64u * 64);
  EXPECT_EQ(tensors[5].PeftName(), "base_model.model.model.layers.0.self_attn.k_proj.lora_R.weight");
}

TEST(AdapterLayoutTest, RefusesACoreOfMoreDimensionsThanALayerHas) {
  LoraSpec spec = Spec();
  spec.method = LoraMethod::kCore;
  spec.rank = 8;  // hidden
  EXPECT_TRUE(AdapterLayout::Make(kShape, spec).ok());
  spec.rank = 9;
  ExpectRefused(kShape, spec, "rank: with method core q_proj takes at most 8, its narrower side, got 9");
  ModelShape narrow = kShape;  // what comes out of k and v: 2 × 2
  narrow.head_dim = 2;
  spec.rank = 5;
  ExpectRefused(narrow, spec, "k_proj takes at most 4");
  spec.targets = {LoraTarget::kQ, LoraTarget::kDown};
  EXPECT_TRUE(AdapterLayout::Make(narrow, spec).ok());
  spec.method = LoraMethod::kFedIt;
  spec.rank = 9;
  EXPECT_TRUE(AdapterLayout::Make(narrow, spec).ok()) << "nothing orthonormal there";
}

TEST(AdapterLayoutTest, MethodsHaveTheNamesOfJobFiles) {
  EXPECT_EQ(LoraMethodName(LoraMethod::kFedIt), "fedit");
  EXPECT_EQ(LoraMethodName(LoraMethod::kFfa), "ffa");
  EXPECT_EQ(LoraMethodName(LoraMethod::kCore), "core");
  LoraSpec spec = Spec();
  spec.method = static_cast<LoraMethod>(3);
  EXPECT_EQ(AdapterLayout::Make(kShape, spec).status().code(), StatusCode::kInvalidArgument);
}

TEST(AdapterLayoutTest, RoundTripsTargetNames) {
  for (const LoraTarget t : kAllLoraTargets) {
    const auto parsed = ParseLoraTarget(LoraTargetName(t));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, t);
  }
  EXPECT_EQ(ParseLoraTarget("qkv_proj").status().code(), StatusCode::kInvalidArgument);
}

TEST(AdapterLayoutTest, RefusesZeroAndAbsurdDimensions) {
  for (uint32_t ModelShape::*field : {&ModelShape::layers, &ModelShape::hidden, &ModelShape::intermediate,
                                      &ModelShape::heads, &ModelShape::kv_heads, &ModelShape::head_dim}) {
    for (const uint32_t bad : {0u, 0xffffffffu}) {
      ModelShape shape = kShape;
      shape.*field = bad;
      EXPECT_EQ(AdapterLayout::Make(shape, Spec()).status().code(), StatusCode::kInvalidArgument);
    }
  }
  ModelShape shape = kShape;
  shape.kv_heads = 3;
  ExpectRefused(shape, Spec(), "kv_heads");
  shape = kShape;
  shape.head_dim = 5;
  ExpectRefused(shape, Spec(), "head_dim");
}

TEST(AdapterLayoutTest, RefusesBadSpecs) {
  LoraSpec spec = Spec();
  spec.rank = 0;
  ExpectRefused(kShape, spec, "rank");
  spec.rank = 257;
  ExpectRefused(kShape, spec, "rank");
  spec = Spec();
  for (const double alpha :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    spec.alpha = alpha;
    ExpectRefused(kShape, spec, "alpha");
  }
  ExpectRefused(kShape, Spec({}), "targets");
  ExpectRefused(kShape, Spec({LoraTarget::kQ, LoraTarget::kQ}), "twice");
  ExpectRefused(kShape, Spec({LoraTarget::kV, LoraTarget::kQ}), "ascending");
}

TEST(AdapterLayoutTest, RefusesMoreElementsThanFit) {
  const ModelShape big{
      .layers = 1024, .hidden = 65536, .intermediate = 65536, .heads = 512, .kv_heads = 512, .head_dim = 128};
  LoraSpec spec = Spec();
  spec.rank = 256;
  ExpectRefused(big, spec, "elements");
}

}  // namespace
}  // namespace concordat
