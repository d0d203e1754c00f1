#include "coordinator/rpc/hub.h"

#include "aggregation/adapter_steps.h"
#include "common/logging.h"
#include "policy/signed_job.h"

namespace concordat::coordinator {
namespace {

constexpr Millis kAnswerTime{10'000};
constexpr std::chrono::seconds kDiskRetry{2};
/// How long a job waits while the first adapter of another is made.
constexpr std::chrono::seconds kMakerTime{30};
/// A chain that was verified counts so long without being verified again.
constexpr Millis kPeerTime{10'000};
constexpr size_t kMostPeers = 1024;

CoreContext ContextOf(const Hub::Parts& parts) {
  CoreContext context;
  context.charter = parts.charter->hash;
  for (const auto& member : parts.charter->charter.members)
    context.jurisdictions.push_back(member.jurisdiction);
  context.minimum_cohort = parts.charter->charter.minimum_cohort;
  context.reconnect_grace = parts.reconnect_grace;
  context.key = parts.key;
  context.peers = parts.peers;
  return context;
}

StatusOr<Bytes> InitialBlob(const policy::JobSpec& spec, const JobId& id) {
  ASSIGN_OR_RETURN(const AdapterLayout layout, AdapterLayout::Make(spec.base_model.shape, spec.adapter));
  ASSIGN_OR_RETURN(const AdapterBlob blob, FirstAdapter(layout, id, spec.seed));
  return EncodeAdapterBlob(blob);
}

/// Ended before a round was done: its first adapter follows from its seed and nothing follows from it.
bool NeverBegan(JobPhase phase, size_t rounds) {
  return HasEnded(phase) && phase != JobPhase::kDone && rounds == 0;
}

}  // namespace

Hub::Hub(Parts parts) : parts_(std::move(parts)), core_(ContextOf(parts_), parts_.limits) {}

StatusOr<std::unique_ptr<Hub>> Hub::Make(Parts parts) {
  auto hub = std::unique_ptr<Hub>(new Hub(std::move(parts)));
  RETURN_IF_ERROR(hub->Restore());
  Hub* const h = hub.get();
  h->sums_ = std::make_unique<SumEngine>(
      *h->parts_.blobs,
      [h](SumFinished sum) {
        h->Post([h, sum = std::move(sum)]() mutable {
          const Traffic::Count count = h->traffic_.Since(sum.id);
          sum.bytes_up = count.up;
          sum.bytes_down = count.down;
          auto fx = h->core_.OnSumFinished(sum, h->parts_.clock->Now());
          if (fx.ok()) h->Apply(std::move(*fx));
        });
      },
      [h](AttemptId id, Status why) {
        spdlog::error("{}: no sum: {}", id.Brief(), Message(why));
        h->Post([h, id] {
          auto fx = h->core_.OnSumFailed(id, h->parts_.clock->Now());
          if (fx.ok()) h->Apply(std::move(*fx));
        });
      });
  h->thread_ = std::thread([h] { h->Run(); });
  return hub;
}

Status Hub::Restore() {
  ASSIGN_OR_RETURN(std::vector<StoredJob> stored, parts_.journal->Load());
  const Instant now = parts_.clock->Now();
  std::set<Digest> blobs;
  std::vector<UploadSlot> accepted, open;
  for (StoredJob& job : stored) {
    const JobId id = job.job.id;
    // Certificates may have run out since; who submitted it was verified when it came.
    if (policy::JobIdOf(job.job.signed_job.file, job.job.submitter) != id) {
      return DataLoss("journal: job {} is not the file that its name says", id.brief());
    }
    ASSIGN_OR_RETURN(policy::JobSpec spec, policy::ParseJob(job.job.signed_job.file, id.brief()));
    const Digest newest = job.rounds.empty() ? job.job.initial_adapter : job.rounds.back().adapter;
    if (!HasEnded(job.phase.phase) && !parts_.blobs->Get(newest).ok()) {
      if (!job.rounds.empty()) return DataLoss("job {}: adapter {} is lost", id.brief(), newest.brief());
      ASSIGN_OR_RETURN(const Bytes bytes, InitialBlob(spec, id));
      RETURN_IF_ERROR(parts_.blobs->Put(bytes).status());
    }
    if (!NeverBegan(job.phase.phase, job.rounds.size())) blobs.insert(job.job.initial_adapter);
    for (const RoundRecord& round : job.rounds) blobs.insert({round.adapter, round.sum_sha256});
    ASSIGN_OR_RETURN(CoreEffects fx, core_.Restore(std::move(job), std::move(spec), now));
    accepted.insert(accepted.end(), fx.accept_uploads.begin(), fx.accept_uploads.end());
    open.insert(open.end(), fx.open_uploads.begin(), fx.open_uploads.end());
    restored_.push_back(std::move(fx));
  }
  parts_.uploads->Retain(accepted, open);
  // A crash between a blob and its record leaves one that nobody knows.
  parts_.blobs->Retain(blobs);
  // Before anybody can ask: a worker that is told "no" here would give its upload up.
  for (const UploadSlot& slot : open) parts_.uploads->Open(slot);
  if (!stored.empty()) spdlog::info("{} jobs restored", stored.size());
  return OkStatus();
}

Hub::~Hub() { Stop(); }

void Hub::Stop() {
  if (!thread_.joinable()) return;
  stop_asked_ = true;  // a loop that waits for the disk sees this; it does not come to the task below
  Post([this] {
    for (auto& [worker, link] : links_) link->Close(Unavailable("the coordinator is shutting down"));
    links_.clear();
    for (auto& [request, promise] : plans_)
      promise.set_value(Unavailable("the coordinator is shutting down"));
    for (auto& [request, promise] : evaluations_) {
      promise.set_value(Unavailable("the coordinator is shutting down"));
    }
    plans_.clear();
    evaluations_.clear();
    stopping_ = true;
  });
  wake_.notify_all();
  changed_.notify_all();
  thread_.join();
  sums_.reset();
}

void Hub::Post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.notify_all();
}

void Hub::Run() {
  // Jobs that were restored may have something to do at once.
  for (CoreEffects& fx : std::exchange(restored_, {})) Apply(std::move(fx));
  Apply(core_.OnTimer(parts_.clock->Now()));
  while (!stopping_) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      const auto ready = [this] { return !tasks_.empty(); };
      if (deadline_) {
        const Millis left = std::max(Millis(0), Millis(*deadline_ - parts_.clock->Now()));
        wake_.wait_for(lock, std::min(left, Millis(1000)), ready);
      } else {
        wake_.wait_for(lock, Millis(1000), ready);
      }
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
    }
    if (task) task();
    if (!stopping_ && deadline_ && parts_.clock->Now() >= *deadline_)
      Apply(core_.OnTimer(parts_.clock->Now()));
  }
}

