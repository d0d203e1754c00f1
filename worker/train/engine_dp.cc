#include <cmath>

#include "worker/train/engine_impl.h"

// The step of DP-SGD. The engine reads one sequence at a time, so that what gradient_ holds after a unit's
// records is that unit's gradient: per-sample norms need no pass of their own.
namespace concordat::train {

void EngineImpl::DpForget() {
  if (dp_open_) ClearGradient();
  if (dp_open_) dp_->Reset();
  dp_open_ = false;
}

Status EngineImpl::DpBegin(const DpStepConfig& config) {
  if (!optimizer_) return FailedPrecondition("DpBegin before ResetOptimizer");
  return Guarded([&]() -> Status {
    DpForget();
    ClearGradient();
    if (dp_ == nullptr || !(dp_->config() == config)) {
      dp_.reset();
      ASSIGN_OR_RETURN(dp_,
                       DpAccumulator::Make(config, layout_.delta_elements(),
                                           [this](size_t blocks, const std::function<void(size_t)>& body) {
                                             UseThreads();
                                             at::parallel_for(0, static_cast<int64_t>(blocks), 1,
                                                              [&](int64_t begin, int64_t end) {
                                                                for (; begin < end; ++begin)
                                                                  body(static_cast<size_t>(begin));
                                                              });
                                           }));
    }
    dp_open_ = true;
    return OkStatus();
  });
}

Status EngineImpl::DpCloseUnit() {
  const at::Tensor host = gradient_.cpu();  // itself, where it is there already
  RETURN_IF_ERROR(dp_->Close({host.data_ptr<float>(), static_cast<size_t>(host.numel())}));
  gradient_.zero_();
  return OkStatus();
}

Status EngineImpl::DpAddRecord(const DpRecord& record) {
  RETURN_IF_ERROR(dp_->Admit(record.unit));
  if (dp_->MustClose(record.unit)) RETURN_IF_ERROR(DpCloseUnit());
  StepResult counts;
  ASSIGN_OR_RETURN(const Decoder::Scores scores,
                   Run(record.sequence, /*backward=*/true, /*each=*/false, counts));
  if (!std::isfinite(scores.log_likelihood)) {
    dp_->Poison(record.unit, counts.tokens);
  } else {
    dp_->Count(record.unit, {counts.loss_sum, counts.target_tokens, counts.correct_tokens, counts.tokens});
  }
  return OkStatus();
}

Status EngineImpl::DpAdd(std::span<const DpRecord> physical_batch) {
  if (!dp_open_) return FailedPrecondition("DpAdd before DpBegin");
  const Status added = Guarded([&]() -> Status {
    for (const DpRecord& record : physical_batch) RETURN_IF_ERROR(DpAddRecord(record));
    return OkStatus();
  });
  if (added.ok()) return added;
  const Status forgotten = Guarded([&]() -> Status {
    DpForget();
    return OkStatus();
  });
  return forgotten.ok() ? added : forgotten;
}

StatusOr<DpStepResult> EngineImpl::DpUpdate(const Secret32& noise_seed, double learning_rate) {
  if (!dp_open_) return FailedPrecondition("DpUpdate before DpBegin");
  if (!NotNegative(learning_rate)) return InvalidArgument("learning rate {} is out of range", learning_rate);
  StatusOr<DpStepResult> step = Guarded([&]() -> StatusOr<DpStepResult> {
    if (dp_->has_open()) RETURN_IF_ERROR(DpCloseUnit());
    const at::Tensor mean = gradient_.is_cpu() ? gradient_ : at::empty(gradient_.sizes(), at::kFloat);
    ASSIGN_OR_RETURN(DpStepResult result,
                     dp_->Finish(noise_seed, {mean.data_ptr<float>(), static_cast<size_t>(mean.numel())}));
    if (!gradient_.is_cpu()) gradient_.copy_(mean);
    result.gradient_norm = std::sqrt(gradient_.square().sum(at::kDouble).item<double>());
    Optimize(learning_rate, 1.0);
    dp_open_ = false;
    return result;
  });
  return DpEnded(std::move(step));
}

StatusOr<DpStepResult> EngineImpl::DpTakeSum(uint64_t largest, std::span<float> out) {
  if (!dp_open_) return FailedPrecondition("DpTakeSum before DpBegin");
  return DpEnded(Guarded([&]() -> StatusOr<DpStepResult> {
    if (dp_->has_open()) RETURN_IF_ERROR(DpCloseUnit());
    ASSIGN_OR_RETURN(DpStepResult result, dp_->TakeIntegers(largest, out));
    dp_open_ = false;
    return result;
  }));
}

StatusOr<DpStepResult> EngineImpl::DpEnded(StatusOr<DpStepResult> ended) {
  if (ended.ok()) return ended;
  const Status forgotten = Guarded([&]() -> Status {
    DpForget();
    return OkStatus();
  });
  if (!forgotten.ok()) return forgotten;
  return ended;
}

}  // namespace concordat::train
