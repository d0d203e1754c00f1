#include "cli/report.h"

#include <algorithm>
#include <cmath>

#include "cli/plan_view.h"
#include "cli/price.h"
#include "cli/watch_view.h"
#include "common/version.h"
#include "policy/rules.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--faint:#59636e;--line:#d1d9e0;--head:#f3f5f7;--good:#116329;--bad:#b3261e;--warn:#7a4b00;--mark:#0550ae}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ec;--faint:#9aa4ae;--line:#343b43;--head:#1d2228;--good:#57c878;--bad:#ff8a80;--warn:#e3b341;--mark:#79b8ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:2rem 1rem 4rem;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p{margin:.4rem 0}
.faint{color:var(--faint)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;min-width:32rem}th,td{padding:.4rem .8rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{background:var(--head);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg{max-width:100%;height:auto}svg polyline{fill:none;stroke:var(--mark);stroke-width:2}svg circle{fill:var(--mark)}svg text{fill:var(--faint);font:12px system-ui,sans-serif}svg line{stroke:var(--line)}
)css";

struct Column {
  std::string name;
  bool number = false;
};

/// A table; cells are HTML already.
std::string Table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"wide\"><table><thead><tr>";
  for (const auto& c : columns) {
    out += fmt::format("<th scope=\"col\"{}>{}</th>", c.number ? " class=\"n\"" : "", EscapeHtml(c.name));
  }
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size() && i < columns.size(); ++i) {
      out += i == 0 ? fmt::format("<th scope=\"row\">{}</th>", row[i])
                    : fmt::format("<td{}>{}</td>", columns[i].number ? " class=\"n\"" : "", row[i]);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string Names(const google::protobuf::RepeatedPtrField<std::string>& workers) {
  std::string out;
  for (const auto& worker : workers) out += (out.empty() ? "" : ", ") + EscapeHtml(BriefWorker(worker));
  return out.empty() ? "none" : out;
}

std::string Matrix(const Evaluation& e) {
  std::vector<Column> columns = {{"model"}};
  for (const auto& region : e.regions) columns.push_back({BriefWorker(region), true});
  columns.insert(columns.end(), {{"mean", true}, {"worst region", false}});
  const auto harmed = e.Harmed();
  std::vector<std::vector<std::string>> rows;
  for (size_t m = 0; m < e.models.size(); ++m) {
    std::vector<std::string> row = {EscapeHtml(e.models[m])};
    for (size_t r = 0; r < e.regions.size(); ++r) {
      const Cell& cell = e.cells[m][r];
      const bool last = m > 0 && m + 1 == e.models.size() && cell.state == Cell::State::kReleased &&
                        e.cells[0][r].state == Cell::State::kReleased;
      const bool worse = std::find(harmed.begin(), harmed.end(), r) != harmed.end();
      const std::string text = EscapeHtml(CellText(cell));
      row.push_back(!last ? text : fmt::format("<span class=\"{}\">{}</span>", worse ? "bad" : "good", text));
    }
    const auto mean = e.Mean(m);
    const auto worst = e.Worst(m);
    row.push_back(mean ? fmt::format("{:.4f}", *mean) : "–");
    row.push_back(worst ? EscapeHtml(BriefWorker(e.regions[*worst])) : "–");
    rows.push_back(std::move(row));
  }
  std::string out = Table(columns, rows);
  for (size_t r = 0; r < e.regions.size() && !e.cells.empty(); ++r) {
    if (e.cells[0][r].state != Cell::State::kWithheld) continue;
    out += fmt::format("<p class=\"warn\">{}: withheld by {}</p>\n", EscapeHtml(BriefWorker(e.regions[r])),
                       EscapeHtml(policy::DescribeRule(e.cells[0][r].rule)));
  }
  for (size_t r : harmed) {
    out += fmt::format("<p class=\"bad\">Harmed: {} ({:+.4f} bits per byte against base).</p>\n",
                       EscapeHtml(BriefWorker(e.regions[r])),
                       e.cells.back()[r].bits_per_byte - e.cells.front()[r].bits_per_byte);
  }
  if (harmed.empty()) out += "<p>" + EscapeHtml(e.NoneHarmedText()) + "</p>\n";
  out +=
      "<p class=\"faint\">Bits per byte on held-out text, lower is better; ± one standard error. Each figure "
      "was "
      "computed in its region, clipped, noised and charged there before it left.</p>\n";
  return out;
}

/// The cohort's loss over rounds; empty with fewer than two measured.
std::string LossChart(const pb::RoundsReply& rounds) {
  std::vector<double> losses;
  for (const auto& r : rounds.rounds()) {
    if (std::isfinite(r.mean_loss())) losses.push_back(r.mean_loss());
  }
  if (losses.size() < 2) return "";
  const auto [low, high] = std::minmax_element(losses.begin(), losses.end());
  const double span = std::max(*high - *low, 1e-9);
  std::string points, dots;
  for (size_t i = 0; i < losses.size(); ++i) {
    const double x = 70 + 500.0 * static_cast<double>(i) / static_cast<double>(losses.size() - 1);
    const double y = 20 + 110.0 * (*high - losses[i]) / span;
    points += fmt::format("{:.1f},{:.1f} ", x, y);
    dots +=
        fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>round {}: {:.4f}</title></circle>", x,
                    y, i + 1, losses[i]);
  }
  return fmt::format(
      "<svg viewBox=\"0 0 600 160\" width=\"600\" role=\"img\" aria-label=\"mean training loss by round\">"
      "<line x1=\"70\" y1=\"140\" x2=\"570\" y2=\"140\"/><text x=\"4\" y=\"24\">{:.3f}</text>"
      "<text x=\"4\" y=\"134\">{:.3f}</text><text x=\"70\" y=\"156\">round 1</text>"
      "<text x=\"570\" y=\"156\" text-anchor=\"end\">round {}</text><polyline points=\"{}\"/>{}</svg>\n",
      *high, *low, losses.size(), points, dots);
}

