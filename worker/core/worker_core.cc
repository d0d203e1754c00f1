#include "worker/core/worker_core.h"

#include <algorithm>
#include <utility>

#include "policy/job_privacy.h"
#include "privacy/mechanism/clip.h"
#include "privacy/mechanism/encoder.h"

namespace concordat::worker {
namespace {

/// Jobs that are remembered; beyond it one that has nothing under way is forgotten.
constexpr size_t kMaxJobs = 64;
/// A job file is a stranger's: what is said of it in the log has an end.
constexpr size_t kMaxReasonBytes = 1024;
/// Smallest step of progress that is worth a message.
constexpr uint32_t kProgressStep = 10;

void Earlier(std::optional<Instant>& at, const std::optional<Instant>& other) {
  if (other && (!at || *other < *at)) at = other;
}

}  // namespace

StatusOr<std::unique_ptr<WorkerCore>> WorkerCore::Make(CoreParams params, const std::vector<Record>& journal,
                                                       const std::vector<RoundSeal>& sealed) {
  ASSIGN_OR_RETURN(crypto::VerifyKey key, crypto::VerifyKey::FromSpki(params.charter.coordinator.spki));
  auto core = std::unique_ptr<WorkerCore>(new WorkerCore(std::move(params), std::move(key), journal));
  core->PutToSleep(sealed);
  return core;
}

WorkerCore::WorkerCore(CoreParams params, crypto::VerifyKey coordinator, const std::vector<Record>& journal)
    : p_(std::move(params)), coordinator_(std::move(coordinator)), desk_(p_.desk) {
  for (const Record& record : journal) {
    if (const auto* entered = std::get_if<AttemptEntered>(&record)) entered_.insert(entered->id);
    if (const auto* begun = std::get_if<InputBegun>(&record)) NoteBegun(begun->id);
    if (const auto* adapter = std::get_if<AdapterVerified>(&record))
      chains_[adapter->job][adapter->round] = adapter->adapter;
    if (const auto* taken = std::get_if<DecisionTaken>(&record))
      standings_[taken->job].Apply(taken->decision);
    if (const auto* halted = std::get_if<JobHalted>(&record)) standings_[halted->job].halted = true;
    if (const auto* step = std::get_if<StepTaken>(&record)) steps_[step->id] = *step;
    if (const auto* left = std::get_if<AttemptLeft>(&record)) steps_.erase(left->id);
    if (const auto* said = std::get_if<ResultSaid>(&record))
      said_.insert_or_assign(said->message.body.id.job, said->message);
  }
  // What the journal has forgotten, put back from a copy, the ledger still knows.
  for (const policy::LedgerEntry& entry : p_.ledger->entries())
    if (entry.charge.kind == ChargeKind::kDelta) NoteBegun(entry.charge.attempt);
}

void WorkerCore::NoteBegun(const AttemptId& id) { begun_[{id.job, id.round}].insert(id.attempt); }

void WorkerCore::Say(LogLine::Level level, std::string text) {
  if (level != LogLine::Level::kInfo) last_error_ = text;
  fx_.log.push_back({level, std::move(text)});
}

Effects WorkerCore::Done(Instant now) {
  TellProgress(false);
  const bool live = std::ranges::any_of(jobs_, [](const auto& j) { return j.second.run && !j.second.ended; });
  const bool idle = !live && evaluations_.empty() && desk_.running() == nullptr;
  const bool up = desk_.state() != TrainerDesk::State::kOff && desk_.state() != TrainerDesk::State::kBarred;
  if (!idle || !up) rest_at_.reset();
  if (idle && up && !rest_at_) rest_at_ = now + p_.rest_after;
  fx_.wake = rest_at_;
  Earlier(fx_.wake, desk_.deadline());
  for (const auto& [job, open] : open_) Earlier(fx_.wake, open.deadline);
  for (const auto& [job, asleep] : asleep_) Earlier(fx_.wake, asleep.until);
  return std::exchange(fx_, {});
}

Job* WorkerCore::FindJob(const JobId& id) {
  const auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : &it->second;
}

// ---- Session.

Effects WorkerCore::OnConnected(Instant now) {
  connected_ = true;
  for (auto& [id, job] : jobs_) job.heard = false;
  // Cells are answers that nobody asks for again; everything else the coordinator does ask for again.
  for (EvaluationCell& cell : unsent_cells_) fx_.send.push_back(std::move(cell));
  unsent_cells_.clear();
  told_phase_ = Phase::kIdle;
  return Done(now);
}

Effects WorkerCore::OnDisconnected(Instant now) {
  connected_ = false;
  return Done(now);
}

Effects WorkerCore::OnMessage(const FromCoordinator& message, Instant now) {
  if (stopping_) return Done(now);
  std::visit(
      [&](const auto& m) {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<M, JobNotice>) {
          OnNotice(m, now);
        } else if constexpr (std::is_same_v<M, secagg::Signed<secagg::Offer>>) {
          OnOffer(m, now);
        } else if constexpr (std::is_same_v<M, AttemptAborted>) {
          // What it has signed a result of is checked, whatever it says now.
          if (FindAsleep(m.id) != nullptr && SaidOf(m.id) == nullptr) GiveUp(m.id.job);
          const auto open = open_.find(m.id.job);
          if (open != open_.end() && open->second.offer.body.id == m.id && !open->second.result) {
            Say(LogLine::Level::kInfo,
                fmt::format("{}: ended by the coordinator, reason {}", m.id.Brief(), m.reason));
            Close(m.id.job);
          }
        } else if constexpr (std::is_same_v<M, JobEnded>) {
          OnJobEnded(m, now);
        } else if constexpr (std::is_same_v<M, EvaluationRequest>) {
          OnEvaluationRequest(m, now);
        } else if constexpr (std::is_same_v<M, Ping>) {
          fx_.send.push_back(Pong{m.sequence});
        } else {
          OnRoundMessage(m, now);
        }
      },
      message);
  ReleaseHeld(now);
  return Done(now);
}

