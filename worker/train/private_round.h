#ifndef CONCORDAT_WORKER_TRAIN_PRIVATE_ROUND_H_
#define CONCORDAT_WORKER_TRAIN_PRIVATE_ROUND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "common/random.h"
#include "worker/model/examples.h"
#include "worker/sandbox/channel.h"
#include "worker/train/dp_training.h"

namespace concordat::train {

/// One round of DP-SGD (Abadi et al. 2016) over persons or records, as a job's UnitPrivacy asks for it. What
/// noise covers, and so what may leave the region: the adapter after the round, and figures(). One thread,
/// that of the engine.
///
/// Every step releases, over one Poisson draw, the gradient's sum with noise of z sensitivities, and loss sum
/// and target tokens with noise of z_m sensitivities each; a step whose draw is empty does the same. Does not
/// hide how long a step takes, which tells how many sequences were drawn to whoever can time it.
///
/// Or, with UnitPrivacy::sum: one sum over every unit, in integers, that gets its noise from who asked for it
/// (docs/decisions/0010-shared-noise-for-records.md). Then TakeSum() takes the place of Step().
class PrivateRound {
 public:
  /// \param engine ready to train (ResetOptimizer). \param examples outlive this. \param task with `privacy`.
  /// \param sequence_tokens of the job: bounds what a unit adds to the figures. \param random the operating
  /// system's: the round's root and its figures' seeds are drawn here, anew for every round, and kept by
  /// nobody. Outlives this.
  /// InvalidArgument: a number out of its range, delta not below one over the number of units; a sum of
  /// drawn units or of several steps.
  /// FailedPrecondition: the unit is a person, and an example names none.
  static StatusOr<std::unique_ptr<PrivateRound>> Make(Engine& engine,
                                                      std::span<const model::Example> examples,
                                                      const sandbox::Train& task, uint32_t sequence_tokens,
                                                      RandomSource& random);

  /// What a step says for the region itself.
  struct StepReport {
    uint64_t tokens = 0;       ///< read; without noise: must not leave the region
    double gradient_norm = 0;  ///< of the mean gradient with its noise
  };
  /// One logical step. \param step 0, 1, … in order, each once. \param on_batch called after every physical
  /// batch, may be empty. Errors as Engine::DpUpdate. FailedPrecondition: the round is a sum.
  StatusOr<StepReport> Step(uint32_t step, double learning_rate, const std::function<void()>& on_batch = {});

  /// **Data of the region**: none of it has noise.
  struct Sum {
    std::vector<float> descent;  ///< minus the sum of the clipped gradients, integers of the grid
    sandbox::RoundSums figures;
    uint64_t tokens = 0;  ///< read
  };
  /// The round's sum; adding a unit adds at most the grid's sensitivity to the length of `descent`, and 0 to
  /// metric_units to each figure. No unit at all: zeros. Errors as Engine::DpTakeSum; FailedPrecondition: the
  /// round is not a sum.
  StatusOr<Sum> TakeSum(const std::function<void()>& on_batch = {});

  /// Over the steps so far, from the noised figures alone; of a sum exact, and not for outside the region.
  struct Figures {
    double mean_loss = 0;        ///< nats per target token, 0 to the job's loss_bound
    uint64_t target_tokens = 0;  ///< noise below zero counts as 0
  };
  Figures figures() const;

 private:
  PrivateRound(const sandbox::UnitPrivacy& privacy, RandomSource& random)
      : privacy_(privacy), random_(random) {}
  Status Count(DpMetrics metrics);

  sandbox::UnitPrivacy privacy_;
  uint64_t elements_ = 0;  // of the delta
  RandomSource& random_;
  std::vector<Sequence> sequences_;
  PrivacyUnits units_;
  std::unique_ptr<DpTraining> training_;  // refers to the two above
  double noised_loss_ = 0;                // nats; of a sum without noise
  double noised_targets_ = 0;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_PRIVATE_ROUND_H_
