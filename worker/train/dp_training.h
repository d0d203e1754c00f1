#ifndef CONCORDAT_WORKER_TRAIN_DP_TRAINING_H_
#define CONCORDAT_WORKER_TRAIN_DP_TRAINING_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "privacy/mechanism/poisson_sampler.h"
#include "worker/train/engine.h"

namespace concordat::train {

/// Which sequences belong to which privacy unit (person or record). Unit numbers follow the order of their
/// owners' digests, so that neither files nor their order say anything.
class PrivacyUnits {
 public:
  PrivacyUnits() = default;
  /// \param owners for each sequence, in order, a digest that is the same exactly when the unit is the same:
  /// the keyed digest of the record that a window was cut from (model::Example::document), or of the person's
  /// id. All windows of one record are then one unit; exact duplicates of a record are, too. At most 2^32
  /// − 1.
  explicit PrivacyUnits(std::span<const Digest> owners);

  uint32_t size() const { return static_cast<uint32_t>(first_.size() - 1); }
  /// Indexes of the unit's sequences, ascending. `unit` below size().
  std::span<const uint32_t> sequences(uint32_t unit) const {
    return std::span(order_).subspan(first_[unit], first_[unit + 1] - first_[unit]);
  }

 private:
  std::vector<uint32_t> order_;
  std::vector<size_t> first_{0};  // of each unit in order_, and the end
};

/// Public parameters of DP-SGD over a dataset.
struct DpTrainingConfig {
  DpStepConfig step;
  SamplingRate rate;             ///< q of every unit in every step
  uint32_t physical_batch = 16;  ///< sequences in one call of the engine, at least 1
};

/// Steps of DP-SGD: draws units by Poisson sampling, hands their sequences to the engine in physical batches,
/// ends each step with noise. A step without any unit is a step like every other. Step s takes its draw and
/// its noise from (root, s) alone: repeated after a crash with the same adapter and data it gives the same
/// bits. One thread, that of the engine.
class DpTraining {
 public:
  /// \param engine ready to train (ResetOptimizer), and \param sequences and \param units: all outlive this.
  /// \param root from the operating system, kept by the region, never in a job.
  /// InvalidArgument: units and sequences do not match, physical_batch is 0.
  static StatusOr<DpTraining> Make(Engine& engine, std::span<const Sequence> sequences,
                                   const PrivacyUnits& units, const DpTrainingConfig& config,
                                   const Secret32& root);

  /// One logical step. \param on_batch called after every physical batch, may be empty. Errors as
  /// Engine::DpUpdate; the adapter is then as before.
  StatusOr<DpStepResult> Step(uint64_t step, double learning_rate,
                              const std::function<void()>& on_batch = {});

  /// Every unit once, and their sum as Engine::DpTakeSum gives it: no draw, no noise, no step. A sum is
  /// linear in the units: that of two sets is the sum of theirs, but for the clamp.
  StatusOr<DpStepResult> Sum(uint64_t largest, std::span<float> out,
                             const std::function<void()>& on_batch = {});

 private:
  Status Feed(std::span<const uint32_t> units, const std::function<void()>& on_batch);

  DpTraining(Engine& engine, std::span<const Sequence> sequences, const PrivacyUnits& units,
             const DpTrainingConfig& config, const Secret32& root)
      : engine_(engine),
        sequences_(sequences),
        units_(units),
        config_(config),
        sampler_(config.rate, units.size()),
        root_(root) {}

  Engine& engine_;
  std::span<const Sequence> sequences_;
  const PrivacyUnits& units_;
  DpTrainingConfig config_;
  PoissonSampler sampler_;
  Secret32 root_;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_DP_TRAINING_H_
