#ifndef CONCORDAT_CLI_EVALUATION_H_
#define CONCORDAT_CLI_EVALUATION_H_

#include <optional>
#include <string>
#include <vector>

#include "cli/client.h"

// The matrix of models and regions' held-out text.
namespace concordat::cli {

/// One model on one region's text.
struct Cell {
  enum class State { kReleased, kWithheld, kFailed, kNoAnswer };
  State state = State::kNoAnswer;
  double bits_per_byte = 0;  // as it left the region: clipped and noised there
  double standard_error = 0;
  uint32_t rule = 0;  // why withheld
};

struct Evaluation {
  JobId job;
  std::string name;
  std::vector<std::string> models;       // "base", "round 1" …, "federated" for the newest
  std::vector<Digest> adapters;          // zero: base
  std::vector<std::string> regions;      // SPIFFE IDs
  std::vector<double> epsilon_charged;   // for each region, by this evaluation
  std::vector<std::vector<Cell>> cells;  // [model][region]

  /// Mean over the regions that released `model`; nullopt when none did.
  std::optional<double> Mean(size_t model) const;
  /// Index of the region with the highest bits per byte; nullopt when none released.
  std::optional<size_t> Worst(size_t model) const;
  /// Regions where the last model is above the first, the base.
  std::vector<size_t> Harmed() const;
  /// Regions where that can be seen: both models were released there.
  size_t Compared() const;
  /// "regions harmed: …" for a person, when none is; says so when nothing was released to see it in.
  std::string NoneHarmedText() const;
  /// How `eval` ends when not one cell was released: kBudgetSpent when budgets alone stood in the way,
  /// kRefused for other rules, kUnreachable when nobody answered, else kFailed. Nothing when one was.
  std::optional<ExitCode> NothingReleased() const;
};

/// Reads a reply to a request for `adapters`. DataLoss when a released cell has not two numbers a model.
StatusOr<Evaluation> MakeEvaluation(const JobId& job, const std::string& name,
                                    const std::vector<Digest>& adapters,
                                    const std::vector<std::string>& models, const pb::EvaluateReply& reply);

nlohmann::ordered_json ToJson(const Evaluation& evaluation);
/// Reads what ToJson writes. InvalidArgument naming the field.
StatusOr<Evaluation> EvaluationFromJson(const nlohmann::json& json);
/// "1.234 ± 0.010", "withheld", "failed", "no answer".
std::string CellText(const Cell& cell);
void Show(const Evaluation& evaluation, Output& out);

/// Asks the regions: base and the newest adapter, or base and every round's.
StatusOr<Evaluation> Evaluate(Client& client, const JobId& job, bool all_rounds, uint32_t max_documents,
                              Millis wait);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_EVALUATION_H_
