#include "privacy/crypto/hash.h"
#include "worker/core/worker_core.h"

// WorkerCore: what a round made, and adapters of rounds that this worker missed.
namespace concordat::worker {
namespace {

using secagg::RefusalCode;
using secagg::Signed;

/// Rounds that a worker follows an adapter's chain back, one download each.
constexpr uint32_t kMaxWalk = 64;

/// No file came: the connection, a certificate that ran out. That shows nothing about what it holds.
bool NotFetched(const Status& status) {
  return !status.ok() && status.code() != StatusCode::kInvalidArgument &&
         status.code() != StatusCode::kNotFound && status.code() != StatusCode::kDataLoss;
}

uint64_t AdapterBlobBytes(const AdapterLayout& layout) { return 4 * layout.adapter_elements() + 4096; }

}  // namespace

/// What the coordinator has signed as the result of `id`.
const Signed<secagg::Result>* WorkerCore::SaidOf(const AttemptId& id) const {
  const auto said = said_.find(id.job);
  return said == said_.end() || said->second.body.id != id ? nullptr : &said->second;
}

/// A verified result: on record before anything is made of it, so that no restart makes it unsaid.
void WorkerCore::OnResultSaid(Open& open, const Signed<secagg::Result>& message) {
  if (open.result) return;  // a repeat: the sum is on its way
  open.result = message.body;
  open.deadline.reset();
  if (SaidOf(message.body.id) == nullptr) {
    fx_.records.emplace_back(ResultSaid{message});
    said_.insert_or_assign(message.body.id.job, message);
  }
  fx_.commands.push_back(Fetch{message.body.sum_sha256, open.plan.vector_bytes()});
}

/// A result of an attempt that is over here: the one that is known, or proof that two were signed.
void WorkerCore::OnSecondResult(const Signed<secagg::Result>& message) {
  const Signed<secagg::Result>* said = SaidOf(message.body.id);
  if (said == nullptr || secagg::Canonical(said->body) == secagg::Canonical(message.body)) return;
  const JobId id = message.body.id.job;
  // One pair is proof enough; more would only fill the disk.
  if (standings_[id].halted || !secagg::CheckSignature(coordinator_, message).ok()) return;
  Say(LogLine::Level::kError,
      fmt::format("{}: the coordinator signed two results, the job is halted here", message.body.id.Brief()));
  KeepEvidence(said->body.id, "result", secagg::Canonical(said->body), said->signature);
  KeepEvidence(message.body.id, "result-refused", secagg::Canonical(message.body), message.signature);
  Leave(id, DropoutCode::kResultMismatch, RefusalCode::kRepeatDiffers, Instant());
  Halt(id);
}

/// Nothing of this job runs here any more, in this process or a later one.
void WorkerCore::Halt(const JobId& id) {
  fx_.records.emplace_back(JobHalted{id});
  standings_[id].halted = true;
  held_.erase(id);
  walks_.erase(id);
  Job* job = FindJob(id);
  if (job == nullptr) return;
  job->standing.halted = true;
  fx_.send.push_back(AnswerOf(*job, desk_.health()));
}

/// Whether what the newest result of `job` made is still to be recomputed here, now or once the attempt that
/// an earlier process was in has been woken.
bool WorkerCore::AwaitsSum(const JobId& job) const {
  if (const auto open = open_.find(job); open != open_.end() && open->second.result) return true;
  const auto asleep = asleep_.find(job);
  return asleep != asleep_.end() && SaidOf(asleep->second.id) != nullptr;
}

/// Offers that wait for a sum that does not come any more.
void WorkerCore::ReleaseHeld(Instant now) {
  std::vector<JobId> free;
  for (const auto& [job, offer] : held_)
    if (!AwaitsSum(job)) free.push_back(job);
  for (const JobId& job : free)
    if (const auto held = held_.extract(job)) OnOffer(held.mapped(), now);
}

/// True when the offer's adapter is the newest one here. False when it is on its way (a walk was begun).
StatusOr<bool> WorkerCore::HaveAdapter(Job& job, const Signed<secagg::Offer>& offer, Instant) {
  const RoundIndex round = offer.body.id.round;
  if (!job.adapter) RETURN_IF_ERROR(MakeFirstAdapter(job));
  // The chain outlives the process, the adapter in memory does not.
  if (!job.chain.empty() && round < job.chain.rbegin()->first)
    return secagg::Refuse(RefusalCode::kWrongAttempt, "round {} is over: this worker has verified round {}",
                          round, job.chain.rbegin()->first - 1);
  if (const auto known = job.chain.find(round);
      known != job.chain.end() && known->second != offer.body.adapter)
    return secagg::Refuse(RefusalCode::kModel,
                          "the adapter of round {} is not the one that this worker verified", round);
  if (const auto said = said_.find(job.id()); said != said_.end() &&
                                              said->second.body.id.round + 1 == round &&
                                              said->second.body.new_adapter != offer.body.adapter)
    return secagg::Refuse(RefusalCode::kModel,
                          "the adapter of round {} is not the one that was announced with the sum", round);
  if (job.adapter->blob->round == round) return true;
  walks_.insert_or_assign(job.id(), Walk{offer, nullptr, offer.body.adapter, round});
  fx_.commands.push_back(Fetch{offer.body.adapter, AdapterBlobBytes(job.layout)});
  return false;
}

Effects WorkerCore::OnFetched(const Fetched& fetched, Instant now) {
  std::vector<JobId> sums, walks;
  for (const auto& [job, open] : open_)
    if (open.result && open.result->sum_sha256 == fetched.sha256) sums.push_back(job);
  for (const auto& [job, walk] : walks_)
    if (walk.next == fetched.sha256) walks.push_back(job);
  for (const JobId& job : sums) OnSum(job, fetched, now);
  for (const JobId& job : walks) OnWalk(job, fetched, now);
  OnEvaluationFetched(fetched, now);
  ReleaseHeld(now);
  return Done(now);
}

StatusOr<KnownAdapter> WorkerCore::Remake(const Job& job, const Open& open, const Fetched& fetched) {
  RETURN_IF_ERROR(fetched.content.status());
  if (crypto::Sha256(*fetched.content) != fetched.sha256)
    return InvalidArgument("the sum is not what its digest says");
  ASSIGN_OR_RETURN(KnownAdapter made, AdapterFromSum(job, open.plan, open.offer.body.id.round,
                                                     *fetched.content, open.result->survivors.size()));
  if (made.hash != open.result->new_adapter)
    return InvalidArgument("it makes adapter {}, announced was {}", made.hash.brief(),
                           open.result->new_adapter.brief());
  if (const auto known = job.chain.find(made.blob->round);
      known != job.chain.end() && known->second != made.hash)
    return InvalidArgument("it makes adapter {} of round {}, verified was {}", made.hash.brief(),
                           made.blob->round, known->second.brief());
  return made;
}

void WorkerCore::OnSum(const JobId& id, const Fetched& fetched, Instant now) {
  Open& open = open_.at(id);
  Job& job = jobs_.at(id);
  const AttemptId attempt = open.offer.body.id;
  const secagg::Result result = *open.result;
  if (NotFetched(fetched.content.status())) {
    // The next offer's adapter is followed back to one that this worker knows.
    Say(LogLine::Level::kWarning,
        fmt::format("{}: its sum was not fetched: {}", attempt.Brief(), Message(fetched.content.status())));
    return Close(id);
  }
  const StatusOr<KnownAdapter> made = Remake(job, open, fetched);
  if (!made.ok()) {
    Say(LogLine::Level::kError, fmt::format("{}: the result does not recompute, the job is halted here: {}",
                                            attempt.Brief(), Message(made.status())));
    KeepAccepted(open.accepted);
    Leave(id, DropoutCode::kResultMismatch, RefusalCode::kNone, now);
    return Halt(id);
  }
  fx_.records.emplace_back(AdapterVerified{id, made->blob->round, made->hash});
  fx_.commands.push_back(
      KeepAdapter{made->hash, std::make_shared<const Bytes>(EncodeAdapterBlob(*made->blob))});
  chains_[id][made->blob->round] = made->hash;
  TakeAdapter(job, made->hash, made->blob);
  job.rounds_done = std::max(job.rounds_done, made->blob->round);
  job.delta.reset();
  fx_.send.push_back(ResultAck{attempt, made->hash});
  Say(LogLine::Level::kInfo, fmt::format("{}: done, adapter {} recomputed from the sum of {} sites",
                                         attempt.Brief(), made->hash.brief(), result.survivors.size()));
  Close(id);
}

/// Takes one blob of the walk. `arrived` says that the chain ends at an adapter that this worker knows.
Status WorkerCore::StepWalk(Job& job, Walk& walk, const Fetched& fetched, bool* arrived) {
  *arrived = false;
  RETURN_IF_ERROR(fetched.content.status());
  if (AdapterHash(*fetched.content) != walk.next)
    return InvalidArgument("the adapter is not what its name says");
  ASSIGN_OR_RETURN(AdapterBlob blob, DecodeAdapterBlob(*fetched.content, job.layout));
  if (blob.job != job.id() || blob.round != walk.next_round)
    return InvalidArgument("an adapter of another job or round in the chain");
  const Digest parent = blob.parent;
  const RoundIndex round = blob.round;
  if (!walk.newest) {
    if (!job.adapter) RETURN_IF_ERROR(MakeFirstAdapter(job));
    RETURN_IF_ERROR(CheckFrozen(job.layout, *job.adapter->blob, blob));
    walk.newest = std::make_shared<const AdapterBlob>(std::move(blob));
  }
  if (const auto known = job.chain.find(round); known != job.chain.end()) {
    if (known->second != walk.next) return InvalidArgument("the chain does not end where this worker's does");
    *arrived = true;
    return OkStatus();
  }
  if (round == 0) return InvalidArgument("the chain does not begin with the job's first adapter");
  // One round back is known by its hash alone: no need to load it.
  if (const auto known = job.chain.find(round - 1); known != job.chain.end()) {
    if (known->second != parent)
      return InvalidArgument("the chain does not follow from what this worker verified");
    *arrived = true;
    return OkStatus();
  }
  if (walk.offer.body.id.round - round + 1 >= kMaxWalk) {
    Say(LogLine::Level::kWarning, fmt::format("job {}: the adapter's chain was checked for {} rounds only",
                                              job.id().brief(), kMaxWalk));
    *arrived = true;
    return OkStatus();
  }
  walk.next = parent;
  walk.next_round = round - 1;
  fx_.commands.push_back(Fetch{walk.next, AdapterBlobBytes(job.layout)});
  return OkStatus();
}

void WorkerCore::OnWalk(const JobId& id, const Fetched& fetched, Instant now) {
  Walk& walk = walks_.at(id);
  Job& job = jobs_.at(id);
  bool arrived = false;
  if (const Status status = StepWalk(job, walk, fetched, &arrived); !status.ok()) {
    const Signed<secagg::Offer> offer = walk.offer;
    walks_.erase(id);
    return RefuseOffer(offer, DropoutCode::kProtocolViolation,
                       secagg::Refuse(RefusalCode::kModel, "{}", Message(status)));
  }
  if (!arrived) return;
  const Walk done = std::move(walk);
  walks_.erase(id);
  TakeAdapter(job, done.offer.body.adapter, done.newest);
  OnOffer(done.offer, now);
}

}  // namespace concordat::worker
