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

/// Refused offers that are kept as evidence: a coordinator must not fill the region's disk with them.
constexpr uint32_t kMaxRefusedOffersKept = 256;

/// Of one job, by one process: several times what a whole attempt of the largest cohort leaves.
constexpr uint64_t kMaxEvidenceBytes = 32 << 20;

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

}  // namespace

// ---- Step 0.

void WorkerCore::RefuseOffer(const Signed<secagg::Offer>& offer, DropoutCode code, const Status& why) {
  const RefusalCode refusal = secagg::RefusalCodeOf(why);
  if (FindAsleep(offer.body.id) != nullptr && refusal != RefusalCode::kBadSignature)
    GiveUp(offer.body.id.job);
  Say(LogLine::Level::kWarning, fmt::format("{}: offer refused: {}", offer.body.id.Brief(), Message(why)));
  // What the coordinator has not signed is no evidence against it.
  if (code == DropoutCode::kProtocolViolation && refusal != RefusalCode::kBadSignature &&
      refused_offers_kept_++ < kMaxRefusedOffersKept)
    KeepEvidence(offer.body.id, "offer", secagg::Canonical(offer.body), offer.signature);
  fx_.send.push_back(Dropout{offer.body.id, code, refusal});
}

/// An offer against what was signed as the newest result: both are kept.
void WorkerCore::RefuseContradicting(const Signed<secagg::Offer>& offer, const Status& why) {
  if (const auto said = said_.find(offer.body.id.job);
      said != said_.end() && refused_offers_kept_ < kMaxRefusedOffersKept)
    KeepEvidence(said->second.body.id, "result", secagg::Canonical(said->second.body),
                 said->second.signature);
  RefuseOffer(offer, DropoutCode::kProtocolViolation, why);
}

void WorkerCore::KeepAccepted(const std::map<std::string, Evidence>& accepted) {
  for (const auto& [name, evidence] : accepted) Keep(evidence);
}

void WorkerCore::KeepEvidence(const AttemptId& id, std::string_view name, Bytes body,
                              const crypto::Signature& signature) {
  Keep({id, std::string(name), std::move(body), signature});
}

/// Proof of one broken rule is proof: a coordinator that breaks them again and again must not fill the
/// region's disk with what it says.
void WorkerCore::Keep(const Evidence& evidence) {
  uint64_t& kept = evidence_bytes_[evidence.id.job];
  if (evidence.body.size() > kMaxEvidenceBytes - std::min(kept, kMaxEvidenceBytes)) {
    Say(LogLine::Level::kWarning,
        fmt::format("{}: {} is not kept as evidence: there are {} bytes of this job", evidence.id.Brief(),
                    evidence.name, kept));
    return;
  }
  kept += evidence.body.size();
  fx_.evidence.push_back(evidence);
}

