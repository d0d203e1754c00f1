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
  crypto::AgreementCurve curve = crypto::AgreementCurve::kX25519;  // from the coordinator's key
  std::map<SiteIndex, crypto::VerifyKey> keys;
  std::set<SiteIndex> lost;
  std::set<SiteIndex> outdated;  // whose certificate ran out before step 2
  std::vector<SiteIndex> u1, u2, u3;
  std::map<SiteIndex, Signed<Advert>> adverts;
  std::map<SiteIndex, Signed<Shares>> shares;
  std::map<SiteIndex, Signed<InputHeader>> headers;
  std::map<SiteIndex, Signed<Agreement>> agreements;
  std::map<SiteIndex, Signed<Unmask>> unmasks;
  Instant deadline{};
};

/// By how much the clocks of a region, of its certificate authority and of the coordinator may differ.
/// Certificates are dated back by more than this when they are made (policy/region_init.cc).
inline constexpr Millis kClockSkew{4 * 60'000};

/// Every peer verifies every chain again, by its own clock, when the adverts come (step 2), and a site whose
/// certificate runs out later can neither connect again nor upload. So a member's chain must hold from now
/// less kClockSkew until the last deadline that an attempt beginning now can have, plus kClockSkew. Without
/// this one site could run out between the offer and the adverts, and all others would refuse the
/// coordinator's honest message.
/// \return the member's key; kUntrustedPeer when the chain does not hold so long, or is another's.
StatusOr<crypto::VerifyKey> CheckMember(const RosterEntry& member, std::string_view chain,
                                        const Deadlines& deadlines, const PeerVerifier& peers, Instant now);

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
