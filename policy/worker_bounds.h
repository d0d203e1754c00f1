#ifndef CONCORDAT_POLICY_WORKER_BOUNDS_H_
#define CONCORDAT_POLICY_WORKER_BOUNDS_H_

#include "policy/charter.h"
#include "policy/job.h"
#include "policy/region_policy.h"

namespace concordat::secagg {
struct WorkerBounds;
}

namespace concordat::policy {

/// What an offer of this job may say in this region: the job fixes most of it, the region's policy bounds the
/// rest, and the charter names those who may be in a roster.
StatusOr<secagg::WorkerBounds> BoundsFor(const RegionPolicy& policy, const Charter& charter,
                                         const Digest& charter_hash, const JobId& id, const JobSpec& job);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_WORKER_BOUNDS_H_
