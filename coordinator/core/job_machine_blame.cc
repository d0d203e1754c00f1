#include <algorithm>

#include "coordinator/core/job_machine.h"

// JobMachine: who sits out after a complaint, a conviction or a silence that others have paid for.
namespace concordat::coordinator {

using secagg::CoordinatorPhase;

void JobMachine::Recall(const std::vector<BlameRecord>& blames) {
  std::set<std::pair<AttemptId, std::string>> counted;
  for (const BlameRecord& record : blames) {
    if (record.blame == Blame::kAccuser) continue;
    const std::string& jurisdiction = record.worker.jurisdiction();
    const bool this_round = record.id.round == rounds_done();
    if (record.blame == Blame::kSilent || record.blame == Blame::kLate) {
      if (this_round) silent_.insert(record.worker);
      if (counted.emplace(record.id, jurisdiction).second)
        (void)CountSilence({jurisdiction, record.id.round, record.blame == Blame::kSilent});
      continue;
    }
    const auto accuser = std::ranges::find_if(blames, [&](const BlameRecord& other) {
      return other.id == record.id && other.blame == Blame::kAccuser;
    });
    if (accuser == blames.end()) {
      left_out_[jurisdiction] = LeftOut::kConvicted;
      continue;
    }
    if (record.blame == Blame::kLeftOut) left_out_.emplace(jurisdiction, LeftOut::kComplaints);
    if (record.blame == Blame::kExcluded && this_round) accused_.insert(record.worker);
    if (accuser->worker != record.worker)
      complaints_.emplace_back(accuser->worker.jurisdiction(), jurisdiction);
  }
}

/// On record in the transaction that ends the attempt.
void JobMachine::Exclude(const secagg::CoordinatorEffects& effects, CoreEffects* fx) {
  using Code = secagg::Aborted::Code;
  const secagg::Aborted& aborted = *effects.aborted;
  const auto worker = [this](SiteIndex site) { return attempt_->roster.at(site - 1); };
  if (aborted.code == Code::kConvicted && aborted.accused != 0) {
    const SpiffeId dealer = worker(aborted.accused);
    left_out_[dealer.jurisdiction()] = LeftOut::kConvicted;
    fx->persist.push_back(BlameRecord{attempt_->id, dealer, Blame::kLeftOut});
    fx->notes.push_back(
        fmt::format("{}: {} signed shares of a wrong secret: {} is left out of the rest of the job",
                    attempt_->id.Brief(), dealer.Brief(), dealer.jurisdiction()));
  }
  if (aborted.code == Code::kComplaint && aborted.accused != 0 && aborted.accuser != 0)
    OnComplained(worker(aborted.accuser), worker(aborted.accused), fx);
  if (aborted.code == Code::kTooFewInputs) OnSilence(effects.dropped, CoordinatorPhase::kInput, fx);
  if (aborted.code == Code::kTooFewAgreements) OnSilence(effects.dropped, CoordinatorPhase::kAgreement, fx);
  if (aborted.code == Code::kTooFewUnmasks) OnSilence(effects.dropped, CoordinatorPhase::kUnmask, fx);
}

/// Steps 5, 7 and 8: who has answered has uploaded, and has been charged for it.
void JobMachine::OnSilence(const std::vector<secagg::DroppedSite>& dropped, CoordinatorPhase step,
                           CoreEffects* fx) {
  const bool uploaded = step != CoordinatorPhase::kInput;
  const auto& round = attempt_->round->round();
  const size_t asked = uploaded ? round.survivors().size() : round.dealers().size();
  std::vector<SpiffeId> silent;
  for (const secagg::DroppedSite& site : dropped)
    if (site.phase == step) silent.push_back(attempt_->roster.at(site.site - 1));
  // When most are silent it is not they: our own line, or our disk. Liars are fewer, by 2t > n + coalition.
  if (2 * silent.size() > asked) return;
  std::set<std::string> counted;
  for (const SpiffeId& worker : silent) {
    silent_.insert(worker);
    fx->persist.push_back(BlameRecord{attempt_->id, worker, uploaded ? Blame::kSilent : Blame::kLate});
    if (!counted.insert(worker.jurisdiction()).second) continue;
    const bool again = CountSilence({worker.jurisdiction(), attempt_->id.round, uploaded});
    fx->notes.push_back(fmt::format(
        "{}: others have paid for it in vain, as {} {}: {}", attempt_->id.Brief(), worker.Brief(),
        uploaded ? "uploaded and then said nothing" : "did not upload",
        again ? worker.jurisdiction() + " is left out of the rest of the job, as it happened before"
              : "it sits out this round unless too few are left, the next time perhaps the job"));
  }
}

/// Whether the jurisdiction is left out now. Links fail, so one silence is forgiven; but whoever is silent on
/// purpose must not cost the others more than two attempts in ten rounds, and the one that leaves it out.
bool JobMachine::CountSilence(Silence silence) {
  constexpr int kAfterUpload = 2, kRecent = 3;
  int after_upload = 0, recent = 0;
  silences_.push_back(silence);
  for (const Silence& other : silences_) {
    if (other.jurisdiction != silence.jurisdiction) continue;
    if (other.round + kRecentRounds <= silence.round) continue;
    ++recent;
    after_upload += other.uploaded ? 1 : 0;
  }
  if (after_upload < kAfterUpload && recent < kRecent) return false;
  left_out_.emplace(silence.jurisdiction, LeftOut::kSilent);
  return true;
}

void JobMachine::OnComplained(const SpiffeId& accuser, const SpiffeId& accused, CoreEffects* fx) {
  const std::string &from = accuser.jurisdiction(), &against = accused.jurisdiction();
  bool again = false, of_others_too = false, by_others_too = false;
  for (const auto& [first, second] : complaints_) {
    again |= first == from;
    of_others_too |= first == from && second != against;
    by_others_too |= first != from && second == against;
  }
  fx->persist.push_back(BlameRecord{attempt_->id, accuser, Blame::kAccuser});
  if (of_others_too || (again && !by_others_too)) {
    left_out_.emplace(from, LeftOut::kComplaints);
    fx->persist.push_back(BlameRecord{attempt_->id, accuser, Blame::kLeftOut});
    return;
  }
  complaints_.emplace_back(from, against);
  if (by_others_too)
    left_out_.emplace(against, LeftOut::kComplaints);
  else
    accused_.insert(accused);
  fx->persist.push_back(
      BlameRecord{attempt_->id, accused, by_others_too ? Blame::kLeftOut : Blame::kExcluded});
}

bool JobMachine::SitsOut(const SpiffeId& worker) const {
  return accused_.contains(worker) || silent_.contains(worker) || left_out_.contains(worker.jurisdiction());
}

/// "; left out: de for this job, after complaints, fr/site for this round, which a complaint names", or
/// nothing.
std::string JobMachine::WhoSitsOut() const {
  std::string out;
  const auto add = [&out](std::string_view who, std::string_view why) {
    out += fmt::format("{}{} {}", out.empty() ? "; left out: " : ", ", who, why);
  };
  for (const auto& [jurisdiction, why] : left_out_) {
    add(jurisdiction, why == LeftOut::kComplaints  ? "for this job, after complaints"
                      : why == LeftOut::kConvicted ? "for this job, which dealt wrong shares"
                                                   : "for this job, whose silence cost others too often");
  }
  const auto add_each = [&](const std::set<SpiffeId>& who, std::string_view why) {
    for (const SpiffeId& id : who)
      if (!left_out_.contains(id.jurisdiction())) add(id.Brief(), why);
  };
  add_each(accused_, "for this round, which a complaint names");
  add_each(silent_, "for this round, whose silence cost the others");
  for (const auto& [id, region] : regions_) {
    if (region.connected && !region.certificate.ok() && !SitsOut(id))
      add(id.Brief(), "until its certificate is renewed and its worker restarted");
  }
  return out;
}

}  // namespace concordat::coordinator