void WorkerCore::OnOffer(const Signed<secagg::Offer>& offer, Instant now) {
  const AttemptId& id = offer.body.id;
  if (const Status signature = secagg::CheckSignature(coordinator_, offer); !signature.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation,
                       secagg::Refuse(RefusalCode::kBadSignature, "the offer is not the coordinator's"));
  if (const auto open = open_.find(id.job); open != open_.end() && open->second.offer.body.id == id) {
    auto effects = open->second.round.OnOffer(offer, now);
    if (effects.ok()) return Carry(open->second, *std::move(effects), now);
    // Whatever is said after a signed result: its sum is recomputed all the same.
    if (open->second.result) return;
    KeepAccepted(open->second.accepted);
    KeepEvidence(id, "offer-refused", secagg::Canonical(offer.body), offer.signature);
    return Leave(id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
  }
  Job* job = FindJob(id.job);
  if (job == nullptr || !job->run)
    return RefuseOffer(offer, DropoutCode::kPolicyRefused, PermissionDenied("a job that was not announced"));
  const Verdict verdict = AnswerOf(*job, desk_.health()).verdict;
  if (verdict != Verdict::kEligible) {
    return RefuseOffer(offer, AwayCode(*job), PermissionDenied("this region does not take part in the job"));
  }
  if (const Status follows = CheckFollows(id); !follows.ok()) return RefuseContradicting(offer, follows);
  // A newer attempt or round says that the open one is over. Its sum may still be on the way, though: then
  // the offer waits, because it starts from what that sum makes.
  if (const auto said = said_.find(id.job);
      said != said_.end() && said->second.body.id != id && AwaitsSum(id.job)) {
    held_.insert_or_assign(id.job, offer);
    return;
  }
  Close(id.job);
  if (FindAsleep(id) == nullptr) GiveUp(id.job);  // another attempt that slept
  walks_.erase(id.job);
  Enter(*job, offer, now);
}

/// A round has one result: once one is signed, nothing else of that round or of one before it is offered.
/// Without this, another attempt of the round would end the one whose sum is still to be recomputed.
Status WorkerCore::CheckFollows(const AttemptId& id) const {
  const auto said = said_.find(id.job);
  if (said == said_.end() || said->second.body.id == id || said->second.body.id.round < id.round)
    return OkStatus();
  return secagg::Refuse(RefusalCode::kWrongAttempt, "round {} is over: its result was signed",
                        said->second.body.id.round);
}

Status WorkerCore::CheckFresh(const Job& job, const secagg::Offer& offer) const {
  if (offer.id.round >= job.facts.spec.rounds)
    return secagg::Refuse(RefusalCode::kWrongAttempt, "round {} of a job of {}", offer.id.round,
                          job.facts.spec.rounds);
  // Aborting after the upload, again and again, would burn the ledger.
  const auto begun = begun_.find({offer.id.job, offer.id.round});
  const uint32_t allowed =
      std::min(p_.policy.cohort.max_attempts_per_round, job.facts.spec.cohort.attempts_per_round);
  if (begun != begun_.end() && begun->second.size() >= allowed)
    return secagg::Refuse(RefusalCode::kAttempts, "{} attempts of round {} were paid for already",
                          begun->second.size(), offer.id.round);
  return OkStatus();
}

StatusOr<secagg::WorkerBounds> WorkerCore::BoundsOf(const Job& job, const AttemptId& id) const {
  ASSIGN_OR_RETURN(secagg::WorkerBounds bounds, policy::BoundsFor(p_.policy, p_.charter, p_.charter_hash,
                                                                  job.facts.spec, id, job.adapter->hash));
  // The signed job decides, and no message of the coordinator: there is nothing that it could leave out.
  if (job.facts.spec.secure_aggregation.pairwise_keys) bounds.pairwise = &p_.pairwise;
  return bounds;
}

StatusOr<WorkerCore::Open> WorkerCore::MakeOpen(const Job& job, const Signed<secagg::Offer>& offer,
                                                secagg::WorkerRound round) const {
  ASSIGN_OR_RETURN(EncodingPlan plan, policy::EncodingFor(job.facts.spec, offer.body));
  ASSIGN_OR_RETURN(LedgerCharge charge, policy::RoundCharge(job.facts.spec, offer.body));
  return Open(offer, std::move(round), std::move(plan), std::move(charge));
}

void WorkerCore::Enter(Job& job, const Signed<secagg::Offer>& offer, Instant now) {
  const AttemptId id = offer.body.id;
  const bool asleep = FindAsleep(id) != nullptr;
  // Paid for is entered, whatever a journal that was put back from a copy remembers: keys, noise and masks of
  // that attempt may have left, and another vector of it would be a second release for one charge.
  if (!asleep && (entered_.contains(id) || PaidFor(id) != nullptr)) {
    Say(LogLine::Level::kWarning,
        fmt::format("{}: entered before, and lost: waiting for the next", id.Brief()));
    fx_.send.push_back(Dropout{id, DropoutCode::kShuttingDown, RefusalCode::kNone});
    return;
  }
  if (const Status fresh = asleep ? OkStatus() : CheckFresh(job, offer.body); !fresh.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, fresh);
  const StatusOr<bool> here = HaveAdapter(job, offer, now);
  if (!here.ok()) return RefuseContradicting(offer, here.status());
  if (!*here) return;
  if (asleep) return Wake(job, offer, now);

  const auto bounds = BoundsOf(job, id);
  if (!bounds.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, bounds.status());
  secagg::WorkerRound round(p_.self, *p_.key, *p_.peers, coordinator_, *p_.random, *bounds,
                            p_.ledger->head());
  auto effects = round.OnOffer(offer, now);
  if (!effects.ok()) {
    // A key that was not carried yet is no fault of the coordinator's.
    const bool ours = secagg::RefusalCodeOf(effects.status()) == RefusalCode::kPairwiseKey;
    return RefuseOffer(offer, ours ? DropoutCode::kPolicyRefused : DropoutCode::kProtocolViolation,
                       effects.status());
  }
  if (const Status kept = policy::CheckOfferKeepsJob(job.facts.spec, offer.body); !kept.ok())
    return RefuseOffer(offer, DropoutCode::kProtocolViolation, kept);
  auto open = MakeOpen(job, offer, std::move(round));
  if (!open.ok()) return RefuseOffer(offer, DropoutCode::kPolicyRefused, open.status());
  if (p_.ledger->SpentAfter(now, std::span(&open->charge, 1)) > p_.ledger->budget().epsilon)
    return RefuseOffer(offer, DropoutCode::kBudgetSpent,
                       ResourceExhausted("the dataset's privacy budget does not cover another round"));

  entered_.insert(id);
  fx_.records.emplace_back(AttemptEntered{id});
  open->accepted["offer"] = {id, "offer", secagg::Canonical(offer.body), offer.signature};
  Open& placed = open_.insert_or_assign(id.job, *std::move(open)).first->second;
  Carry(placed, *std::move(effects), now);
  TrainFor(job, offer.body, now);
}

namespace {

/// What the trainer needs for DP-SGD or for a sum over units; nothing with unit site. \pre a job that was
/// read: its sum was checked then
/// \param delta of the dataset's budget: never below the job's, and what the ledger's figures are for
std::optional<sandbox::UnitPrivacy> UnitPrivacyOf(const policy::JobSpec& spec, double delta) {
  if (!policy::IsPerUnit(spec)) return std::nullopt;
  sandbox::UnitPrivacy out;
  out.unit = TrainerUnit(spec.privacy.unit);
  out.clip = spec.privacy.unit_clip;
  out.noise_multiplier = spec.privacy.noise_multiplier;
  out.sampling_rate = spec.privacy.sampling_rate;
  out.expected_units = spec.privacy.expected_units;
  out.metrics_noise_multiplier = spec.metrics.noise_multiplier;
  out.loss_bound = spec.metrics.loss_bound;
  out.delta = std::max(delta, spec.privacy.delta);
  if (!policy::IsUnitSum(spec)) return out;
  // Without one the trainer refuses the round: a grid of 0 is none.
  const policy::UnitSumSpec sum = policy::UnitSumFor(spec).value_or(policy::UnitSumSpec{});
  out.sum = sandbox::UnitSum{sum.grid, sum.largest, sum.metric_units};
  return out;
}

}  // namespace

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
  train.privacy = UnitPrivacyOf(spec, p_.card.budget().delta);
  TrainerDesk::Out out;
  desk_.CancelTraining(job.id(), now, out);
  desk_.Register(job.id(), PrepareFor(spec), now, out);
  desk_.Enqueue(TrainTask{job.id(), offer.id.round, offer.adapter, train, job.adapter->weights()}, now, out);
  Apply(std::move(out), now);
}

