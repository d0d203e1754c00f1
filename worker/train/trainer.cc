#include "worker/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "common/canonical.h"
#include "privacy/crypto/hash.h"
#include "worker/model/batch_plan.h"
#include "worker/train/leak_audit.h"
#include "worker/train/private_round.h"

namespace concordat::train {
namespace {

constexpr double kLn2 = 0.693147180559945309417232121458;
constexpr double kBeyondBounds = 1e9;  // bits per byte, or nats: what figures are clipped to is far below

Secret32 BatchSeed(uint64_t job_seed) {
  CanonicalWriter writer;
  writer.U64(job_seed);
  return Secret32(
      std::span<const uint8_t, 32>(crypto::TaggedHash("concordat/v1/batches", writer.bytes()).bytes));
}

/// The first sequence of each document of each person, in the order given. Persons are told apart only where
/// the dataset names them.
std::vector<size_t> FirstOfEachDocument(const model::ExampleSet& set, uint32_t max_documents) {
  std::vector<size_t> first;
  std::set<std::pair<Digest, Digest>> seen;
  for (size_t i = 0; i < set.examples.size(); ++i) {
    if (max_documents != 0 && first.size() == max_documents) break;
    if (seen.insert({set.examples[i].person, set.examples[i].document}).second) first.push_back(i);
  }
  return first;
}

uint64_t UnitsIn(std::span<const model::Document> documents, sandbox::TrainedUnit unit) {
  std::set<Digest> units;
  for (const model::Document& document : documents)
    units.insert(unit == sandbox::TrainedUnit::kPerson ? document.person : document.digest);
  return units.size();
}

/// Bits and bytes of every unit.
class UnitTotals {
 public:
  explicit UnitTotals(const sandbox::UnitBounds& bounds) : bounds_(bounds) {}
  Status Check(const model::ExampleSet& set) const {
    if (bounds_.bytes == 0 || bounds_.bit_units == 0 || !(bounds_.bits_per_byte > 0))
      return InvalidArgument("evaluation: expected bounds of more than 0");
    const bool nameless = std::ranges::any_of(set.examples, [](const auto& e) { return e.person.is_zero(); });
    if (bounds_.unit == sandbox::UnitPrivacy::Unit::kPerson && nameless)
      return FailedPrecondition("evaluation: the dataset does not say whose a record is");
    return OkStatus();
  }
  void Add(const model::Example& example, double bits) {
    const bool persons = bounds_.unit == sandbox::UnitPrivacy::Unit::kPerson;
    auto& [sum, bytes] = units_[persons ? example.person : example.document];
    sum += bits;
    bytes += example.bytes;
  }
  sandbox::UnitSums Clipped() const {
    sandbox::UnitSums out;
    for (const auto& [unit, total] : units_) {
      const sandbox::UnitSums one = ClippedSums(total.first, total.second, bounds_);
      out.bits += one.bits;
      out.bytes += one.bytes;
    }
    return out;
  }

 private:
  sandbox::UnitBounds bounds_;
  std::map<Digest, std::pair<double, uint64_t>> units_;
};

/// What is not a number is beyond every bound that a policy may set: clipped to it, not refused. A refusal
/// would tell whoever chose the adapter that some text here makes it overflow.
double FiniteFigure(double figure) { return std::isfinite(figure) ? figure : kBeyondBounds; }

EngineOptions::Dtype DtypeOf(uint8_t code) {
  if (code == 1) return EngineOptions::Dtype::kF32;
  if (code == 2) return EngineOptions::Dtype::kBf16;
  return EngineOptions::Dtype::kAuto;
}

}  // namespace

/// Counts work and speaks up about once a second.
class Trainer::Progress {
 public:
  Progress(const Clock& clock, uint64_t steps, const OnProgress& say)
      : clock_(clock), say_(say), steps_(steps), started_(clock.Now()), last_(started_) {}

