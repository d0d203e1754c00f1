#include "privacy/secagg/coordinator_round.h"

#include <algorithm>
#include <utility>

#include "privacy/secagg/coordinator_machine.h"
#include "privacy/secagg/worker_bounds.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;
using enum CoordinatorPhase;

// True when both are the same statement; ciphertexts are outside the signed body and count too.
template <typename T>
bool SameMessage(const Signed<T>& a, const Signed<T>& b) {
  if constexpr (std::is_same_v<T, Shares>) {
    if (a.body.ciphertexts != b.body.ciphertexts || a.body.pair_seals != b.body.pair_seals) return false;
  }
  return a.signature == b.signature && Canonical(a.body) == Canonical(b.body);
}

}  // namespace

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
    ASSIGN_OR_RETURN(crypto::VerifyKey key,
                     CheckMember(entry, chain->second, state_.offer.deadlines, *peers_, now));
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
                                                                    Instant now) {
  const SiteIndex site = complaint.body.site;
  ASSIGN_OR_RETURN(const Admission admission, Admit(complaint, site, {}, kInput));
  (void)admission;  // the first complaint ends the attempt, so there is never an earlier one
  RETURN_IF_ERROR(CheckComplaint(complaint.body, state_));
  // Shares are looked at when they are delivered. Later the others have paid for their uploads.
  if (state_.headers.contains(site))
    return Refuse(kLate, "site {} has uploaded and cannot complain any more", site);
  const Instant delivered = state_.deadline - Millis(state_.offer.deadlines.input_ms);
  if (now > delivered + Millis(state_.offer.deadlines.shares_ms))
    return Refuse(kLate, "the complaint of site {} came {} ms after the delivery", site,
                  Millis(now - delivered).count());
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

CoordinatorRound::CoordinatorRound(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
                                   std::map<SiteIndex, std::string> chains, bool pairwise)
    : machine_(std::make_unique<Machine>(std::move(offer), key, peers, std::move(chains), pairwise)) {}
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
