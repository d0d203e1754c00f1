#ifndef CONCORDAT_CLI_REPORT_H_
#define CONCORDAT_CLI_REPORT_H_

#include <optional>
#include <string>

#include "cli/evaluation.h"
#include "policy/job.h"

// A job's report: one HTML file that needs nothing else, and the same facts as JSON.
namespace concordat::cli {

struct ReportInput {
  policy::JobSpec job;
  pb::JobState state;
  pb::RoundsReply rounds;
  std::optional<Evaluation> evaluation;
  Instant made{};
};

/// The job file in `rounds`, if it is the one that `job` names. DataLoss otherwise.
StatusOr<policy::JobSpec> ReportedJob(const JobId& job, const pb::JobState& state,
                                      const pb::RoundsReply& rounds);

/// `text` as HTML text or attribute value: & < > " ' are escaped, control characters gone.
std::string EscapeHtml(std::string_view text);

nlohmann::ordered_json ReportJson(const ReportInput& input);
/// Light and dark by the reader's setting; no script, nothing loaded from anywhere.
std::string ReportHtml(const ReportInput& input);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_REPORT_H_
