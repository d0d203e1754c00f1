#include "coordinator/core/coordinator_core.h"

#include <algorithm>

#include "aggregation/adapter_layout.h"
#include "policy/job_privacy.h"

namespace concordat::coordinator {

CoordinatorCore::CoordinatorCore(CoreContext context, CoreLimits limits)
    : context_(std::make_shared<const CoreContext>(std::move(context))), limits_(limits) {}

StatusOr<CoreEffects> CoordinatorCore::Restore(StoredJob stored, policy::JobSpec spec, Instant now) {
  const JobId id = stored.job.id;
  if (jobs_.contains(id)) return AlreadyExists("job {} is there already", id.brief());
  if (stored.rounds.size() > spec.rounds) {
    return InvalidArgument("job {}: {} rounds are stored, its file has {}", id.brief(), stored.rounds.size(),
                           spec.rounds);
  }
  blobs_.emplace(stored.job.initial_adapter, id);
  for (const RoundRecord& round : stored.rounds) {
    blobs_.emplace(round.adapter, id);
    blobs_.emplace(round.sum_sha256, id);
  }
  jobs_[id] = std::make_unique<JobMachine>(*context_, std::move(stored), std::move(spec), now);
  order_.push_back(id);
  CoreEffects fx;
  jobs_[id]->Reopen(&fx);
  return fx;
}

StatusOr<JobMachine*> CoordinatorCore::Find(const JobId& job) {
  const auto it = jobs_.find(job);
  if (it == jobs_.end()) return NotFound("no job {}", job.brief());
  return it->second.get();
}

StatusOr<const JobMachine*> CoordinatorCore::Job(const JobId& job) const {
  const auto it = jobs_.find(job);
  if (it == jobs_.end()) return NotFound("no job {}", job.brief());
  return static_cast<const JobMachine*>(it->second.get());
}

/// Of `all` places, one member's; at least one.
size_t CoordinatorCore::ShareOf(uint32_t all) const {
  return std::max<size_t>(1, all / std::max<size_t>(1, context_->jurisdictions.size()));
}

Status CoordinatorCore::CheckReader(const JobMachine& job, const std::string& jurisdiction) const {
  const auto& invited = job.invited();
  if (job.record().submitter.jurisdiction() == jurisdiction ||
      std::find(invited.begin(), invited.end(), jurisdiction) != invited.end()) {
    return OkStatus();
  }
  return PermissionDenied("job {} does not invite {}", job.record().id.brief(), jurisdiction);
}

Status CoordinatorCore::CheckReader(const Digest& blob, const std::string& jurisdiction) const {
  Status out = NotFound("no job has an adapter or a sum {}", blob.brief());
  for (auto it = blobs_.lower_bound({blob, JobId{}}); it != blobs_.end() && it->first == blob; ++it) {
    out = CheckReader(*jobs_.at(it->second), jurisdiction);
    if (out.ok()) break;
  }
  return out;
}

// ---- Workers.

StatusOr<CoreEffects> CoordinatorCore::OnWorkerConnected(const WorkerInfo& worker, Instant now) {
  const bool known = workers_.contains(worker.id);
  if (!known && workers_.size() >= limits_.max_workers) {
    return ResourceExhausted("{} workers are connected, which is the most", workers_.size());
  }
  const std::string& from = worker.id.jurisdiction();
  const auto same = std::count_if(workers_.begin(), workers_.end(),
                                  [&](const auto& entry) { return entry.first.jurisdiction() == from; });
  if (!known && static_cast<size_t>(same) >= ShareOf(limits_.max_workers)) {
    return ResourceExhausted("{} workers of {} are connected, which is its share of {} among {} members",
                             same, from, limits_.max_workers, context_->jurisdictions.size());
  }
  CoreEffects fx;
  workers_[worker.id] = worker;
  for (const JobId& id : order_) jobs_.at(id)->OnConnected(worker, now, &fx);
  return Settle(std::move(fx), now);
}

CoreEffects CoordinatorCore::OnWorkerLost(const SpiffeId& worker, Instant now) {
  CoreEffects fx;
  if (workers_.erase(worker) != 0) {
    for (const JobId& id : order_) jobs_.at(id)->OnLost(worker, now, &fx);
    for (auto& [request, question] : questions_) question.awaited.erase(worker);
  }
  return Settle(std::move(fx), now);
}

StatusOr<CoreEffects> CoordinatorCore::OnWorkerEvent(const SpiffeId& worker, const WorkerEvent& event,
                                                     Instant now) {
  if (!workers_.contains(worker)) return FailedPrecondition("{} is not connected", worker.Brief());
  CoreEffects fx;
  RETURN_IF_ERROR(Dispatch(worker, event, now, &fx));
  return Settle(std::move(fx), now);
}

Status CoordinatorCore::Dispatch(const SpiffeId& worker, const WorkerEvent& event, Instant now,
                                 CoreEffects* fx) {
  return std::visit(
      [&](const auto& e) -> Status {
        using T = std::decay_t<decltype(e)>;
        if constexpr (std::is_same_v<T, JobAnswer>) {
          return OnAnswer(worker, e, now, fx);
        } else if constexpr (std::is_same_v<T, EvaluationCell>) {
          return OnCell(worker, e);
        } else if constexpr (std::is_same_v<T, WorkerProgress>) {
          ASSIGN_OR_RETURN(JobMachine * job, Find(e.id.job));
          return job->OnProgress(worker, e, fx);
        } else if constexpr (std::is_same_v<T, Dropout>) {
          ASSIGN_OR_RETURN(JobMachine * job, Find(e.id.job));
          return job->OnDropout(worker, e, now, fx);
        } else if constexpr (std::is_same_v<T, ResultAck>) {
          ASSIGN_OR_RETURN(JobMachine * job, Find(e.id.job));
          return job->OnResultAck(worker, e, fx);
        } else {
          ASSIGN_OR_RETURN(JobMachine * job, Find(e.body.id.job));
          return job->OnMessage(worker, e, now, fx);
        }
      },
      event);
}

Status CoordinatorCore::OnAnswer(const SpiffeId& worker, const JobAnswer& answer, Instant now,
                                 CoreEffects* fx) {
  bool asked = false;
  for (auto& [request, question] : questions_) {
    if (!question.is_plan || question.job != answer.job || !question.awaited.contains(worker)) continue;
    question.answers[worker] = answer;
    question.awaited.erase(worker);
    asked = true;
  }
  const auto job = Find(answer.job);
  if (!job.ok()) {
    if (asked) return OkStatus();
    return job.status();
  }
  const Status status = (*job)->OnAnswer(worker, answer, now, fx);
  return asked ? OkStatus() : status;
}

Status CoordinatorCore::OnCell(const SpiffeId& worker, const EvaluationCell& cell) {
  const auto it = questions_.find(cell.request);
  if (it == questions_.end() || it->second.is_plan) return NotFound("no evaluation {}", cell.request.brief());
  if (!it->second.awaited.contains(worker)) {
    return FailedPrecondition("{} was not asked, or has answered", worker.Brief());
  }
  it->second.cells[worker] = cell;
  it->second.awaited.erase(worker);
  return OkStatus();
}

StatusOr<CoreEffects> CoordinatorCore::OnUploaded(const SpiffeId& worker, uint64_t elements,
                                                  const Digest& sha256,
                                                  const secagg::Signed<secagg::InputHeader>& header,
                                                  Instant now, CoreEffects* refused) {
  ASSIGN_OR_RETURN(JobMachine * job, Find(header.body.id.job));
  CoreEffects fx;
  const Status status = job->OnUploaded(worker, elements, sha256, header, now, &fx);
  if (status.ok()) return Settle(std::move(fx), now);
  if (refused != nullptr) *refused = Settle(std::move(fx), now);
  return status;
}

StatusOr<CoreEffects> CoordinatorCore::OnSumFinished(const SumFinished& sum, Instant now) {
  ASSIGN_OR_RETURN(JobMachine * job, Find(sum.id.job));
  CoreEffects fx;
  RETURN_IF_ERROR(job->OnSumFinished(sum, now, &fx));
  blobs_.emplace(sum.adapter, sum.id.job);
  blobs_.emplace(sum.sum_sha256, sum.id.job);
  return Settle(std::move(fx), now);
}

StatusOr<CoreEffects> CoordinatorCore::OnSumFailed(const AttemptId& id, Instant now) {
  ASSIGN_OR_RETURN(JobMachine * job, Find(id.job));
  CoreEffects fx;
  RETURN_IF_ERROR(job->OnSumFailed(id, now, &fx));
  return Settle(std::move(fx), now);
}

// ---- Operators.

Status CoordinatorCore::CheckSpec(const policy::JobSpec& spec) const {
  if (spec.charter != context_->charter) {
    return PermissionDenied("the job runs under charter {}, this coordinator under {}", spec.charter.brief(),
                            context_->charter.brief());
  }
  for (const std::string& jurisdiction : spec.cohort.jurisdictions) {
    const auto& all = context_->jurisdictions;
    if (std::find(all.begin(), all.end(), jurisdiction) == all.end()) {
      return InvalidArgument("the job invites {}, which is no member of the charter", jurisdiction);
    }
  }
  ASSIGN_OR_RETURN(const uint64_t elements, policy::MaskedElements(spec));
  if (elements > limits_.max_vector_elements) {
    return ResourceExhausted("a masked vector of {} elements; this coordinator takes at most {}", elements,
                             limits_.max_vector_elements);
  }
  // The vector may be the smaller part of the adapter, which is made and stored here before anyone has
  // agreed.
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(spec.base_model.shape, spec.adapter));
  if (layout.adapter_elements() > limits_.max_vector_elements) {
    return ResourceExhausted("an adapter of {} elements; this coordinator takes at most {}",
                             layout.adapter_elements(), limits_.max_vector_elements);
  }
  return policy::EncodingFor(spec, std::max(spec.cohort.minimum, context_->minimum_cohort)).status();
}

