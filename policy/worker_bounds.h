#ifndef CONCORDAT_POLICY_WORKER_BOUNDS_H_
#define CONCORDAT_POLICY_WORKER_BOUNDS_H_

#include "policy/charter.h"
#include "policy/job.h"
#include "policy/region_policy.h"
#include "privacy/secagg/worker_bounds.h"

namespace concordat::policy {

/// What an offer of this job may say in this region: charter, model, length and jurisdictions exactly, the
/// region policy's minimums and limits for the rest, the job's and the charter's where they are stricter.
/// \param attempt the attempt the worker expects; \param adapter hash of the adapter it starts from
StatusOr<secagg::WorkerBounds> BoundsFor(const RegionPolicy& policy, const Charter& charter,
                                         const Digest& charter_hash, const JobSpec& job,
                                         const AttemptId& attempt, const Digest& adapter);

/// Whether an offer says what the signed job says: roster at least `minimum` and of invited jurisdictions,
/// t and m as they follow from n, nC, attempts, deadlines, elements. PermissionDenied naming the field, with
/// the RefusalCode that CheckOffer has for it.
/// A worker runs it beside CheckOffer; a coordinator that makes its offers with FillOffer passes.
Status CheckOfferKeepsJob(const JobSpec& job, const secagg::Offer& offer);

/// Sets the fields of an offer that follow from job and roster: elements, t, m, nC, attempts, deadlines, base
/// model, charter. `offer.roster` must be set.
Status FillOffer(const JobSpec& job, secagg::Offer* offer);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_WORKER_BOUNDS_H_
