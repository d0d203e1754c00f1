#include <cmath>
#include <mutex>

#include "worker/train/engine_impl.h"

namespace concordat::train {
namespace {

std::vector<TrainedRun> TrainedRuns(const AdapterLayout& layout) {
  std::vector<TrainedRun> runs;
  for (const AdapterTensor& t : layout.tensors()) {
    if (!t.trained) continue;
    const auto adapter = static_cast<int64_t>(t.offset);
    const auto delta = static_cast<int64_t>(t.delta_offset);
    const auto count = static_cast<int64_t>(t.elements());
    if (!runs.empty() && runs.back().adapter + runs.back().count == adapter &&
        runs.back().delta + runs.back().count == delta) {
      runs.back().count += count;
    } else {
      runs.push_back({adapter, delta, count});
    }
  }
  return runs;
}

/// Some libraries below ATen choose the kernel of a function when it is first called. Two threads that do so
/// at once may get two, whose last bits differ, and a run is then not what the next one gives. So one thread
/// goes first.
void ChooseKernels() {
  const at::Tensor x = at::ones({8, 8}), y = at::mm(x, x);
  for (const at::Tensor& t : {at::exp(y), at::log(y), at::sigmoid(y), at::rsqrt(y), at::logsumexp(y, {-1}),
                              at::log_softmax(y, -1), at::bmm(y.unsqueeze(0), y.unsqueeze(0))})
    (void)t.sum().item<float>();
}

bool InUnit(double x) { return x >= 0 && x < 1; }

}  // namespace

EngineImpl::EngineImpl(AdapterLayout layout, const EngineOptions& options)
    : layout_(std::move(layout)), options_(options), runs_(TrainedRuns(layout_)) {}

Status EngineImpl::Init(const model::WeightSource& source) {
  config_.model = source.config();
  if (config_.model.architecture != "llama") {
    return InvalidArgument("base model: architecture \"{}\" is not supported, expected \"llama\"",
                           config_.model.architecture);
  }
  if (config_.model.vocab == 0 || config_.model.shape.head_dim % 2 != 0 ||
      config_.model.shape.heads % config_.model.shape.kv_heads != 0) {
    return InvalidArgument("base model: vocabulary, head width or number of heads makes no sense");
  }
  if (options_.max_tokens == 0 || options_.max_tokens > config_.model.context_length) {
    return InvalidArgument("max_tokens is {}, expected 1 to the model's context length {}",
                           options_.max_tokens, config_.model.context_length);
  }
  if (options_.threads < 0 || options_.threads > 1024) {
    return InvalidArgument("threads is {}, expected 0 (all) to 1024", options_.threads);
  }
  static const int machine_threads = at::get_num_threads();
  threads_ = options_.threads > 0 ? options_.threads : machine_threads;
  UseThreads();
  static std::once_flag chosen;
  std::call_once(chosen, ChooseKernels);
  const bool native_bf16 = cpu::Avx512Bf16Available();
  try {
    config_.device = c10::Device(options_.device);
  } catch (const c10::Error&) {
    return InvalidArgument("device \"{}\" is unknown, expected cpu or cuda:N", options_.device);
  }
  if (!config_.device.is_cpu() && !config_.device.is_cuda()) {
    return InvalidArgument("device \"{}\" is unknown, expected cpu or cuda:N", options_.device);
  }
  if (config_.device.is_cuda() && !at::globalContext().hasCUDA()) {
    return InvalidArgument("device \"{}\": this build or machine has no CUDA", options_.device);
  }
  const bool bf16 =
      options_.dtype == EngineOptions::Dtype::kBf16 ||
      (options_.dtype == EngineOptions::Dtype::kAuto && (config_.device.is_cuda() || native_bf16));
  config_.dtype = bf16 ? at::kBFloat16 : at::kFloat;
  config_.max_tokens = options_.max_tokens;
  kernels_ = config_.device.is_cpu() && native_bf16 && !options_.portable;
  config_.kernels = kernels_;
  const auto flat = at::TensorOptions(config_.device).dtype(at::kFloat);
  const auto delta = static_cast<int64_t>(layout_.delta_elements());
  adapter_ = at::zeros({static_cast<int64_t>(layout_.adapter_elements())}, flat);
  gradient_ = at::zeros({delta}, flat);
  decoder_ = std::make_unique<Decoder>(config_, layout_, adapter_, gradient_);
  return decoder_->Load(source);
}

std::string EngineImpl::Description() const {
  const char* attention = decoder_->attention_way() == Attention::Way::kBrgemm  ? "brgemm"
                          : decoder_->attention_way() == Attention::Way::kFlash ? "flash"
                                                                                : "blocks";
  return fmt::format("{} on {}, {} threads, {} elementwise passes, attention by {}",
                     config_.dtype == at::kBFloat16 ? "bf16" : "f32", config_.device.str(), threads_,
                     kernels_ ? "AVX-512" : "ATen", attention);
}

Status EngineImpl::SetAdapter(std::span<const float> adapter) {
  if (adapter.size() != layout_.adapter_elements()) {
    return InvalidArgument("adapter has {} values, expected {}", adapter.size(), layout_.adapter_elements());
  }
  for (const float x : adapter) {
    if (!std::isfinite(x)) return InvalidArgument("adapter holds a value that is not finite");
  }
  return Guarded([&]() -> Status {
    DpForget();
    // from_blob wants a pointer to what may change; copy_ only reads it.
    adapter_.copy_(at::from_blob(const_cast<float*>(adapter.data()), {adapter_.size(0)}, at::kFloat));
    stale_ = true;
    return OkStatus();
  });
}

Status EngineImpl::GetAdapter(std::span<float> out) const {
  if (out.size() != layout_.adapter_elements()) {
    return InvalidArgument("room for {} values, the adapter has {}", out.size(), layout_.adapter_elements());
  }
  return Guarded([&]() -> Status {
    at::from_blob(out.data(), {adapter_.size(0)}, at::kFloat).copy_(adapter_);
    return OkStatus();
  });
}

Status EngineImpl::GetGradient(std::span<float> out) const {
  if (out.size() != layout_.delta_elements()) {
    return InvalidArgument("room for {} values, the gradient has {}", out.size(), layout_.delta_elements());
  }
  return Guarded([&]() -> Status {
    at::from_blob(out.data(), {gradient_.size(0)}, at::kFloat).copy_(gradient_);
    return OkStatus();
  });
}

Status EngineImpl::ResetOptimizer(const OptimizerOptions& options) {
  if (!NotNegative(options.learning_rate) || !InUnit(options.beta1) || !InUnit(options.beta2) ||
      !NotNegative(options.epsilon) || options.epsilon == 0 || !NotNegative(options.weight_decay) ||
      !NotNegative(options.grad_clip)) {
    return InvalidArgument("optimizer: a rate, beta, epsilon, decay or clip is out of range");
  }
  return Guarded([&]() -> Status {
    if (!m_.defined()) {
      m_ = at::zeros_like(gradient_);
      v_ = at::zeros_like(gradient_);
    }
    m_.zero_();
    v_.zero_();
    DpForget();
    ClearGradient();
    optimizer_ = options;
    steps_ = 0;
    return OkStatus();
  });
}

void EngineImpl::ClearGradient() {
  gradient_.zero_();
  pending_targets_ = 0;
}

Status EngineImpl::CheckTokens(std::span<const int32_t> tokens) const {
  if (tokens.empty() || tokens.size() > options_.max_tokens) {
    return InvalidArgument("sequence of {} tokens, expected 1 to {}", tokens.size(), options_.max_tokens);
  }
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<uint32_t>(token) >= config_.model.vocab) {
      return InvalidArgument("a token id is outside the vocabulary of {}", config_.model.vocab);
    }
  }
  return OkStatus();
}

