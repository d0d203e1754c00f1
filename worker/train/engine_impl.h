#ifndef CONCORDAT_WORKER_TRAIN_ENGINE_IMPL_H_
#define CONCORDAT_WORKER_TRAIN_ENGINE_IMPL_H_

#include <cmath>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "worker/train/cpu_kernels.h"
#include "worker/train/decoder.h"
#include "worker/train/dp_accumulator.h"
#include "worker/train/engine.h"
#include "worker/train/torch_pch.h"

// Engine's one implementation, for engine.cc and engine_dp.cc.
namespace concordat::train {

/// Runs `body` (returning Status or StatusOr) without autograd; what it throws becomes a status.
template <typename F>
auto Guarded(F body) -> decltype(body()) {
  try {
    const c10::InferenceMode guard;
    return body();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("training engine: out of memory");
  } catch (const c10::Error& e) {
    const std::string what = e.what_without_backtrace();
    const std::string line = what.substr(0, what.find('\n'));
    if (what.find("out of memory") != std::string::npos ||
        what.find("not enough memory") != std::string::npos) {
      return ResourceExhausted("training engine: {}", line);
    }
    return Internal("training engine: {}", line);
  } catch (const std::exception& e) {
    return Internal("training engine: {}", e.what());
  }
}

/// A run of neighbours that are trained: where it is in the adapter and in the delta.
struct TrainedRun {
  int64_t adapter = 0, delta = 0, count = 0;
};

inline bool NotNegative(double x) { return x >= 0 && std::isfinite(x); }

class EngineImpl final : public Engine {
 public:
  EngineImpl(AdapterLayout layout, const EngineOptions& options);

  Status Init(const model::WeightSource& source);

  const AdapterLayout& layout() const override { return layout_; }
  std::string Description() const override;
  Status SetAdapter(std::span<const float> adapter) override;
  Status GetAdapter(std::span<float> out) const override;
  Status ResetOptimizer(const OptimizerOptions& options) override;
  StatusOr<StepResult> TrainStep(std::span<const Sequence> micro_batch, bool update,
                                 double learning_rate) override;
  Status DpBegin(const DpStepConfig& config) override;
  Status DpAdd(std::span<const DpRecord> physical_batch) override;
  StatusOr<DpStepResult> DpUpdate(const Secret32& noise_seed, double learning_rate) override;
  StatusOr<DpStepResult> DpTakeSum(uint64_t largest, std::span<float> out) override;
  StatusOr<StepResult> Evaluate(const Sequence& sequence) override;
  StatusOr<std::vector<float>> LogLikelihoods(const Sequence& sequence) override;
  StatusOr<std::vector<float>> Logits(std::span<const int32_t> tokens) override;
  Status GetGradient(std::span<float> out) const override;

 private:
  Status CheckTokens(std::span<const int32_t> tokens) const;
  StatusOr<std::vector<int64_t>> Positions(const Sequence& sequence) const;
  /// Loss (and gradient, when the loss is finite) of one sequence, counted in `result`.
  StatusOr<Decoder::Scores> Run(const Sequence& sequence, bool backward, bool each, StepResult& result);
  /// The same; a loss that is not finite is an error.
  StatusOr<Decoder::Scores> Score(const Sequence& sequence, bool backward, bool each, StepResult& result);
  /// Pools of threads belong to the process: another engine may have changed their number.
  void UseThreads() const {
    if (at::get_num_threads() != threads_) at::set_num_threads(threads_);
  }
  void ClearGradient();
  Status Update(double learning_rate, StepResult& result);
  /// One step on gradient_·grad_scale; clears the gradient.
  void Optimize(double learning_rate, double grad_scale);
  Status DpAddRecord(const DpRecord& record);
  Status DpCloseUnit();
  void DpForget();
  /// `ended`, and where it is an error, what the step had is forgotten.
  StatusOr<DpStepResult> DpEnded(StatusOr<DpStepResult> ended);
  void AdamW(const TrainedRun& run, const cpu::AdamWStep& step);

  AdapterLayout layout_;
  EngineOptions options_;
  std::vector<TrainedRun> runs_;
  Decoder::Config config_;
  int threads_ = 1;
  bool kernels_ = false;
  at::Tensor adapter_;           // flat f32, layout order
  at::Tensor gradient_, m_, v_;  // flat f32, delta order
  std::unique_ptr<Decoder> decoder_;
  bool stale_ = true;  // the decoder's copy of the factors is behind the masters
  std::optional<OptimizerOptions> optimizer_;
  int64_t steps_ = 0;
  uint64_t pending_targets_ = 0;  // target tokens whose gradients wait for an update
  std::unique_ptr<DpAccumulator> dp_;
  bool dp_open_ = false;
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_ENGINE_IMPL_H_