// ---- Jobs.

StatusOr<Job> WorkerCore::OpenNotice(const JobNotice& notice, Instant now) const {
  Job job;
  ASSIGN_OR_RETURN(job.facts, policy::OpenJob(notice.job, p_.charter, now));
  ASSIGN_OR_RETURN(job.layout, AdapterLayout::Make(job.facts.spec.base_model.shape, job.facts.spec.adapter));
  job.base_model_absent = job.facts.spec.base_model.sha256 != p_.base_model;
  // The adapter's length follows from the shape: it is not believed, else a job could ask for any memory.
  job.base_model_differs = !job.base_model_absent && !(job.facts.spec.base_model.shape == p_.base_shape);
  job.pairwise_absent = job.facts.spec.secure_aggregation.pairwise_keys && p_.pairwise.empty();
  if (const auto it = standings_.find(job.id()); it != standings_.end()) job.standing = it->second;
  if (const auto it = chains_.find(job.id()); it != chains_.end()) job.chain = it->second;
  return job;
}

void WorkerCore::Requote(Job& job, Instant now) const {
  job.answer = policy::AnswerJob(p_.policy, p_.card, p_.charter, p_.charter_hash, p_.self, job.facts.spec,
                                 job.id(), job.facts.submitter, *p_.ledger, job.rounds_done, now);
}

void WorkerCore::WarmUp(const Job& job, Instant now) {
  const policy::JobSpec& spec = job.facts.spec;
  TrainerDesk::Out out;
  desk_.Register(job.id(), PrepareFor(spec), now, out);
  Apply(std::move(out), now);
}

