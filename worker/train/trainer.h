#ifndef CONCORDAT_WORKER_TRAIN_TRAINER_H_
#define CONCORDAT_WORKER_TRAIN_TRAINER_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/random.h"
#include "worker/model/canaries.h"
#include "worker/model/chat.h"
#include "worker/model/dataset.h"
#include "worker/model/examples.h"
#include "worker/model/tokenizer.h"
#include "worker/model/weight_source.h"
#include "worker/sandbox/channel.h"
#include "worker/train/engine.h"

namespace concordat::train {

/// What happens inside concordat-trainer: a model, a dataset, and rounds and evaluations on them. Knows
/// nothing of networks or of the worker; one thread.
class Trainer {
 public:
  /// Called now and then (about once a second) during long work.
  using OnProgress = std::function<void(const sandbox::TrainerProgress&)>;

  /// \param random the operating system's: what sampling and noise of DP-SGD come from, anew for every
  /// round. Both outlive this.
  Trainer(const Clock& clock, RandomSource& random) : clock_(clock), random_(random) {}

  /// Opens model and dataset, checks the model's hash, splits the documents, plants the region's canaries.
  /// Call it once, locked down.
  /// PermissionDenied when the model's SHA-256 is another; other errors as OpenWeights and ReadDataset give
  /// them.
  StatusOr<sandbox::Ready> Open(const sandbox::Configure& configure);

  /// Makes an engine for this adapter and cuts the documents into sequences. FailedPrecondition before Open;
  /// InvalidArgument when the job's shape is not the model's, or no document has anything to train on and the
  /// job needs one.
  Status Prepare(const sandbox::Prepare& prepare);

  struct Round {
    sandbox::Trained summary;
    std::vector<float>
        delta;  // trained factors only, in the order of AdapterLayout's delta; of a sum integers
  };
  /// Trains from `adapter` (flat, all factors) for one round. The same arguments on the same machine give the
  /// same bits, unless the task asks for privacy: then every call draws units and noise anew, delta, mean
  /// loss and target tokens have their noise (PrivateRound), and progress tells the noised loss. A round that
  /// is one sum repeats itself and has no noise: `delta` is PrivateRound::Sum::descent, and the summary has
  /// its figures. FailedPrecondition before Prepare, and as PrivateRound::Make. InvalidArgument: no step or
  /// no sequence in a batch, a number out of range.
  StatusOr<Round> TrainRound(const sandbox::Train& task, std::span<const float> adapter,
                             const OnProgress& progress);

  /// Bits per byte of the held-out documents, the first `max_documents` in the order of their keyed digests
  /// (0: all), of each its first sequence. An empty `adapter` is the bare base model. With bounds also the
  /// sums over persons or records, each clipped to them; then always of all documents, because which are the
  /// first of many would depend on the others. InvalidArgument: bounds of 0; FailedPrecondition: persons are
  /// asked for and the dataset names none. Nothing else of a dataset makes it fail, as a failure would be an
  /// answer without noise: a loss that is not finite counts as the bound, no document at all as zeros.
  StatusOr<sandbox::Evaluated> Evaluate(const sandbox::Evaluate& task, std::span<const float> adapter,
                                        const OnProgress& progress);

  /// Holds `adapter` against the base model on documents that were trained on, on held-out ones and on the
  /// region's canaries (AuditLeaks); of each document its first sequence, the first `max_documents` of either
  /// side in the order of their keyed digests. FailedPrecondition before Prepare; InvalidArgument when there
  /// is nothing to compare, or delta or confidence is no probability.
  StatusOr<sandbox::Audited> Audit(const sandbox::Audit& task, std::span<const float> adapter,
                                   const OnProgress& progress);

  uint64_t adapter_elements() const { return engine_ == nullptr ? 0 : engine_->layout().adapter_elements(); }
  std::string Description() const { return engine_ == nullptr ? "" : engine_->Description(); }

 private:
  class Progress;

  StatusOr<sandbox::Trained> TrainPlainly(const sandbox::Train& task, const OnProgress& say);
  StatusOr<sandbox::Trained> TrainPrivately(const sandbox::Train& task, const OnProgress& say);
  StatusOr<Round> TakeSum(const sandbox::Train& task, const OnProgress& say);
  StatusOr<std::vector<float>> DeltaSince(std::span<const float> adapter) const;
  StatusOr<model::ExampleSet> ExamplesOf(std::span<const model::Document> documents,
                                         uint32_t sequence_tokens) const;

  const Clock& clock_;
  RandomSource& random_;
  sandbox::Configure configure_;
  std::unique_ptr<model::WeightSource> weights_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  model::DatasetSplit split_;
  model::CanarySet canaries_;
  std::optional<model::ChatTemplate> chat_;  // where the dataset holds conversations
  sandbox::Prepare prepared_;
  std::unique_ptr<Engine> engine_;
  model::ExampleSet train_;
  model::ExampleSet held_out_;
};

/// Bits per byte over documents and its standard error by the ratio estimator (Cochran, Sampling Techniques,
/// section 2.11): with b_i bits and n_i bytes, R = Σb/Σn and SE² = (m/(m−1))·Σ(b_i − R·n_i)² / (Σn)².
/// Zero error for fewer than two documents.
struct BitsPerByte {
  double value = 0;
  double standard_error = 0;
};
BitsPerByte EstimateBitsPerByte(std::span<const double> bits, std::span<const uint64_t> bytes);

/// One unit's part of an evaluation: scaled down to `bounds.bytes`, its bits then clipped, both rounded to
/// integers that are never beyond the bounds. What is not a number counts as the bound.
sandbox::UnitSums ClippedSums(double bits, uint64_t bytes, const sandbox::UnitBounds& bounds);

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_TRAINER_H_
