#ifndef CONCORDAT_CLI_PLAN_VIEW_H_
#define CONCORDAT_CLI_PLAN_VIEW_H_

#include <optional>
#include <vector>

#include "cli/client.h"
#include "policy/plan.h"
#include "privacy/accounting/privacy_statement.h"

namespace concordat::cli {

/// What `plan` shows: the regions' answers beside what follows from job file and charter alone.
struct PlanView {
  policy::JobSpec job;
  JobId id;
  std::vector<pb::RegionPlan> regions;
  bool can_start = false;
  std::vector<policy::FlowRow> flows;  // of the workers that would join
  PrivacyStatement end;                // after the last round, with PricedSites
  uint64_t bytes_per_round = 0;        // up, of one region
};

/// \param reply the coordinator's; its job id must be `id` (DataLoss otherwise)
StatusOr<PlanView> MakePlanView(const policy::JobSpec& job, const JobId& id, const policy::Charter& charter,
                                const pb::PlanReply& reply);

nlohmann::ordered_json ToJson(const PlanView& plan);
void Show(const PlanView& plan, Output& out);

/// What a person should know before reading an epsilon of the site unit; empty when there is nothing to say.
std::vector<std::string> EpsilonRemarks(const policy::JobSpec& job, const PrivacyStatement& statement);

/// On a δ that is more than a bound's small print.
std::optional<std::string> DeltaRemark(double delta);

/// Regions that have said yes, or will when a person there does.
size_t WouldJoin(const std::vector<pb::RegionPlan>& regions);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_PLAN_VIEW_H_
