#ifndef CONCORDAT_CLI_WATCH_VIEW_H_
#define CONCORDAT_CLI_WATCH_VIEW_H_

#include <optional>
#include <string>
#include <vector>

#include "cli/client.h"

// A job's state for people and programs.
namespace concordat::cli {

/// "waiting", "running", "done", "cancelled", "failed".
std::string_view JobStateName(pb::JobState::State state);
bool HasEnded(pb::JobState::State state);
/// "training" …, of Progress.Phase.
std::string_view PhaseName(uint32_t phase);
/// "eligible", "refused", "waits for approval" …, of JobAnswer.Verdict; "no answer" for 0.
std::string_view VerdictName(uint32_t verdict);
/// What happens in step 0 to 9 of an attempt.
std::string_view StepName(uint32_t step);

nlohmann::ordered_json ToJson(const pb::RoundSummary& round);
nlohmann::ordered_json ToJson(const pb::JobState& state);

/// Rules, in words, one a line.
std::vector<std::string> DescribeRules(const google::protobuf::RepeatedField<uint32_t>& rules);
/// The cohort's loss, or "not measured".
std::string LossText(double mean_loss);
/// "round 2 of 3: loss 2.134, 3 regions (missing: de.example/site), planned epsilon 12.3, 5.6 MiB up, took 1m
/// 20s".
std::string RoundLine(const pb::RoundSummary& round, uint32_t total);

/// The picture that `watch` redraws on a terminal, at most `columns` wide.
std::vector<std::string> LiveLines(const pb::JobState& state, const Output& output, size_t columns);

/// What changed, as lines, for a log: rounds that ended, attempts and steps that began, regions that joined,
/// left or were dropped.
class PlainWatch {
 public:
  std::vector<std::string> Next(const pb::JobState& state);

 private:
  std::optional<pb::JobState> last_;
};

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_WATCH_VIEW_H_
