#include <algorithm>

#include "tests/unit/worker/core/federation.h"

// A job whose regions send small cores between public factors, between real worker cores.
namespace concordat::worker {
namespace {

using testing::Federation;

TEST(CoreAdapterRoundTest, AWholeJobSumsExactlyAndMovesNothingButR) {
  Federation f("noise_multiplier: 0.05", "", crypto::SignatureProfile::kEd25519, LoraMethod::kCore);
  ASSERT_EQ(f.layout.delta_elements(), 2u * 2 * 4 * 4);
  ASSERT_EQ(*policy::MaskedElements(f.job.spec), f.layout.delta_elements() + policy::kMetricCount);
  const std::vector<float> first = FirstAdapter(f.layout, f.job.id, f.job.spec.seed)->weights;
  ASSERT_NO_FATAL_FAILURE(testing::PlayExactRounds(f, 3));
  for (auto& region : f.regions)
    EXPECT_EQ(region->uploads.at({f.job.id, 0, 0}).size(),
              4 * (f.layout.delta_elements() + policy::kMetricCount));
  const AdapterBlob last = *DecodeAdapterBlob(f.blobs.at(f.adapter_hash), f.layout);
  EXPECT_EQ(last.round, 3u);
  for (const AdapterTensor& t : f.layout.tensors()) {
    const auto begin = static_cast<ptrdiff_t>(t.offset), end = begin + static_cast<ptrdiff_t>(t.elements());
    const bool same = std::equal(first.begin() + begin, first.begin() + end, last.weights.begin() + begin);
    EXPECT_EQ(same, t.factor != LoraFactor::kR) << t.PeftName();
  }
}

TEST(CoreAdapterRoundTest, ARegionThatAllowsNoCoresStaysOut) {
  Federation f("noise_multiplier: 0.05", "", crypto::SignatureProfile::kEd25519, LoraMethod::kCore);
  f.regions[1]->policy.adapters.methods = {LoraMethod::kFedIt, LoraMethod::kFfa};
  f.StartAll();
  f.Notify();
  ASSERT_FALSE(f.regions[1]->Sent<JobAnswer>().empty());
  EXPECT_EQ(f.regions[1]->Sent<JobAnswer>().back().rules, std::vector{policy::RuleCode::kAdapterMethod});
}

}  // namespace
}  // namespace concordat::worker
