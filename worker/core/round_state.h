#ifndef CONCORDAT_WORKER_CORE_ROUND_STATE_H_
#define CONCORDAT_WORKER_CORE_ROUND_STATE_H_

#include <map>
#include <string>

#include "privacy/secagg/worker_round.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// All that a worker needs to go on with an attempt after a restart. Secret: keys, seed and shares are in it.
struct RoundState {
  secagg::WorkerPhase phase{};
  secagg::Signed<secagg::Offer> offer;
  std::map<std::string, Evidence> accepted;  // by name: what a refused message would contradict
  crypto::SecretText snapshot;               // WorkerRound's own
};

/// Canonical form, version 1: u8 version, u8 phase, attempt, signature of the offer, list of (name, body,
/// signature), snapshot.
crypto::SecretText EncodeRoundState(const AttemptId& id, secagg::WorkerPhase phase,
                                    const crypto::Signature& offer,
                                    const std::map<std::string, Evidence>& accepted, ByteView snapshot);
/// DataLoss when `state` is not what EncodeRoundState wrote, or not of `id`.
StatusOr<RoundState> DecodeRoundState(const AttemptId& id, ByteView state);

/// What the journal keeps of a state: enough to see whether a file is the one that was written last.
Digest DigestOfState(ByteView state);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_ROUND_STATE_H_
