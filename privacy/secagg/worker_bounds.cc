#include "privacy/secagg/worker_bounds.h"

#include <algorithm>
#include <map>
#include <vector>

#include "privacy/secagg/refusal.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;

Status CheckRoster(const Offer& offer) {
  const size_t n = offer.roster.size();
  if (n == 0 || n > kMaxSites) return Refuse(kRoster, "a roster has 1..{} sites, this one {}", kMaxSites, n);
  std::set<SpiffeId> ids;
  std::set<Digest> keys;
  for (const RosterEntry& entry : offer.roster) {
    if (entry.worker.role() != Role::kWorker || entry.worker.name().empty()) {
      return Refuse(kRoster, "{} is no worker", entry.worker.ToString());
    }
    if (!ids.insert(entry.worker).second) return Refuse(kRoster, "{} is twice", entry.worker.Brief());
    if (entry.key_hash.is_zero() || !keys.insert(entry.key_hash).second) {
      return Refuse(kRoster, "{} has no identity key of its own", entry.worker.Brief());
    }
  }
  return OkStatus();
}

Status CheckDeadline(std::string_view name, uint32_t value, uint32_t low, uint32_t high) {
  if (value >= low && value <= high) return OkStatus();
  return Refuse(kDeadlines, "{} must be {}..{} ms, the offer has {}", name, low, high, value);
}

Status CheckDeadlines(const Deadlines& d, const Deadlines& low, const Deadlines& high) {
  RETURN_IF_ERROR(CheckDeadline("advert_ms", d.advert_ms, low.advert_ms, high.advert_ms));
  RETURN_IF_ERROR(CheckDeadline("shares_ms", d.shares_ms, low.shares_ms, high.shares_ms));
  RETURN_IF_ERROR(CheckDeadline("input_ms", d.input_ms, low.input_ms, high.input_ms));
  RETURN_IF_ERROR(CheckDeadline("agreement_ms", d.agreement_ms, low.agreement_ms, high.agreement_ms));
  return CheckDeadline("unmask_ms", d.unmask_ms, low.unmask_ms, high.unmask_ms);
}

Status CheckExpected(const Offer& offer, const WorkerBounds& bounds) {
  if (offer.id != bounds.id)
    return Refuse(kWrongAttempt, "expected {}, not {}", bounds.id.Brief(), offer.id.Brief());
  if (offer.charter != bounds.charter) return Refuse(kCharter, "another charter: {}", offer.charter.brief());
  if (offer.base_model != bounds.base_model)
    return Refuse(kModel, "another base model: {}", offer.base_model.brief());
  if (offer.adapter != bounds.adapter) return Refuse(kModel, "another adapter: {}", offer.adapter.brief());
  if (offer.elements != bounds.elements)
    return Refuse(kElements, "expected {} elements, not {}", bounds.elements, offer.elements);
  for (const RosterEntry& entry : offer.roster) {
    if (!bounds.jurisdictions.contains(entry.worker.jurisdiction())) {
      return Refuse(kRoster, "{} is of no jurisdiction of the charter", entry.worker.Brief());
    }
  }
  return OkStatus();
}

}  // namespace

CohortCounts CountCohort(const Offer& offer) {
  std::map<std::string, uint32_t> per_jurisdiction;
  for (const RosterEntry& entry : offer.roster) ++per_jurisdiction[entry.worker.jurisdiction()];
  std::vector<uint32_t> sizes;
  for (const auto& [jurisdiction, count] : per_jurisdiction) sizes.push_back(count);
  std::ranges::sort(sizes, std::greater<>());

  CohortCounts c;
  c.sites = static_cast<uint32_t>(offer.roster.size());
  c.jurisdictions = static_cast<uint32_t>(sizes.size());
  for (uint32_t left = offer.min_survivors; left > 0 && c.survivor_jurisdictions < sizes.size();) {
    left -= std::min(left, sizes[c.survivor_jurisdictions++]);
  }
  for (size_t k = 0; k < std::min<size_t>(offer.assumed_colluding, sizes.size()); ++k) {
    c.colluding_sites += sizes[k];
  }
  c.honest_sites = int64_t{offer.min_survivors} - std::max(c.colluding_sites, offer.assumed_colluding);
  c.honest_jurisdictions = int64_t{c.survivor_jurisdictions} - offer.assumed_colluding;
  return c;
}