// ---- Steps 2 to 9.

void WorkerCore::Carry(Open& open, secagg::WorkerEffects effects, Instant) {
  // A complaint and a result end the attempt: there is nothing to go on with.
  const bool over = effects.phase == WorkerPhase::kComplained || effects.phase == WorkerPhase::kDone;
  if (effects.persist && !over) {
    const AttemptId id = open.offer.body.id;
    auto state = EncodeRoundState(id, effects.phase, open.offer.signature, open.accepted,
                                  effects.persist->snapshot.view());
    const StepTaken step{id, static_cast<uint8_t>(effects.phase), DigestOfState(state.view())};
    steps_[id] = step;
    fx_.records.emplace_back(step);
    fx_.seals.push_back({id, std::move(state)});
  }
  if (effects.deadline) open.deadline = effects.deadline;
  if (effects.send) std::visit([&](auto& message) { fx_.send.push_back(std::move(message)); }, *effects.send);
}

template <typename T>
void WorkerCore::OnRoundMessage(const Signed<T>& message, Instant now) {
  const AttemptId id = message.body.id;
  const auto it = open_.find(id.job);
  if (it == open_.end() || it->second.offer.body.id != id) {
    if (KeepForLater(id, message)) return;
    Say(LogLine::Level::kInfo,
        fmt::format("{}: {} for an attempt that is not open here", id.Brief(), NameOf(message.body)));
    // A coordinator that counts on this worker again, after a restart, need not wait for its deadline.
    if constexpr (std::is_same_v<T, secagg::Result>)
      OnSecondResult(message);
    else
      fx_.send.push_back(Dropout{id, DropoutCode::kShuttingDown, RefusalCode::kNone});
    return;
  }
  Open& open = it->second;
  const std::string name(NameOf(message.body));
  auto effects = Feed(open.round, message, now);
  if (!effects.ok()) {
    Say(LogLine::Level::kWarning,
        fmt::format("{}: {} refused: {}", id.Brief(), name, Message(effects.status())));
    // Its sum is still to be recomputed: no other message, signed or not, ends the attempt before that.
    if (open.result) {
      if constexpr (std::is_same_v<T, secagg::Result>) OnSecondResult(message);
      return;
    }
    // What the coordinator has not signed proves nothing against it.
    if (secagg::CheckSignature(coordinator_, message).ok()) {
      KeepAccepted(open.accepted);
      KeepEvidence(id, name + "-refused", secagg::Canonical(message.body), message.signature);
    }
    Leave(id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
    return;
  }
  open.accepted[name] = {id, name, secagg::Canonical(message.body), message.signature};
  if constexpr (std::is_same_v<T, secagg::AgreementBundle>) {
    // Its signatures are over T2, and T2 covers the adverts, with the head of this region's ledger in its
    // own: from here on others have signed for how far the ledger had come.
    if (effects->persist)
      Witness(
          {id, crypto::TaggedHash(T::kDomain, secagg::Canonical(message.body)), message.body.signatures, {}},
          open.round.ledger_head());
  }
  const bool complained = effects->complaint.has_value();
  if (complained && effects->complaint->code == secagg::Complaint::Code::kOtherPairwiseKey)
    Say(LogLine::Level::kError,
        fmt::format("{}: {} holds another pairwise key than this region: carry it anew", id.Brief(),
                    open.offer.body.roster.at(effects->complaint->accused - 1u).worker.ToString()));
  const auto result = effects->result;
  Carry(open, *std::move(effects), now);
  if (complained) {
    KeepAccepted(open.accepted);
    Say(LogLine::Level::kWarning, fmt::format("{}: shares do not match, complained", id.Brief()));
    Close(id.job);
    return;
  }
  if constexpr (std::is_same_v<T, secagg::Result>) {
    if (result) OnResultSaid(open, message);
  } else {
    MayBegin(id.job, now);
  }
}

/// Puts on record how far the ledger had come at `head`.
void WorkerCore::Witness(LedgerWitness witness, const Digest& head) {
  auto mark = p_.ledger->MarkAt(head);
  if (!mark)
    return Say(LogLine::Level::kError,
               fmt::format("{}: the ledger has no entry with the head that this worker "
                           "advertised",
                           witness.id.Brief()));
  if (!policy::FitsCanonically(*mark)) return;  // its anchor still holds it
  witness.mark = *std::move(mark);
  fx_.records.emplace_back(std::move(witness));
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
  open.charging = true;
  if (p_.ledger->SpentAfter(now, std::span(&open.charge, 1)) > p_.ledger->budget().epsilon)
    return Leave(id, DropoutCode::kBudgetSpent, RefusalCode::kNone, now);
  fx_.charges.push_back(open.charge);
}

const policy::LedgerEntry* WorkerCore::PaidFor(const AttemptId& id) const {
  const auto& entries = p_.ledger->entries();
  const auto entry =
      std::ranges::find_if(entries.rbegin(), entries.rend(), [&](const policy::LedgerEntry& e) {
        return e.charge.kind == ChargeKind::kDelta && e.charge.attempt == id;
      });
  return entry == entries.rend() ? nullptr : &*entry;
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
  fx_.records.emplace_back(InputBegun{outcome.id});
  Witness({outcome.id, {}, {}, {}}, outcome.ledger_head);
  NoteBegun(outcome.id);
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
  Receipts(done.id, done.bytes, done.sha256, now);
  const auto it = open_.find(done.id.job);
  if (it == open_.end() || it->second.offer.body.id != done.id || !it->second.uploading) return;
  Open& open = it->second;
  open.uploading = false;
  auto effects = open.round.OnInput(done.elements, done.sha256, now);
  if (!effects.ok())
    return Leave(done.id.job, DropoutCode::kProtocolViolation, secagg::RefusalCodeOf(effects.status()), now);
  Carry(open, *std::move(effects), now);
  Say(LogLine::Level::kInfo, fmt::format("{}: uploaded {} bytes", done.id.Brief(), done.bytes));
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
    case StatusCode::kAborted:     // not whole before a restart: it cannot be made again
      return Leave(ended.id.job, DropoutCode::kShuttingDown, RefusalCode::kNone, now);
    case StatusCode::kInvalidArgument:  // the coordinator contradicts itself about what it has stored
      return Leave(ended.id.job, DropoutCode::kProtocolViolation, RefusalCode::kNone, now);
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
  if (const policy::LedgerEntry* entry = PaidFor(id); entry != nullptr) {
    receipt.epsilon_charged = CostOf(entry->epsilon_before, entry->epsilon_after);
    receipt.ledger_head = entry->hash;
  }
  const Job* job = FindJob(id.job);
  const uint64_t delta_bytes =
      job == nullptr
          ? bytes
          : std::min(bytes, VectorBytes(job->layout.delta_elements(), job->facts.spec.privacy.modulus_bits));
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

}  // namespace concordat::worker