bool Hub::Persist(const std::vector<JournalRecord>& records) {
  for (;;) {
    const Status status = parts_.journal->Apply(records);
    if (status.ok()) {
      if (stalled_.exchange(false)) spdlog::info("the journal takes writes again");
      return true;
    }
    if (status.code() != StatusCode::kResourceExhausted) {
      spdlog::critical("the journal failed: {}", Message(status));
      stopping_ = true;
      parts_.fatal();
      return false;
    }
    if (!stalled_.exchange(true)) spdlog::error("paused: {}", Message(status));
    std::unique_lock lock(mutex_);
    // Not woken by tasks: they have to wait.
    const auto until = std::chrono::steady_clock::now() + kDiskRetry;
    while (!stop_asked_ && wake_.wait_until(lock, until) != std::cv_status::timeout) {
    }
    if (stop_asked_) {
      stopping_ = true;
      return false;
    }
  }
}

void Hub::Apply(CoreEffects fx) {
  if (!Persist(fx.persist)) return;
  ApplyUploads(&fx);
  for (ToWorker& message : fx.send) {
    const auto link = links_.find(message.to);
    if (link != links_.end()) {
      link->second->Send(std::make_shared<const ToWorkerMessage>(std::move(message.message)));
    }
  }
  for (SumOrder& order : fx.sums) sums_->Finish(std::move(order));
  for (const AttemptId& id : fx.drop_attempts) {
    parts_.uploads->Drop(id);
    sums_->Drop(id);
    traffic_.Forget(id);
  }
  deadline_ = fx.deadline;
  Publish(&fx);
}

