#include "privacy/secagg/refusal.h"

#include "absl/strings/cord.h"

namespace concordat::secagg {
namespace {

constexpr char kPayload[] = "concordat.secagg/refusal";

struct Row {
  RefusalCode code;
  std::string_view name;
  StatusCode status;
};

constexpr Row kRows[] = {
    {RefusalCode::kNone, "none", StatusCode::kOk},
    {RefusalCode::kWrongPhase, "wrong-phase", StatusCode::kFailedPrecondition},
    {RefusalCode::kWrongAttempt, "wrong-attempt", StatusCode::kFailedPrecondition},
    {RefusalCode::kMalformed, "malformed", StatusCode::kInvalidArgument},
    {RefusalCode::kBadSignature, "bad-signature", StatusCode::kPermissionDenied},
    {RefusalCode::kRepeatDiffers, "repeat-differs", StatusCode::kAlreadyExists},
    {RefusalCode::kCharter, "charter", StatusCode::kPermissionDenied},
    {RefusalCode::kModel, "model", StatusCode::kPermissionDenied},
    {RefusalCode::kElements, "elements", StatusCode::kPermissionDenied},
    {RefusalCode::kRoster, "roster", StatusCode::kPermissionDenied},
    {RefusalCode::kCohortTooSmall, "cohort-too-small", StatusCode::kPermissionDenied},
    {RefusalCode::kThreshold, "threshold", StatusCode::kPermissionDenied},
    {RefusalCode::kSurvivorMinimum, "survivor-minimum", StatusCode::kPermissionDenied},
    {RefusalCode::kColluding, "colluding", StatusCode::kPermissionDenied},
    {RefusalCode::kHonestMinimum, "honest-minimum", StatusCode::kPermissionDenied},
    {RefusalCode::kDeadlines, "deadlines", StatusCode::kPermissionDenied},
    {RefusalCode::kAttempts, "attempts", StatusCode::kPermissionDenied},
    {RefusalCode::kTranscript, "transcript", StatusCode::kPermissionDenied},
    {RefusalCode::kUntrustedPeer, "untrusted-peer", StatusCode::kPermissionDenied},
    {RefusalCode::kDuplicateKey, "duplicate-key", StatusCode::kPermissionDenied},
    {RefusalCode::kOwnMessageChanged, "own-message-changed", StatusCode::kPermissionDenied},
    {RefusalCode::kTooFewAdverts, "too-few-adverts", StatusCode::kPermissionDenied},
    {RefusalCode::kTooFewDealers, "too-few-dealers", StatusCode::kPermissionDenied},
    {RefusalCode::kOutsideSet, "outside-set", StatusCode::kPermissionDenied},
    {RefusalCode::kSelfMissing, "self-missing", StatusCode::kPermissionDenied},
    {RefusalCode::kTooFewSurvivors, "too-few-survivors", StatusCode::kPermissionDenied},
    {RefusalCode::kTooFewAgreements, "too-few-agreements", StatusCode::kPermissionDenied},
    {RefusalCode::kBothKinds, "both-kinds", StatusCode::kPermissionDenied},
    {RefusalCode::kBadShare, "bad-share", StatusCode::kPermissionDenied},
    {RefusalCode::kMaskSpent, "mask-spent", StatusCode::kFailedPrecondition},
    {RefusalCode::kLate, "late", StatusCode::kFailedPrecondition},
    {RefusalCode::kLost, "lost", StatusCode::kUnavailable},
    {RefusalCode::kDigest, "digest", StatusCode::kInvalidArgument},
    {RefusalCode::kPairwiseKey, "pairwise-key", StatusCode::kPermissionDenied},
};

// A row's place is its code, so that a lookup needs no search and a forgotten row does not compile.
constexpr bool RowsAreInOrder() {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (static_cast<size_t>(kRows[i].code) != i) return false;
  }
  return true;
}
static_assert(RowsAreInOrder());
static_assert(static_cast<size_t>(RefusalCode::kPairwiseKey) + 1 == std::size(kRows));

const Row& RowOf(RefusalCode code) {
  const auto i = static_cast<size_t>(code);
  return kRows[i < std::size(kRows) ? i : 0];
}

}  // namespace

std::string_view RefusalName(RefusalCode code) { return RowOf(code).name; }

Status MakeRefusal(RefusalCode code, std::string_view message) {
  const Row& row = RowOf(code);
  // kNone is no refusal; asking for one is our own mistake, and must not look like success.
  if (row.status == StatusCode::kOk) return Internal("refusal without a code: {}", message);
  Status status = MakeStatus(row.status, fmt::format("{}: {}", row.name, message));
  const char byte = static_cast<char>(code);
  status.SetPayload(kPayload, absl::Cord(absl::string_view(&byte, 1)));
  return status;
}

RefusalCode RefusalCodeOf(const Status& status) {
  const auto payload = status.GetPayload(kPayload);
  if (!payload.has_value() || payload->size() != 1) return RefusalCode::kNone;
  return RowOf(static_cast<RefusalCode>(static_cast<uint8_t>((*payload)[0]))).code;
}

}  // namespace concordat::secagg