  void Done(const StepResult& result) {
    ++done_;
    tokens_ += result.tokens;
    targets_ += result.target_tokens;
    loss_ += result.loss_sum;
    MaySay();
  }
  /// A step of DP-SGD, of which only the noised loss is told.
  void DonePrivately(uint64_t tokens, double noised_mean_loss) {
    ++done_;
    tokens_ += tokens;
    noised_mean_loss_ = noised_mean_loss;
    MaySay();
  }
  void MaySay() {
    const Instant now = clock_.Now();
    if (now - last_ < std::chrono::seconds(1) && done_ != steps_) return;
    last_ = now;
    sandbox::TrainerProgress progress;
    progress.permille =
        static_cast<uint32_t>(steps_ == 0 ? 1000 : std::min<uint64_t>(1000, done_ * 1000 / steps_));
    progress.tokens_per_second = seconds() > 0 ? static_cast<double>(tokens_) / seconds() : 0;
    progress.loss = FiniteFigure(mean_loss());
    say_(progress);
  }
  double seconds() const { return static_cast<double>((clock_.Now() - started_).count()) / 1000.0; }
  double mean_loss() const {
    return targets_ == 0 ? noised_mean_loss_ : loss_ / static_cast<double>(targets_);
  }
  uint64_t tokens() const { return tokens_; }
  uint64_t targets() const { return targets_; }

