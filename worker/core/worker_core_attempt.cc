#include <algorithm>
#include <utility>

#include "policy/job_privacy.h"
#include "policy/worker_bounds.h"
#include "privacy/crypto/hash.h"
#include "worker/core/worker_core.h"

namespace concordat::worker {
namespace {

using secagg::RefusalCode;
using secagg::Signed;
using secagg::WorkerPhase;

/// Rounds that a worker follows an adapter's chain back, one download each.
constexpr uint32_t kMaxWalk = 64;
/// Refused offers that are kept as evidence: a coordinator must not fill the region's disk with them.
constexpr uint32_t kMaxRefusedOffersKept = 256;

/// No file came: the connection, a certificate that ran out. That shows nothing about what it holds.
bool NotFetched(const Status& status) {
  return !status.ok() && status.code() != StatusCode::kInvalidArgument &&
         status.code() != StatusCode::kNotFound && status.code() != StatusCode::kDataLoss;
}

// Names of evidence files.
std::string_view NameOf(const secagg::Keys&) { return "keys"; }
std::string_view NameOf(const secagg::Delivery&) { return "delivery"; }
std::string_view NameOf(const secagg::Survivors&) { return "survivors"; }
std::string_view NameOf(const secagg::AgreementBundle&) { return "agreement-bundle"; }
std::string_view NameOf(const secagg::Result&) { return "result"; }

StatusOr<secagg::WorkerEffects> Feed(secagg::WorkerRound& round, const Signed<secagg::Keys>& m, Instant now) {
  return round.OnKeys(m, now);
}
StatusOr<secagg::WorkerEffects> Feed(secagg::WorkerRound& round, const Signed<secagg::Delivery>& m,
                                     Instant now) {
  return round.OnDelivery(m, now);
}
StatusOr<secagg::WorkerEffects> Feed(secagg::WorkerRound& round, const Signed<secagg::Survivors>& m,
                                     Instant now) {
  return round.OnSurvivors(m, now);
}
StatusOr<secagg::WorkerEffects> Feed(secagg::WorkerRound& round, const Signed<secagg::AgreementBundle>& m,
                                     Instant now) {
  return round.OnAgreementBundle(m, now);
}
StatusOr<secagg::WorkerEffects> Feed(secagg::WorkerRound& round, const Signed<secagg::Result>& m,
                                     Instant now) {
  return round.OnResult(m, now);
}

uint64_t AdapterBlobBytes(const AdapterLayout& layout) { return 4 * layout.adapter_elements() + 4096; }

}  // namespace

// ---- Step 0.

void WorkerCore::RefuseOffer(const Signed<secagg::Offer>& offer, DropoutCode code, const Status& why) {
  const RefusalCode refusal = secagg::RefusalCodeOf(why);
  Say(LogLine::Level::kWarning, fmt::format("{}: offer refused: {}", offer.body.id.Brief(), Message(why)));
  // What the coordinator has not signed is no evidence against it.
  if (code == DropoutCode::kProtocolViolation && refusal != RefusalCode::kBadSignature &&
      refused_offers_kept_++ < kMaxRefusedOffersKept)
    KeepEvidence(offer.body.id, "offer", secagg::Canonical(offer.body), offer.signature);
  fx_.send.push_back(Dropout{offer.body.id, code, refusal});
}

void WorkerCore::KeepEvidence(const AttemptId& id, std::string_view name, Bytes body,
                              const crypto::Signature& signature) {
  fx_.evidence.push_back({id, std::string(name), std::move(body), signature});
}

void WorkerCore::OnOffer(const Signed<secagg::Offer>& offer, Instant now) {
  const AttemptId& id = offer.body.id;
  if (const Status signature = secagg::CheckSignature(coordinator_, offer); !signature.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation,
                       secagg::Refuse(RefusalCode::kBadSignature, "the offer is not the coordinator's"));
  if (const auto open = open_.find(id.job); open != open_.end() && open->second.offer.body.id == id) {
    auto effects = open->second.round.OnOffer(offer, now);
    if (effects.ok()) return Carry(open->second, *std::move(effects), now);
    for (const auto& [name, evidence] : open->second.accepted) fx_.evidence.push_back(evidence);
    KeepEvidence(id, "offer-refused", secagg::Canonical(offer.body), offer.signature);
    return Leave(id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
  }
  Job* job = FindJob(id.job);
  if (job == nullptr || !job->run)
    return RefuseOffer(offer, DropoutCode::kPolicyRefused, PermissionDenied("a job that was not announced"));
  const Verdict verdict = AnswerOf(*job, desk_.state() == TrainerDesk::State::kBarred).verdict;
  if (verdict != Verdict::kEligible) {
    const bool away = verdict == Verdict::kWithdrawn || verdict == Verdict::kPaused;
    return RefuseOffer(offer, away ? DropoutCode::kWithdrawn : DropoutCode::kPolicyRefused,
                       PermissionDenied("this region does not take part in the job"));
  }
  // A newer attempt or round says that the open one is over. Its sum may still be on the way, though: then
  // the offer waits, because it starts from what that sum makes.
  if (const auto open = open_.find(id.job); open != open_.end()) {
    if (open->second.result && id.round > open->second.offer.body.id.round) {
      held_.insert_or_assign(id.job, offer);
      return;
    }
    Close(id.job);
  }
  walks_.erase(id.job);
  Enter(*job, offer, now);
}

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

Status WorkerCore::CheckFresh(const Job& job, const secagg::Offer& offer) const {
  if (offer.id.round >= job.facts.spec.rounds)
    return secagg::Refuse(RefusalCode::kWrongAttempt, "round {} of a job of {}", offer.id.round,
                          job.facts.spec.rounds);
  // Aborting after the upload, again and again, would burn the ledger.
  const auto begun = begun_.find({offer.id.job, offer.id.round});
  const uint32_t allowed =
      std::min(p_.policy.cohort.max_attempts_per_round, job.facts.spec.cohort.attempts_per_round);
  if (begun != begun_.end() && begun->second >= allowed)
    return secagg::Refuse(RefusalCode::kAttempts, "{} attempts of round {} were paid for already",
                          begun->second, offer.id.round);
  return OkStatus();
}

void WorkerCore::Enter(Job& job, const Signed<secagg::Offer>& offer, Instant now) {
  const AttemptId id = offer.body.id;
  if (entered_.contains(id)) {
    Say(LogLine::Level::kWarning,
        fmt::format("{}: entered before, and lost: waiting for the next", id.Brief()));
    fx_.send.push_back(Dropout{id, DropoutCode::kShuttingDown, RefusalCode::kNone});
    return;
  }
  if (const Status fresh = CheckFresh(job, offer.body); !fresh.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, fresh);
  const StatusOr<bool> here = HaveAdapter(job, offer, now);
  if (!here.ok()) {
    // An offer of another adapter than the last round made contradicts what was signed then: both are kept.
    if (job.last_result && refused_offers_kept_ < kMaxRefusedOffersKept)
      fx_.evidence.push_back(*job.last_result);
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, here.status());
  }
  if (!*here) return;

  const auto bounds =
      policy::BoundsFor(p_.policy, p_.charter, p_.charter_hash, job.facts.spec, id, job.adapter->hash);
  if (!bounds.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, bounds.status());
  secagg::WorkerRound round(p_.self, *p_.key, *p_.peers, coordinator_, *p_.random, *bounds,
                            p_.ledger->head());
  auto effects = round.OnOffer(offer, now);
  if (!effects.ok()) return RefuseOffer(offer, DropoutCode::kProtocolViolation, effects.status());
  if (const Status kept = policy::CheckOfferKeepsJob(job.facts.spec, offer.body); !kept.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, kept);
  auto plan = policy::EncodingFor(job.facts.spec, offer.body);
  if (!plan.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, plan.status());
  auto charge = policy::RoundCharge(job.facts.spec, offer.body);
  if (!charge.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, charge.status());
  if (p_.ledger->SpentAfter(now, std::span(&*charge, 1)) > p_.ledger->budget().epsilon)
    return RefuseOffer(offer, DropoutCode::kBudgetSpent,
                       ResourceExhausted("the dataset's privacy budget does not cover another round"));

  entered_.insert(id);
  fx_.records.push_back(AttemptEntered{id});
  Open open(offer, std::move(round), *std::move(plan), *std::move(charge));
  open.accepted["offer"] = {id, "offer", secagg::Canonical(offer.body), offer.signature};
  Open& placed = open_.insert_or_assign(id.job, std::move(open)).first->second;
  Carry(placed, *std::move(effects), now);
  TrainFor(job, offer.body, now);
}

void WorkerCore::TrainFor(Job& job, const secagg::Offer& offer, Instant now) {
  const bool have = job.delta && job.delta->round == offer.id.round && job.delta->adapter == offer.adapter;
  if (have || desk_.HasTraining(job.id(), offer.id.round, offer.adapter)) return;
  job.delta.reset();
  const policy::JobSpec& spec = job.facts.spec;
  sandbox::Train train;
  train.seed = spec.seed;
  train.round = offer.id.round;
  train.local_steps = spec.training.local_steps;
  train.batch_sequences = spec.training.batch_sequences;
  train.learning_rate = policy::LearningRateOf(spec, offer.id.round);
  train.weight_decay = spec.training.weight_decay;
  train.beta2 = spec.training.beta2;
  train.gradient_clip = spec.training.gradient_clip;
  TrainerDesk::Out out;
  desk_.CancelTraining(job.id(), now, out);
  desk_.Register(job.id(), {spec.base_model.shape, spec.adapter, spec.training.sequence_tokens}, now, out);
  desk_.Enqueue(TrainTask{job.id(), offer.id.round, offer.adapter, train, job.adapter->weights()}, now, out);
  Apply(std::move(out), now);
}

// ---- Steps 2 to 9.

void WorkerCore::Carry(Open& open, secagg::WorkerEffects effects, Instant) {
  // The snapshot is not kept: a worker that restarts is lost in its attempts, and its keys go with it.
  if (effects.deadline) open.deadline = effects.deadline;
  if (effects.send) std::visit([&](auto& message) { fx_.send.push_back(std::move(message)); }, *effects.send);
}

template <typename T>
void WorkerCore::OnRoundMessage(const Signed<T>& message, Instant now) {
  const AttemptId id = message.body.id;
  const auto it = open_.find(id.job);
  if (it == open_.end() || it->second.offer.body.id != id) {
    Say(LogLine::Level::kInfo,
        fmt::format("{}: {} for an attempt that is not open here", id.Brief(), NameOf(message.body)));
    // A coordinator that counts on this worker again, after a restart, need not wait for its deadline.
    if constexpr (!std::is_same_v<T, secagg::Result>)
      fx_.send.push_back(Dropout{id, DropoutCode::kShuttingDown, RefusalCode::kNone});
    return;
  }
  Open& open = it->second;
  const std::string name(NameOf(message.body));
  auto effects = Feed(open.round, message, now);
  if (!effects.ok()) {
    Say(LogLine::Level::kWarning,
        fmt::format("{}: {} refused: {}", id.Brief(), name, Message(effects.status())));
    for (const auto& [key, evidence] : open.accepted) fx_.evidence.push_back(evidence);
    KeepEvidence(id, name + "-refused", secagg::Canonical(message.body), message.signature);
    Leave(id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
    return;
  }
  open.accepted[name] = {id, name, secagg::Canonical(message.body), message.signature};
  const bool complained = effects->complaint.has_value();
  const auto result = effects->result;
  Carry(open, *std::move(effects), now);
  if (complained) {
    for (const auto& [key, evidence] : open.accepted) fx_.evidence.push_back(evidence);
    Say(LogLine::Level::kWarning, fmt::format("{}: shares do not match, complained", id.Brief()));
    Close(id.job);
    return;
  }
  if (!result) return MayBegin(id.job, now);
  if (open.result) return;  // a repeat: the sum is on its way
  open.result = result;
  open.deadline.reset();
  fx_.commands.push_back(Fetch{result->sum_sha256, 4 * open.plan.total_elements()});
}

template void WorkerCore::OnRoundMessage(const Signed<secagg::Keys>&, Instant);
template void WorkerCore::OnRoundMessage(const Signed<secagg::Delivery>&, Instant);
template void WorkerCore::OnRoundMessage(const Signed<secagg::Survivors>&, Instant);
template void WorkerCore::OnRoundMessage(const Signed<secagg::AgreementBundle>&, Instant);
template void WorkerCore::OnRoundMessage(const Signed<secagg::Result>&, Instant);

// ---- Step 5: masks ready and delta trained.

void WorkerCore::MayBegin(const JobId& id, Instant now) {
  const auto it = open_.find(id);
  Job* job = FindJob(id);
  if (it == open_.end() || job == nullptr) return;
  Open& open = it->second;
  const secagg::Offer& offer = open.offer.body;
  const bool have = job->delta && job->delta->round == offer.id.round && job->delta->adapter == offer.adapter;
  if (!have || open.charging || open.round.phase() != WorkerPhase::kReady) return;
  if (now > open.round.input_until()) {
    // The coordinator goes on without this worker; a charge would buy nothing.
    Say(LogLine::Level::kWarning, fmt::format("{}: trained too late for its input", offer.id.Brief()));
    return Close(id);
  }
  if (p_.ledger->SpentAfter(now, std::span(&open.charge, 1)) > p_.ledger->budget().epsilon)
    return Leave(id, DropoutCode::kBudgetSpent, RefusalCode::kNone, now);
  open.charging = true;
  fx_.charges.push_back(open.charge);
}

Effects WorkerCore::OnCharged(const ChargeOutcome& outcome, Instant now) {
  if (outcome.kind == ChargeKind::kDelta) {
    Begin(outcome.id.job, outcome, now);
  } else {
    for (const auto& [request, evaluation] : evaluations_) {
      if (!evaluation.charging || evaluation.charge.attempt != outcome.id) continue;
      const Digest name = request;
      Release(name, outcome, now);
      break;
    }
  }
  return Done(now);
}

void WorkerCore::Begin(const JobId& id, const ChargeOutcome& outcome, Instant now) {
  const auto it = open_.find(id);
  Job* job = FindJob(id);
  if (it == open_.end() || job == nullptr || it->second.offer.body.id != outcome.id || !it->second.charging)
    return;
  Open& open = it->second;
  if (!outcome.status.ok()) {
    Say(LogLine::Level::kError,
        fmt::format("{}: not charged: {}", outcome.id.Brief(), Message(outcome.status)));
    const bool spent = p_.ledger->SpentAfter(now, std::span(&open.charge, 1)) > p_.ledger->budget().epsilon;
    return Leave(id, spent ? DropoutCode::kBudgetSpent : DropoutCode::kStorageFull, RefusalCode::kNone, now);
  }
  auto effects = open.round.BeginInput(now);
  if (!effects.ok())
    return Leave(id, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
  auto masks = open.round.TakeMasks();
  if (!masks.ok())
    return Leave(id, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(masks.status()), now);
  Carry(open, *std::move(effects), now);
  fx_.records.push_back(InputBegun{outcome.id});
  ++begun_[{id, outcome.id.round}];
  open.uploading = true;
  fx_.commands.push_back(StartUpload{outcome.id, open.plan, job->delta->delta, job->delta->metrics,
                                     p_.random->Seed(), *std::move(masks)});
  Say(LogLine::Level::kInfo,
      fmt::format("{}: charged, epsilon {:.4g} of {:.4g} spent; uploading {} elements", outcome.id.Brief(),
                  outcome.epsilon_after, p_.ledger->budget().epsilon, open.plan.total_elements()));
}

Effects WorkerCore::OnUpload(const UploadEvent& event, Instant now) {
  if (const auto* progress = std::get_if<UploadProgress>(&event)) {
    const auto it = open_.find(progress->id.job);
    if (it != open_.end() && it->second.offer.body.id == progress->id)
      it->second.sent_bytes = progress->sent_bytes;
  } else if (const auto* done = std::get_if<Uploaded>(&event)) {
    OnUploaded(*done, now);
  } else {
    OnUploadEnded(std::get<UploadEnded>(event), now);
  }
  return Done(now);
}

void WorkerCore::OnUploaded(const Uploaded& done, Instant now) {
  // Receipts first: even if the attempt ended while the last chunk was under way, it left.
  Receipts(done.id, 4 * done.elements, done.sha256, now);
  const auto it = open_.find(done.id.job);
  if (it == open_.end() || it->second.offer.body.id != done.id || !it->second.uploading) return;
  Open& open = it->second;
  open.uploading = false;
  auto effects = open.round.OnInput(done.elements, done.sha256, now);
  if (!effects.ok())
    return Leave(done.id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
  Carry(open, *std::move(effects), now);
  Say(LogLine::Level::kInfo, fmt::format("{}: uploaded {} bytes", done.id.Brief(), 4 * done.elements));
}

void WorkerCore::OnUploadEnded(const UploadEnded& ended, Instant now) {
  if (ended.left_bytes > 0) Receipts(ended.id, ended.left_bytes, ended.sha256, now);
  const auto it = open_.find(ended.id.job);
  if (it == open_.end() || it->second.offer.body.id != ended.id || !it->second.uploading) return;
  it->second.uploading = false;
  Say(LogLine::Level::kError, fmt::format("{}: upload ended: {}", ended.id.Brief(), Message(ended.status)));
  switch (ended.status.code()) {
    case StatusCode::kFailedPrecondition:
      return Close(ended.id.job);  // the coordinator goes on without this worker, and knows it
    case StatusCode::kResourceExhausted:
    case StatusCode::kDataLoss:
      return Leave(ended.id.job, DropoutCode::kStorageFull, RefusalCode::kNone, now);
    default:
      return Leave(ended.id.job, DropoutCode::kTrainerFailed, RefusalCode::kNone, now);
  }
}

policy::SandboxState WorkerCore::Sandbox() const {
  if (!desk_.ready() || desk_.ready()->lockdown == sandbox::Ready::Lockdown::kNone)
    return policy::SandboxState::kNone;
  return desk_.ready()->lockdown == sandbox::Ready::Lockdown::kFull ? policy::SandboxState::kEnforced
                                                                    : policy::SandboxState::kAdvisory;
}

void WorkerCore::Receipts(const AttemptId& id, uint64_t bytes, const Digest& sha256, Instant now) {
  policy::Receipt receipt;
  receipt.time = now;
  receipt.worker = p_.self;
  receipt.attempt = id;
  receipt.sha256 = sha256;
  receipt.from = p_.self.jurisdiction();
  receipt.to = p_.charter.coordinator.id.jurisdiction();
  receipt.sandbox = Sandbox();
  receipt.charter = p_.charter_hash;
  const auto& entries = p_.ledger->entries();
  const auto entry =
      std::ranges::find_if(entries.rbegin(), entries.rend(), [&](const policy::LedgerEntry& e) {
        return e.charge.kind == ChargeKind::kDelta && e.charge.attempt == id;
      });
  if (entry != entries.rend()) {
    receipt.epsilon_charged = CostOf(entry->epsilon_before, entry->epsilon_after);
    receipt.ledger_head = entry->hash;
  }
  const Job* job = FindJob(id.job);
  const uint64_t delta_bytes = job == nullptr ? bytes : std::min(bytes, 4 * job->layout.delta_elements());
  Receive(receipt, policy::ArtefactKind::kDelta, policy::RuleCode::kArtefactDelta, delta_bytes);
  if (bytes == delta_bytes) return;
  // The metrics are the last words of the same vector: same digest, and paid for with it.
  receipt.epsilon_charged = 0;
  Receive(receipt, policy::ArtefactKind::kMetrics, policy::RuleCode::kArtefactMetrics, bytes - delta_bytes);
}

void WorkerCore::Receive(policy::Receipt receipt, policy::ArtefactKind kind, policy::RuleCode rule,
                         uint64_t bytes) {
  receipt.kind = kind;
  receipt.rule = rule;
  receipt.bytes = bytes;
  if (const policy::CharterFlow* flow = p_.charter.Flow(kind, receipt.from, receipt.to); flow != nullptr)
    receipt.basis = flow->basis;
  fx_.receipts.push_back(std::move(receipt));
}

// ---- Step 9, and adapters of rounds that this worker missed.

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
    for (const auto& [name, evidence] : open.accepted) fx_.evidence.push_back(evidence);
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