std::string Rounds(const ReportInput& input) {
  std::vector<std::vector<std::string>> rows;
  uint64_t up = 0, down = 0;
  int64_t time = 0;
  for (const auto& r : input.rounds.rounds()) {
    up += r.bytes_up();
    down += r.bytes_down();
    time += r.ended_ms() - r.started_ms();
    rows.push_back({std::to_string(r.round() + 1), std::to_string(r.attempt() + 1), LossText(r.mean_loss()),
                    HumanEpsilon(r.epsilon_local()), HumanBytes(r.bytes_up()), HumanBytes(r.bytes_down()),
                    HumanDuration(r.ended_ms() - r.started_ms()), Names(r.survivors()),
                    r.missing().empty() ? "none" : "<span class=\"warn\">" + Names(r.missing()) + "</span>"});
  }
  rows.push_back({"all", "", "", "", HumanBytes(up), HumanBytes(down), HumanDuration(time), "", ""});
  return Table({{"round"},
                {"attempt", true},
                {"mean loss", true},
                {"planned epsilon", true},
                {"up", true},
                {"down", true},
                {"time", true},
                {"in the sum"},
                {"missing"}},
               rows);
}

StatusOr<JobPrice> Price(const ReportInput& input) {
  return PriceOf(input.job, static_cast<uint32_t>(input.rounds.rounds_size()),
                 AttemptsBegun(input.state, input.rounds), LargestRoster(input.rounds));
}

/// What the evaluation cost, which no plan prices.
std::string EvaluationCharges(const Evaluation& e) {
  std::string out;
  for (size_t r = 0; r < e.regions.size(); ++r) {
    if (!(e.epsilon_charged[r] > 0)) continue;
    out += fmt::format("<p>{}: this evaluation was charged epsilon {} there, on top.</p>\n",
                       EscapeHtml(BriefWorker(e.regions[r])), HumanEpsilon(e.epsilon_charged[r]));
  }
  return out;
}

std::string Privacy(const ReportInput& input) {
  const auto price = Price(input);
  if (!price.ok()) {
    return fmt::format("<p class=\"bad\">{}</p>\n", EscapeHtml(Message(price.status())));
  }
  std::string out;
  for (const auto& sentence : Explain(*price)) {
    out += "<p><strong>" + EscapeHtml(sentence) + "</strong></p>\n";
  }
  if (input.evaluation) out += EvaluationCharges(*input.evaluation);
  std::string text = Describe(price->plan);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) out += "<p>" + EscapeHtml(text.substr(0, end)) + "</p>\n";
    text.erase(0, std::min(end + 1, text.size()));
  }
  for (const auto& remark : EpsilonRemarks(input.job, price->plan)) {
    out += "<p class=\"warn\">" + EscapeHtml(remark) + "</p>\n";
  }
  return out;
}

}  // namespace

