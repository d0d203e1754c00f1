#include "privacy/secagg/coordinator_round.h"

#include <algorithm>
#include <utility>

#include "privacy/secagg/coordinator_checks.h"
#include "privacy/secagg/worker_bounds.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;
using enum CoordinatorPhase;

template <typename Map>
std::vector<SiteIndex> SitesOf(const Map& map) {
  std::vector<SiteIndex> sites;
  for (const auto& [site, value] : map) sites.push_back(site);
  return sites;
}

// True when both are the same statement; ciphertexts are outside the signed body and count too.
template <typename T>
bool SameMessage(const Signed<T>& a, const Signed<T>& b) {
  if constexpr (std::is_same_v<T, Shares>) {
    if (a.body.ciphertexts != b.body.ciphertexts) return false;
  }
  return a.signature == b.signature && Canonical(a.body) == Canonical(b.body);
}

enum class Admission { kNew, kRepeat };

}  // namespace

class CoordinatorRound::Machine {
 public:
  Machine(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
          std::map<SiteIndex, std::string> chains)
      : key_(&key), peers_(&peers), chains_(std::move(chains)) {
    state_.offer = std::move(offer);
    state_.t0 = TranscriptT0(state_.offer);
  }

  StatusOr<CoordinatorEffects> Start(Instant now);
  StatusOr<CoordinatorEffects> OnAdvert(const Signed<Advert>& advert, Instant now);
  StatusOr<CoordinatorEffects> OnShares(const Signed<Shares>& shares, Instant now);
  StatusOr<CoordinatorEffects> OnComplaint(const Signed<Complaint>& complaint, Instant now);
  StatusOr<CoordinatorEffects> OnUploaded(SiteIndex site, uint64_t elements, const Digest& sha256,
                                          const Signed<InputHeader>& header, Instant now);
  StatusOr<CoordinatorEffects> OnAgreement(const Signed<Agreement>& agreement, Instant now);
  StatusOr<CoordinatorEffects> OnUnmask(const Signed<Unmask>& unmask, Instant now);
  StatusOr<CoordinatorEffects> OnLost(SiteIndex site, Instant now);
  StatusOr<CoordinatorEffects> OnRejoined(SiteIndex site, Instant now);
  StatusOr<CoordinatorEffects> OnTimer(Instant now);
  StatusOr<CoordinatorEffects> Finish(const Digest& new_adapter, const Digest& sum_sha256, Instant now);
  CoordinatorEffects Cancel(std::string_view why);

  const CoordinatorState& state() const { return state_; }
  std::vector<SiteIndex> Awaited() const;
  std::vector<SiteIndex> Members() const;

 private:
  // Attempt, site, signature, repeat, phase: the same questions for every message of a site.
  template <typename T>
  StatusOr<Admission> Admit(const Signed<T>& message, SiteIndex site,
                            const std::map<SiteIndex, Signed<T>>& earlier, CoordinatorPhase step) const;
  bool HasAnswered(SiteIndex site) const;
  size_t Answers() const;
  size_t Needed() const;
  bool StepIsOver(bool at_deadline) const;
  CoordinatorEffects Nothing() const;

  void Advance(CoordinatorEffects& effects, Instant now, bool at_deadline);
  void ReportDropped(CoordinatorEffects& effects) const;
  void EnterShares(CoordinatorEffects& effects);
  void EnterInput(CoordinatorEffects& effects);
  void EnterAgreement(CoordinatorEffects& effects);
  void EnterUnmask(CoordinatorEffects& effects);
  void EnterSummed(CoordinatorEffects& effects);
  void Enter(CoordinatorPhase phase, uint32_t step_ms, CoordinatorEffects& effects, Instant now);
  void Abort(CoordinatorEffects& effects, Aborted aborted);
  void Post(CoordinatorEffects& effects, SiteIndex to, std::shared_ptr<const CoordinatorMessage> message);
  template <typename T>
  void Broadcast(CoordinatorEffects& effects, const std::vector<SiteIndex>& to, T body);

  const crypto::SigningKey* key_;
  const PeerVerifier* peers_;
  std::map<SiteIndex, std::string> chains_;
  CoordinatorState state_;
  std::map<SiteIndex, std::shared_ptr<const CoordinatorMessage>> last_sent_;
};

