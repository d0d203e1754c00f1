#ifndef CONCORDAT_POLICY_SIGNED_JOB_H_
#define CONCORDAT_POLICY_SIGNED_JOB_H_

#include <string>
#include <string_view>

#include "common/clock.h"
#include "policy/charter.h"
#include "policy/job.h"

namespace concordat::policy {

/// Largest job file that is looked at.
inline constexpr size_t kMaxJobFileBytes = 256 * 1024;

/// Signs a job file as its submitter. The file is not parsed here.
/// \param chain the submitter's certificate in PEM, leaf first
SignedJob SignJob(std::string_view file, const crypto::SigningKey& key, std::string_view chain);

/// A job whose submitter is known.
struct VerifiedJob {
  JobSpec spec;
  SpiffeId submitter;
  JobId id;
};

/// Verifies the submitter's chain against the charter, its role (operator) and its signature, then parses.
/// PermissionDenied: not an operator of a member, or the signature is not its. InvalidArgument: the file.
StatusOr<VerifiedJob> OpenJob(const SignedJob& job, const Charter& charter, Instant now);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_SIGNED_JOB_H_
