#ifndef CONCORDAT_COMMON_CANONICAL_ATTEMPT_H_
#define CONCORDAT_COMMON_CANONICAL_ATTEMPT_H_

#include "common/canonical.h"
#include "common/ids.h"

namespace concordat {

/// The canonical form of (J, r, a), the same in every body, file and hash: job, round, attempt.
inline void Put(CanonicalWriter& out, const AttemptId& id) {
  out.Put(id.job);
  out.U32(id.round);
  out.U32(id.attempt);
}
inline AttemptId GetAttempt(CanonicalReader& in) {
  AttemptId id;
  id.job = in.Hash();
  id.round = in.U32();
  id.attempt = in.U32();
  return id;
}

}  // namespace concordat

#endif  // CONCORDAT_COMMON_CANONICAL_ATTEMPT_H_
