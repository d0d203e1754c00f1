#include "cli/evaluation.h"

#include <array>
#include <cmath>

#include "policy/rules.h"
#include "worker/core/messages.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kStates = {"released", "withheld", "failed", "no answer"};

Cell::State StateOf(uint32_t state) {
  static constexpr Cell::State kOf[] = {Cell::State::kNoAnswer, Cell::State::kReleased,
                                        Cell::State::kWithheld, Cell::State::kFailed};
  return state < 4 ? kOf[state] : Cell::State::kFailed;
}

bool Released(const Cell& cell) { return cell.state == Cell::State::kReleased; }

ordered_json CellJson(const std::string& region, const Cell& cell) {
  ordered_json json = {{"region", region}, {"state", kStates[static_cast<size_t>(cell.state)]}};
  json["bits_per_byte"] = Released(cell) ? ordered_json(cell.bits_per_byte) : ordered_json();
  json["standard_error"] = Released(cell) ? ordered_json(cell.standard_error) : ordered_json();
  json["rule"] = cell.rule == 0 ? ordered_json() : ordered_json(cell.rule);
  json["rule_text"] = cell.rule == 0 ? ordered_json() : ordered_json(policy::DescribeRule(cell.rule));
  return json;
}

ordered_json RowJson(const Evaluation& e, size_t model) {
  ordered_json cells = ordered_json::array();
  for (size_t r = 0; r < e.regions.size(); ++r) cells.push_back(CellJson(e.regions[r], e.cells[model][r]));
  const auto mean = e.Mean(model);
  const auto worst = e.Worst(model);
  return {{"model", e.models[model]},
          {"adapter", e.adapters[model].is_zero() ? ordered_json() : ordered_json(e.adapters[model].hex())},
          {"cells", cells},
          {"mean", mean ? ordered_json(*mean) : ordered_json()},
          {"worst_region", worst ? ordered_json(e.regions[*worst]) : ordered_json()},
          {"worst", worst ? ordered_json(e.cells[model][*worst].bits_per_byte) : ordered_json()}};
}

StatusOr<Cell> CellFromJson(const nlohmann::json& json) {
  Cell cell;
  const auto state = json.find("state");
  if (state == json.end() || !state->is_string()) return InvalidArgument("cell: expected state as text");
  for (size_t i = 0; i < kStates.size(); ++i) {
    if (*state == kStates[i]) cell.state = static_cast<Cell::State>(i);
  }
  if (Released(cell)) {
    if (!json.contains("bits_per_byte") || !json["bits_per_byte"].is_number() ||
        !json.contains("standard_error") || !json["standard_error"].is_number()) {
      return InvalidArgument("cell: expected bits_per_byte and standard_error as numbers");
    }
    cell.bits_per_byte = json["bits_per_byte"].get<double>();
    cell.standard_error = json["standard_error"].get<double>();
  }
  if (json.contains("rule") && json["rule"].is_number_unsigned()) {
    const auto rule = json["rule"].get<uint64_t>();
    if (rule > std::numeric_limits<uint32_t>::max()) return InvalidArgument("cell: {} is no rule", rule);
    cell.rule = static_cast<uint32_t>(rule);
  }
  return cell;
}

}  // namespace

std::optional<double> Evaluation::Mean(size_t model) const {
  double sum = 0;
  size_t count = 0;
  for (const Cell& cell : cells[model]) {
    if (!Released(cell)) continue;
    sum += cell.bits_per_byte;
    ++count;
  }
  return count == 0 ? std::nullopt : std::optional(sum / static_cast<double>(count));
}

std::optional<size_t> Evaluation::Worst(size_t model) const {
  std::optional<size_t> worst;
  for (size_t r = 0; r < regions.size(); ++r) {
    if (!Released(cells[model][r])) continue;
    if (!worst || cells[model][r].bits_per_byte > cells[model][*worst].bits_per_byte) worst = r;
  }
  return worst;
}

std::vector<size_t> Evaluation::Harmed() const {
  std::vector<size_t> out;
  if (models.size() < 2) return out;
  for (size_t r = 0; r < regions.size(); ++r) {
    const Cell &base = cells.front()[r], &last = cells.back()[r];
    if (Released(base) && Released(last) && last.bits_per_byte > base.bits_per_byte) out.push_back(r);
  }
  return out;
}

size_t Evaluation::Compared() const {
  size_t count = 0;
  for (size_t r = 0; models.size() > 1 && r < regions.size(); ++r)
    count += Released(cells.front()[r]) && Released(cells.back()[r]);
  return count;
}

std::string Evaluation::NoneHarmedText() const {
  const size_t compared = Compared();
  if (compared == 0) return "nothing was released: whether a region is harmed is not known";
  return fmt::format("regions harmed: none in the {} of {} that released their figures", compared,
                     regions.size());
}

