#ifndef CONCORDAT_WORKER_RPC_EVIDENCE_H_
#define CONCORDAT_WORKER_RPC_EVIDENCE_H_

#include <filesystem>

#include "worker/core/effects.h"

namespace concordat::worker {

/// Keeps one signed message for whoever has to judge it later, as two files of mode 0600 in `folder`:
/// JOB-ROUND-ATTEMPT-NAME-DIGEST.body, the canonical body, and .signature, 64 bytes of Ed25519 over
/// u32le(len(domain)) ‖ domain ‖ body with the coordinator's charter key (docs/SECURE_AGGREGATION.md). DIGEST
/// is SHA-256 of the body, so that a second lie about the same step never takes the place of the first; the
/// same message again changes nothing. Durable when it returns OK; ResourceExhausted when the disk is full.
Status KeepEvidence(const std::filesystem::path& folder, const Evidence& evidence);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_EVIDENCE_H_