void Hub::ApplyUploads(CoreEffects* fx) {
  for (const AttemptBegan& began : fx->began) traffic_.Begin(began);
  for (const UploadSlot& slot : fx->open_uploads) parts_.uploads->Open(slot);
  for (const UploadSlot& slot : fx->accept_uploads) {
    auto spool = parts_.uploads->Accept(slot);
    if (spool.ok()) {
      sums_->Add(slot.id, *std::move(spool), slot.modulus_bits);
      continue;
    }
    spdlog::error("{}: {}", slot.id.Brief(), ToString(spool.status()));
    Post([this, id = slot.id] {
      auto failed = core_.OnSumFailed(id, parts_.clock->Now());
      if (failed.ok()) Apply(std::move(*failed));
    });
  }
  for (const AttemptId& id : fx->close_uploads) parts_.uploads->Close(id);
}

void Hub::Publish(CoreEffects* fx) {
  for (const std::string& note : fx->notes) spdlog::info("{}", note);
  for (PlanOutcome& plan : fx->plans) {
    if (const auto it = plans_.find(plan.request); it != plans_.end()) {
      it->second.set_value(std::move(plan));
      plans_.erase(it);
    }
  }
  for (EvaluationOutcome& outcome : fx->evaluations) {
    if (const auto it = evaluations_.find(outcome.request); it != evaluations_.end()) {
      it->second.set_value(std::move(outcome));
      evaluations_.erase(it);
    }
  }
  if (fx->changed.empty()) return;
  for (const JobId& id : fx->changed) {
    const auto job = core_.Job(id);
    if (job.ok() && NeverBegan((*job)->phase(), (*job)->rounds_done()))
      parts_.blobs->Remove((*job)->record().initial_adapter);
  }
  {
    const std::lock_guard lock(changes_mutex_);
    for (const JobId& job : fx->changed) ++changes_[job];
  }
  changed_.notify_all();
}

uint64_t Hub::AwaitChange(const JobId& job, uint64_t seen, Millis at_most) {
  std::unique_lock lock(changes_mutex_);
  // Looked up, never made: a caller may name jobs that do not exist, as many as it likes.
  const auto count = [&] {
    const auto it = changes_.find(job);
    return it == changes_.end() ? uint64_t{0} : it->second;
  };
  changed_.wait_for(lock, at_most, [&] { return stopping_ || count() != seen; });
  return count();
}

// ---- Workers.

bool Hub::IsCurrent(const SpiffeId& worker, const SessionLink* link) const {
  const auto it = links_.find(worker);
  return it != links_.end() && it->second.get() == link;
}

void Hub::Take(const SpiffeId& worker, std::string_view what, StatusOr<CoreEffects> fx) {
  if (fx.ok()) {
    Apply(std::move(*fx));
  } else {
    spdlog::warn("{}: {} refused: {}", worker.Brief(), what, ToString(fx.status()));
  }
}