void WorkerCore::OnNotice(const JobNotice& notice, Instant now) {
  StatusOr<Job> opened = OpenNotice(notice, now);
  if (!opened.ok()) {
    // Without a verified submitter there is no job to name: only the file's bytes are known.
    const auto peer = policy::CheckPeer(p_.charter, notice.job.submitter_chain, now);
    const std::string name =
        peer.ok() ? "job " + policy::JobIdOf(notice.job.file, peer->id).brief() : std::string("a job");
    Say(LogLine::Level::kWarning,
        fmt::format("{}: refused: {}", name, Message(opened.status()).substr(0, kMaxReasonBytes)));
    JobAnswer answer;
    answer.verdict = Verdict::kRefused;
    answer.job = peer.ok() ? policy::JobIdOf(notice.job.file, peer->id) : JobId{};
    answer.rules = {opened.status().code() == StatusCode::kInvalidArgument
                        ? policy::RuleCode::kJobMalformed
                        : policy::RuleCode::kSubmitterSignature};
    fx_.send.push_back(answer);
    return;
  }
  Job* job = FindJob(opened->id());
  if (job == nullptr) {
    if (jobs_.size() >= kMaxJobs) {
      // A last sum or an evaluation may still be under way for a job that has ended.
      const auto old = std::ranges::find_if(jobs_, [this](const auto& j) {
        return (!j.second.run || j.second.ended) && !open_.contains(j.first) &&
               std::ranges::none_of(evaluations_,
                                    [&](const auto& e) { return e.second.request.job == j.first; });
      });
      if (old == jobs_.end()) {
        Say(LogLine::Level::kWarning, "a job was ignored: too many are running");
        return;
      }
      jobs_.erase(old);
    }
    const JobId id = opened->id();
    job = &jobs_.emplace(id, *std::move(opened)).first->second;
  }
  job->run = job->run || notice.run;
  job->heard = job->heard || notice.run;
  job->ended = job->ended && !notice.run;
  job->rounds_done = std::max(job->rounds_done, std::min(notice.rounds_done, job->facts.spec.rounds));
  Requote(*job, now);
  const JobAnswer answer = AnswerOf(*job, desk_.health());
  fx_.send.push_back(answer);
  for (const policy::Refusal& refusal : job->answer.refusals)
    Say(LogLine::Level::kInfo,
        fmt::format("job {}: {}: {}", job->id().brief(),
                    policy::DescribeRule(static_cast<uint32_t>(refusal.code)), refusal.detail));
  if (job->base_model_absent || job->base_model_differs)
    Say(LogLine::Level::kInfo, fmt::format("job {}: {}", job->id().brief(),
                                           policy::DescribeRule(static_cast<uint32_t>(
                                               job->base_model_absent ? policy::RuleCode::kBaseModelAbsent
                                                                      : policy::RuleCode::kBaseModelShape))));
  if (job->pairwise_absent)
    Say(LogLine::Level::kInfo,
        fmt::format("job {}: {}", job->id().brief(),
                    policy::DescribeRule(static_cast<uint32_t>(policy::RuleCode::kPairwiseKeysAbsent))));
  if (job->run && answer.verdict == Verdict::kEligible) WarmUp(*job, now);
  if (const auto asleep = asleep_.find(job->id());
      job->run && asleep != asleep_.end() && !walks_.contains(job->id()))
    OnOffer(secagg::Signed<secagg::Offer>(asleep->second.state.offer), now);
}

void WorkerCore::OnJobEnded(const JobEnded& ended, Instant now) {
  Job* job = FindJob(ended.job);
  if (job == nullptr) return;
  Say(LogLine::Level::kInfo, fmt::format("job {}: ended", ended.job.brief()));
  job->ended = true;
  job->delta.reset();
  held_.erase(ended.job);
  // The last round's sum may still be on its way: what it makes is checked all the same.
  if (!AwaitsSum(ended.job)) {
    walks_.erase(ended.job);
    GiveUp(ended.job);
    Close(ended.job);
  }
  TrainerDesk::Out out;
  desk_.CancelTraining(ended.job, now, out);
  Apply(std::move(out), now);
}

StatusOr<WorkerCore::DecisionReply> WorkerCore::OnDecision(const JobId& id, Decision decision, Instant now) {
  Job* job = FindJob(id);
  if (job == nullptr) return NotFound("no job {} is known here", id.brief());
  if (decision == Decision::kNone) return InvalidArgument("expected a decision");
  if (job->standing.withdrawn) return FailedPrecondition("job {} was withdrawn: that is final", id.brief());
  if (decision == Decision::kPause && job->ended)
    return FailedPrecondition(
        "job {} has ended: there is no round to sit out (deny or withdraw refuses its evaluations too)",
        id.brief());
  const auto open = open_.find(id);
  const bool left = open != open_.end() && open->second.round.phase() >= secagg::WorkerPhase::kInputBegun;
  fx_.records.emplace_back(DecisionTaken{id, decision});
  job->standing.Apply(decision);
  standings_[id] = job->standing;
  if (decision == Decision::kResume || decision == Decision::kApprove) job->trainer_failed = false;
  std::string text = fmt::format("job {}: {}", id.brief(), DecisionName(decision));
  if (decision == Decision::kWithdraw || decision == Decision::kDeny || decision == Decision::kPause) {
    if (decision == Decision::kPause && left) {
      text += "; the attempt that is under way ends first";
    } else if (open != open_.end()) {
      text += left ? "; a masked vector had left, its charge stands" : "; nothing had left, keys are erased";
      Leave(id, AwayCode(*job), secagg::RefusalCode::kNone, now);
    } else {
      text += "; no attempt was open";
    }
    job->delta.reset();
    held_.erase(id);
    walks_.erase(id);
    GiveUp(id);
    WithholdAll(*job);
    TrainerDesk::Out out;
    desk_.Cancel(id, now, out);
    Apply(std::move(out), now);
  }
  const JobAnswer answer = AnswerOf(*job, desk_.health());
  fx_.send.push_back(answer);
  if (job->run && !job->ended && answer.verdict == Verdict::kEligible) WarmUp(*job, now);
  Say(LogLine::Level::kInfo, text);
  return DecisionReply{Done(now), text};
}

