#include <algorithm>
#include <cmath>
#include <utility>

#include "common/canonical.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/discrete_gaussian.h"
#include "privacy/mechanism/rounded_gaussian.h"
#include "worker/core/worker_core.h"

// A region's evaluation cell: an artefact of its own kind, allowed by the policy, clipped, noised, charged,
// receipted; or withheld.
namespace concordat::worker {
namespace {

constexpr size_t kMaxEvaluations = 8;  // under way at once
constexpr size_t kMaxCellsKept = 256;  // of one job, to answer a repeated request with the same numbers
constexpr size_t kMaxUnsentCells = 64;

Bytes CanonicalCell(const EvaluationCell& cell) {
  CanonicalWriter out;
  out.Put(cell.request);
  out.Count(cell.values.size());
  for (int64_t value : cell.values) out.I64(value);
  return out.Take();
}

StatusOr<AdapterBlob> AdapterOf(const Job& job, const Fetched& fetched) {
  RETURN_IF_ERROR(fetched.content.status());
  if (AdapterHash(*fetched.content) != fetched.sha256)
    return InvalidArgument("the adapter is not what its name says");
  ASSIGN_OR_RETURN(AdapterBlob blob, DecodeAdapterBlob(*fetched.content, job.layout));
  if (blob.job != job.id()) return InvalidArgument("an adapter of another job");
  return blob;
}

}  // namespace

void WorkerCore::Answer(const JobId& job_id, EvaluationCell cell) {
  if (Job* job = FindJob(job_id); job != nullptr && job->cells.size() < kMaxCellsKept)
    job->cells[cell.request] = cell;
  if (connected_)
    fx_.send.push_back(std::move(cell));
  else if (unsent_cells_.size() < kMaxUnsentCells)
    unsent_cells_.push_back(std::move(cell));
}

/// Ends an evaluation without a figure. Not kept: the operator may change the policy and the researcher ask
/// again.
void WorkerCore::Withhold(const JobId& job, const Digest& request, policy::RuleCode rule) {
  evaluations_.erase(request);
  Say(LogLine::Level::kInfo, fmt::format("job {}: evaluation withheld: {}", job.brief(),
                                         policy::DescribeRule(static_cast<uint32_t>(rule))));
  EvaluationCell cell{request, CellState::kWithheld, {}, rule, 0};
  if (connected_)
    fx_.send.push_back(std::move(cell));
  else if (unsent_cells_.size() < kMaxUnsentCells)
    unsent_cells_.push_back(std::move(cell));
}

/// The operator has stopped `job`: what was being evaluated for it is answered, and forgotten.
void WorkerCore::WithholdAll(const Job& job) {
  std::vector<Digest> open;
  for (const auto& [request, evaluation] : evaluations_)
    if (evaluation.request.job == job.id()) open.push_back(request);
  const bool paused = job.standing.paused && !job.standing.denied && !job.standing.withdrawn;
  for (const Digest& request : open)
    Withhold(job.id(), request,
             paused ? policy::RuleCode::kApprovalPaused : policy::RuleCode::kApprovalDenied);
}

std::vector<policy::Refusal> WorkerCore::ReleaseRefusals(const Job& job, const LedgerCharge& charge,
                                                         Instant now) const {
  policy::LedgerView view;
  view.spent = p_.ledger->Spent(now);
  view.after_job = p_.ledger->SpentAfter(now, std::span(&charge, 1));
  view.budget = p_.ledger->budget().epsilon;
  const policy::PolicyQuestion question{p_.policy, p_.card,        p_.charter,          p_.charter_hash,
                                        p_.self,   job.facts.spec, job.facts.submitter, view};
  auto refusals = policy::EvaluateRelease(
      question, p_.ledger->CountOf(ChargeKind::kEvaluation, job.id()) + job.failed_evaluations);
  if (refusals.empty() && view.after_job > view.budget)
    refusals.push_back({policy::RuleCode::kDatasetBudget, "the budget does not cover an evaluation cell"});
  // A job that the rules refuse is asked about no more than one that they do not: yes has to be said to
  // either.
  const bool unasked = p_.policy.approval == policy::ApprovalMode::kManual && !job.standing.approved;
  if (refusals.empty() && (unasked || job.standing.denied || job.standing.withdrawn || job.standing.halted))
    refusals.push_back({policy::RuleCode::kApprovalDenied, "the operator has not said yes"});
  if (refusals.empty() && job.standing.paused)
    refusals.push_back({policy::RuleCode::kApprovalPaused, "the operator has paused the job"});
  return refusals;
}

void WorkerCore::OnEvaluationRequest(const EvaluationRequest& request, Instant now) {
  EvaluationCell cell;
  cell.request = request.request;
  cell.state = CellState::kFailed;
  Job* job = FindJob(request.job);
  if (evaluations_.contains(request.request)) return;  // a repeat: the answer is under way
  if (job == nullptr || request.adapters.empty() || request.adapters.size() > kMaxModelsInRequest ||
      job->base_model_absent || job->base_model_differs || evaluations_.size() >= kMaxEvaluations)
    return Answer(request.job, std::move(cell));
  if (const auto said = job->cells.find(request.request); said != job->cells.end()) {
    // Fresh noise over the same figures would average out: a repeat gets the same cell.
    fx_.send.push_back(said->second);
    return;
  }
  Evaluation evaluation;
  evaluation.request = request;
  evaluation.results.resize(request.adapters.size());
  evaluation.charge.kind = ChargeKind::kEvaluation;
  evaluation.charge.attempt = {request.job, request.round,
                               p_.ledger->CountOf(ChargeKind::kEvaluation, request.job)};
  PriceEvaluation(evaluation.charge, static_cast<uint32_t>(request.adapters.size()));
  const auto refusals = ReleaseRefusals(*job, evaluation.charge, now);
  if (!refusals.empty() || evaluation.charge.price.empty()) {
    return Withhold(request.job, request.request,
                    refusals.empty() ? policy::RuleCode::kArtefactEvaluation : refusals.front().code);
  }
  Evaluation& placed = evaluations_.emplace(request.request, std::move(evaluation)).first->second;
  WarmUp(*job, now);
  for (size_t i = 0; i < request.adapters.size(); ++i) {
    const Digest& adapter = request.adapters[i];
    if (adapter.is_zero()) {
      QueueEvaluation(placed, i, nullptr, now);
    } else if (job->adapter && job->adapter->hash == adapter) {
      QueueEvaluation(placed, i, job->adapter->weights(), now);
    } else {
      fx_.commands.push_back(Fetch{adapter, 4 * job->layout.adapter_elements() + 4096});
    }
    if (!evaluations_.contains(request.request)) return;  // the trainer is barred: answered already
  }
}

/// In the unit of the region's budget.
void WorkerCore::PriceEvaluation(LedgerCharge& charge, uint32_t models) const {
  const auto& rule = p_.policy.artefacts.evaluation;
  charge.unit = p_.card.privacy.unit;
  charge.neighbour = NeighbourOf(charge.unit);
  if (charge.unit != PrivacyUnit::kSite) {
    // Without noise the rules withhold the cell, and nothing is charged.
    if (rule.unit_noise_multiplier > 0) (void)charge.price.Add(policy::UnitEvaluationPrice(rule, models));
    return;
  }
  auto curve = policy::EvaluationCurve(rule, 2 * models);
  if (curve.ok()) charge.price = *std::move(curve);
}

void WorkerCore::QueueEvaluation(Evaluation& evaluation, size_t index, Floats weights, Instant now) {
  EvaluateTask task{evaluation.request.request,       evaluation.request.job, index,
                    evaluation.request.max_documents, std::move(weights),     BoundsOfUnit()};
  TrainerDesk::Out out;
  desk_.Enqueue(std::move(task), now, out);
  Apply(std::move(out), now);
}

void WorkerCore::OnEvaluationFetched(const Fetched& fetched, Instant now) {
  std::vector<Digest> waiting;
  for (const auto& [request, evaluation] : evaluations_)
    if (std::ranges::count(evaluation.request.adapters, fetched.sha256) > 0) waiting.push_back(request);
  for (const Digest& request : waiting) {
    Evaluation& evaluation = evaluations_.at(request);
    const Job& job = jobs_.at(evaluation.request.job);
    auto blob = AdapterOf(job, fetched);
    if (!blob.ok()) {
      Say(LogLine::Level::kWarning, fmt::format("job {}: evaluation failed: no adapter {} of this job",
                                                job.id().brief(), fetched.sha256.brief()));
      EvaluationCell cell{request, CellState::kFailed, {}, policy::RuleCode::kNone, 0};
      const JobId id = job.id();
      evaluations_.erase(request);
      Answer(id, std::move(cell));
      continue;
    }
    const auto shared = std::make_shared<const AdapterBlob>(*std::move(blob));
    const std::vector<Digest> adapters = evaluation.request.adapters;
    for (size_t i = 0; i < adapters.size(); ++i) {
      if (adapters[i] != fetched.sha256) continue;
      const auto still = evaluations_.find(request);
      if (still == evaluations_.end()) break;
      if (!still->second.results[i]) QueueEvaluation(still->second, i, Floats(shared, &shared->weights), now);
    }
  }
}

/// A trainer that could not answer has read the region's text all the same: it counts as a request answered.
void WorkerCore::FailEvaluation(const EvaluateTask& task, std::string_view why) {
  Say(LogLine::Level::kWarning, fmt::format("job {}: evaluation failed: {}", task.job.brief(), why));
  if (Job* job = FindJob(task.job); job != nullptr) ++job->failed_evaluations;
  evaluations_.erase(task.request);
  Answer(task.job, {task.request, CellState::kFailed, {}, policy::RuleCode::kNone, 0});
}

void WorkerCore::OnEvaluated(const EvaluateTask& task, const StatusOr<TrainerSaid>& answer, Instant now) {
  const auto it = evaluations_.find(task.request);
  if (it == evaluations_.end()) return;
  if (!answer.ok()) return FailEvaluation(task, Message(answer.status()));
  const auto& evaluated = std::get<sandbox::Evaluated>(answer->message);
  it->second.results[task.index] = evaluated;
  Say(LogLine::Level::kInfo,
      fmt::format("job {}: evaluated model {} on {} documents: {:.4f} bits per byte, standard error {:.4f}",
                  task.job.brief(), task.index, evaluated.documents, evaluated.bits_per_byte,
                  evaluated.standard_error));
  if (evaluated.sums.has_value() != BoundsOfUnit().has_value())
    return FailEvaluation(task, "the trainer's sums are missing, or nobody asked for them");
  const auto& results = it->second.results;
  if (std::ranges::all_of(results, [](const auto& r) { return r.has_value(); }))
    ChargeEvaluation(task.request, now);
}

void WorkerCore::ChargeEvaluation(const Digest& request, Instant now) {
  Evaluation& evaluation = evaluations_.at(request);
  // Another cell may have been paid for since this one was asked for.
  evaluation.charge.attempt.attempt = p_.ledger->CountOf(ChargeKind::kEvaluation, evaluation.request.job);
  const auto refusals = ReleaseRefusals(jobs_.at(evaluation.request.job), evaluation.charge, now);
  if (!refusals.empty()) {
    const JobId job = evaluation.request.job;
    return Withhold(job, Digest(request), refusals.front().code);
  }
  evaluation.charging = true;
  fx_.charges.push_back(evaluation.charge);
}

/// What the trainer has to clip persons or records to; nothing where the budget counts sites.
std::optional<sandbox::UnitBounds> WorkerCore::BoundsOfUnit() const {
  if (p_.card.privacy.unit == PrivacyUnit::kSite) return std::nullopt;
  const auto& rule = p_.policy.artefacts.evaluation;
  return sandbox::UnitBounds{TrainerUnit(p_.card.privacy.unit), rule.unit_bytes, rule.bound_bits_per_byte,
                             policy::kUnitBitUnits};
}

namespace {

int64_t Draw(const DiscreteGaussianSampler& noise, RandomSource& random) {
  int64_t draw = 0;
  noise.Sample(random, std::span(&draw, 1));
  return draw;
}

}  // namespace

/// Means and their errors, each with noise of its own.
StatusOr<std::vector<int64_t>> WorkerCore::SiteFigures(const Evaluation& evaluation) const {
  const auto& rule = p_.policy.artefacts.evaluation;
  ASSIGN_OR_RETURN(const NoiseVariance variance, policy::EvaluationVariance(rule));
  const ExactDiscreteGaussian noise(variance);
  std::vector<int64_t> out;
  for (const auto& result : evaluation.results) {
    for (double figure : {result->bits_per_byte, result->standard_error}) {
      // To millionths only after the noise: what is computed from a noised number costs nothing more.
      const auto noised = static_cast<double>(policy::EvaluationClip(rule, figure) + Draw(noise, *p_.random));
      out.push_back(std::llround(noised * (kCellUnits / policy::kEvaluationUnits)));
    }
  }
  return out;
}

/// Sums of bits, one for each model, and of bytes once, each with noise; the means are their quotients, and
/// what is said of their error is the noise's part of it.
StatusOr<std::vector<int64_t>> WorkerCore::UnitFigures(const Evaluation& evaluation) const {
  const auto& rule = p_.policy.artefacts.evaluation;
  const double z = rule.unit_noise_multiplier;
  const double bits_stddev = std::nextafter(z * policy::UnitEvaluationBits(rule), HUGE_VAL);
  const double bytes_stddev = std::nextafter(z * rule.unit_bytes, HUGE_VAL);
  ASSIGN_OR_RETURN(const auto bits_scale, RoundedGaussianScale::FromStddev(bits_stddev));
  ASSIGN_OR_RETURN(const auto bytes_scale, RoundedGaussianScale::FromStddev(bytes_stddev));
  const auto draw = [&](RoundedGaussianScale scale) {
    int64_t out = 0;
    ExactRoundedGaussian(scale).Sample(*p_.random, std::span(&out, 1));
    return static_cast<double>(out);
  };
  // All models were read on the same documents.
  const double bytes =
      std::max(1.0, static_cast<double>(evaluation.results.front()->sums->bytes) + draw(bytes_scale));
  std::vector<int64_t> out;
  for (const auto& result : evaluation.results) {
    const double bits = (static_cast<double>(result->sums->bits) + draw(bits_scale)) / policy::kUnitBitUnits;
    const double mean = std::clamp(bits / bytes, 0.0, rule.bound_bits_per_byte);
    const double error = std::hypot(bits_stddev / policy::kUnitBitUnits, mean * bytes_stddev) / bytes;
    out.push_back(std::llround(mean * kCellUnits));
    out.push_back(std::llround(std::min(error, rule.bound_bits_per_byte) * kCellUnits));
  }
  return out;
}

/// What leaves, noise in it.
StatusOr<std::vector<int64_t>> WorkerCore::FiguresOf(const Evaluation& evaluation) const {
  return p_.card.privacy.unit == PrivacyUnit::kSite ? SiteFigures(evaluation) : UnitFigures(evaluation);
}

void WorkerCore::Release(const Digest& request, const ChargeOutcome& outcome, Instant now) {
  const auto node = evaluations_.extract(request);
  const Evaluation& evaluation = node.mapped();
  EvaluationCell cell{request, CellState::kFailed, {}, policy::RuleCode::kNone, 0};
  auto figures = outcome.status.ok() ? FiguresOf(evaluation) : outcome.status;
  if (!figures.ok()) {
    Say(LogLine::Level::kError, fmt::format("job {}: evaluation not charged: {}",
                                            evaluation.request.job.brief(), Message(figures.status())));
    return Answer(evaluation.request.job, std::move(cell));
  }
  cell.state = CellState::kReleased;
  cell.epsilon_charged = CostOf(outcome.epsilon_before, outcome.epsilon_after);
  cell.values = *std::move(figures);
  policy::Receipt receipt;
  receipt.time = now;
  receipt.worker = p_.self;
  receipt.attempt = evaluation.charge.attempt;
  receipt.sha256 = crypto::Sha256(CanonicalCell(cell));
  receipt.from = p_.self.jurisdiction();
  receipt.to = p_.charter.coordinator.id.jurisdiction();
  receipt.epsilon_charged = cell.epsilon_charged;
  receipt.sandbox = Sandbox();
  receipt.charter = p_.charter_hash;
  receipt.ledger_head = outcome.ledger_head;
  Witness({evaluation.charge.attempt, {}, {}, {}}, outcome.ledger_head);
  Receive(std::move(receipt), policy::ArtefactKind::kEvaluation, policy::RuleCode::kArtefactEvaluation,
          cell.values.size() * sizeof(int64_t));
  Answer(evaluation.request.job, std::move(cell));
}

}  // namespace concordat::worker
