#include "privacy/secagg/worker_round.h"

#include <algorithm>
#include <utility>

#include "privacy/crypto/hash.h"
#include "privacy/secagg/shamir.h"
#include "privacy/secagg/worker_checks.h"
#include "privacy/secagg/worker_state.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;
using enum WorkerPhase;

template <typename T>
Digest DigestOf(const T& body) {
  return crypto::TaggedHash(T::kDomain, Canonical(body));
}

/// What CheckEvent found: go on, or the event was answered before and its answer goes out again.
enum class Admission { kNew, kRepeat };

}  // namespace

class WorkerRound::Machine {
 public:
  Machine(SpiffeId self, const crypto::SigningKey& key, const PeerVerifier& peers,
          crypto::VerifyKey coordinator, RandomSource& random, WorkerBounds bounds, Digest ledger_head)
      : self_(std::move(self)),
        key_(&key),
        peers_(&peers),
        coordinator_(std::move(coordinator)),
        random_(&random),
        bounds_(std::move(bounds)),
        ledger_head_(ledger_head) {
    state_.curve = crypto::CurveFor(coordinator_.profile());
  }

  StatusOr<WorkerEffects> OnOffer(const Signed<Offer>& offer, Instant now);
  StatusOr<WorkerEffects> OnKeys(const Signed<Keys>& keys, Instant now);
  StatusOr<WorkerEffects> OnDelivery(const Signed<Delivery>& delivery, Instant now);
  StatusOr<WorkerEffects> BeginInput(Instant now);
  StatusOr<std::vector<MaskKey>> TakeMasks();
  StatusOr<WorkerEffects> OnInput(uint64_t elements, const Digest& sha256, Instant now);
  StatusOr<WorkerEffects> OnSurvivors(const Signed<Survivors>& survivors, Instant now);
  StatusOr<WorkerEffects> OnAgreementBundle(const Signed<AgreementBundle>& bundle, Instant now);
  StatusOr<WorkerEffects> OnResult(const Signed<Result>& result, Instant now);
  Status Adopt(ByteView snapshot);

  void Erase() {
    state_ = WorkerState{};
    state_.phase = kErased;
  }
  const WorkerState& state() const { return state_; }

 private:
  // Signature, attempt, repeat, phase: the same four questions for every message of the coordinator.
  template <typename T>
  StatusOr<Admission> Admit(const Signed<T>& event, const std::optional<Digest>& seen,
                            WorkerPhase expected) const;
  template <typename T>
  WorkerEffects Repeat(const std::optional<Signed<T>>& answer) const;
  WorkerEffects Persisted(std::optional<Instant> deadline) const;
  template <typename T>
  WorkerEffects Answer(const std::optional<Signed<T>>& answer, std::optional<Instant> deadline) const;
  StatusOr<crypto::AgreementKeyPair> NewMaskPair() const;
  StatusOr<Shares> Deal(const WorkerState& next) const;
  StatusOr<std::vector<MaskKey>> DeriveMasks() const;
  Unmask OpenForCoordinator() const;
  Instant Until(Instant now, uint32_t step_ms) const { return now + Millis(step_ms) + bounds_.patience; }

  SpiffeId self_;
  const crypto::SigningKey* key_;
  const PeerVerifier* peers_;
  crypto::VerifyKey coordinator_;
  RandomSource* random_;
  WorkerBounds bounds_;
  Digest ledger_head_;
  WorkerState state_;
};

template <typename T>
StatusOr<Admission> WorkerRound::Machine::Admit(const Signed<T>& event, const std::optional<Digest>& seen,
                                                WorkerPhase expected) const {
  if (state_.phase == kErased) return Refuse(kWrongPhase, "the attempt is erased");
  if (!CheckSignature(coordinator_, event).ok())
    return Refuse(kBadSignature, "{} is not the coordinator's", T::kDomain);
  if (event.body.id != bounds_.id) {
    return Refuse(kWrongAttempt, "{} is of {}, expected {}", T::kDomain, event.body.id.Brief(),
                  bounds_.id.Brief());
  }
  if (seen.has_value()) {
    if (*seen == DigestOf(event.body)) return Admission::kRepeat;
    return Refuse(kRepeatDiffers, "{} came before and said something else", T::kDomain);
  }
  if (state_.phase != expected) {
    return Refuse(kWrongPhase, "{} while {}, expected while {}", T::kDomain, WorkerPhaseName(state_.phase),
                  WorkerPhaseName(expected));
  }
  return Admission::kNew;
}