StatusOr<std::vector<int64_t>> EngineImpl::Positions(const Sequence& sequence) const {
  RETURN_IF_ERROR(CheckTokens(sequence.tokens));
  if (sequence.target.size() != sequence.tokens.size()) {
    return InvalidArgument("{} target marks for {} tokens", sequence.target.size(), sequence.tokens.size());
  }
  std::vector<int64_t> positions;
  for (size_t i = 1; i < sequence.target.size(); ++i) {
    if (sequence.target[i] != 0) positions.push_back(static_cast<int64_t>(i));
  }
  return positions;
}

StatusOr<Decoder::Scores> EngineImpl::Run(const Sequence& sequence, bool backward, bool each,
                                          StepResult& result) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> positions, Positions(sequence));
  UseThreads();
  if (stale_) decoder_->SyncAdapter();
  stale_ = false;
  Decoder::Scores scores = decoder_->Run(sequence.tokens, positions, backward, each);
  result.loss_sum -= scores.log_likelihood;
  result.target_tokens += positions.size();
  result.correct_tokens += scores.correct;
  result.tokens += sequence.tokens.size();
  return scores;
}

StatusOr<Decoder::Scores> EngineImpl::Score(const Sequence& sequence, bool backward, bool each,
                                            StepResult& result) {
  ASSIGN_OR_RETURN(Decoder::Scores scores, Run(sequence, backward, each, result));
  if (!std::isfinite(scores.log_likelihood)) {
    return InvalidArgument("the loss is not finite: base model or adapter hold values that overflow");
  }
  return scores;
}

StatusOr<StepResult> EngineImpl::TrainStep(std::span<const Sequence> micro_batch, bool update,
                                           double learning_rate) {
  if (!optimizer_) return FailedPrecondition("TrainStep before ResetOptimizer");
  if (dp_open_) return FailedPrecondition("TrainStep within a step of DP-SGD");
  if (!NotNegative(learning_rate)) return InvalidArgument("learning rate {} is out of range", learning_rate);
  StatusOr<StepResult> step = Guarded([&]() -> StatusOr<StepResult> {
    StepResult result;
    for (const Sequence& sequence : micro_batch) {
      const auto scores = Score(sequence, /*backward=*/true, /*each=*/false, result);
      if (!scores.ok()) return scores.status();
    }
    pending_targets_ += result.target_tokens;
    if (update) RETURN_IF_ERROR(Update(learning_rate, result));
    return result;
  });
  if (!step.ok()) {
    const Status cleared = Guarded([&]() -> Status {
      ClearGradient();
      return OkStatus();
    });
    if (!cleared.ok()) return cleared;
  }
  return step;
}