Status CoordinatorCore::CheckRoom(const std::string& jurisdiction) const {
  size_t live = 0, own = 0;
  for (const auto& [id, job] : jobs_) {
    if (HasEnded(job->phase())) continue;
    ++live;
    if (job->record().submitter.jurisdiction() == jurisdiction) ++own;
  }
  if (live >= limits_.max_jobs)
    return ResourceExhausted("{} jobs are waiting or running, which is the most", live);
  if (own < ShareOf(limits_.max_jobs)) return OkStatus();
  return ResourceExhausted(
      "{} jobs of {} are waiting or running, which is its share of {} among {} members; cancel one or wait",
      own, jurisdiction, limits_.max_jobs, context_->jurisdictions.size());
}

StatusOr<CoreEffects> CoordinatorCore::OnSubmit(JobRecord record, policy::JobSpec spec, Instant now) {
  if (jobs_.contains(record.id)) return AlreadyExists("job {} is registered", record.id.brief());
  RETURN_IF_ERROR(CheckSpec(spec));
  RETURN_IF_ERROR(CheckRoom(record.submitter.jurisdiction()));
  CoreEffects fx;
  const JobId id = record.id;
  blobs_.emplace(record.initial_adapter, id);
  fx.persist.push_back(record);
  fx.notes.push_back(fmt::format("job {}: registered for {}", id.brief(), record.submitter.Brief()));
  fx.changed.insert(id);
  auto job = std::make_unique<JobMachine>(*context_, std::move(record), std::move(spec), now);
  for (const auto& [worker, info] : workers_) job->OnConnected(info, now, &fx);
  jobs_[id] = std::move(job);
  order_.push_back(id);
  return Settle(std::move(fx), now);
}