Status CheckOfferIsSound(const Offer& offer) {
  RETURN_IF_ERROR(CheckRoster(offer));
  if (offer.elements == 0) return Refuse(kElements, "an empty vector");
  const CohortCounts c = CountCohort(offer);
  const uint32_t t = offer.threshold;
  if (offer.assumed_colluding == 0) return Refuse(kColluding, "at least one site must be assumed to collude");
  if (t < ThresholdFor(c.sites) || t > c.sites) {
    return Refuse(kThreshold, "t = {} of {} sites; it must be {}..{}", t, c.sites, ThresholdFor(c.sites),
                  c.sites);
  }
  if (uint64_t{2} * t <= uint64_t{c.sites} + c.colluding_sites) {
    return Refuse(kThreshold, "2t > n + nC fails: t = {}, n = {}, {} sites in the largest coalition", t,
                  c.sites, c.colluding_sites);
  }
  if (offer.min_survivors < t || offer.min_survivors > c.sites) {
    return Refuse(kSurvivorMinimum, "m = {} must be {}..{}", offer.min_survivors, t, c.sites);
  }
  if (c.honest_sites < 2 || c.honest_jurisdictions < 2) {
    return Refuse(kHonestMinimum, "only {} honest sites of {} jurisdictions are left among m = {} survivors",
                  c.honest_sites, c.honest_jurisdictions, offer.min_survivors);
  }
  if (offer.attempts_allowed == 0 || offer.id.attempt >= offer.attempts_allowed) {
    return Refuse(kAttempts, "attempt {} of {} allowed", offer.id.attempt, offer.attempts_allowed);
  }
  return OkStatus();
}

Status CheckOffer(const Offer& offer, const WorkerBounds& bounds) {
  RETURN_IF_ERROR(CheckExpected(offer, bounds));
  RETURN_IF_ERROR(CheckRoster(offer));
  const CohortCounts c = CountCohort(offer);
  if (std::min(c.sites, c.jurisdictions) < bounds.min_cohort || c.sites > bounds.max_sites) {
    return Refuse(kCohortTooSmall, "{} sites of {} jurisdictions; this region asks for {}..{}", c.sites,
                  c.jurisdictions, bounds.min_cohort, bounds.max_sites);
  }
  RETURN_IF_ERROR(CheckOfferIsSound(offer));
  if (std::min(offer.min_survivors, c.survivor_jurisdictions) < bounds.min_survivors) {
    return Refuse(kSurvivorMinimum, "{} survivors of {} jurisdictions; this region asks for {}",
                  offer.min_survivors, c.survivor_jurisdictions, bounds.min_survivors);
  }
  if (offer.assumed_colluding < bounds.min_colluding) {
    return Refuse(kColluding, "nC = {}; this region asks for {}", offer.assumed_colluding,
                  bounds.min_colluding);
  }
  if (std::min(c.honest_sites, c.honest_jurisdictions) < int64_t{bounds.min_honest}) {
    return Refuse(kHonestMinimum, "{} honest sites of {} jurisdictions; this region asks for {}",
                  c.honest_sites, c.honest_jurisdictions, bounds.min_honest);
  }
  RETURN_IF_ERROR(CheckDeadlines(offer.deadlines, bounds.min_deadlines, bounds.max_deadlines));
  if (offer.attempts_allowed > bounds.max_attempts) {
    return Refuse(kAttempts, "{} attempts a round; this region allows {}", offer.attempts_allowed,
                  bounds.max_attempts);
  }
  return OkStatus();
}

}  // namespace concordat::secagg