Status EngineImpl::Update(double learning_rate, StepResult& result) {
  if (pending_targets_ == 0) return OkStatus();
  const double mean = 1.0 / static_cast<double>(pending_targets_);
  // Squares are added in f64: the order of a million f32 additions would show.
  const double norm = std::sqrt(gradient_.square().sum(at::kDouble).item<double>()) * mean;
  if (!std::isfinite(norm)) return InvalidArgument("the gradient is not finite: no update was made");
  result.gradient_norm = norm;
  const double clip = optimizer_->grad_clip;
  Optimize(learning_rate, clip > 0 && norm > clip ? mean * (clip / norm) : mean);
  return OkStatus();
}

void EngineImpl::Optimize(double learning_rate, double grad_scale) {
  ++steps_;
  const auto t = static_cast<double>(steps_);
  const cpu::AdamWStep step{.rate = static_cast<float>(learning_rate),
                            .beta1 = static_cast<float>(optimizer_->beta1),
                            .beta2 = static_cast<float>(optimizer_->beta2),
                            .epsilon = static_cast<float>(optimizer_->epsilon),
                            .weight_decay = static_cast<float>(optimizer_->weight_decay),
                            .grad_scale = static_cast<float>(grad_scale),
                            .bias1 = static_cast<float>(1 - std::pow(optimizer_->beta1, t)),
                            .bias2 = static_cast<float>(1 - std::pow(optimizer_->beta2, t))};
  for (const TrainedRun& run : runs_) AdamW(run, step);
  ClearGradient();
  stale_ = true;
}

void EngineImpl::AdamW(const TrainedRun& run, const cpu::AdamWStep& step) {
  const at::Tensor p = adapter_.narrow(0, run.adapter, run.count);
  const at::Tensor g = gradient_.narrow(0, run.delta, run.count);
  const at::Tensor m = m_.narrow(0, run.delta, run.count);
  const at::Tensor v = v_.narrow(0, run.delta, run.count);
  if (kernels_) {
    at::parallel_for(0, run.count, 65536, [&](int64_t begin, int64_t end) {
      cpu::AdamW(step, p.data_ptr<float>() + begin, g.data_ptr<float>() + begin, m.data_ptr<float>() + begin,
                 v.data_ptr<float>() + begin, end - begin);
    });
    return;
  }
  g.mul_(step.grad_scale);
  m.mul_(step.beta1).add_(g, 1.0 - step.beta1);
  v.mul_(step.beta2).addcmul_(g, g, 1.0 - step.beta2);
  p.mul_(1.0 - static_cast<double>(step.rate) * step.weight_decay);
  const at::Tensor root = v.sqrt().div_(std::sqrt(static_cast<double>(step.bias2))).add_(step.epsilon);
  p.addcdiv_(m, root, -static_cast<double>(step.rate) / step.bias1);
}

StatusOr<StepResult> EngineImpl::Evaluate(const Sequence& sequence) {
  return Guarded([&]() -> StatusOr<StepResult> {
    StepResult result;
    const auto scores = Run(sequence, /*backward=*/false, /*each=*/false, result);
    if (!scores.ok()) return scores.status();
    return result;
  });
}

StatusOr<std::vector<float>> EngineImpl::LogLikelihoods(const Sequence& sequence) {
  return Guarded([&]() -> StatusOr<std::vector<float>> {
    StepResult result;
    ASSIGN_OR_RETURN(Decoder::Scores scores, Score(sequence, /*backward=*/false, /*each=*/true, result));
    return std::move(scores.each);
  });
}

StatusOr<std::vector<float>> EngineImpl::Logits(std::span<const int32_t> tokens) {
  RETURN_IF_ERROR(CheckTokens(tokens));
  return Guarded([&]() -> StatusOr<std::vector<float>> {
    UseThreads();
    if (stale_) decoder_->SyncAdapter();
    stale_ = false;
    const at::Tensor logits = decoder_->Logits(tokens);
    return std::vector<float>(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  });
}

StatusOr<std::unique_ptr<Engine>> Engine::Create(const model::WeightSource& source, const LoraSpec& lora,
                                                 const EngineOptions& options) {
  return Guarded([&]() -> StatusOr<std::unique_ptr<Engine>> {
    ASSIGN_OR_RETURN(AdapterLayout layout, AdapterLayout::Make(source.config().shape, lora));
    auto engine = std::make_unique<EngineImpl>(std::move(layout), options);
    RETURN_IF_ERROR(engine->Init(source));
    return StatusOr<std::unique_ptr<Engine>>(std::move(engine));
  });
}

}  // namespace concordat::train