template <typename T>
WorkerEffects WorkerRound::Machine::Repeat(const std::optional<Signed<T>>& answer) const {
  WorkerEffects effects;
  if (answer.has_value()) effects.send = *answer;
  effects.phase = state_.phase;
  return effects;
}

WorkerEffects WorkerRound::Machine::Persisted(std::optional<Instant> deadline) const {
  WorkerEffects effects;
  effects.persist = WorkerRecord{bounds_.id, state_.phase, EncodeWorkerState(state_)};
  effects.deadline = deadline;
  effects.phase = state_.phase;
  return effects;
}

template <typename T>
WorkerEffects WorkerRound::Machine::Answer(const std::optional<Signed<T>>& answer,
                                           std::optional<Instant> deadline) const {
  WorkerEffects effects = Persisted(deadline);
  effects.send = *answer;
  return effects;
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnOffer(const Signed<Offer>& offer, Instant now) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(offer, state_.offer_seen, kIdle));
  if (admission == Admission::kRepeat) return Repeat(state_.advert);
  RETURN_IF_ERROR(CheckOffer(offer.body, bounds_));
  if (bounds_.pairwise != nullptr)
    RETURN_IF_ERROR(CheckPairwiseKeys(offer.body.roster, self_, *bounds_.pairwise));
  ASSIGN_OR_RETURN(state_.site, FindSelf(offer.body, self_, key_->Public().KeyHash()));

  state_.offer = offer.body;
  state_.offer_seen = DigestOf(offer.body);
  state_.t0 = TranscriptT0(offer.body);
  state_.channel = crypto::GenerateKeyPair(*random_, state_.curve);
  ASSIGN_OR_RETURN(state_.mask, NewMaskPair());
  state_.seed = random_->Seed();
  state_.advert = Sign(*key_, Advert{bounds_.id, state_.site, state_.channel.pub, state_.mask.pub,
                                     crypto::Sha256(state_.seed.view()), state_.t0, ledger_head_});
  state_.phase = kAdvertised;
  return Answer(state_.advert, Until(now, offer.body.deadlines.advert_ms));
}

StatusOr<crypto::AgreementKeyPair> WorkerRound::Machine::NewMaskPair() const {
  if (bounds_.pairwise == nullptr) return crypto::GenerateKeyPair(*random_, state_.curve);
  for (;;) {
    crypto::AgreementKeyPair pair;
    pair.secret = random_->Seed();
    auto pub = crypto::PublicOf(MaskSecretOf(pair.secret), state_.curve);
    // On P-256 one root in 2^32 gives no scalar.
    if (!pub.ok() && state_.curve == crypto::AgreementCurve::kP256) continue;
    ASSIGN_OR_RETURN(pair.pub, std::move(pub));
    return pair;
  }
}

