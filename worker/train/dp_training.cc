#include "worker/train/dp_training.h"

#include <algorithm>
#include <numeric>

namespace concordat::train {

PrivacyUnits::PrivacyUnits(std::span<const Digest> owners) : order_(owners.size()) {
  std::iota(order_.begin(), order_.end(), 0U);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](uint32_t a, uint32_t b) { return owners[a].bytes < owners[b].bytes; });
  for (size_t i = 1; i <= order_.size(); ++i) {
    if (i == order_.size() || owners[order_[i]].bytes != owners[order_[i - 1]].bytes) first_.push_back(i);
  }
}

StatusOr<DpTraining> DpTraining::Make(Engine& engine, std::span<const Sequence> sequences,
                                      const PrivacyUnits& units, const DpTrainingConfig& config,
                                      const Secret32& root) {
  size_t owned = 0;
  for (uint32_t unit = 0; unit < units.size(); ++unit) owned += units.sequences(unit).size();
  if (owned != sequences.size())
    return InvalidArgument("privacy units own {} sequences, there are {}", owned, sequences.size());
  if (config.physical_batch == 0) return InvalidArgument("a physical batch needs at least one sequence");
  return DpTraining(engine, sequences, units, config, root);
}

Status DpTraining::Feed(std::span<const uint32_t> units, const std::function<void()>& on_batch) {
  RETURN_IF_ERROR(engine_.DpBegin(config_.step));
  std::vector<DpRecord> batch;
  const auto flush = [&]() -> Status {
    RETURN_IF_ERROR(engine_.DpAdd(batch));
    batch.clear();
    if (on_batch) on_batch();
    return OkStatus();
  };
  for (const uint32_t unit : units) {
    for (const uint32_t index : units_.sequences(unit)) {
      batch.push_back({.sequence = sequences_[index], .unit = unit});
      if (batch.size() == config_.physical_batch) RETURN_IF_ERROR(flush());
    }
  }
  return batch.empty() ? OkStatus() : flush();
}

StatusOr<DpStepResult> DpTraining::Step(uint64_t step, double learning_rate,
                                        const std::function<void()>& on_batch) {
  const StepSeeds seeds = StepSeedsFor(root_, step);
  RETURN_IF_ERROR(Feed(sampler_.Draw(seeds.sampling), on_batch));
  return engine_.DpUpdate(seeds.noise, learning_rate);
}

StatusOr<DpStepResult> DpTraining::Sum(uint64_t largest, std::span<float> out,
                                       const std::function<void()>& on_batch) {
  std::vector<uint32_t> everyone(units_.size());
  std::iota(everyone.begin(), everyone.end(), 0U);
  RETURN_IF_ERROR(Feed(everyone, on_batch));
  return engine_.DpTakeSum(largest, out);
}

}  // namespace concordat::train
