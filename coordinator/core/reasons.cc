#include "coordinator/core/reasons.h"

namespace concordat::coordinator {

std::string_view AbortReasonText(AbortReason reason) {
  switch (reason) {
    case AbortReason::kNone:
      return "none";
    case AbortReason::kTooFewAdverts:
      return "too few sites advertised keys";
    case AbortReason::kTooFewShares:
      return "too few sites shared their secrets";
    case AbortReason::kTooFewInputs:
      return "too few sites uploaded";
    case AbortReason::kTooFewAgreements:
      return "too few sites agreed on the survivors";
    case AbortReason::kTooFewUnmasks:
      return "too few sites opened their shares";
    case AbortReason::kComplaint:
      return "a site complained about another's shares";
    case AbortReason::kConvicted:
      return "a site dealt shares of a wrong secret";
    case AbortReason::kCancelled:
      return "cancelled";
    case AbortReason::kRestarted:
      return "the coordinator was restarted";
    case AbortReason::kSumFailed:
      return "the sum could not be made or stored";
    case AbortReason::kCohortTooSmall:
      return "too few sites are left";
    case AbortReason::kAttemptsSpent:
      return "every allowed attempt of the round was aborted";
    case AbortReason::kUnsound:
      return "no roster of this cohort satisfies the protocol's bounds";
  }
  return "unknown";
}

AbortReason ReasonOf(secagg::Aborted::Code code) { return static_cast<AbortReason>(code); }

std::string_view DropReasonText(DropReason reason) {
  switch (reason) {
    case DropReason::kNone:
      return "none";
    case DropReason::kDisconnected:
      return "disconnected";
    case DropReason::kLateAdvert:
      return "sent no keys in time";
    case DropReason::kLateShares:
      return "sent no shares in time";
    case DropReason::kLateInput:
      return "sent no complete upload in time";
    case DropReason::kLateAgreement:
      return "did not agree on the survivors in time";
    case DropReason::kLateUnmask:
      return "opened no shares in time";
    case DropReason::kBadUpload:
      return "sent an upload that is not what its header says";
    case DropReason::kTrainerFailed:
      return "its trainer failed";
    case DropReason::kPolicyRefused:
      return "its policy refused";
    case DropReason::kBudgetSpent:
      return "its privacy budget is spent";
    case DropReason::kProtocolViolation:
      return "it found a violation of the protocol";
    case DropReason::kStorageFull:
      return "its disk is full";
    case DropReason::kWithdrawn:
      return "it withdrew";
    case DropReason::kResultMismatch:
      return "it computed another result";
    case DropReason::kShuttingDown:
      return "it was restarted and cannot go on";
    case DropReason::kPaused:
      return "its operator paused the job";
    case DropReason::kDenied:
      return "its operator denied the job";
    case DropReason::kCertificate:
      return "its certificate runs out before an attempt can end; renew it and restart the worker";
    case DropReason::kLeftOut:
      return "left out for what it did in earlier attempts of this job";
  }
  return "unknown";
}

DropReason ReasonOf(const secagg::DroppedSite& dropped) {
  using secagg::CoordinatorPhase;
  if (dropped.code == secagg::RefusalCode::kLost) return DropReason::kDisconnected;
  if (dropped.code == secagg::RefusalCode::kUntrustedPeer) return DropReason::kCertificate;
  switch (dropped.phase) {
    case CoordinatorPhase::kAdverts:
      return DropReason::kLateAdvert;
    case CoordinatorPhase::kShares:
      return DropReason::kLateShares;
    case CoordinatorPhase::kInput:
      return DropReason::kLateInput;
    case CoordinatorPhase::kAgreement:
      return DropReason::kLateAgreement;
    case CoordinatorPhase::kUnmask:
      return DropReason::kLateUnmask;
    default:
      return DropReason::kDisconnected;
  }
}

DropReason ReasonOfDropout(uint32_t code) {
  return code >= 1 && code <= 10 ? static_cast<DropReason>(code + 10) : DropReason::kNone;
}

}  // namespace concordat::coordinator