StatusOr<Shares> WorkerRound::Machine::Deal(const WorkerState& next) const {
  std::vector<SiteIndex> holders;
  for (const auto& [site, peer] : next.peers) holders.push_back(site);
  const uint32_t t = next.offer.threshold;
  ASSIGN_OR_RETURN(const auto mask_shares, SplitSecret(next.mask.secret, t, holders, *random_));
  ASSIGN_OR_RETURN(const auto seed_shares, SplitSecret(next.seed, t, holders, *random_));

  Shares out{bounds_.id, next.site, next.t1, {}, {}};
  for (size_t k = 0; k < holders.size(); ++k) {
    const HeldShares held{mask_shares[k].y, random_->Seed(), seed_shares[k].y, random_->Seed()};
    std::optional<Secret32> part;
    if (bounds_.pairwise != nullptr) {
      ASSIGN_OR_RETURN(const Secret32 pair, PairwiseKeyWith(holders[k], next, *bounds_.pairwise));
      part = PairSharePart(pair, next.t1, next.site, holders[k]);
      out.pair_seals.push_back(SealPairPart(next.mask.secret,
                                            PairMaskPart(pair, next.t1, next.site, holders[k]), next.t1,
                                            next.site, holders[k]));
    }
    ASSIGN_OR_RETURN(const Secret32 key,
                     ShareKey(next.channel.secret, next.peers.at(holders[k]).advert.channel_key, next.t1,
                              next.site, holders[k], part.has_value() ? &*part : nullptr, next.curve));
    out.commitments.push_back(held.Commit(next.site, holders[k]));
    out.ciphertexts.push_back(SealShares(key, next.t1, next.site, holders[k], held));
  }
  return out;
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnKeys(const Signed<Keys>& keys, Instant now) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(keys, state_.keys_seen, kAdvertised));
  if (admission == Admission::kRepeat) return Repeat(state_.shares);
  WorkerState next = state_;
  ASSIGN_OR_RETURN(next.peers, CheckKeys(keys.body, state_, *peers_, now));
  next.t1 = TranscriptT1(state_.t0, keys.body.adverts);
  ASSIGN_OR_RETURN(Shares shares, Deal(next));

  next.shares = Sign(*key_, std::move(shares));
  next.keys_seen = DigestOf(keys.body);
  next.phase = kShared;
  state_ = std::move(next);
  return Answer(state_.shares, Until(now, state_.offer.deadlines.shares_ms));
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnDelivery(const Signed<Delivery>& delivery, Instant now) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(delivery, state_.delivery_seen, kShared));
  if (admission == Admission::kRepeat) {
    return state_.complaint.has_value() ? Repeat(state_.complaint) : Repeat(state_.header);
  }
  RETURN_IF_ERROR(CheckDeliveryForm(delivery.body, state_));
  std::map<SiteIndex, HeldShares> held;
  for (size_t k = 0; k < delivery.body.rows.size(); ++k) {
    const Delivery::Row& row = delivery.body.rows[k];
    const Digest tag = delivery.body.pair_tags.empty() ? Digest{} : delivery.body.pair_tags[k];
    OpenedRow opened = OpenRow(row, state_, bounds_.pairwise, tag);
    if (opened.shares.has_value()) {
      held.emplace(row.dealer, *std::move(opened.shares));
      continue;
    }
    const auto complaint =
        Sign(*key_, Complaint{bounds_.id, state_.site, row.dealer, state_.t1, opened.complaint});
    Erase();  // the attempt is over: keys and seed have no further use
    state_.phase = kComplained;
    state_.delivery_seen = DigestOf(delivery.body);
    state_.complaint = complaint;
    WorkerEffects effects = Answer(state_.complaint, std::nullopt);
    effects.complaint = complaint.body;
    return effects;
  }
  state_.held = std::move(held);
  state_.t2 = TranscriptOf(delivery.body);
  state_.delivery_seen = DigestOf(delivery.body);
  state_.channel.secret = Secret32();
  state_.input_until = now + Millis(state_.offer.deadlines.input_ms);
  state_.phase = kReady;
  return Persisted(state_.input_until + bounds_.patience);
}

StatusOr<std::vector<MaskKey>> WorkerRound::Machine::DeriveMasks() const {
  std::vector<MaskKey> masks;
  masks.push_back({SelfMaskKey(state_.seed, state_.t2, state_.site), 1});
  const PairwiseKeys* pairwise = bounds_.pairwise;
  const Secret32 secret = pairwise == nullptr ? state_.mask.secret : MaskSecretOf(state_.mask.secret);
  for (const auto& [dealer, shares] : state_.held) {  // U2
    if (dealer == state_.site) continue;
    std::optional<Secret32> part;
    if (pairwise != nullptr) {
      ASSIGN_OR_RETURN(const Secret32 pair, PairwiseKeyWith(dealer, state_, *pairwise));
      part = PairMaskPart(pair, state_.t1, state_.site, dealer);
    }
    ASSIGN_OR_RETURN(Secret32 key,
                     PairwiseMaskKey(secret, state_.peers.at(dealer).advert.mask_key, state_.t2, state_.site,
                                     dealer, part.has_value() ? &*part : nullptr, state_.curve));
    masks.push_back({std::move(key), PairwiseSign(state_.site, dealer)});
  }
  return masks;
}

StatusOr<WorkerEffects> WorkerRound::Machine::BeginInput(Instant now) {
  if (state_.phase >= kInputBegun && state_.phase <= kDone)
    return Refuse(kMaskSpent, "step 5 has begun before");
  if (state_.phase != kReady) return Refuse(kWrongPhase, "input while {}", WorkerPhaseName(state_.phase));
  if (now > state_.input_until) return Refuse(kLate, "the time for input is over");
  ASSIGN_OR_RETURN(state_.masks, DeriveMasks());
  state_.seed = Secret32();
  state_.mask.secret = Secret32();
  state_.phase = kInputBegun;
  return Persisted(state_.input_until + bounds_.patience);
}

