#ifndef CONCORDAT_TESTS_LINKS_PROBE_H_
#define CONCORDAT_TESTS_LINKS_PROBE_H_

#include "common/ids.h"
#include "privacy/crypto/hash.h"

namespace concordat::testing {

/// The attempt that upload_probe uploads for, known to both ends.
inline AttemptId ProbeAttempt() { return {crypto::Sha256(AsBytes("probe")), 0, 0}; }

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_LINKS_PROBE_H_