StatusOr<policy::JobSpec> ReportedJob(const JobId& job, const pb::JobState& state,
                                      const pb::RoundsReply& rounds) {
  ASSIGN_OR_RETURN(const SpiffeId submitter, SpiffeId::Parse(state.submitter()));
  if (policy::JobIdOf(rounds.job_file(), submitter) != job) {
    return DataLoss("the coordinator's job file is not that of job {}", job.brief());
  }
  return policy::ParseJob(rounds.job_file(), "job.yaml");
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (char c : Printable(text, SIZE_MAX)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

ordered_json ReportJson(const ReportInput& input) {
  ordered_json rounds = ordered_json::array();
  uint64_t up = 0, down = 0;
  int64_t time = 0;
  for (const auto& r : input.rounds.rounds()) {
    rounds.push_back(ToJson(r));
    up += r.bytes_up();
    down += r.bytes_down();
    time += r.ended_ms() - r.started_ms();
  }
  const auto price = Price(input);
  ordered_json remarks = ordered_json::array();
  if (price.ok()) remarks = EpsilonRemarks(input.job, price->plan);
  return {{"format", "concordat-report/1"},
          {"version", kVersion},
          {"made", FormatInstant(input.made)},
          {"job", DigestOf(input.state.job()).hex()},
          {"name", input.job.name},
          {"state", JobStateName(input.state.state())},
          {"submitter", Printable(input.state.submitter())},
          {"submitted", InstantJson(input.state.submitted_ms())},
          {"base_model",
           {{"name", input.job.base_model.name},
            {"sha256", input.job.base_model.sha256.hex()},
            {"license", input.job.base_model.license}}},
          {"charter", input.job.charter.hex()},
          {"rounds_done", input.rounds.rounds_size()},
          {"rounds_total", input.job.rounds},
          {"evaluation", input.evaluation ? ToJson(*input.evaluation) : ordered_json()},
          {"privacy", price.ok() ? ToJson(*price) : ordered_json()},
          {"remarks", remarks},
          {"bytes_up", up},
          {"bytes_down", down},
          {"milliseconds", time},
          {"initial_adapter", DigestOf(input.rounds.initial_adapter()).hex()},
          {"rounds", rounds}};
}

std::string ReportHtml(const ReportInput& input) {
  const std::string name = EscapeHtml(input.job.name);
  const bool done = input.state.state() == pb::JobState::DONE;
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">"
      "<title>{} – Concordat</title><style>{}</style></head><body>\n",
      name, kStyle);
  out += fmt::format(
      "<h1>{}</h1><p><strong class=\"{}\">{}</strong>, {} of {} rounds, base model {}</p>"
      "<p class=\"faint\">job <code>{}</code><br>submitted by {}, report made {}</p>\n",
      name, done ? "good" : "warn", JobStateName(input.state.state()), input.rounds.rounds_size(),
      input.job.rounds, EscapeHtml(input.job.base_model.name), DigestOf(input.state.job()).hex(),
      EscapeHtml(input.state.submitter()), FormatInstant(input.made));
  if (!input.state.failure_text().empty()) {
    out += "<p class=\"bad\">" + EscapeHtml(input.state.failure_text()) + "</p>\n";
  }
  out += "<h2>Evaluation</h2>\n";
  out += input.evaluation ? Matrix(*input.evaluation) : "<p class=\"faint\">Not made for this report.</p>\n";
  out += "<h2>Privacy: what a plan prices</h2>\n" + Privacy(input);
  out += "<h2>Rounds</h2>\n" + LossChart(input.rounds) + Rounds(input);
  out += "<h2>Chain</h2>\n";
  std::vector<std::vector<std::string>> rows;
  const auto code = [](const Digest& digest) { return "<code>" + digest.hex() + "</code>"; };
  rows.push_back({"first", code(DigestOf(input.rounds.initial_adapter())), "made from the job's seed"});
  for (const auto& r : input.rounds.rounds()) {
    rows.push_back({std::to_string(r.round() + 1), code(DigestOf(r.adapter())), code(DigestOf(r.parent()))});
  }
  out += Table({{"round"}, {"adapter"}, {"follows"}}, rows);
  out += fmt::format("<p class=\"faint\">Check it: <code>concordat adapter verify {}</code></p>\n",
                     DigestOf(input.state.job()).brief());
  return out + "</body></html>\n";
}

}  // namespace concordat::cli