std::optional<ExitCode> Evaluation::NothingReleased() const {
  bool withheld = false, answered = false, only_budget = true;
  for (const auto& row : cells) {
    for (const Cell& cell : row) {
      if (Released(cell)) return std::nullopt;
      answered = answered || cell.state != Cell::State::kNoAnswer;
      if (cell.state != Cell::State::kWithheld) continue;
      withheld = true;
      only_budget = only_budget && cell.rule == static_cast<uint32_t>(policy::RuleCode::kDatasetBudget);
    }
  }
  if (withheld) return only_budget ? ExitCode::kBudgetSpent : ExitCode::kRefused;
  return answered ? ExitCode::kFailed : ExitCode::kUnreachable;
}

StatusOr<Evaluation> MakeEvaluation(const JobId& job, const std::string& name,
                                    const std::vector<Digest>& adapters,
                                    const std::vector<std::string>& models, const pb::EvaluateReply& reply) {
  Evaluation e;
  e.job = job;
  e.name = Printable(name, 63);
  e.adapters = adapters;
  e.models = models;
  e.cells.resize(models.size());
  for (const auto& answer : reply.cells()) {
    const Cell::State state = StateOf(answer.state());
    if (state == Cell::State::kReleased && static_cast<size_t>(answer.values_size()) != 2 * models.size()) {
      return DataLoss("{}: expected {} numbers for {} models, got {}", BriefWorker(answer.worker()),
                      2 * models.size(), models.size(), answer.values_size());
    }
    e.regions.push_back(Printable(answer.worker()));
    e.epsilon_charged.push_back(answer.epsilon_charged());
    for (size_t m = 0; m < models.size(); ++m) {
      Cell cell;
      cell.state = state;
      cell.rule = answer.rule();
      if (state == Cell::State::kReleased) {
        const int at = static_cast<int>(2 * m);
        cell.bits_per_byte = static_cast<double>(answer.values(at)) / worker::kCellUnits;
        cell.standard_error = static_cast<double>(answer.values(at + 1)) / worker::kCellUnits;
      }
      e.cells[m].push_back(cell);
    }
  }
  return e;
}

ordered_json ToJson(const Evaluation& e) {
  ordered_json models = ordered_json::array(), harmed = ordered_json::array(),
               charged = ordered_json::array();
  for (size_t m = 0; m < e.models.size(); ++m) models.push_back(RowJson(e, m));
  for (size_t r : e.Harmed()) harmed.push_back(e.regions[r]);
  for (size_t r = 0; r < e.regions.size(); ++r) {
    charged.push_back({{"region", e.regions[r]}, {"epsilon_charged", NumberJson(e.epsilon_charged[r])}});
  }
  return {{"job", e.job.hex()}, {"name", e.name},           {"unit", "bits per byte"}, {"regions", e.regions},
          {"models", models},   {"regions_harmed", harmed}, {"charged", charged}};
}

StatusOr<Evaluation> EvaluationFromJson(const nlohmann::json& json) {
  const auto bad = [](std::string_view what) { return InvalidArgument("evaluation: {}", what); };
  if (!json.is_object() || !json.contains("job") || !json["job"].is_string() || !json.contains("regions") ||
      !json["regions"].is_array() || !json.contains("models") || !json["models"].is_array()) {
    return bad("expected what `concordat eval --json` writes: job, regions, models");
  }
  Evaluation e;
  ASSIGN_OR_RETURN(e.job, Digest::FromHexText(json["job"].get<std::string>()));
  for (const auto& region : json["regions"]) {
    if (!region.is_string()) return bad("regions: expected texts");
    e.regions.push_back(Printable(region.get<std::string>()));
  }
  e.epsilon_charged.resize(e.regions.size(), 0);
  if (json.contains("charged") && json["charged"].is_array()) {
    for (size_t r = 0; r < json["charged"].size() && r < e.regions.size(); ++r) {
      const auto& entry = json["charged"][r];
      if (!entry.is_object() || !entry.contains("epsilon_charged")) continue;
      const auto& value = entry["epsilon_charged"];
      e.epsilon_charged[r] =
          value.is_number() ? value.get<double>() : std::numeric_limits<double>::infinity();
    }
  }
  for (const auto& row : json["models"]) {
    if (!row.is_object() || !row.contains("model") || !row["model"].is_string() || !row.contains("cells") ||
        !row["cells"].is_array() || row["cells"].size() != e.regions.size()) {
      return bad("models: expected model and one cell for each region");
    }
    e.models.push_back(Printable(row["model"].get<std::string>()));
    Digest adapter;
    if (row.contains("adapter") && row["adapter"].is_string()) {
      ASSIGN_OR_RETURN(adapter, Digest::FromHexText(row["adapter"].get<std::string>()));
    }
    e.adapters.push_back(adapter);
    e.cells.emplace_back();
    for (const auto& cell : row["cells"]) {
      if (!cell.is_object()) return bad("cells: expected objects");
      ASSIGN_OR_RETURN(e.cells.back().emplace_back(), CellFromJson(cell));
    }
  }
  if (json.contains("name") && json["name"].is_string())
    e.name = Printable(json["name"].get<std::string>(), 63);
  return e;
}