void Hub::Connected(const WorkerInfo& worker, std::shared_ptr<SessionLink> link) {
  Post([this, worker, link = std::move(link)] {
    const auto old = links_.find(worker.id);
    if (old != links_.end()) {
      // Its own session after a broken link, or a second process with the same key: one cannot be told from
      // the other here, but only one of them comes again and again.
      spdlog::warn("{} has connected again: its earlier session is ended", worker.id.Brief());
      old->second->Close(AlreadyExists("another session of {} has begun", worker.id.Brief()));
    }
    links_[worker.id] = link;
    auto fx = core_.OnWorkerConnected(worker, parts_.clock->Now());
    if (!fx.ok()) {
      links_.erase(worker.id);
      link->Close(fx.status());
      return;
    }
    spdlog::info("{} is connected", worker.id.Brief());
    Apply(std::move(*fx));
  });
}

void Hub::Lost(const SpiffeId& worker, const SessionLink* link) {
  Post([this, worker, link] {
    if (!IsCurrent(worker, link)) return;
    links_.erase(worker);
    spdlog::info("{} is gone", worker.Brief());
    Apply(core_.OnWorkerLost(worker, parts_.clock->Now()));
  });
}

void Hub::Event(const SpiffeId& worker, std::shared_ptr<SessionLink> link, WorkerEvent event) {
  Post([this, worker, link = std::move(link), event = std::move(event)] {
    if (!IsCurrent(worker, link.get())) return;
    Take(worker, "a message", core_.OnWorkerEvent(worker, event, parts_.clock->Now()));
    link->Taken();
  });
}

void Hub::Header(const SpiffeId& worker, std::shared_ptr<SessionLink> link,
                 secagg::Signed<secagg::InputHeader> header) {
  Post([this, worker, link = std::move(link), header = std::move(header)] {
    if (!IsCurrent(worker, link.get())) return;
    const auto spool = parts_.uploads->Find(header.body.id, worker);
    uint64_t elements = 0;
    Digest digest;
    if (spool != nullptr) {
      // Hashed while it came: nothing is read again here.
      if (auto complete = spool->Complete(); complete.ok()) {
        elements = parts_.uploads->ElementsOf(header.body.id, worker);
        digest = *complete;
      }
    }
    CoreEffects refused;
    auto fx = core_.OnUploaded(worker, elements, digest, header, parts_.clock->Now(), &refused);
    if (!fx.ok()) {
      spdlog::warn("{}: upload for {} refused: {}", worker.Brief(), header.body.id.Brief(),
                   ToString(fx.status()));
      parts_.uploads->Discard(header.body.id, worker);
    }
    Apply(fx.ok() ? std::move(*fx) : std::move(refused));
    link->Taken();
  });
}

// ---- Operators.

template <typename T>
StatusOr<T> Hub::Await(std::future<StatusOr<T>> answer, Millis at_most) {
  const auto until = std::chrono::steady_clock::now() + at_most;
  while (answer.wait_for(Millis(200)) != std::future_status::ready) {
    if (stopping_) return Unavailable("the coordinator is shutting down");
    if (stalled_) return Unavailable("the coordinator's disk is full: it waits until it is not");
    if (std::chrono::steady_clock::now() > until) return Unavailable("the coordinator is busy");
  }
  return answer.get();
}

template <typename T>
StatusOr<T> Hub::Ask(std::function<StatusOr<T>()> question) {
  auto promise = std::make_shared<std::promise<StatusOr<T>>>();
  auto answer = promise->get_future();
  Post([promise, question = std::move(question)] { promise->set_value(question()); });
  return Await(std::move(answer), kAnswerTime);
}

/// Ask, where yes or no is all.
Status Hub::Check(std::function<Status()> question) {
  return Ask<bool>([question = std::move(question)]() -> StatusOr<bool> {
           RETURN_IF_ERROR(question());
           return true;
         })
      .status();
}

