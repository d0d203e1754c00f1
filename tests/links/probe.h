#ifndef CONCORDAT_TESTS_LINKS_PROBE_H_
#define CONCORDAT_TESTS_LINKS_PROBE_H_

#include "common/ids.h"
#include "privacy/crypto/hash.h"

namespace concordat::testing {

/// The attempts that upload_probe uploads for, known to both ends.
inline AttemptId ProbeAttempt(RoundIndex number) { return {crypto::Sha256(AsBytes("probe")), number, 0}; }

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_LINKS_PROBE_H_
