#ifndef CONCORDAT_PRIVACY_SECAGG_WORKER_CHECKS_H_
#define CONCORDAT_PRIVACY_SECAGG_WORKER_CHECKS_H_

#include <map>

#include "privacy/secagg/pairwise.h"
#include "privacy/secagg/peer_verifier.h"
#include "privacy/secagg/worker_state.h"

// The "receiver checks" of each step, one function each: they look and change nothing. Steps are those of
// docs/SECURE_AGGREGATION.md.
namespace concordat::secagg {

/// Step 0: this worker's place in the roster, under its own key. kRoster when it has none.
StatusOr<SiteIndex> FindSelf(const Offer& offer, const SpiffeId& self, const Digest& own_key_hash);

/// Step 2: U1 with verified chains and signatures, distinct keys, own advert intact, the same T0, |U1| >= m.
StatusOr<std::map<SiteIndex, Peer>> CheckKeys(const Keys& keys, const WorkerState& state,
                                              const PeerVerifier& verifier, Instant now);

/// Step 4, form: to this worker, T1, U2 within U1 and sorted, self included with its own commitments,
/// ciphertext and pair tag, commitments for exactly U1, |U2| >= m, a pair tag for each row or none.
Status CheckDeliveryForm(const Delivery& delivery, const WorkerState& state);
/// Step 4, content of one row: the dealer's signature, the ciphertext, the commitments to this worker's
/// shares. What does not hold is said in `complaint`, because the next attempt should leave somebody out.
/// \param pairwise this region's pairwise keys; nullptr in a job without
/// \param tag with pairwise keys, of the dealer's seal for this worker
struct OpenedRow {
  std::optional<HeldShares> shares;
  Complaint::Code complaint{};
};
OpenedRow OpenRow(const Delivery::Row& row, const WorkerState& state, const PairwiseKeys* pairwise,
                  const Digest& tag);
/// The pairwise key with `site`; with itself the one that follows from its secrets. kPairwiseKey when this
/// region has none.
StatusOr<Secret32> PairwiseKeyWith(SiteIndex site, const WorkerState& state, const PairwiseKeys& keys);
/// After a restart, between steps 3 and 5: the keys are those whose tags this worker has dealt, else
/// kPairwiseKey. DataLoss when it has dealt for a job of the other kind.
Status CheckPairwiseAsDealt(const WorkerState& state, const PairwiseKeys* pairwise);
/// T2 of a delivery whose rows hold.
Digest TranscriptOf(const Delivery& delivery);

/// Step 6: T2, U3 within U2 and sorted, self included with its own header, |U3| >= m, every header signed, of
/// this T2 and the offered length.
Status CheckSurvivors(const Survivors& survivors, const WorkerState& state);

/// Step 7: T2, the U3 that this worker signed, at least t valid signatures of distinct sites of U3.
Status CheckBundle(const AgreementBundle& bundle, const WorkerState& state);

/// Step 9: T2 and this worker's U3.
Status CheckResult(const Result& result, const WorkerState& state);

/// True when `sites` is strictly increasing and within 1..n.
bool IsSiteSet(const std::vector<SiteIndex>& sites, size_t n);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_WORKER_CHECKS_H_