template <typename T>
StatusOr<Admission> CoordinatorRound::Machine::Admit(const Signed<T>& message, SiteIndex site,
                                                     const std::map<SiteIndex, Signed<T>>& earlier,
                                                     CoordinatorPhase step) const {
  if (message.body.id != state_.offer.id) {
    return Refuse(kWrongAttempt, "{} of {}, expected {}", T::kDomain, message.body.id.Brief(),
                  state_.offer.id.Brief());
  }
  const auto key = state_.keys.find(site);
  if (key == state_.keys.end()) return Refuse(kOutsideSet, "there is no site {}", site);
  if (!CheckSignature(key->second, message).ok()) {
    return Refuse(kBadSignature, "{} is not signed by site {}", T::kDomain, site);
  }
  if (const auto before = earlier.find(site); before != earlier.end()) {
    if (SameMessage(before->second, message)) return Admission::kRepeat;
    return Refuse(kRepeatDiffers, "site {} sent another {} before", site, T::kDomain);
  }
  if (state_.phase > step) return Refuse(kLate, "{} of site {} came after its step", T::kDomain, site);
  if (state_.phase < step) return Refuse(kWrongPhase, "{} of site {} came too early", T::kDomain, site);
  return Admission::kNew;
}

std::vector<SiteIndex> CoordinatorRound::Machine::Members() const {
  switch (state_.phase) {
    case kAdverts:
      return SitesOf(state_.keys);
    case kShares:
      return state_.u1;
    case kInput:
      return state_.u2;
    case kAgreement:
    case kUnmask:
    case kSummed:
    case kDone:
      return state_.u3;
    default:
      return {};
  }
}

bool CoordinatorRound::Machine::HasAnswered(SiteIndex site) const {
  switch (state_.phase) {
    case kAdverts:
      return state_.adverts.contains(site);
    case kShares:
      return state_.shares.contains(site);
    case kInput:
      return state_.headers.contains(site);
    case kAgreement:
      return state_.agreements.contains(site);
    case kUnmask:
      return state_.unmasks.contains(site);
    default:
      return true;
  }
}

size_t CoordinatorRound::Machine::Answers() const {
  const auto members = Members();
  return static_cast<size_t>(std::ranges::count_if(members, [&](SiteIndex s) { return HasAnswered(s); }));
}

size_t CoordinatorRound::Machine::Needed() const {
  return state_.phase <= kInput ? state_.offer.min_survivors : state_.offer.threshold;
}

std::vector<SiteIndex> CoordinatorRound::Machine::Awaited() const {
  std::vector<SiteIndex> out;
  for (SiteIndex site : Members()) {
    if (!HasAnswered(site) && !state_.lost.contains(site)) out.push_back(site);
  }
  return out;
}

// Steps 7 and 8 need t answers and no more; steps 1, 3 and 5 wait for everyone who is there, because who is
// not counted is out.
bool CoordinatorRound::Machine::StepIsOver(bool at_deadline) const {
  if (state_.phase < kAdverts || state_.phase > kUnmask) return false;
  if (at_deadline || Awaited().empty()) return true;
  return state_.phase >= kAgreement && Answers() >= Needed();
}

CoordinatorEffects CoordinatorRound::Machine::Nothing() const {
  CoordinatorEffects effects;
  effects.phase = state_.phase;
  return effects;
}

void CoordinatorRound::Machine::Post(CoordinatorEffects& effects, SiteIndex to,
                                     std::shared_ptr<const CoordinatorMessage> message) {
  last_sent_[to] = message;
  if (!state_.lost.contains(to)) effects.send.push_back({to, std::move(message)});
}

template <typename T>
void CoordinatorRound::Machine::Broadcast(CoordinatorEffects& effects, const std::vector<SiteIndex>& to,
                                          T body) {
  const auto message = std::make_shared<const CoordinatorMessage>(Sign(*key_, std::move(body)));
  for (SiteIndex site : to) Post(effects, site, message);
}

void CoordinatorRound::Machine::Enter(CoordinatorPhase phase, uint32_t step_ms, CoordinatorEffects& effects,
                                      Instant now) {
  state_.phase = phase;
  state_.deadline = now + Millis(step_ms);
  effects.deadline = state_.deadline;
}