// ---- Trainer.

void WorkerCore::Apply(TrainerDesk::Out out, Instant now) {
  for (Command& command : out.commands) fx_.commands.push_back(std::move(command));
  for (LogLine& line : out.log) Say(line.level, std::move(line.text));
  for (TaskOutcome& outcome : out.outcomes) OnOutcome(std::move(outcome), now);
  for (const JobId& id : out.unprepared)
    if (Job* job = FindJob(id)) BarFromTrainer(*job);
}

Effects WorkerCore::OnTrainer(const TrainerEvent& event, Instant now) {
  const TrainerHealth before = desk_.health();
  TrainerDesk::Out out;
  desk_.On(event, now, out);
  Apply(std::move(out), now);
  TellHealth(before, now);
  return Done(now);
}

/// Jobs that run learn what the trainer has become able or unable to do: a region that cannot train must not
/// be counted on, since the others pay for an attempt that it breaks.
void WorkerCore::TellHealth(TrainerHealth before, Instant now) {
  if (desk_.health() == before) return;
  for (const auto& [id, job] : jobs_) {
    if (!job.run || job.ended) continue;
    fx_.send.push_back(AnswerOf(job, desk_.health()));
    if (AnswerOf(job, desk_.health()).verdict == Verdict::kEligible) WarmUp(job, now);
  }
}

/// Nothing of `job` is given to the trainer again before a restart or a word of the operator's.
void WorkerCore::BarFromTrainer(Job& job) {
  if (std::exchange(job.trainer_failed, true)) return;
  Say(LogLine::Level::kError,
      fmt::format("job {}: refused until this worker is restarted or `concordat resume` is said: the trainer "
                  "could not do it",
                  job.id().brief()));
  if (job.run && !job.ended) fx_.send.push_back(AnswerOf(job, desk_.health()));
}

/// Why this region does not take an offer of a job that it knows.
DropoutCode WorkerCore::AwayCode(const Job& job) const {
  if (job.standing.denied) return DropoutCode::kDenied;
  if (job.standing.withdrawn) return DropoutCode::kWithdrawn;
  if (job.standing.paused) return DropoutCode::kPaused;
  const bool fails = job.trainer_failed || desk_.health() == TrainerHealth::kDown;
  return fails ? DropoutCode::kTrainerFailed : DropoutCode::kPolicyRefused;
}

namespace {

/// The metrics of what was trained, in policy::Metric's units. Of a sum over units also whether `delta` is
/// what such a sum is: before it is charged for, and not after.
StatusOr<std::vector<double>> MetricsOf(const policy::JobSpec& spec, const sandbox::Trained& trained,
                                        const std::vector<float>& delta) {
  if (!policy::IsUnitSum(spec)) {
    const double share =
        std::min(1.0, static_cast<double>(trained.target_tokens) / policy::PlannedTokens(spec));
    return std::vector<double>{trained.mean_loss, share};
  }
  ASSIGN_OR_RETURN(const policy::UnitSumSpec sum, policy::UnitSumFor(spec));
  RETURN_IF_ERROR(CheckIntegers(delta, sum.largest));
  if (!trained.sums) return InvalidArgument("the trainer gave no sums of a round's figures");
  const double all = sum.metric_units * spec.privacy.expected_units;
  return std::vector<double>{static_cast<double>(trained.sums->loss) * spec.metrics.loss_bound / all,
                             static_cast<double>(trained.sums->targets) / all};
}

}  // namespace