 private:
  const Clock& clock_;
  const OnProgress& say_;
  uint64_t steps_, done_ = 0, tokens_ = 0, targets_ = 0;
  double loss_ = 0, noised_mean_loss_ = 0;
  Instant started_, last_;
};

StatusOr<sandbox::Ready> Trainer::Open(const sandbox::Configure& configure) {
  configure_ = configure;
  ASSIGN_OR_RETURN(const Digest hash, model::HashModel(configure.base_model));
  if (hash != configure.base_model_sha256) {
    return PermissionDenied("{}: expected a base model with SHA-256 {}, got {}", configure.base_model,
                            configure.base_model_sha256.hex(), hash.hex());
  }
  ASSIGN_OR_RETURN(weights_, model::OpenWeights(configure.base_model));
  ASSIGN_OR_RETURN(tokenizer_, model::Tokenizer::Open(configure.base_model));
  if (static_cast<uint32_t>(tokenizer_->vocab_size()) > weights_->config().vocab) {
    return InvalidArgument("{}: the tokenizer has {} tokens, the model's embedding only {}",
                           configure.base_model, tokenizer_->vocab_size(), weights_->config().vocab);
  }
  ASSIGN_OR_RETURN(model::Dataset dataset, model::ReadDataset(configure.dataset, {}, configure.person_field));
  sandbox::Ready ready;
  ready.train_bytes = dataset.bytes;
  const model::DocumentKind kind = dataset.kind;
  const Secret32 key{std::span<const uint8_t, 32>(configure.split_key.bytes)};
  ASSIGN_OR_RETURN(split_, model::SplitDataset(std::move(dataset), key, configure.held_out_permille));
  const Secret32 canary_key{std::span<const uint8_t, 32>(configure.canary_key.bytes)};
  ASSIGN_OR_RETURN(canaries_, model::MakeCanaries(canary_key, configure.canaries, kind, key,
                                                  !configure.person_field.empty()));
  model::Plant(canaries_, split_.train);
  ready.shape = weights_->config().shape;
  ready.train_documents = split_.train.size();
  ready.held_out_documents = split_.held_out.size();
  if (configure.promise) {
    ready.train_units = UnitsIn(split_.train, configure.promise->unit);
    // Without the numbers, as for a round: how many units there are is the region's to say.
    if (configure.promise->delta * static_cast<double>(ready.train_units) >= 1)
      return InvalidArgument(
          "dataset card: privacy.delta: expected less than one over the number of {}s to train on: a delta "
          "this large lets one of them be published outright",
          configure.promise->unit == sandbox::TrainedUnit::kPerson ? "person" : "record");
  }
  return ready;
}

Status Trainer::Prepare(const sandbox::Prepare& prepare) {
  if (weights_ == nullptr) return FailedPrecondition("prepare came before configure");
  if (!(prepare.shape == weights_->config().shape)) {
    return InvalidArgument("the job states another model shape than {} has", configure_.base_model);
  }
  if (prepare.sequence_tokens > weights_->config().context_length) {
    return InvalidArgument("sequence_tokens: expected at most the model's context of {}, got {}",
                           weights_->config().context_length, prepare.sequence_tokens);
  }
  const auto& documents = split_.train.empty() ? split_.held_out : split_.train;
  if (!documents.empty() && documents.front().kind == model::DocumentKind::kMessages) {
    ASSIGN_OR_RETURN(chat_, model::ChatTemplate::Make(*tokenizer_));
  }
  ASSIGN_OR_RETURN(train_, ExamplesOf(split_.train, prepare.sequence_tokens));
  ASSIGN_OR_RETURN(held_out_, ExamplesOf(split_.held_out, prepare.sequence_tokens));
  if (train_.examples.empty() && !prepare.may_be_empty)
    return InvalidArgument("the dataset has no document with anything to train on");
  engine_.reset();  // the old one's memory first
  EngineOptions options;
  options.device = configure_.device;
  options.threads = static_cast<int>(configure_.threads);
  options.dtype = DtypeOf(configure_.dtype);
  options.max_tokens = prepare.sequence_tokens;
  ASSIGN_OR_RETURN(engine_, Engine::Create(*weights_, prepare.adapter, options));
  prepared_ = prepare;
  return OkStatus();
}

StatusOr<model::ExampleSet> Trainer::ExamplesOf(std::span<const model::Document> documents,
                                                uint32_t sequence_tokens) const {
  return model::MakeExamples(*tokenizer_, chat_ ? &*chat_ : nullptr, documents, sequence_tokens);
}

StatusOr<Trainer::Round> Trainer::TrainRound(const sandbox::Train& task, std::span<const float> adapter,
                                             const OnProgress& say) {
  if (engine_ == nullptr) return FailedPrecondition("train came before prepare");
  if (task.local_steps == 0 || task.batch_sequences == 0)
    return InvalidArgument("a round needs steps and sequences");
  RETURN_IF_ERROR(engine_->SetAdapter(adapter));
  OptimizerOptions optimizer;
  optimizer.learning_rate = task.learning_rate;
  optimizer.beta2 = task.beta2;
  optimizer.weight_decay = task.weight_decay;
  optimizer.grad_clip = task.privacy ? 0 : task.gradient_clip;
  RETURN_IF_ERROR(engine_->ResetOptimizer(optimizer));
  if (task.privacy && task.privacy->sum) return TakeSum(task, say);
  if (!task.privacy && train_.examples.empty())
    return FailedPrecondition("the dataset has no document with anything to train on");
  Round round;
  ASSIGN_OR_RETURN(round.summary, task.privacy ? TrainPrivately(task, say) : TrainPlainly(task, say));
  ASSIGN_OR_RETURN(round.delta, DeltaSince(adapter));
  return round;
}

StatusOr<sandbox::Trained> Trainer::TrainPlainly(const sandbox::Train& task, const OnProgress& say) {
  model::BatchPlan plan(BatchSeed(task.seed), static_cast<uint32_t>(train_.examples.size()),
                        task.batch_sequences);
  Progress progress(clock_, uint64_t{task.local_steps} * task.batch_sequences, say);
  for (uint32_t step = 0; step < task.local_steps; ++step) {
    const std::vector<uint32_t> batch = plan.Batch(uint64_t{task.round} * task.local_steps + step);
    for (size_t i = 0; i < batch.size(); ++i) {
      const model::Example& example = train_.examples[batch[i]];
      const Sequence sequence{example.tokens, example.target};
      ASSIGN_OR_RETURN(const StepResult result,
                       engine_->TrainStep({&sequence, 1}, i + 1 == batch.size(), task.learning_rate));
      progress.Done(result);
    }
  }
  return sandbox::Trained{progress.mean_loss(), progress.targets(), progress.tokens(), progress.seconds(),
                          task.local_steps};
}

StatusOr<sandbox::Trained> Trainer::TrainPrivately(const sandbox::Train& task, const OnProgress& say) {
  ASSIGN_OR_RETURN(const std::unique_ptr<PrivateRound> round,
                   PrivateRound::Make(*engine_, train_.examples, task, prepared_.sequence_tokens, random_));
  // Counted in steps, whose number is public: how far a round is may be told outside the region.
  Progress progress(clock_, task.local_steps, say);
  for (uint32_t step = 0; step < task.local_steps; ++step) {
    ASSIGN_OR_RETURN(const PrivateRound::StepReport report,
                     round->Step(step, task.learning_rate, [&] { progress.MaySay(); }));
    progress.DonePrivately(report.tokens, round->figures().mean_loss);
  }
  const PrivateRound::Figures figures = round->figures();
  return sandbox::Trained{figures.mean_loss, figures.target_tokens, progress.tokens(), progress.seconds(),
                          task.local_steps};
}

StatusOr<Trainer::Round> Trainer::TakeSum(const sandbox::Train& task, const OnProgress& say) {
  ASSIGN_OR_RETURN(const std::unique_ptr<PrivateRound> private_round,
                   PrivateRound::Make(*engine_, train_.examples, task, prepared_.sequence_tokens, random_));
  Progress progress(clock_, task.local_steps, say);
  ASSIGN_OR_RETURN(PrivateRound::Sum sum, private_round->TakeSum([&] { progress.MaySay(); }));
  const PrivateRound::Figures figures = private_round->figures();
  progress.DonePrivately(sum.tokens, figures.mean_loss);
  Round round;
  round.summary = {figures.mean_loss,  figures.target_tokens, progress.tokens(),
                   progress.seconds(), task.local_steps,      sum.figures};
  round.delta = std::move(sum.descent);
  return round;
}

StatusOr<std::vector<float>> Trainer::DeltaSince(std::span<const float> adapter) const {
  std::vector<float> after(adapter.size());
  RETURN_IF_ERROR(engine_->GetAdapter(after));
  const AdapterLayout& layout = engine_->layout();
  std::vector<float> delta(layout.delta_elements());
  for (const AdapterTensor& tensor : layout.tensors()) {
    if (!tensor.trained) continue;
    for (uint64_t k = 0; k < tensor.elements(); ++k) {
      delta[tensor.delta_offset + k] = after[tensor.offset + k] - adapter[tensor.offset + k];
    }
  }
  return delta;
}

StatusOr<sandbox::Evaluated> Trainer::Evaluate(const sandbox::Evaluate& task, std::span<const float> adapter,
                                               const OnProgress& say) {
  if (engine_ == nullptr) return FailedPrecondition("evaluate came before prepare");
  const std::vector<float> none(adapter.empty() ? engine_->layout().adapter_elements() : 0);
  RETURN_IF_ERROR(engine_->SetAdapter(adapter.empty() ? std::span<const float>(none) : adapter));
  std::optional<UnitTotals> units;
  if (task.bounds) RETURN_IF_ERROR(units.emplace(*task.bounds).Check(held_out_));
  const std::vector<size_t> chosen = FirstOfEachDocument(held_out_, units ? 0 : task.max_documents);
  Progress progress(clock_, chosen.size(), say);
  std::vector<double> bits;
  std::vector<uint64_t> bytes;
  sandbox::Evaluated out;
  for (size_t index : chosen) {
    const model::Example& example = held_out_.examples[index];
    ASSIGN_OR_RETURN(const StepResult result, engine_->Evaluate({example.tokens, example.target}));
    progress.Done(result);
    bits.push_back(result.loss_sum / kLn2);
    if (units) units->Add(example, bits.back());
    bytes.push_back(example.bytes);
    out.bytes += example.bytes;
  }
  const BitsPerByte estimate = EstimateBitsPerByte(bits, bytes);
  out.bits_per_byte = FiniteFigure(estimate.value);
  out.standard_error = FiniteFigure(estimate.standard_error);
  out.documents = chosen.size();
  out.seconds = progress.seconds();
  if (units) out.sums = units->Clipped();
  return out;
}

StatusOr<sandbox::Audited> Trainer::Audit(const sandbox::Audit& task, std::span<const float> adapter,
                                          const OnProgress& say) {
  if (engine_ == nullptr) return FailedPrecondition("audit came before prepare");
  std::set<Digest> planted;
  std::vector<model::Document> documents;
  for (const model::Canary& canary : canaries_.canaries) {
    if (canary.trained_on) planted.insert(canary.document.digest);
    documents.push_back(canary.document);
  }
  documents.insert(documents.end(), canaries_.references.begin(), canaries_.references.end());
  ASSIGN_OR_RETURN(const model::ExampleSet canaries, ExamplesOf(documents, prepared_.sequence_tokens));

  LeakSubjects subjects;
  const uint32_t most = task.max_documents;
  for (size_t i : FirstOfEachDocument(train_, 0)) {
    if (most != 0 && subjects.members.size() == most) break;
    if (!planted.contains(train_.examples[i].document)) subjects.members.push_back(&train_.examples[i]);
  }
  for (size_t i : FirstOfEachDocument(held_out_, most))
    subjects.non_members.push_back(&held_out_.examples[i]);
  std::map<Digest, size_t> number;
  for (size_t i = 0; i < documents.size(); ++i) number[documents[i].digest] = i;
  for (const model::Example& e : canaries.examples) subjects.owner.push_back(number[e.document]);
  subjects.planted = &canaries;
  subjects.set = &canaries_;

  const size_t sequences = subjects.members.size() + subjects.non_members.size() + canaries.examples.size();
  Progress progress(clock_, 2 * sequences, say);
  ASSIGN_OR_RETURN(sandbox::Audited out,
                   AuditLeaks(*engine_, adapter, subjects, task,
                              [&](const StepResult& result) { progress.Done(result); }));
  out.seconds = progress.seconds();
  return out;
}

sandbox::UnitSums ClippedSums(double bits, uint64_t bytes, const sandbox::UnitBounds& bounds) {
  const uint64_t kept = std::min<uint64_t>(bytes, bounds.bytes);
  if (bytes > kept) bits *= static_cast<double>(kept) / static_cast<double>(bytes);
  const double most = std::floor(bounds.bits_per_byte * static_cast<double>(kept) * bounds.bit_units);
  const double scaled = bits * bounds.bit_units;
  const double clipped = std::isnan(scaled) ? most : std::clamp(std::round(scaled), 0.0, most);
  return {static_cast<int64_t>(clipped), static_cast<int64_t>(kept)};
}

BitsPerByte EstimateBitsPerByte(std::span<const double> bits, std::span<const uint64_t> bytes) {
  double all_bits = 0, all_bytes = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    all_bits += bits[i];
    all_bytes += static_cast<double>(bytes[i]);
  }
  BitsPerByte out;
  if (all_bytes == 0) return out;
  out.value = all_bits / all_bytes;
  const double m = static_cast<double>(bits.size());
  if (m < 2) return out;
  double squares = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    const double residual = bits[i] - out.value * static_cast<double>(bytes[i]);
    squares += residual * residual;
  }
  out.standard_error = std::sqrt(m / (m - 1) * squares) / all_bytes;
  return out;
}

}  // namespace concordat::train
