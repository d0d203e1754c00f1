#include <algorithm>
#include <utility>

#include "coordinator/core/job_machine.h"
#include "policy/job_privacy.h"
#include "policy/worker_bounds.h"
#include "privacy/secagg/coordinator_checks.h"

// JobMachine: which sites the next attempt is offered to, and when.
namespace concordat::coordinator {
namespace {

bool IsFinal(Verdict v) {
  return v == Verdict::kEligible || v == Verdict::kRefused || v == Verdict::kWithdrawn;
}

}  // namespace

/// A connection outlives its certificate: whose runs out must not stop the others at every attempt.
void JobMachine::CheckCertificates(Instant now, CoreEffects* fx) {
  for (auto& [id, region] : regions_) {
    if (!region.connected || region.answer.verdict != Verdict::kEligible) continue;
    if (region.checked && now < *region.checked + kCertificateCounts) continue;
    const bool was_good = region.certificate.ok();
    region.certificate = secagg::CheckMember({id, region.info.key_hash}, region.info.chain, spec_->deadlines,
                                             *context_->peers, now)
                             .status();
    region.checked = now;
    if (region.certificate.ok() == was_good) continue;
    fx->changed.insert(record_.id);
    fx->notes.push_back(
        region.certificate.ok()
            ? fmt::format("job {}: the certificate of {} holds now", record_.id.brief(), id.Brief())
            : fmt::format("job {}: goes on without {}, which must renew its certificate and "
                          "restart its worker: {}",
                          record_.id.brief(), id.Brief(), Message(region.certificate)));
  }
}

std::vector<SpiffeId> JobMachine::Eligible() const {
  std::vector<SpiffeId> out;
  for (const auto& [id, region] : regions_) {
    if (region.connected && region.answer.verdict == Verdict::kEligible && region.certificate.ok() &&
        !SitsOut(id)) {
      out.push_back(id);
    }
  }
  return out;
}

/// Nobody else comes. The complaint may have been a lie, and another one leaves its author out; the silence
/// may have been the network's, and is counted. A complaint ends an attempt before anyone has paid, so the
/// accused come first.
void JobMachine::TakeBack(CoreEffects* fx) {
  const auto accused = accused_, silent = silent_;
  accused_.clear();
  if (Eligible().size() < Minimum()) silent_.clear();
  std::vector<SpiffeId> back;
  for (const auto* apart : {&accused, &silent})
    for (const SpiffeId& id : *apart)
      if (!SitsOut(id)) back.push_back(id);
  if (Eligible().size() < Minimum()) {
    accused_ = accused;
    silent_ = silent;
    return;
  }
  fx->notes.push_back(
      fmt::format("job {}: taken back, as too few are left: {}", record_.id.brief(), BriefList(back)));
}

/// Whoever is left out stays so. An attempt needs two honest jurisdictions beside one that may collude.
bool JobMachine::Hopeless() const {
  constexpr int kLeast = 3;
  const auto left =
      std::ranges::count_if(invited_, [this](const std::string& j) { return !left_out_.contains(j); });
  return !left_out_.empty() && left < kLeast;
}

bool JobMachine::Settled(const std::string& jurisdiction) const {
  if (left_out_.contains(jurisdiction)) return true;
  bool known = false;
  for (const auto& [id, region] : regions_) {
    if (id.jurisdiction() != jurisdiction || !region.connected) continue;
    if (!IsFinal(region.answer.verdict)) return given_up_.contains(jurisdiction);
    known = true;
  }
  return known || given_up_.contains(jurisdiction);
}

bool JobMachine::AllSettled() const {
  return std::all_of(invited_.begin(), invited_.end(), [this](const auto& j) { return Settled(j); });
}

StatusOr<secagg::Offer> JobMachine::MakeOffer(const std::vector<SpiffeId>& roster) const {
  secagg::Offer offer;
  offer.id = {record_.id, rounds_done(), next_attempt_};
  offer.adapter = adapter_;
  for (const SpiffeId& id : roster) offer.roster.push_back({id, regions_.at(id).info.key_hash});
  RETURN_IF_ERROR(policy::FillOffer(*spec_, &offer));
  offer.charter = context_->charter;
  RETURN_IF_ERROR(secagg::CheckOfferIsSound(offer));
  RETURN_IF_ERROR(policy::EncodingFor(*spec_, offer).status());
  return offer;
}

StatusOr<std::vector<SpiffeId>> JobMachine::SoundRoster(const std::vector<SpiffeId>& eligible) const {
  std::vector<SpiffeId> all = eligible;
  if (all.size() > kMaxSites) all.resize(kMaxSites);
  const Status status = MakeOffer(all).status();
  if (status.ok()) return all;
  // Several sites of one jurisdiction count as one coalition, which can be too large for the protocol: one
  // site of each jurisdiction is the next best cohort.
  std::vector<SpiffeId> one_each;
  for (const SpiffeId& id : eligible) {
    if (one_each.empty() || one_each.back().jurisdiction() != id.jurisdiction()) one_each.push_back(id);
  }
  if (one_each.size() >= Minimum() && one_each.size() < all.size() && MakeOffer(one_each).ok())
    return one_each;
  return status;
}

std::vector<SpiffeId> JobMachine::DueRoster(Instant now, CoreEffects* fx) {
  if (HasEnded(phase_) || attempt_ != nullptr || now < not_before_) return {};
  if (next_attempt_ >= spec_->cohort.attempts_per_round) {
    End(JobPhase::kFailed, AbortReason::kAttemptsSpent,
        fmt::format("round {}: all {} attempts were aborted, the last because {}", rounds_done(),
                    next_attempt_, AbortReasonText(failure_)),
        fx);
    return {};
  }
  if (Hopeless()) {
    End(JobPhase::kFailed, AbortReason::kCohortTooSmall,
        fmt::format("round {}: too few of the invited jurisdictions are left{}", rounds_done(), WhoSitsOut()),
        fx);
    return {};
  }
  CheckCertificates(now, fx);
  const bool waited = now >= due_ + Millis(spec_->cohort.wait_ms);
  if (Eligible().size() < Minimum() && (waited || AllSettled()) && !(accused_.empty() && silent_.empty()))
    TakeBack(fx);
  const std::vector<SpiffeId> eligible = Eligible();
  if (eligible.size() < Minimum()) {
    const std::string few = fmt::format("{} of at least {} regions are connected and eligible{}",
                                        eligible.size(), Minimum(), WhoSitsOut());
    SetWaiting(few, fx);
    return {};
  }
  if (!AllSettled()) {
    if (!waited) {
      SetWaiting("waiting for the other invited regions", fx);
      return {};
    }
    for (const std::string& j : invited_) {
      if (!Settled(j)) given_up_.insert(j);
    }
  }
  auto roster = SoundRoster(eligible);
  if (!roster.ok()) {
    SetWaiting(fmt::format("{}: {}", AbortReasonText(AbortReason::kUnsound), Message(roster.status())), fx);
    return {};
  }
  return *roster;
}

void JobMachine::SetWaiting(const std::string& text, CoreEffects* fx) {
  if (phase_ == JobPhase::kWaiting && text_ == text) return;
  phase_ = JobPhase::kWaiting;
  text_ = text;
  fx->changed.insert(record_.id);
}

void JobMachine::StartAttempt(const std::vector<SpiffeId>& roster, Instant now, CoreEffects* fx) {
  auto offer = MakeOffer(roster);
  if (!offer.ok()) {
    SetWaiting(std::string(Message(offer.status())), fx);
    return;
  }
  auto attempt = std::make_unique<Attempt>();
  attempt->id = offer->id;
  attempt->roster = roster;
  attempt->started = now;
  std::map<SiteIndex, std::string> chains;
  for (size_t i = 0; i < roster.size(); ++i) {
    chains[static_cast<SiteIndex>(i + 1)] = regions_.at(roster[i]).info.chain;
  }
  for (auto& [id, region] : regions_) {
    region.dropped = DropReason::kNone;
    region.gone_at.reset();
    region.phase = 0;
    region.permille = 0;
    if (!region.connected || region.answer.verdict != Verdict::kEligible) continue;
    if (SitsOut(id)) region.dropped = DropReason::kLeftOut;
    if (!region.certificate.ok()) region.dropped = DropReason::kCertificate;
  }
  attempt->round =
      std::make_unique<secagg::LoggedRound>(std::move(*offer), *context_->key, *context_->peers,
                                            std::move(chains), spec_->secure_aggregation.pairwise_keys);
  auto effects = attempt->round->Start(now);
  if (!effects.ok()) {
    // A certificate that came too near its end since it was looked at. Nothing was offered; next time its
    // region is left out.
    for (const SpiffeId& id : roster) regions_.at(id).checked.reset();
    SetWaiting(std::string(Message(effects.status())), fx);
    not_before_ = now + Millis(10'000);
    return;
  }
  fx->persist.push_back(AttemptRecord{attempt->id, now});
  fx->began.push_back({attempt->id, roster});
  fx->notes.push_back(fmt::format("{}: offered to {}", attempt->id.Brief(), BriefList(roster)));
  ++next_attempt_;
  attempt_ = std::move(attempt);
  phase_ = JobPhase::kRunning;
  text_.clear();
  Absorb(std::move(*effects), now, fx);
}

}  // namespace concordat::coordinator
