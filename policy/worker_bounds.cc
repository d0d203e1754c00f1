#include "policy/worker_bounds.h"

#include <algorithm>

#include "policy/job_privacy.h"
#include "privacy/secagg/refusal.h"

namespace concordat::policy {

using secagg::RefusalCode;

StatusOr<secagg::WorkerBounds> BoundsFor(const RegionPolicy& policy, const Charter& charter,
                                         const Digest& charter_hash, const JobSpec& job,
                                         const AttemptId& attempt, const Digest& adapter) {
  secagg::WorkerBounds bounds;
  bounds.id = attempt;
  bounds.charter = charter_hash;
  bounds.base_model = job.base_model.sha256;
  bounds.adapter = adapter;
  ASSIGN_OR_RETURN(bounds.elements, MaskedElements(job));
  for (const CharterMember& member : charter.members) bounds.jurisdictions.insert(member.jurisdiction);
  if (!job.cohort.jurisdictions.empty()) {
    std::set<std::string> invited;
    for (const std::string& name : job.cohort.jurisdictions) {
      if (bounds.jurisdictions.contains(name)) invited.insert(name);
    }
    bounds.jurisdictions = std::move(invited);
  }
  bounds.min_cohort = std::max(policy.cohort.min_sites, charter.minimum_cohort);
  bounds.min_survivors = policy.cohort.min_survivors;
  bounds.min_honest = std::max(2u, policy.cohort.min_honest);
  bounds.min_colluding = std::max({1u, policy.cohort.min_colluding, job.cohort.assumed_colluding});
  bounds.max_attempts = std::min(policy.cohort.max_attempts_per_round, job.cohort.attempts_per_round);
  bounds.min_deadlines = policy.deadlines.minimum;
  bounds.max_deadlines = policy.deadlines.maximum;
  return bounds;
}

Status FillOffer(const JobSpec& job, secagg::Offer* offer) {
  const auto sites = static_cast<uint32_t>(offer->roster.size());
  ASSIGN_OR_RETURN(offer->elements, MaskedElements(job));
  offer->charter = job.charter;
  offer->base_model = job.base_model.sha256;
  offer->threshold = secagg::ThresholdFor(sites);
  offer->min_survivors = MinSurvivorsFor(job, sites);
  offer->assumed_colluding = job.cohort.assumed_colluding;
  offer->attempts_allowed = job.cohort.attempts_per_round;
  offer->deadlines = job.deadlines;
  return OkStatus();
}

Status CheckOfferKeepsJob(const JobSpec& job, const secagg::Offer& offer) {
  if (offer.roster.size() < job.cohort.minimum) {
    return secagg::Refuse(RefusalCode::kCohortTooSmall,
                          "offer: a roster of {} sites, where the job says at least {}", offer.roster.size(),
                          job.cohort.minimum);
  }
  const auto& invited = job.cohort.jurisdictions;
  for (const secagg::RosterEntry& entry : offer.roster) {
    if (!invited.empty() &&
        std::find(invited.begin(), invited.end(), entry.worker.jurisdiction()) == invited.end()) {
      return secagg::Refuse(RefusalCode::kRoster,
                            "offer: the roster has {}, whose jurisdiction the job does not invite",
                            entry.worker.ToString());
    }
  }
  secagg::Offer expected = offer;
  RETURN_IF_ERROR(FillOffer(job, &expected));
  const auto differs = [](RefusalCode code, std::string_view what) {
    return secagg::Refuse(code, "offer: {} is not what follows from the signed job", what);
  };
  if (offer.elements != expected.elements) return differs(RefusalCode::kElements, "the length of the vector");
  if (offer.charter != expected.charter) return differs(RefusalCode::kCharter, "the charter");
  if (offer.base_model != expected.base_model) return differs(RefusalCode::kModel, "the base model");
  if (offer.threshold != expected.threshold) return differs(RefusalCode::kThreshold, "the threshold");
  if (offer.min_survivors != expected.min_survivors)
    return differs(RefusalCode::kSurvivorMinimum, "the least number of survivors");
  if (offer.assumed_colluding != expected.assumed_colluding)
    return differs(RefusalCode::kColluding, "the assumed number of colluders");
  if (offer.attempts_allowed != expected.attempts_allowed)
    return differs(RefusalCode::kAttempts, "the number of attempts");
  if (offer.deadlines != expected.deadlines) return differs(RefusalCode::kDeadlines, "a deadline");
  return OkStatus();
}

}  // namespace concordat::policy