void CoordinatorRound::Machine::Abort(CoordinatorEffects& effects, Aborted aborted) {
  state_.phase = kAborted;
  state_.unmasks.clear();
  effects.unmask.reset();
  effects.aborted = std::move(aborted);
}

void CoordinatorRound::Machine::ReportDropped(CoordinatorEffects& effects) const {
  for (SiteIndex site : Members()) {
    if (!HasAnswered(site))
      effects.dropped.push_back({site, state_.phase, state_.lost.contains(site) ? kLost : kLate});
  }
}

void CoordinatorRound::Machine::EnterShares(CoordinatorEffects& effects) {
  state_.u1 = SitesOf(state_.adverts);
  Keys keys{state_.offer.id, {}, {}};
  for (const auto& [site, advert] : state_.adverts) {
    keys.adverts.push_back(advert);
    keys.chains.push_back(chains_.at(site));
  }
  state_.t1 = TranscriptT1(state_.t0, keys.adverts);
  Broadcast(effects, state_.u1, std::move(keys));
}

void CoordinatorRound::Machine::EnterInput(CoordinatorEffects& effects) {
  state_.u2 = SitesOf(state_.shares);
  std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>> dealers;
  for (const auto& [site, shares] : state_.shares) dealers.emplace_back(site, shares.body.commitments);
  state_.t2 = TranscriptT2(state_.t1, dealers);
  for (SiteIndex to : state_.u2) {
    const auto column = static_cast<size_t>(std::ranges::lower_bound(state_.u1, to) - state_.u1.begin());
    Delivery delivery{state_.offer.id, to, state_.t1, {}};
    for (const auto& [site, shares] : state_.shares) {
      delivery.rows.push_back(
          {site, shares.body.commitments, shares.signature, shares.body.ciphertexts[column]});
    }
    Broadcast(effects, {to}, std::move(delivery));
  }
}

void CoordinatorRound::Machine::EnterAgreement(CoordinatorEffects& effects) {
  state_.u3 = SitesOf(state_.headers);
  effects.survivors = state_.u3;
  Survivors survivors{state_.offer.id, state_.t2, {}};
  for (const auto& [site, header] : state_.headers) survivors.headers.push_back(header);
  Broadcast(effects, state_.u3, std::move(survivors));
}

void CoordinatorRound::Machine::EnterUnmask(CoordinatorEffects& effects) {
  AgreementBundle bundle{state_.offer.id, state_.t2, state_.u3, {}};
  for (const auto& [site, agreement] : state_.agreements)
    bundle.signatures.emplace_back(site, agreement.signature);
  Broadcast(effects, state_.u3, std::move(bundle));
}

void CoordinatorRound::Machine::EnterSummed(CoordinatorEffects& effects) {
  SiteIndex convicted = 0;
  auto work = Rebuild(state_, convicted);
  state_.unmasks.clear();  // the shares have done their work
  if (work.ok()) {
    effects.unmask = *std::move(work);
    return;
  }
  Abort(effects, {convicted == 0 ? Aborted::Code::kTooFewUnmasks : Aborted::Code::kConvicted, 0, convicted,
                  std::string(Message(work.status()))});
}