StatusOr<CoreEffects> CoordinatorCore::OnCancel(const JobId& id, const SpiffeId& caller, Instant now) {
  ASSIGN_OR_RETURN(JobMachine * job, Find(id));
  if (caller.jurisdiction() != job->record().submitter.jurisdiction()) {
    return PermissionDenied("job {} was submitted by {}; only operators of {} may cancel it", id.brief(),
                            job->record().submitter.Brief(), job->record().submitter.jurisdiction());
  }
  CoreEffects fx;
  RETURN_IF_ERROR(job->Cancel(now, &fx));
  return Settle(std::move(fx), now);
}

StatusOr<CoreEffects> CoordinatorCore::OnPlan(const Digest& request, const policy::SignedJob& signed_job,
                                              const JobId& id, const policy::JobSpec& spec, Instant until,
                                              Instant now) {
  RETURN_IF_ERROR(CheckSpec(spec));
  if (questions_.size() >= limits_.max_questions) return ResourceExhausted("too many questions are open");
  Question question;
  question.job = id;
  question.is_plan = true;
  question.until = until;
  question.invited = spec.cohort.jurisdictions.empty() ? context_->jurisdictions : spec.cohort.jurisdictions;
  question.minimum = std::max(spec.cohort.minimum, context_->minimum_cohort);
  const auto job = Find(id);
  const uint32_t rounds_done = job.ok() ? (*job)->rounds_done() : 0;
  const auto shared = std::make_shared<const policy::SignedJob>(signed_job);
  CoreEffects fx;
  for (const auto& [worker, info] : workers_) {
    const auto& invited = question.invited;
    if (std::find(invited.begin(), invited.end(), worker.jurisdiction()) == invited.end()) continue;
    question.awaited.insert(worker);
    fx.send.push_back({worker, JobNotice{shared, true, rounds_done}});
  }
  questions_[request] = std::move(question);
  return Settle(std::move(fx), now);
}

