#include <algorithm>

#include "coordinator/core/job_machine.h"

// JobMachine: who sits out after a complaint or a conviction.
namespace concordat::coordinator {

void JobMachine::Recall(const std::vector<BlameRecord>& blames) {
  for (const BlameRecord& record : blames) {
    if (record.blame == Blame::kAccuser) continue;
    const auto accuser = std::ranges::find_if(blames, [&](const BlameRecord& other) {
      return other.id == record.id && other.blame == Blame::kAccuser;
    });
    const bool convicted = accuser == blames.end();
    if (record.blame == Blame::kLeftOut) left_out_.insert(record.worker.jurisdiction());
    if (record.blame == Blame::kExcluded && record.id.round == rounds_done())
      (convicted ? convicted_ : accused_).insert(record.worker);
    if (!convicted && accuser->worker != record.worker)
      complaints_.emplace_back(accuser->worker.jurisdiction(), record.worker.jurisdiction());
  }
}

/// On record in the transaction that ends the attempt.
void JobMachine::Exclude(const secagg::Aborted& aborted, CoreEffects* fx) {
  using Code = secagg::Aborted::Code;
  const auto worker = [this](SiteIndex site) { return attempt_->roster.at(site - 1); };
  if (aborted.code == Code::kConvicted && aborted.accused != 0) {
    convicted_.insert(worker(aborted.accused));
    fx->persist.push_back(BlameRecord{attempt_->id, worker(aborted.accused), Blame::kExcluded});
  }
  if (aborted.code == Code::kComplaint && aborted.accused != 0 && aborted.accuser != 0)
    OnComplained(worker(aborted.accuser), worker(aborted.accused), fx);
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
    left_out_.insert(from);
    fx->persist.push_back(BlameRecord{attempt_->id, accuser, Blame::kLeftOut});
    return;
  }
  complaints_.emplace_back(from, against);
  if (by_others_too)
    left_out_.insert(against);
  else
    accused_.insert(accused);
  fx->persist.push_back(
      BlameRecord{attempt_->id, accused, by_others_too ? Blame::kLeftOut : Blame::kExcluded});
}

bool JobMachine::SitsOut(const SpiffeId& worker) const {
  return accused_.contains(worker) || convicted_.contains(worker) ||
         left_out_.contains(worker.jurisdiction());
}

/// "; left out: de after complaints, fr/site after a conviction", or nothing.
std::string JobMachine::WhoSitsOut() const {
  std::string out;
  const auto add = [&out](std::string_view who, std::string_view why) {
    out += fmt::format("{}{} {}", out.empty() ? "; left out: " : ", ", who, why);
  };
  for (const std::string& jurisdiction : left_out_) add(jurisdiction, "for this job, after complaints");
  for (const SpiffeId& id : accused_) add(id.Brief(), "for this round, which a complaint names");
  for (const SpiffeId& id : convicted_) add(id.Brief(), "for this round, which dealt wrong shares");
  return out;
}

}  // namespace concordat::coordinator