StatusOr<Hub::Submitted> Hub::Submit(const policy::SignedJob& job, const SpiffeId& caller) {
  ASSIGN_OR_RETURN(policy::VerifiedJob verified,
                   policy::OpenJob(job, parts_.charter->charter, clock().Now()));
  if (verified.submitter != caller) {
    return PermissionDenied("the job is signed by {}, and {} submits it", verified.submitter.Brief(),
                            caller.Brief());
  }
  RETURN_IF_ERROR(core_.CheckSpec(verified.spec));  // reads what never changes
  // One at a time from here on: what is free now still is when the adapter is there, and of adapters that are
  // not registered yet there is one, in memory and on disk.
  std::unique_lock making(maker_, kMakerTime);
  if (!making.owns_lock()) return Unavailable("other jobs are being registered; try again");
  const auto known = View(verified.id);
  if (known.ok()) return Submitted{verified.id, true};
  if (known.status().code() != StatusCode::kNotFound) return known.status();
  RETURN_IF_ERROR(CheckRoom(verified));
  JobRecord record;
  record.id = verified.id;
  record.signed_job = job;
  record.submitter = verified.submitter;
  ASSIGN_OR_RETURN(const Bytes bytes, InitialBlob(verified.spec, verified.id));
  ASSIGN_OR_RETURN(record.initial_adapter, parts_.blobs->Put(bytes));
  record.submitted = clock().Now();
  return Ask<Submitted>([this, record, spec = verified.spec]() -> StatusOr<Submitted> {
    auto fx = core_.OnSubmit(record, spec, parts_.clock->Now());
    if (fx.status().code() == StatusCode::kAlreadyExists) return Submitted{record.id, true};
    if (!fx.ok()) {
      parts_.blobs->Remove(record.initial_adapter);  // named after this very job
      return fx.status();
    }
    Apply(std::move(*fx));
    return Submitted{record.id, false};
  });
}

/// Before anything is made or stored for it. \pre maker_
Status Hub::CheckRoom(const policy::VerifiedJob& job) {
  RETURN_IF_ERROR(Check([this, from = job.submitter.jurisdiction()] { return core_.CheckRoom(from); }));
  ASSIGN_OR_RETURN(const AdapterLayout layout,
                   AdapterLayout::Make(job.spec.base_model.shape, job.spec.adapter));
  // Every adapter of the chain is kept.
  const uint64_t needed = layout.adapter_elements() * sizeof(float) * (uint64_t{job.spec.rounds} + 1);
  if (const uint64_t bytes = parts_.blobs->StateBytes() + needed; bytes > parts_.max_state_bytes) {
    return ResourceExhausted(
        "with the job's {} adapters the state folder would hold {} bytes, at most {} are allowed",
        job.spec.rounds + 1, bytes, parts_.max_state_bytes);
  }
  return OkStatus();
}

StatusOr<crypto::PeerIdentity> Hub::Peer(const std::string& chain) const {
  const Instant now = clock().Now();
  {
    const std::lock_guard lock(peers_mutex_);
    const auto it = peers_.find(chain);
    if (it != peers_.end() && now < it->second.until && now >= it->second.until - kPeerTime) {
      return it->second.peer;
    }
  }
  ASSIGN_OR_RETURN(crypto::PeerIdentity peer, policy::CheckPeer(charter().charter, chain, now));
  const std::lock_guard lock(peers_mutex_);
  if (peers_.size() >= kMostPeers) peers_.clear();
  peers_.insert_or_assign(chain, KnownPeer{peer, now + kPeerTime});
  return peer;
}

Status Hub::CheckFlow(const std::string& jurisdiction) const {
  const policy::Charter& c = charter().charter;
  const std::string& from = c.coordinator.id.jurisdiction();
  if (c.Flow(policy::ArtefactKind::kAdapter, from, jurisdiction) != nullptr) return OkStatus();
  return PermissionDenied("the charter has no flow of adapters from {} to {}", from, jurisdiction);
}

Status Hub::CheckReader(const Digest& blob, const std::string& jurisdiction) {
  RETURN_IF_ERROR(CheckFlow(jurisdiction));
  return Check([this, blob, jurisdiction] { return core_.CheckReader(blob, jurisdiction); });
}