StatusOr<CoreEffects> CoordinatorCore::OnEvaluate(const EvaluationRequest& request, Instant until,
                                                  Instant now) {
  ASSIGN_OR_RETURN(JobMachine * job, Find(request.job));
  if (questions_.contains(request.request))
    return AlreadyExists("evaluation {} is open", request.request.brief());
  if (questions_.size() >= limits_.max_questions) return ResourceExhausted("too many questions are open");
  std::set<Digest> known{Digest{}, job->record().initial_adapter};
  for (const RoundRecord& r : job->View(now).rounds) known.insert(r.adapter);
  for (const Digest& adapter : request.adapters) {
    if (!known.contains(adapter)) {
      return NotFound("job {} has no adapter {}", request.job.brief(), adapter.brief());
    }
  }
  Question question;
  question.job = request.job;
  question.until = until;
  question.invited = job->invited();
  EvaluationRequest out = request;
  out.round = job->rounds_done();
  CoreEffects fx;
  for (const auto& [worker, info] : workers_) {
    if (!job->Invites(worker)) continue;
    question.awaited.insert(worker);
    // A worker is told of live jobs when it connects; of one that has ended it may not know.
    if (HasEnded(job->phase())) fx.send.push_back({worker, JobNotice{job->signed_job(), true, out.round}});
    fx.send.push_back({worker, out});
  }
  questions_[request.request] = std::move(question);
  return Settle(std::move(fx), now);
}