void WorkerCore::OnOutcome(TaskOutcome outcome, Instant now) {
  if (const auto* evaluate = std::get_if<EvaluateTask>(&outcome.task))
    return OnEvaluated(*evaluate, outcome.answer, now);
  const auto& task = std::get<TrainTask>(outcome.task);
  Job* job = FindJob(task.job);
  if (job == nullptr) return;
  Status status = outcome.answer.status();
  if (status.ok()) {
    const auto& trained = std::get<sandbox::Trained>(outcome.answer->message);
    const Floats& delta = outcome.answer->weights;
    if (!delta || delta->size() != job->layout.delta_elements()) {
      status = InvalidArgument("the trainer's delta has another length than the job's");
    } else if (auto norm = L2Norm(*delta); !norm.ok()) {
      status = norm.status();
    } else if (auto metrics = MetricsOf(job->facts.spec, trained, *delta); !metrics.ok()) {
      status = metrics.status();
    } else {
      job->delta = RoundDelta{task.round, task.adapter, delta, *metrics};
      if (policy::IsUnitSum(job->facts.spec))
        *norm *= policy::UnitSumStep(job->facts.spec, *policy::UnitSumFor(job->facts.spec), task.round);
      Say(LogLine::Level::kInfo,
          fmt::format(
              "job {} round {}: trained {} steps, {} tokens, {:.1f} tokens/s, loss {:.4f}, delta norm {:.4f}",
              task.job.brief(), task.round, trained.steps, trained.tokens,
              trained.seconds > 0 ? static_cast<double>(trained.tokens) / trained.seconds : 0.0,
              trained.mean_loss, *norm));
      return MayBegin(task.job, now);
    }
  }
  Say(LogLine::Level::kError,
      fmt::format("job {} round {}: {}", task.job.brief(), task.round, Message(status)));
  const bool barred = status.code() == StatusCode::kPermissionDenied;
  Leave(task.job, barred ? DropoutCode::kPolicyRefused : DropoutCode::kTrainerFailed,
        secagg::RefusalCode::kNone, now);
  // One that does not start at all refuses every job until it does.
  if (!barred && desk_.health() == TrainerHealth::kWorks) BarFromTrainer(*job);
}

// ---- Ends.

void WorkerCore::Close(const JobId& job) {
  const auto it = open_.find(job);
  if (it == open_.end()) return;
  const AttemptId id = it->second.offer.body.id;
  if (it->second.uploading) fx_.commands.push_back(CancelUpload{id});
  it->second.round.Erase();
  open_.erase(it);
  steps_.erase(id);
  fx_.records.emplace_back(AttemptLeft{id});
  fx_.commands.push_back(ForgetRound{id});
}

void WorkerCore::Leave(const JobId& job, DropoutCode code, secagg::RefusalCode refusal, Instant) {
  const auto it = open_.find(job);
  if (it == open_.end()) return;
  const AttemptId id = it->second.offer.body.id;
  fx_.send.push_back(Dropout{id, code, refusal});
  Say(LogLine::Level::kWarning,
      fmt::format("{}: left: {}{}{}", id.Brief(), DropoutName(code),
                  refusal == secagg::RefusalCode::kNone ? "" : ", ",
                  refusal == secagg::RefusalCode::kNone ? std::string_view() : secagg::RefusalName(refusal)));
  Close(job);
}

Effects WorkerCore::OnStorageFailed(Effects failed, Instant now) {
  fx_ = {};
  for (ToCoordinator& message : failed.send)
    if (std::holds_alternative<Dropout>(message)) fx_.send.push_back(std::move(message));
  for (Command& command : failed.commands)
    if (std::holds_alternative<CancelUpload>(command) || std::holds_alternative<ForgetRound>(command))
      fx_.commands.push_back(std::move(command));
  Say(LogLine::Level::kError, "the region's storage cannot be written: every open attempt ends");
  while (!open_.empty())
    Leave(open_.begin()->first, DropoutCode::kStorageFull, secagg::RefusalCode::kNone, now);
  return Done(now);
}