Status Hub::CheckJobReader(const JobId& job, const std::string& jurisdiction) {
  RETURN_IF_ERROR(CheckFlow(jurisdiction));
  return Check([this, job, jurisdiction]() -> Status {
    ASSIGN_OR_RETURN(const JobMachine* machine, core_.Job(job));
    return core_.CheckReader(*machine, jurisdiction);
  });
}

Digest Hub::NewRequest() {
  Digest request;
  OsRandom().Fill(request.bytes);
  return request;
}

StatusOr<PlanOutcome> Hub::Plan(const policy::SignedJob& job, Millis wait) {
  ASSIGN_OR_RETURN(const policy::VerifiedJob verified,
                   policy::OpenJob(job, parts_.charter->charter, clock().Now()));
  const Digest request = NewRequest();
  auto promise = std::make_shared<std::promise<StatusOr<PlanOutcome>>>();
  auto answer = promise->get_future();
  Post([this, promise, request, job, verified, wait] {
    const Instant now = parts_.clock->Now();
    auto fx = core_.OnPlan(request, job, verified.id, verified.spec, now + wait, now);
    if (!fx.ok()) {
      promise->set_value(fx.status());
      return;
    }
    plans_[request] = std::move(*promise);
    Apply(std::move(*fx));
  });
  return Await(std::move(answer), wait + kAnswerTime);
}

StatusOr<EvaluationOutcome> Hub::Evaluate(EvaluationRequest request, Millis wait) {
  request.request = NewRequest();
  auto promise = std::make_shared<std::promise<StatusOr<EvaluationOutcome>>>();
  auto answer = promise->get_future();
  Post([this, promise, request, wait] {
    const Instant now = parts_.clock->Now();
    auto fx = core_.OnEvaluate(request, now + wait, now);
    if (!fx.ok()) {
      promise->set_value(fx.status());
      return;
    }
    evaluations_[request.request] = std::move(*promise);
    Apply(std::move(*fx));
  });
  return Await(std::move(answer), wait + kAnswerTime);
}

StatusOr<JobView> Hub::Cancel(const JobId& job, const SpiffeId& caller) {
  return Ask<JobView>([this, job, caller]() -> StatusOr<JobView> {
    ASSIGN_OR_RETURN(auto fx, core_.OnCancel(job, caller, parts_.clock->Now()));
    Apply(std::move(fx));
    return core_.View(job, parts_.clock->Now());
  });
}

StatusOr<JobView> Hub::View(const JobId& job) {
  return Ask<JobView>([this, job] { return core_.View(job, parts_.clock->Now()); });
}

StatusOr<Hub::Page> Hub::List(const std::optional<JobId>& before, size_t at_most) {
  return Ask<Page>([this, before, at_most]() -> StatusOr<Page> {
    const std::vector<JobId> all = core_.Jobs();
    size_t end = all.size();
    if (before) {
      end = static_cast<size_t>(std::find(all.begin(), all.end(), *before) - all.begin());
      if (end == all.size()) return NotFound("no job {}", before->brief());
    }
    Page page;
    page.earlier = end > at_most;
    for (size_t i = page.earlier ? end - at_most : 0; i < end; ++i)
      page.jobs.push_back(*core_.View(all[i], parts_.clock->Now()));
    return page;
  });
}

StatusOr<JobRecord> Hub::Record(const JobId& job) {
  return Ask<JobRecord>([this, job]() -> StatusOr<JobRecord> {
    ASSIGN_OR_RETURN(const JobMachine* machine, core_.Job(job));
    return machine->record();
  });
}

StatusOr<std::vector<SpiffeId>> Hub::ConnectedWorkers() {
  return Ask<std::vector<SpiffeId>>(
      [this]() -> StatusOr<std::vector<SpiffeId>> { return core_.Connected(); });
}

}  // namespace concordat::coordinator