StatusOr<std::vector<MaskKey>> WorkerRound::Machine::TakeMasks() {
  if (state_.phase < kInputBegun) return Refuse(kWrongPhase, "masks while {}", WorkerPhaseName(state_.phase));
  if (state_.phase != kInputBegun || state_.masks.empty()) return Refuse(kMaskSpent, "the masks are spent");
  return std::exchange(state_.masks, {});
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnInput(uint64_t elements, const Digest& sha256, Instant now) {
  if (state_.header.has_value()) {
    if (state_.header->body.elements == elements && state_.header->body.sha256 == sha256) {
      return Repeat(state_.header);
    }
    return Refuse(kMaskSpent, "another vector was sent under these masks");
  }
  if (state_.phase != kInputBegun)
    return Refuse(kWrongPhase, "input while {}", WorkerPhaseName(state_.phase));
  if (elements != state_.offer.elements) {
    return Refuse(kElements, "{} elements, the offer says {}", elements, state_.offer.elements);
  }
  state_.header = Sign(*key_, InputHeader{bounds_.id, state_.site, state_.t2, elements, sha256});
  state_.masks.clear();
  state_.phase = kInputSent;
  return Answer(state_.header, std::max(now, state_.input_until) + bounds_.patience);
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnSurvivors(const Signed<Survivors>& survivors, Instant now) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(survivors, state_.survivors_seen, kInputSent));
  if (admission == Admission::kRepeat) return Repeat(state_.agreement);
  RETURN_IF_ERROR(CheckSurvivors(survivors.body, state_));

  for (const Signed<InputHeader>& header : survivors.body.headers)
    state_.survivors.push_back(header.body.site);
  state_.agreement = Sign(*key_, Agreement{bounds_.id, state_.site, state_.t2, state_.survivors});
  state_.survivors_seen = DigestOf(survivors.body);
  state_.phase = kAgreed;
  return Answer(state_.agreement, Until(now, state_.offer.deadlines.agreement_ms));
}

// Which kind to open is this worker's own conclusion from U2 and U3, never the coordinator's word: a site is
// in U3 or it is not, so no site can be asked about in both ways.
Unmask WorkerRound::Machine::OpenForCoordinator() const {
  Unmask out{bounds_.id, state_.site, state_.t2, {}, {}};
  for (const auto& [dealer, held] : state_.held) {
    if (std::ranges::binary_search(state_.survivors, dealer)) {
      out.seed_shares.push_back({dealer, held.seed_share, held.seed_salt});
    } else {
      out.mask_key_shares.push_back({dealer, held.mask_key_share, held.mask_key_salt});
    }
  }
  return out;
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnAgreementBundle(const Signed<AgreementBundle>& bundle,
                                                                Instant now) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(bundle, state_.bundle_seen, kAgreed));
  if (admission == Admission::kRepeat) return Repeat(state_.unmask);
  RETURN_IF_ERROR(CheckBundle(bundle.body, state_));

  state_.unmask = Sign(*key_, OpenForCoordinator());
  state_.held.clear();  // the shares of the other kind are never needed again
  state_.bundle_seen = DigestOf(bundle.body);
  state_.phase = kUnmasked;
  return Answer(state_.unmask, Until(now, state_.offer.deadlines.unmask_ms));
}

StatusOr<WorkerEffects> WorkerRound::Machine::OnResult(const Signed<Result>& result, Instant) {
  // A worker that came back after t others had unmasked gets the result although nobody asked for its shares.
  const WorkerPhase expected = state_.phase == kAgreed ? kAgreed : kUnmasked;
  ASSIGN_OR_RETURN(const Admission admission, Admit(result, state_.result_seen, expected));
  if (admission == Admission::kNew) {
    RETURN_IF_ERROR(CheckResult(result.body, state_));
    WorkerState done;
    done.phase = kDone;
    done.offer = std::move(state_.offer);
    done.site = state_.site;
    done.t0 = state_.t0;
    done.t1 = state_.t1;
    done.t2 = state_.t2;
    done.survivors = std::move(state_.survivors);
    done.result_seen = DigestOf(result.body);
    state_ = std::move(done);  // keys, seed, shares and answers go with the old state
  }
  WorkerEffects effects = admission == Admission::kNew ? Persisted(std::nullopt) : WorkerEffects{};
  effects.phase = state_.phase;
  effects.result = result.body;
  return effects;
}

Status WorkerRound::Machine::Adopt(ByteView snapshot) {
  ASSIGN_OR_RETURN(WorkerState state, DecodeWorkerState(snapshot));
  const bool over = state.phase == kComplained || state.phase == kErased;
  if (!over) {
    if (state.offer.id != bounds_.id) {
      return DataLoss("the snapshot is of {}, expected {}", state.offer.id.Brief(), bounds_.id.Brief());
    }
    const auto self = FindSelf(state.offer, self_, key_->Public().KeyHash());
    if (!self.ok() || *self != state.site) return DataLoss("the snapshot is not of {}", self_.Brief());
    RETURN_IF_ERROR(CheckPairwiseAsDealt(state, bounds_.pairwise));
  }
  state.curve = state_.curve;
  state_ = std::move(state);
  return OkStatus();
}

