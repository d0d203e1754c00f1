#ifndef CONCORDAT_WORKER_TRAIN_ENGINE_H_
#define CONCORDAT_WORKER_TRAIN_ENGINE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/status.h"
#include "worker/model/weight_source.h"
#include "worker/train/dp_step.h"

namespace concordat::train {

/// Where and how a model computes.
struct EngineOptions {
  enum class Dtype : uint8_t {
    kAuto,  ///< bf16 where the device multiplies it natively (AVX512-BF16, CUDA), f32 elsewhere
    kF32,
    kBf16
  };
  std::string device = "cpu";  ///< "cpu" or "cuda:N"
  int threads = 0;             ///< CPU threads of the process, at most 1024; 0: as many as there are
  Dtype dtype = Dtype::kAuto;  ///< of the frozen weights and activations; the adapter is always f32
  uint32_t max_tokens = 512;   ///< longest sequence; buffers are sized by it
  bool portable = false;       ///< only ATen operations, no kernels of our own (for tests and comparisons)
};

/// AdamW (Loshchilov & Hutter 2019) with a clip of the mean gradient's L2 norm.
struct OptimizerOptions {
  double learning_rate = 1e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double grad_clip = 1.0;  ///< 0: off
};

/// One document or chunk. The spans are read during the call only.
struct Sequence {
  std::span<const int32_t> tokens;  ///< 1..max_tokens ids, each in [0, vocab)
  std::span<const uint8_t> target;  ///< as long as tokens; not 0: token i is predicted from those before it
                                    ///< and scored. target[0] is ignored: nothing predicts the first token
};

/// A sequence of DP-SGD: text of one privacy unit alone (packed sequences would mix units, and are refused by
/// having no form here).
struct DpRecord {
  Sequence sequence;
  uint64_t unit = 0;  ///< person or record; only its order means something
};

struct StepResult {
  double loss_sum = 0;  ///< nats, over the target tokens
  uint64_t target_tokens = 0;
  uint64_t correct_tokens = 0;  ///< targets that had the largest logit
  uint64_t tokens = 0;          ///< all tokens that were read
  double gradient_norm = 0;     ///< of the mean gradient before clipping; 0 when no update was made
};

/// A frozen Llama-like model with a trainable LoRA adapter on one device.
///
/// Base weights and activations are bf16 or f32; adapter, its gradients and its optimizer state are f32. The
/// forward and backward passes are written by hand (no autograd): frozen weights have no gradients, buffers
/// are allocated once, and the loss is taken over chunks of positions so that logits for a whole sequence
/// never exist. The same calls with the same inputs, options and number of threads on the same machine give
/// the same bits.
///
/// No exception leaves this class. Not thread-safe: one call at a time. `threads` is a setting of the
/// process.
class Engine {
 public:
  /// Reads all weights of `source` and allocates the buffers. The adapter starts at zero.
  /// InvalidArgument: an unsupported architecture, a tensor that is absent or of the wrong shape (named), an
  /// unknown device, threads outside 0..1024, max_tokens outside 1..context length.
  /// ResourceExhausted: no memory.
  static StatusOr<std::unique_ptr<Engine>> Create(const model::WeightSource& source, const LoraSpec& lora,
                                                  const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const AdapterLayout& layout() const = 0;
  /// "bf16 on cpu, AVX-512 kernels": for logs and reports.
  virtual std::string Description() const = 0;

  /// Replaces all factors; flat, in the layout's order. An unfinished DP step is forgotten. InvalidArgument:
  /// wrong length, a value not finite.
  virtual Status SetAdapter(std::span<const float> adapter) = 0;
  /// Copies all factors into `out` (adapter_elements). InvalidArgument: wrong length.
  virtual Status GetAdapter(std::span<float> out) const = 0;

  /// Forgets moments, step count, accumulated gradients and an unfinished DP step. InvalidArgument: a value
  /// out of range.
  virtual Status ResetOptimizer(const OptimizerOptions& options) = 0;
  /// Adds the gradients of the summed loss of `micro_batch` to the accumulators; with `update`, divides them
  /// by all target tokens since the last update, clips, and takes one AdamW step of rate `learning_rate`.
  /// An update without any target token changes nothing.
  /// FailedPrecondition: ResetOptimizer was never called, or a DP step is open. InvalidArgument: a malformed
  /// sequence, or a loss or gradient that is not finite; accumulators are then cleared and the adapter is as
  /// before.
  virtual StatusOr<StepResult> TrainStep(std::span<const Sequence> micro_batch, bool update,
                                         double learning_rate) = 0;
  /// Begins one logical step of DP-SGD; what an unfinished one had is forgotten. For each privacy unit the
  /// gradient of its mean loss per target token is clipped to C over all factors together, rounded to the
  /// grid and added in integers; DpUpdate adds noise once and takes one AdamW step. A physical batch is a
  /// call of DpAdd: its size bounds nothing but the caller's memory, as the engine reads one sequence at a
  /// time and that sequence's gradient is the sample's. Memory beside TrainStep's: 8 bytes for each trained
  /// weight. FailedPrecondition: ResetOptimizer was never called. InvalidArgument: a value out of range.
  virtual Status DpBegin(const DpStepConfig& config) = 0;
  /// Adds records, units ascending, each unit's records together; a unit may go on in the next call. A unit
  /// with a loss or gradient that is not finite is left out and counted, and nothing else changes.
  /// FailedPrecondition: no DpBegin. InvalidArgument: a malformed sequence, a unit that was closed already;
  /// the step is then forgotten, and so it is after any other error.
  virtual Status DpAdd(std::span<const DpRecord> physical_batch) = 0;
  /// Ends the step: noise of `noise_seed`, division by the public divisor, AdamW on the result (grad_clip is
  /// not applied). An empty step is noise alone. \param noise_seed fresh for each step; the same one for
  /// other data gives away their difference. Errors as DpBegin; the adapter is then as before.
  virtual StatusOr<DpStepResult> DpUpdate(const Secret32& noise_seed, double learning_rate) = 0;
  /// Ends the step without noise and without a step of the optimizer: writes the sum of the clipped gradients
  /// in integers of the config's grid, each clamped to ±largest. For who adds noise before anybody sees it;
  /// the config's noise and divisor are not used. \param out delta_elements. Errors as DpBegin.
  virtual StatusOr<DpStepResult> DpTakeSum(uint64_t largest, std::span<float> out) = 0;
  /// Loss without gradients. One that is not finite is given as it is: whether a text makes an adapter
  /// overflow says something of the text, and who may know it is the caller's to decide. Other errors as
  /// TrainStep.
  virtual StatusOr<StepResult> Evaluate(const Sequence& sequence) = 0;
  /// Log-likelihood in nats of each target token, in order. Errors as TrainStep.
  virtual StatusOr<std::vector<float>> LogLikelihoods(const Sequence& sequence) = 0;
  /// Logits after each token, tokens × vocab. For parity checks: this allocates all of them.
  virtual StatusOr<std::vector<float>> Logits(std::span<const int32_t> tokens) = 0;

  /// The accumulated gradient of the summed loss, in the order of the delta (trained factors only).
  /// InvalidArgument: wrong length (delta_elements).
  virtual Status GetGradient(std::span<float> out) const = 0;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_ENGINE_H_
