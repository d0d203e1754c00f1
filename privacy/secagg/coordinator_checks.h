#ifndef CONCORDAT_PRIVACY_SECAGG_COORDINATOR_CHECKS_H_
#define CONCORDAT_PRIVACY_SECAGG_COORDINATOR_CHECKS_H_

#include <map>
#include <set>
#include <vector>

#include "privacy/secagg/coordinator_round.h"

// What the coordinator checks in each message of a site, and the arithmetic of step 8: pure functions over
// the state of an attempt.
namespace concordat::secagg {

/// Everything that the coordinator knows in one attempt. No secret until step 8.
struct CoordinatorState {
  CoordinatorPhase phase = CoordinatorPhase::kIdle;
  Offer offer;
  bool pairwise = false;  // the job asks for pairwise keys
  Digest t0, t1, t2;
  std::map<SiteIndex, crypto::VerifyKey> keys;
  std::set<SiteIndex> lost;
  std::vector<SiteIndex> u1, u2, u3;
  std::map<SiteIndex, Signed<Advert>> adverts;
  std::map<SiteIndex, Signed<Shares>> shares;
  std::map<SiteIndex, Signed<InputHeader>> headers;
  std::map<SiteIndex, Signed<Agreement>> agreements;
  std::map<SiteIndex, Signed<Unmask>> unmasks;
  Instant deadline{};
};

Status CheckAdvert(const Advert& advert, const CoordinatorState& state);
Status CheckShares(const Shares& shares, const CoordinatorState& state);
Status CheckComplaint(const Complaint& complaint, const CoordinatorState& state);
Status CheckInputHeader(const InputHeader& header, const CoordinatorState& state);
Status CheckAgreement(const Agreement& agreement, const CoordinatorState& state);
/// Seed shares for exactly U3 and mask key shares for exactly U2 without U3, each matching its dealer's
/// commitment.
Status CheckUnmask(const Unmask& unmask, const CoordinatorState& state);

/// Rebuilds every needed secret from the first t answers and compares it with its advert.
/// \param convicted receives the dealer whose matching shares rebuild a wrong secret
StatusOr<UnmaskWork> Rebuild(const CoordinatorState& state, SiteIndex& convicted);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_COORDINATOR_CHECKS_H_
