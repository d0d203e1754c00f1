#ifndef CONCORDAT_PRIVACY_SECAGG_REFUSAL_H_
#define CONCORDAT_PRIVACY_SECAGG_REFUSAL_H_

#include <cstdint>
#include <string_view>

#include "common/status.h"

namespace concordat::secagg {

/// Why a message or event was refused. The numbers are stable: they are journaled and reported.
enum class RefusalCode : uint8_t {
  kNone = 0,
  kWrongPhase = 1,          // not the step at which this may come
  kWrongAttempt = 2,        // another (J, r, a)
  kMalformed = 3,           // unsorted, repeated, out of range
  kBadSignature = 4,        // the sender's signature does not verify
  kRepeatDiffers = 5,       // said before, and not the same
  kCharter = 6,             // another charter hash
  kModel = 7,               // another base model or adapter
  kElements = 8,            // another vector length
  kRoster = 9,              // self missing or with another key, repeated or unknown sites
  kCohortTooSmall = 10,     // n below the minimum, in sites or jurisdictions
  kThreshold = 11,          // t outside its bounds, or 2t <= n + nC
  kSurvivorMinimum = 12,    // m below t or the minimum, in sites or jurisdictions
  kColluding = 13,          // nC below the minimum
  kHonestMinimum = 14,      // h below the minimum, in sites or jurisdictions
  kDeadlines = 15,          // a deadline outside its bounds
  kAttempts = 16,           // attempts beyond the bound
  kTranscript = 17,         // another T0, T1 or T2
  kUntrustedPeer = 18,      // a chain that does not verify or is not the roster's
  kDuplicateKey = 19,       // two equal keys or seed hashes in U1, or a point of low order
  kOwnMessageChanged = 20,  // own advert or commitments came back altered
  kTooFewAdverts = 21,      // |U1| < m
  kTooFewDealers = 22,      // |U2| < m
  kOutsideSet = 23,         // U2 not within U1, U3 not within U2, a signer outside U3
  kSelfMissing = 24,        // a set without this worker
  kTooFewSurvivors = 25,    // |U3| < m
  kTooFewAgreements = 26,   // fewer than t valid signatures
  kBothKinds = 27,          // both kinds of share for one site, or the wrong kind
  kBadShare = 28,           // a share that does not match its dealer's commitment
  kMaskSpent = 29,          // a second plaintext for a mask
  kLate = 30,               // after its step was closed
  kLost = 31,               // the connection is gone
  kDigest = 32,             // the upload is not what its header says
  kPairwiseKey = 33,        // no pairwise key with a site of the roster, or another than before a restart
};

/// A short stable name, e.g. "wrong-phase".
std::string_view RefusalName(RefusalCode code);

/// A status for a refusal: carries `code`, the status code that fits it and "<name>: <message>".
Status MakeRefusal(RefusalCode code, std::string_view message);

template <typename... Args>
Status Refuse(RefusalCode code, fmt::format_string<Args...> format, Args&&... args) {
  return MakeRefusal(code, fmt::format(format, std::forward<Args>(args)...));
}

/// The code that MakeRefusal put in; kNone for OK and for any other status.
RefusalCode RefusalCodeOf(const Status& status);

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_REFUSAL_H_
