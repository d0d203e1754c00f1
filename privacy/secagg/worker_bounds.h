#ifndef CONCORDAT_PRIVACY_SECAGG_WORKER_BOUNDS_H_
#define CONCORDAT_PRIVACY_SECAGG_WORKER_BOUNDS_H_

#include <set>
#include <string>

#include "common/clock.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/pairwise.h"

namespace concordat::secagg {

/// What an offer must keep to: the values that the worker has made out for itself from charter, job and its
/// own state, and the limits of the region's policy. Nothing the coordinator chooses goes unchecked.
struct WorkerBounds {
  // Expected, exactly.
  AttemptId id;  // new for this worker: the shell has looked it up in its journal
  Digest charter;
  Digest base_model;
  Digest adapter;
  uint64_t elements = 0;
  /// The region's pairwise keys, when the job asks for them: a roster with a site that is not among them is
  /// refused. nullptr when the job asks for none. Borrowed: must outlive the round.
  const PairwiseKeys* pairwise = nullptr;
  /// Jurisdictions of the charter. A roster may name no other.
  std::set<std::string> jurisdictions;

  // The region's minimums; sites and jurisdictions are both counted against them.
  uint32_t min_cohort = 3;     // n
  uint32_t min_survivors = 3;  // m
  uint32_t min_honest = 2;     // h = m − nC; never below 2
  uint32_t min_colluding = 1;  // nC; never below 1
  uint32_t max_sites = kMaxSites;
  uint32_t max_attempts = 8;  // per round
  Deadlines min_deadlines{1'000, 1'000, 1'000, 1'000, 1'000};
  Deadlines max_deadlines{600'000, 600'000, 86'400'000, 600'000, 600'000};
  /// How much longer than the coordinator's own deadline this worker waits for its next message.
  Millis patience{30'000};
};

/// An offer's sizes, counted in sites and in jurisdictions. Sites of one jurisdiction collude together, so
/// the assumed coalition is the nC largest jurisdictions with all their sites.
struct CohortCounts {
  uint32_t sites = 0;                   // n
  uint32_t jurisdictions = 0;           // n in jurisdictions
  uint32_t survivor_jurisdictions = 0;  // the fewest that m survivors can come from
  uint32_t colluding_sites = 0;         // sites of the nC largest jurisdictions, >= nC
  int64_t honest_sites = 0;             // m − colluding_sites
  int64_t honest_jurisdictions = 0;     // survivor_jurisdictions − nC
};
CohortCounts CountCohort(const Offer& offer);

/// Every check of step 0 that does not need a signature or this worker's identity. A coordinator runs it too,
/// before it makes an offer that everyone would refuse. Refusals carry their RefusalCode:
/// charter, model, elements, roster, cohort, t, m, nC, h, deadlines, attempts, in this order.
Status CheckOffer(const Offer& offer, const WorkerBounds& bounds);

/// The part of CheckOffer that does not depend on a region: sizes against each other, roster well formed,
/// 2t > n + coalition, t <= m <= n, h >= 2 in sites and jurisdictions.
Status CheckOfferIsSound(const Offer& offer);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_WORKER_BOUNDS_H_