void CoordinatorRound::Machine::Advance(CoordinatorEffects& effects, Instant now, bool at_deadline) {
  // A step may be over as soon as it begins, when those it waits for are lost.
  while (StepIsOver(at_deadline)) {
    at_deadline = false;
    const size_t answers = Answers();
    const CoordinatorPhase phase = state_.phase;
    if (phase <= kInput || answers < Needed()) ReportDropped(effects);
    if (answers < Needed()) {
      const auto code = static_cast<Aborted::Code>(static_cast<uint8_t>(phase));
      Abort(effects, {code, 0, 0,
                      fmt::format("{} of {} sites answered step \"{}\", {} are needed", answers,
                                  Members().size(), CoordinatorPhaseName(phase), Needed())});
      break;
    }
    const Deadlines& d = state_.offer.deadlines;
    if (phase == kAdverts) {
      EnterShares(effects);
      Enter(kShares, d.shares_ms, effects, now);
    } else if (phase == kShares) {
      EnterInput(effects);
      Enter(kInput, d.input_ms, effects, now);
    } else if (phase == kInput) {
      EnterAgreement(effects);
      Enter(kAgreement, d.agreement_ms, effects, now);
    } else if (phase == kAgreement) {
      EnterUnmask(effects);
      Enter(kUnmask, d.unmask_ms, effects, now);
    } else {
      state_.phase = kSummed;
      EnterSummed(effects);
    }
  }
  effects.phase = state_.phase;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::Start(Instant now) {
  if (state_.phase != kIdle) return Refuse(kWrongPhase, "the attempt has begun");
  if (Status sound = CheckOfferIsSound(state_.offer); !sound.ok()) {
    return InvalidArgument("the offer cannot be made: {}", Message(sound));
  }
  std::map<SiteIndex, crypto::VerifyKey> keys;
  for (size_t i = 0; i < state_.offer.roster.size(); ++i) {
    const auto site = static_cast<SiteIndex>(i + 1);
    const RosterEntry& entry = state_.offer.roster[i];
    const auto chain = chains_.find(site);
    if (chain == chains_.end()) return Refuse(kUntrustedPeer, "no chain for {}", entry.worker.Brief());
    const auto identity = peers_->Verify(chain->second, now);
    if (!identity.ok())
      return Refuse(kUntrustedPeer, "{}: {}", entry.worker.Brief(), Message(identity.status()));
    if (identity->id != entry.worker || identity->key_hash != entry.key_hash) {
      return Refuse(kUntrustedPeer, "the chain for {} is {}'s or has another key", entry.worker.Brief(),
                    identity->id.Brief());
    }
    ASSIGN_OR_RETURN(crypto::VerifyKey key, crypto::VerifyKey::FromSpki(identity->spki));
    keys.emplace(site, std::move(key));
  }
  state_.keys = std::move(keys);
  CoordinatorEffects effects;
  Broadcast(effects, SitesOf(state_.keys), state_.offer);
  Enter(kAdverts, state_.offer.deadlines.advert_ms, effects, now);
  effects.phase = state_.phase;
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnAdvert(const Signed<Advert>& advert, Instant now) {
  const SiteIndex site = advert.body.site;
  ASSIGN_OR_RETURN(const Admission admission, Admit(advert, site, state_.adverts, kAdverts));
  if (admission == Admission::kRepeat) return Nothing();
  RETURN_IF_ERROR(CheckAdvert(advert.body, state_));
  state_.adverts.emplace(site, advert);
  state_.lost.erase(site);
  CoordinatorEffects effects;
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnShares(const Signed<Shares>& shares, Instant now) {
  const SiteIndex site = shares.body.dealer;
  ASSIGN_OR_RETURN(const Admission admission, Admit(shares, site, state_.shares, kShares));
  if (admission == Admission::kRepeat) return Nothing();
  RETURN_IF_ERROR(CheckShares(shares.body, state_));
  state_.shares.emplace(site, shares);
  state_.lost.erase(site);
  CoordinatorEffects effects;
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnComplaint(const Signed<Complaint>& complaint,
                                                                    Instant) {
  ASSIGN_OR_RETURN(const Admission admission, Admit(complaint, complaint.body.site, {}, kInput));
  (void)admission;  // the first complaint ends the attempt, so there is never an earlier one
  RETURN_IF_ERROR(CheckComplaint(complaint.body, state_));
  CoordinatorEffects effects;
  Abort(effects, {Aborted::Code::kComplaint, complaint.body.site, complaint.body.accused,
                  fmt::format("site {} complains about the shares of site {} (code {})", complaint.body.site,
                              complaint.body.accused, static_cast<int>(complaint.body.code))});
  effects.phase = state_.phase;
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnUploaded(SiteIndex site, uint64_t elements,
                                                                   const Digest& sha256,
                                                                   const Signed<InputHeader>& header,
                                                                   Instant now) {
  if (header.body.site != site)
    return Refuse(kMalformed, "a header of site {} with an upload of site {}", header.body.site, site);
  ASSIGN_OR_RETURN(const Admission admission, Admit(header, site, state_.headers, kInput));
  if (admission == Admission::kRepeat) return Nothing();
  RETURN_IF_ERROR(CheckInputHeader(header.body, state_));
  if (elements != header.body.elements || sha256 != header.body.sha256) {
    return Refuse(kDigest, "the upload of site {} is not what its header says", site);
  }
  state_.headers.emplace(site, header);
  state_.lost.erase(site);
  CoordinatorEffects effects;
  effects.accept.push_back(site);
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnAgreement(const Signed<Agreement>& agreement,
                                                                    Instant now) {
  const SiteIndex site = agreement.body.site;
  auto admission = Admit(agreement, site, state_.agreements, kAgreement);
  if (RefusalCodeOf(admission.status()) == kLate && state_.phase != kAborted) {
    // t others were faster: nothing is wrong with this one, and nothing waits for it.
    RETURN_IF_ERROR(CheckAgreement(agreement.body, state_));
    return Nothing();
  }
  RETURN_IF_ERROR(admission.status());
  if (*admission == Admission::kRepeat) return Nothing();
  RETURN_IF_ERROR(CheckAgreement(agreement.body, state_));
  state_.agreements.emplace(site, agreement);
  state_.lost.erase(site);
  CoordinatorEffects effects;
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnUnmask(const Signed<Unmask>& unmask, Instant now) {
  const SiteIndex site = unmask.body.site;
  auto admission = Admit(unmask, site, state_.unmasks, kUnmask);
  if (RefusalCodeOf(admission.status()) == kLate && state_.phase != kAborted) {
    RETURN_IF_ERROR(CheckUnmask(unmask.body, state_));
    return Nothing();
  }
  RETURN_IF_ERROR(admission.status());
  if (*admission == Admission::kRepeat) return Nothing();
  RETURN_IF_ERROR(CheckUnmask(unmask.body, state_));
  state_.unmasks.emplace(site, unmask);
  state_.lost.erase(site);
  CoordinatorEffects effects;
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnLost(SiteIndex site, Instant now) {
  if (!state_.keys.contains(site)) return NotFound("there is no site {} in this attempt", site);
  state_.lost.insert(site);
  CoordinatorEffects effects;
  Advance(effects, now, false);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnRejoined(SiteIndex site, Instant) {
  const auto members = Members();
  if (!std::ranges::binary_search(members, site)) return NotFound("site {} takes no part any more", site);
  state_.lost.erase(site);
  CoordinatorEffects effects = Nothing();
  if (const auto last = last_sent_.find(site); last != last_sent_.end())
    effects.send.push_back({site, last->second});
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::OnTimer(Instant now) {
  CoordinatorEffects effects = Nothing();
  if (now >= state_.deadline) Advance(effects, now, true);
  return effects;
}

StatusOr<CoordinatorEffects> CoordinatorRound::Machine::Finish(const Digest& new_adapter,
                                                               const Digest& sum_sha256, Instant) {
  if (state_.phase != kSummed)
    return Refuse(kWrongPhase, "a result while {}", CoordinatorPhaseName(state_.phase));
  CoordinatorEffects effects;
  Broadcast(effects, state_.u3, Result{state_.offer.id, state_.t2, state_.u3, sum_sha256, new_adapter});
  state_.phase = kDone;
  effects.phase = kDone;
  return effects;
}

CoordinatorEffects CoordinatorRound::Machine::Cancel(std::string_view why) {
  CoordinatorEffects effects;
  if (state_.phase < kDone) Abort(effects, {Aborted::Code::kCancelled, 0, 0, std::string(why)});
  effects.phase = state_.phase;
  return effects;
}

std::string_view CoordinatorPhaseName(CoordinatorPhase phase) {
  switch (phase) {
    case kIdle:
      return "idle";
    case kAdverts:
      return "adverts";
    case kShares:
      return "shares";
    case kInput:
      return "input";
    case kAgreement:
      return "agreement";
    case kUnmask:
      return "unmask";
    case kSummed:
      return "summed";
    case kDone:
      return "done";
    case kAborted:
      return "aborted";
  }
  return "unknown";
}

std::string_view AbortName(Aborted::Code code) {
  switch (code) {
    case Aborted::Code::kTooFewAdverts:
      return "too-few-adverts";
    case Aborted::Code::kTooFewShares:
      return "too-few-shares";
    case Aborted::Code::kTooFewInputs:
      return "too-few-inputs";
    case Aborted::Code::kTooFewAgreements:
      return "too-few-agreements";
    case Aborted::Code::kTooFewUnmasks:
      return "too-few-unmasks";
    case Aborted::Code::kComplaint:
      return "complaint";
    case Aborted::Code::kConvicted:
      return "convicted";
    case Aborted::Code::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

// An abort for too few answers has the number of the step it happened in.
static_assert(static_cast<int>(Aborted::Code::kTooFewAdverts) == static_cast<int>(kAdverts));
static_assert(static_cast<int>(Aborted::Code::kTooFewShares) == static_cast<int>(kShares));
static_assert(static_cast<int>(Aborted::Code::kTooFewInputs) == static_cast<int>(kInput));
static_assert(static_cast<int>(Aborted::Code::kTooFewAgreements) == static_cast<int>(kAgreement));
static_assert(static_cast<int>(Aborted::Code::kTooFewUnmasks) == static_cast<int>(kUnmask));

CoordinatorRound::CoordinatorRound(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
                                   std::map<SiteIndex, std::string> chains)
    : machine_(std::make_unique<Machine>(std::move(offer), key, peers, std::move(chains))) {}
CoordinatorRound::~CoordinatorRound() = default;
CoordinatorRound::CoordinatorRound(CoordinatorRound&&) noexcept = default;
CoordinatorRound& CoordinatorRound::operator=(CoordinatorRound&&) noexcept = default;

StatusOr<CoordinatorEffects> CoordinatorRound::Start(Instant now) { return machine_->Start(now); }
StatusOr<CoordinatorEffects> CoordinatorRound::OnAdvert(const Signed<Advert>& advert, Instant now) {
  return machine_->OnAdvert(advert, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnShares(const Signed<Shares>& shares, Instant now) {
  return machine_->OnShares(shares, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnComplaint(const Signed<Complaint>& complaint, Instant now) {
  return machine_->OnComplaint(complaint, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnUploaded(SiteIndex site, uint64_t elements,
                                                          const Digest& sha256,
                                                          const Signed<InputHeader>& header, Instant now) {
  return machine_->OnUploaded(site, elements, sha256, header, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnAgreement(const Signed<Agreement>& agreement, Instant now) {
  return machine_->OnAgreement(agreement, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnUnmask(const Signed<Unmask>& unmask, Instant now) {
  return machine_->OnUnmask(unmask, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnLost(SiteIndex site, Instant now) {
  return machine_->OnLost(site, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnRejoined(SiteIndex site, Instant now) {
  return machine_->OnRejoined(site, now);
}
StatusOr<CoordinatorEffects> CoordinatorRound::OnTimer(Instant now) { return machine_->OnTimer(now); }
StatusOr<CoordinatorEffects> CoordinatorRound::Finish(const Digest& new_adapter, const Digest& sum_sha256,
                                                      Instant now) {
  return machine_->Finish(new_adapter, sum_sha256, now);
}
CoordinatorEffects CoordinatorRound::Cancel(std::string_view why) { return machine_->Cancel(why); }

CoordinatorPhase CoordinatorRound::phase() const { return machine_->state().phase; }
const Offer& CoordinatorRound::offer() const { return machine_->state().offer; }
const std::vector<SiteIndex>& CoordinatorRound::advertised() const { return machine_->state().u1; }
const std::vector<SiteIndex>& CoordinatorRound::dealers() const { return machine_->state().u2; }
const std::vector<SiteIndex>& CoordinatorRound::survivors() const { return machine_->state().u3; }
std::vector<SiteIndex> CoordinatorRound::awaited() const { return machine_->Awaited(); }
bool CoordinatorRound::MayUpload(SiteIndex site) const {
  const CoordinatorState& s = machine_->state();
  return s.phase == kInput && std::ranges::binary_search(s.u2, site) && !s.headers.contains(site);
}
const Digest& CoordinatorRound::t0() const { return machine_->state().t0; }
const Digest& CoordinatorRound::t1() const { return machine_->state().t1; }
const Digest& CoordinatorRound::t2() const { return machine_->state().t2; }

}  // namespace concordat::secagg
