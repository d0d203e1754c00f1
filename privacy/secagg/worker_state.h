#ifndef CONCORDAT_PRIVACY_SECAGG_WORKER_STATE_H_
#define CONCORDAT_PRIVACY_SECAGG_WORKER_STATE_H_

#include <map>
#include <optional>
#include <vector>

#include "privacy/crypto/signature.h"
#include "privacy/secagg/commitment.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/worker_round.h"

namespace concordat::secagg {

/// A site of U1, its chain verified.
struct Peer {
  crypto::VerifyKey key;
  Advert advert;
};

/// Everything that one worker knows in one attempt: what a snapshot holds.
struct WorkerState {
  WorkerPhase phase = WorkerPhase::kIdle;
  Offer offer;
  SiteIndex site = 0;
  Digest t0, t1, t2;
  Instant input_until{};  // the coordinator's deadline for step 5
  crypto::AgreementCurve curve =
      crypto::AgreementCurve::kX25519;  // from the coordinator's key; in no snapshot

  crypto::AgreementKeyPair channel;  // secret wiped once the shares are open
  /// `secret`: what is shared, the mask key or with pairwise keys its root; wiped once the masks are derived.
  crypto::AgreementKeyPair mask;
  Secret32 seed;                         // b_i, likewise
  std::map<SiteIndex, Peer> peers;       // U1
  std::map<SiteIndex, HeldShares> held;  // U2: what each dealer gave this worker
  std::vector<SiteIndex> survivors;      // U3

  /// Digests of the coordinator's messages answered so far: a repeat must be the same.
  std::optional<Digest> offer_seen, keys_seen, delivery_seen, survivors_seen, bundle_seen, result_seen;
  /// The answers, kept so that a repeat gets the same bytes.
  std::optional<Signed<Advert>> advert;
  std::optional<Signed<Shares>> shares;
  std::optional<Signed<Complaint>> complaint;
  std::optional<Signed<InputHeader>> header;
  std::optional<Signed<Agreement>> agreement;
  std::optional<Signed<Unmask>> unmask;

  /// Between BeginInput and TakeMasks; never in a snapshot.
  std::vector<MaskKey> masks;
};

/// The canonical bytes of `state`, without `masks`.
crypto::SecretText EncodeWorkerState(const WorkerState& state);
/// DataLoss when `snapshot` is not what EncodeWorkerState wrote.
StatusOr<WorkerState> DecodeWorkerState(ByteView snapshot);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_WORKER_STATE_H_
