#ifndef CONCORDAT_WORKER_TRAIN_DP_ACCUMULATOR_H_
#define CONCORDAT_WORKER_TRAIN_DP_ACCUMULATOR_H_

#include <memory>
#include <optional>
#include <span>

#include "privacy/mechanism/gradient_grid.h"
#include "worker/train/dp_step.h"

namespace concordat::train {

/// The bookkeeping of one logical step at a time: which unit is open, what it counted, the integer sum of the
/// closed ones. Knows nothing of Torch; whoever computes gradients hands in one vector for each unit. One
/// thread.
class DpAccumulator {
 public:
  /// What one record added to its unit's gradient.
  struct Record {
    double loss_sum = 0;  // nats
    uint64_t target_tokens = 0, correct_tokens = 0, tokens = 0;
  };

  /// InvalidArgument as GradientGrid::Make; divisor or bounds out of range.
  static StatusOr<std::unique_ptr<DpAccumulator>> Make(const DpStepConfig& config, uint64_t elements,
                                                       ForBlocks for_blocks);

  const DpStepConfig& config() const { return config_; }
  /// Forgets everything of an unfinished step.
  void Reset();

  /// Whether a record of `unit` may come now: OK when `unit` is the open one or larger than every one before
  /// it. InvalidArgument: it was closed already; its gradient would be clipped twice and count up to 2C.
  Status Admit(uint64_t unit) const;
  /// Whether the open unit must be closed before a record of `unit`.
  bool MustClose(uint64_t unit) const { return open_.has_value() && *open_ != unit; }
  bool has_open() const { return open_.has_value(); }

  /// One record more of `unit`, which Admit() let in.
  void Count(uint64_t unit, const Record& record);
  /// A record of `unit` whose loss is not finite: the whole unit will be left out.
  void Poison(uint64_t unit, uint64_t tokens);
  /// Closes the open unit. \param gradient of its summed loss over all its records.
  Status Close(std::span<const float> gradient);

  /// Noise, division, and what happened; empty again. FailedPrecondition while a unit is open.
  StatusOr<DpStepResult> Finish(const Secret32& noise_seed, std::span<float> mean);
  /// Instead of Finish: the sum in integers of the grid, clamped, without noise (GridSum::TakeIntegers), and
  /// what happened; empty again. FailedPrecondition while a unit is open.
  StatusOr<DpStepResult> TakeIntegers(uint64_t largest, std::span<float> out);

 private:
  DpAccumulator(const DpStepConfig& config, GradientGrid grid, ForBlocks for_blocks)
      : config_(config), sum_(std::move(grid), std::move(for_blocks)) {}
  void AddMetrics();
  void ClearCounts();

  DpStepConfig config_;
  GridSum sum_;
  DpStepResult result_;
  std::optional<uint64_t> open_;
  std::optional<uint64_t> last_;  // the largest unit seen
  Record unit_;                   // of the open unit, all records
  bool poisoned_ = false;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_DP_ACCUMULATOR_H_