std::string CellText(const Cell& cell) {
  if (!Released(cell)) return std::string(kStates[static_cast<size_t>(cell.state)]);
  // Noise can push a standard error below zero; it is then smaller than can be said.
  return fmt::format("{:.4f} ± {:.4f}", cell.bits_per_byte, std::max(0.0, cell.standard_error));
}

void Show(const Evaluation& e, Output& out) {
  out.Say(fmt::format("{}: bits per byte on each region's held-out text; lower is better", e.name));
  std::vector<std::string> head = {"model"};
  std::vector<bool> right = {false};
  for (const auto& region : e.regions) {
    head.push_back(BriefWorker(region));
    right.push_back(true);
  }
  head.insert(head.end(), {"mean", "worst"});
  right.insert(right.end(), {true, false});
  const std::vector<size_t> harmed = e.Harmed();
  std::vector<std::vector<std::string>> rows;
  for (size_t m = 0; m < e.models.size(); ++m) {
    std::vector<std::string> row = {e.models[m]};
    for (size_t r = 0; r < e.regions.size(); ++r) {
      const bool last = m > 0 && m + 1 == e.models.size();
      const bool worse = last && std::find(harmed.begin(), harmed.end(), r) != harmed.end();
      const bool better = last && !worse && Released(e.cells[m][r]) && Released(e.cells[0][r]);
      const std::string text = CellText(e.cells[m][r]);
      row.push_back(worse    ? out.Paint(text, Output::Style::kBad)
                    : better ? out.Paint(text, Output::Style::kGood)
                             : text);
    }
    const auto mean = e.Mean(m);
    const auto worst = e.Worst(m);
    row.push_back(mean ? fmt::format("{:.4f}", *mean) : "-");
    row.push_back(worst ? BriefWorker(e.regions[*worst]) : "-");
    rows.push_back(std::move(row));
  }
  out.Table(head, rows, right);
  for (size_t r = 0; r < e.regions.size() && !e.cells.empty(); ++r) {
    const Cell& cell = e.cells.front()[r];
    if (cell.state == Cell::State::kWithheld) {
      out.Say(
          fmt::format("  {}: withheld by {}", BriefWorker(e.regions[r]), policy::DescribeRule(cell.rule)));
    }
    if (e.epsilon_charged[r] > 0) {
      out.Say(fmt::format("  {}: this evaluation was charged epsilon {} there", BriefWorker(e.regions[r]),
                          HumanEpsilon(e.epsilon_charged[r])));
    }
  }
  if (harmed.empty()) out.Say(e.NoneHarmedText());
  for (size_t r : harmed) {
    out.Say(out.Paint(
        fmt::format("region harmed: {} ({:+.4f} bits per byte against base)", BriefWorker(e.regions[r]),
                    e.cells.back()[r].bits_per_byte - e.cells.front()[r].bits_per_byte),
        Output::Style::kBad));
  }
}

StatusOr<Evaluation> Evaluate(Client& client, const JobId& job, bool all_rounds, uint32_t max_documents,
                              Millis wait) {
  ASSIGN_OR_RETURN(const pb::JobState state, client.State(job));
  ASSIGN_OR_RETURN(const pb::RoundsReply rounds, client.Rounds(job));
  if (rounds.rounds_size() == 0) {
    return FailedPrecondition("job {} has no finished round yet: concordat watch {}", job.brief(),
                              job.brief());
  }
  std::vector<Digest> adapters = {Digest{}};
  std::vector<std::string> models = {"base"};
  for (int i = all_rounds ? 0 : rounds.rounds_size() - 1; i < rounds.rounds_size(); ++i) {
    adapters.push_back(DigestOf(rounds.rounds(i).adapter()));
    models.push_back(i + 1 == rounds.rounds_size() ? "federated" : fmt::format("round {}", i + 1));
  }
  if (adapters.size() > worker::kMaxModelsInRequest) {
    return InvalidArgument("{} rounds are more than one request may ask for ({}): use --rounds last",
                           adapters.size() - 1, worker::kMaxModelsInRequest - 1);
  }
  ASSIGN_OR_RETURN(const auto reply, client.Evaluate(job, adapters, max_documents, wait));
  return MakeEvaluation(job, state.name(), adapters, models, reply);
}

}  // namespace concordat::cli
