#include <algorithm>
#include <utility>

#include "privacy/secagg/coordinator_machine.h"
#include "privacy/secagg/pairwise.h"

// When a step is over, and what the next one begins with.
namespace concordat::secagg {

using enum RefusalCode;
using enum CoordinatorPhase;

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
    if (HasAnswered(site)) continue;
    const RefusalCode code = state_.outdated.contains(site) ? kUntrustedPeer
                             : state_.lost.contains(site)   ? kLost
                                                            : kLate;
    effects.dropped.push_back({site, state_.phase, code});
  }
}

/// CheckMember saw to it that no certificate runs out before step 2. But a coordinator may have been away for
/// longer than any deadline.
void CoordinatorRound::Machine::DropOutdated(Instant now) {
  std::erase_if(state_.adverts, [&](const auto& entry) {
    if (peers_->Verify(chains_.at(entry.first), now + kClockSkew).ok()) return false;
    state_.outdated.insert(entry.first);
    return true;
  });
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
  std::map<SiteIndex, SharedValue<std::vector<ShareCommitment>>> commitments;  // n of n entries, for n sites
  for (auto& [site, list] : dealers) commitments.emplace(site, std::move(list));
  for (SiteIndex to : state_.u2) {
    const auto column = static_cast<size_t>(std::ranges::lower_bound(state_.u1, to) - state_.u1.begin());
    Delivery delivery{state_.offer.id, to, state_.t1, {}};
    for (const auto& [site, shares] : state_.shares) {
      delivery.rows.push_back(
          {site, commitments.at(site), shares.signature, shares.body.ciphertexts[column]});
      if (state_.pairwise) delivery.pair_tags.push_back(TagOf(shares.body.pair_seals[column]));
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
    if (state_.phase == kAdverts) DropOutdated(now);
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

}  // namespace concordat::secagg
