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

/// True when the offer's adapter is the newest one here. False when it is on its way (a walk was begun).
StatusOr<bool> WorkerCore::HaveAdapter(Job& job, const Signed<secagg::Offer>& offer, Instant) {
  const RoundIndex round = offer.body.id.round;
  if (!job.adapter) RETURN_IF_ERROR(MakeFirstAdapter(job));
  if (const auto known = job.chain.find(round);
      known != job.chain.end() && known->second != offer.body.adapter)
    return secagg::Refuse(RefusalCode::kModel,
                          "the adapter of round {} is not the one that this worker verified", round);
  if (job.adapter->blob->round == round) return true;
  if (round < job.adapter->blob->round)
    return secagg::Refuse(RefusalCode::kWrongAttempt, "round {} is over: this worker has verified round {}",
                          round, job.adapter->blob->round - 1);
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
    Close(id);
    if (const auto held = held_.extract(id)) OnOffer(held.mapped(), now);
    return;
  }
  const StatusOr<KnownAdapter> made = Remake(job, open, fetched);
  if (!made.ok()) {
    Say(LogLine::Level::kError, fmt::format("{}: the result does not recompute, the job is halted here: {}",
                                            attempt.Brief(), Message(made.status())));
    fx_.records.push_back(JobHalted{id});
    KeepAccepted(open.accepted);
    job.standing.halted = true;
    standings_[id].halted = true;
    held_.erase(id);
    Leave(id, DropoutCode::kResultMismatch, RefusalCode::kNone, now);
    fx_.send.push_back(AnswerOf(job, desk_.state() == TrainerDesk::State::kBarred));
    return;
  }
  fx_.records.push_back(AdapterVerified{id, made->blob->round, made->hash});
  fx_.commands.push_back(
      KeepAdapter{made->hash, std::make_shared<const Bytes>(EncodeAdapterBlob(*made->blob))});
  chains_[id][made->blob->round] = made->hash;
  TakeAdapter(job, made->hash, made->blob);
  job.rounds_done = std::max(job.rounds_done, made->blob->round);
  job.delta.reset();
  if (const auto said = open.accepted.find("result"); said != open.accepted.end())
    job.last_result = said->second;
  fx_.send.push_back(ResultAck{attempt, made->hash});
  Say(LogLine::Level::kInfo, fmt::format("{}: done, adapter {} recomputed from the sum of {} sites",
                                         attempt.Brief(), made->hash.brief(), result.survivors.size()));
  Close(id);
  if (const auto held = held_.extract(id)) OnOffer(held.mapped(), now);
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
  if (!walk.newest) walk.newest = std::make_shared<const AdapterBlob>(std::move(blob));
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
