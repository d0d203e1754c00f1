#ifndef CONCORDAT_COORDINATOR_CORE_REASONS_H_
#define CONCORDAT_COORDINATOR_CORE_REASONS_H_

#include <cstdint>
#include <string_view>

#include "privacy/secagg/coordinator_round.h"

namespace concordat::coordinator {

/// Why an attempt or a job ended without a result. The numbers are stable: they are journaled, sent in
/// AttemptAborted and shown in JobState. 1 to 8 are secagg::Aborted::Code.
enum class AbortReason : uint8_t {
  kNone = 0,
  kTooFewAdverts = 1,
  kTooFewShares = 2,
  kTooFewInputs = 3,
  kTooFewAgreements = 4,
  kTooFewUnmasks = 5,
  kComplaint = 6,
  kConvicted = 7,
  kCancelled = 8,
  kRestarted = 9,        // the coordinator was restarted while the attempt was open
  kSumFailed = 10,       // the sum could not be added, decoded or stored
  kCohortTooSmall = 11,  // without the excluded sites fewer than the minimum are left
  kAttemptsSpent = 12,   // every attempt that the job allows for a round was aborted
  kUnsound = 13,         // no roster of the job's cohort satisfies the protocol's bounds
};
/// A sentence part for people, e.g. "too few sites uploaded".
std::string_view AbortReasonText(AbortReason reason);
AbortReason ReasonOf(secagg::Aborted::Code code);

/// Why a site takes no further part in an attempt. The numbers are stable: RegionState.dropped.
enum class DropReason : uint8_t {
  kNone = 0,
  kDisconnected = 1,
  kLateAdvert = 2,
  kLateShares = 3,
  kLateInput = 4,
  kLateAgreement = 5,
  kLateUnmask = 6,
  kBadUpload = 7,  // the upload is not what its header says
  // What the worker itself said (Dropout.Code + 10).
  kTrainerFailed = 11,
  kPolicyRefused = 12,
  kBudgetSpent = 13,
  kProtocolViolation = 14,
  kStorageFull = 15,
  kWithdrawn = 16,
  kResultMismatch = 17,
  kShuttingDown = 18,
  kPaused = 19,
  kDenied = 20,
  // Not even offered the attempt.
  kCertificate = 21,  // its certificate does not outlast an attempt
  kLeftOut = 22,      // for what it did in this job: accused, convicted, silent
};
std::string_view DropReasonText(DropReason reason);
/// Of a site that secagg dropped at `phase`.
DropReason ReasonOf(const secagg::DroppedSite& dropped);
/// Of a worker's Dropout.Code; kNone for one that does not exist.
DropReason ReasonOfDropout(uint32_t code);

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_CORE_REASONS_H_