std::string_view WorkerPhaseName(WorkerPhase phase) {
  switch (phase) {
    case kIdle:
      return "idle";
    case kAdvertised:
      return "advertised";
    case kShared:
      return "shared";
    case kReady:
      return "ready";
    case kInputBegun:
      return "input-begun";
    case kInputSent:
      return "input-sent";
    case kAgreed:
      return "agreed";
    case kUnmasked:
      return "unmasked";
    case kDone:
      return "done";
    case kComplained:
      return "complained";
    case kErased:
      return "erased";
  }
  return "unknown";
}

WorkerRound::WorkerRound(SpiffeId self, const crypto::SigningKey& key, const PeerVerifier& peers,
                         crypto::VerifyKey coordinator, RandomSource& random, WorkerBounds bounds,
                         Digest ledger_head)
    : WorkerRound(std::make_unique<Machine>(std::move(self), key, peers, std::move(coordinator), random,
                                            std::move(bounds), ledger_head)) {}
WorkerRound::WorkerRound(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) {}
WorkerRound::~WorkerRound() = default;
WorkerRound::WorkerRound(WorkerRound&&) noexcept = default;
WorkerRound& WorkerRound::operator=(WorkerRound&&) noexcept = default;

StatusOr<Offer> WorkerRound::OfferIn(ByteView snapshot) {
  ASSIGN_OR_RETURN(WorkerState state, DecodeWorkerState(snapshot));
  return std::move(state.offer);
}
StatusOr<WorkerRound> WorkerRound::Restore(SpiffeId self, const crypto::SigningKey& key,
                                           const PeerVerifier& peers, crypto::VerifyKey coordinator,
                                           RandomSource& random, WorkerBounds bounds, Digest ledger_head,
                                           ByteView snapshot) {
  WorkerRound round(std::move(self), key, peers, std::move(coordinator), random, std::move(bounds),
                    ledger_head);
  RETURN_IF_ERROR(round.machine_->Adopt(snapshot));
  return round;
}

StatusOr<WorkerEffects> WorkerRound::OnOffer(const Signed<Offer>& offer, Instant now) {
  return machine_->OnOffer(offer, now);
}
StatusOr<WorkerEffects> WorkerRound::OnKeys(const Signed<Keys>& keys, Instant now) {
  return machine_->OnKeys(keys, now);
}
StatusOr<WorkerEffects> WorkerRound::OnDelivery(const Signed<Delivery>& delivery, Instant now) {
  return machine_->OnDelivery(delivery, now);
}
StatusOr<WorkerEffects> WorkerRound::BeginInput(Instant now) { return machine_->BeginInput(now); }
StatusOr<std::vector<MaskKey>> WorkerRound::TakeMasks() { return machine_->TakeMasks(); }
StatusOr<WorkerEffects> WorkerRound::OnInput(uint64_t elements, const Digest& sha256, Instant now) {
  return machine_->OnInput(elements, sha256, now);
}
StatusOr<WorkerEffects> WorkerRound::OnSurvivors(const Signed<Survivors>& survivors, Instant now) {
  return machine_->OnSurvivors(survivors, now);
}
StatusOr<WorkerEffects> WorkerRound::OnAgreementBundle(const Signed<AgreementBundle>& bundle, Instant now) {
  return machine_->OnAgreementBundle(bundle, now);
}
StatusOr<WorkerEffects> WorkerRound::OnResult(const Signed<Result>& result, Instant now) {
  return machine_->OnResult(result, now);
}
void WorkerRound::Erase() { machine_->Erase(); }
WorkerPhase WorkerRound::phase() const { return machine_->state().phase; }
SiteIndex WorkerRound::site() const { return machine_->state().site; }
const Digest& WorkerRound::t0() const { return machine_->state().t0; }
const Digest& WorkerRound::t1() const { return machine_->state().t1; }
const Digest& WorkerRound::t2() const { return machine_->state().t2; }
Instant WorkerRound::input_until() const { return machine_->state().input_until; }
const std::vector<SiteIndex>& WorkerRound::survivors() const { return machine_->state().survivors; }
Digest WorkerRound::ledger_head() const {
  const auto& advert = machine_->state().advert;
  return advert ? advert->body.ledger_head : Digest{};
}

}  // namespace concordat::secagg