Effects WorkerCore::OnShutdown(Instant now) {
  stopping_ = true;
  // As if it were killed: what the next process needs stays sealed, and nobody is told that it is gone.
  for (const auto& [job, open] : open_)
    Say(LogLine::Level::kInfo,
        fmt::format("{}: kept while {}: goes on when this worker is started again soon",
                    open.offer.body.id.Brief(), secagg::WorkerPhaseName(open.round.phase())));
  open_.clear();
  held_.clear();
  walks_.clear();
  fx_.commands.push_back(StopTrainer{});
  Effects out = Done(now);
  out.wake.reset();
  return out;
}

Effects WorkerCore::OnTimer(Instant now) {
  std::vector<JobId> late;
  for (const auto& [job, open] : open_)
    if (open.deadline && now >= *open.deadline) late.push_back(job);
  for (const JobId& job : late) {
    // The coordinator has its own, earlier deadline: it does not wait for a word from here.
    Say(LogLine::Level::kWarning,
        fmt::format("{}: given up, no answer in time while {}", open_.at(job).offer.body.id.Brief(),
                    secagg::WorkerPhaseName(open_.at(job).round.phase())));
    Close(job);
  }
  GiveUpLate(now);
  const TrainerHealth before = desk_.health();
  TrainerDesk::Out out;
  desk_.OnTimer(now, out);
  if (rest_at_ && now >= *rest_at_) desk_.Rest(out);
  Apply(std::move(out), now);
  TellHealth(before, now);
  ReleaseHeld(now);
  return Done(now);
}

// ---- What is shown.

std::optional<AttemptId> WorkerCore::ActiveAttempt() const {
  if (open_.empty()) return std::nullopt;
  return open_.begin()->second.offer.body.id;
}

Phase WorkerCore::CurrentPhase() const {
  for (const auto& [job, open] : open_)
    if (open.uploading) return open.sent_bytes == 0 ? Phase::kMasking : Phase::kUploading;
  if (const TrainerTask* task = desk_.running())
    return std::holds_alternative<TrainTask>(*task) ? Phase::kTraining : Phase::kEvaluating;
  if (desk_.state() == TrainerDesk::State::kStarting || desk_.state() == TrainerDesk::State::kPreparing)
    return Phase::kLoading;
  return open_.empty() ? Phase::kIdle : Phase::kWaiting;
}

void WorkerCore::TellProgress(bool always) {
  const auto attempt = ActiveAttempt();
  CoreStatus now = status();
  // How far an evaluation is, or how often it moves, tells how many documents there are.
  if (now.phase == Phase::kEvaluating) now.permille = 0;
  const bool moved = now.phase != told_phase_ || now.permille >= told_permille_ + kProgressStep;
  if (!connected_ || (!moved && !always)) return;
  told_phase_ = now.phase;
  told_permille_ = now.permille;
  if (!attempt && now.phase != Phase::kIdle) return;
  if (attempt) fx_.send.push_back(Progress{*attempt, now.phase, now.permille});
}

namespace {

JobStage StageOf(const Job& job) {
  if (job.ended) return JobStage::kEnded;
  if (!job.run) return JobStage::kPlannedOnly;
  return job.heard ? JobStage::kRunning : JobStage::kUnknown;
}

}  // namespace

CoreStatus WorkerCore::status() const {
  CoreStatus status;
  status.phase = CurrentPhase();
  if (const auto attempt = ActiveAttempt()) status.attempt = *attempt;
  if (desk_.running() != nullptr) status.permille = desk_.progress().permille;
  if (status.phase == Phase::kUploading) {
    for (const auto& [job, open] : open_)
      if (open.uploading)
        status.permille = static_cast<uint32_t>(1000 * open.sent_bytes / open.plan.vector_bytes());
  }
  status.tokens_per_second = desk_.progress().tokens_per_second;
  status.train_loss = desk_.progress().loss;
  status.trainer = desk_.ready();
  status.trainer_barred = desk_.state() == TrainerDesk::State::kBarred;
  status.last_error = last_error_;
  for (const auto& [id, job] : jobs_)
    status.jobs.push_back({id, job.facts.spec.name, job.facts.submitter, AnswerOf(job, desk_.health()),
                           job.answer.needs_approval && !job.standing.approved, StageOf(job)});
  return status;
}

}  // namespace concordat::worker
