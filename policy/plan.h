#ifndef CONCORDAT_POLICY_PLAN_H_
#define CONCORDAT_POLICY_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "policy/charter.h"
#include "policy/ledger.h"
#include "policy/region_policy.h"

namespace concordat::policy {

/// A region's answer to a job, before anything happens.
struct RegionAnswer {
  std::vector<Refusal> refusals;  // empty: eligible
  bool needs_approval = false;    // eligible, and a person there must say yes
  uint64_t bytes_per_round = 0;   // what leaves in a round without disturbance
  double epsilon_before = 0;      // of the dataset's budget; infinity says no guarantee
  double epsilon_after = 0;       // with all rounds still to come
  double epsilon_budget = 0;
  bool eligible() const { return refusals.empty(); }
};

/// What a region would do with a job. Rounds already done are in the ledger; `rounds_done` of the job's are
/// not priced again. The cohort is taken as the smallest the job accepts, whose price is the highest. Pure.
RegionAnswer AnswerJob(const RegionPolicy& policy, const DatasetCard& card, const Charter& charter,
                       const Digest& charter_hash, const SpiffeId& worker, const JobSpec& job,
                       const JobId& job_id, const SpiffeId& submitter, const Ledger& ledger,
                       uint32_t rounds_done, Instant now);

/// One line of the plan's table: what crosses which border, how much of it, on what basis.
struct FlowRow {
  ArtefactKind kind{};
  std::string from, to;
  std::optional<LegalBasis> basis;  // nullopt: the charter does not allow it
  uint64_t bytes = 0;               // in the whole job, undisturbed; 0 where it depends on requests
};

/// Every flow of a job with these workers, in the order of `workers`, up and then down.
StatusOr<std::vector<FlowRow>> FlowsOf(const Charter& charter, const JobSpec& job,
                                       const std::vector<SpiffeId>& workers);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_PLAN_H_