void CoordinatorCore::Close(const Digest& request, const Question& question, CoreEffects* fx) const {
  if (!question.is_plan) {
    EvaluationOutcome outcome{request, {}};
    for (const auto& [worker, info] : workers_) {
      const auto& invited = question.invited;
      if (std::find(invited.begin(), invited.end(), worker.jurisdiction()) == invited.end()) continue;
      const auto cell = question.cells.find(worker);
      outcome.rows.push_back({worker, cell == question.cells.end() ? EvaluationCell{} : cell->second});
    }
    for (const auto& [worker, cell] : question.cells) {
      if (!workers_.contains(worker)) outcome.rows.push_back({worker, cell});
    }
    fx->evaluations.push_back(std::move(outcome));
    return;
  }
  PlanOutcome outcome{request, question.job, {}, false};
  std::set<std::string> answered;
  size_t eligible = 0;
  for (const auto& [worker, info] : workers_) {
    const auto& invited = question.invited;
    if (std::find(invited.begin(), invited.end(), worker.jurisdiction()) == invited.end()) continue;
    const auto answer = question.answers.find(worker);
    const JobAnswer given = answer == question.answers.end() ? JobAnswer{} : answer->second;
    if (given.verdict == Verdict::kEligible) ++eligible;
    answered.insert(worker.jurisdiction());
    outcome.regions.push_back({worker.ToString(), true, given});
  }
  for (const std::string& jurisdiction : question.invited) {
    if (!answered.contains(jurisdiction)) outcome.regions.push_back({"spiffe://" + jurisdiction, false, {}});
  }
  outcome.can_start = eligible >= question.minimum;
  fx->plans.push_back(std::move(outcome));
}

void CoordinatorCore::CloseQuestions(Instant now, CoreEffects* fx) {
  for (auto it = questions_.begin(); it != questions_.end();) {
    if (!it->second.awaited.empty() && now < it->second.until) {
      ++it;
      continue;
    }
    Close(it->first, it->second, fx);
    it = questions_.erase(it);
  }
}

// ---- Scheduling.

void CoordinatorCore::Schedule(Instant now, CoreEffects* fx) {
  std::set<SpiffeId> taken;
  for (const auto& [id, job] : jobs_) {
    for (const SpiffeId& worker : job->Busy()) taken.insert(worker);
  }
  std::vector<JobId> queue = order_;
  std::stable_sort(queue.begin(), queue.end(), [this](const JobId& a, const JobId& b) {
    const auto served = [this](const JobId& id) {
      const auto it = served_.find(id);
      return it == served_.end() ? uint64_t{0} : it->second;
    };
    return served(a) < served(b);
  });
  for (const JobId& id : queue) {
    JobMachine& job = *jobs_.at(id);
    const std::vector<SpiffeId> roster = job.DueRoster(now, fx);
    if (roster.empty()) continue;
    const bool free =
        std::none_of(roster.begin(), roster.end(), [&](const SpiffeId& w) { return taken.contains(w); });
    if (free) {
      job.StartAttempt(roster, now, fx);
      served_[id] = ++service_counter_;
    }
    // Waiting jobs keep their place: nobody behind them may take these workers meanwhile.
    taken.insert(roster.begin(), roster.end());
  }
}

CoreEffects CoordinatorCore::Settle(CoreEffects fx, Instant now) {
  CloseQuestions(now, &fx);
  Schedule(now, &fx);
  const auto earlier = [&fx](std::optional<Instant> t) {
    if (t && (!fx.deadline || *t < *fx.deadline)) fx.deadline = t;
  };
  for (const auto& [id, job] : jobs_) {
    const auto deadline = job->deadline(now);
    // An instant that has passed without anything to do does not come again by itself.
    if (deadline && (job->attempt_open() || *deadline > now)) earlier(deadline);
  }
  for (const auto& [request, question] : questions_) earlier(question.until);
  return fx;
}

CoreEffects CoordinatorCore::OnTimer(Instant now) {
  CoreEffects fx;
  for (const JobId& id : order_) jobs_.at(id)->OnTimer(now, &fx);
  return Settle(std::move(fx), now);
}

StatusOr<JobView> CoordinatorCore::View(const JobId& id, Instant now) const {
  ASSIGN_OR_RETURN(const JobMachine* job, Job(id));
  return job->View(now);
}

std::vector<JobId> CoordinatorCore::Jobs() const { return order_; }

std::vector<SpiffeId> CoordinatorCore::Connected() const {
  std::vector<SpiffeId> out;
  for (const auto& [id, info] : workers_) out.push_back(id);
  return out;
}

}  // namespace concordat::coordinator
