#include "cli/watch_view.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "coordinator/core/reasons.h"
#include "policy/rules.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

template <size_t N>
std::string_view At(const std::array<std::string_view, N>& names, uint32_t index) {
  return index < N ? names[index] : "unknown";
}

std::string DropText(uint32_t reason) {
  return std::string(
      coordinator::DropReasonText(static_cast<coordinator::DropReason>(std::min(reason, 255u))));
}
std::string FailureText(const pb::JobState& state) {
  const auto reason = static_cast<coordinator::AbortReason>(std::min(state.failure(), 255u));
  std::string text = Printable(state.failure_text());
  return text.empty() && state.failure() != 0 ? std::string(coordinator::AbortReasonText(reason)) : text;
}

ordered_json NamesJson(const google::protobuf::RepeatedPtrField<std::string>& names) {
  ordered_json out = ordered_json::array();
  for (const auto& name : names) out.push_back(Printable(name));
  return out;
}

ordered_json ToJson(const pb::RegionState& region) {
  return {{"worker", Printable(region.worker())},
          {"connected", region.connected()},
          {"verdict", VerdictName(region.verdict())},
          {"rules", std::vector<uint32_t>(region.rules().begin(), region.rules().end())},
          {"phase", PhaseName(region.phase())},
          {"permille", region.permille()},
          {"dropped", region.dropped() == 0 ? ordered_json() : ordered_json(DropText(region.dropped()))},
          {"bytes_up", region.bytes_up()},
          {"bytes_down", region.bytes_down()}};
}

std::string Bar(uint32_t permille, size_t width) {
  const size_t full = width * std::min<uint32_t>(permille, 1000) / 1000;
  std::string bar;
  for (size_t i = 0; i < width; ++i) bar += i < full ? "█" : "░";
  return bar;
}

std::string RegionLine(const pb::RegionState& region, const Output& output, size_t name_width) {
  const std::string name = fmt::format("{:<{}}", BriefWorker(region.worker()), name_width);
  const auto say = [&](std::string_view text, Output::Style style) {
    return fmt::format("  {}  {}", name, output.Paint(text, style));
  };
  if (!region.connected()) return say("not connected", Output::Style::kWarn);
  if (region.dropped() != 0) return say("out: " + DropText(region.dropped()), Output::Style::kBad);
  if (region.verdict() == 2) {
    const std::string rule = region.rules().empty() ? "" : ": " + policy::DescribeRule(region.rules().Get(0));
    return say("refused" + rule, Output::Style::kBad);
  }
  if (region.verdict() != 1) return say(VerdictName(region.verdict()), Output::Style::kWarn);
  return fmt::format("  {}  {} {:>3}%  {:<10} {:>10} up {:>10} down", name, Bar(region.permille(), 20),
                     region.permille() / 10, PhaseName(region.phase()), HumanBytes(region.bytes_up()),
                     HumanBytes(region.bytes_down()));
}

/// Cuts to `columns` code points; escape sequences take none.
std::string Cut(const std::string& text, size_t columns) {
  std::string out;
  size_t width = 0;
  bool escape = false;
  for (char c : text) {
    if (c == '\x1b') escape = true;
    const bool begins = !escape && (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (begins && ++width > columns) return out + (text.find('\x1b') == std::string::npos ? "" : "\x1b[0m");
    out += c;
    if (escape && c == 'm') escape = false;
  }
  return out;
}

std::pair<uint64_t, uint64_t> Traffic(const pb::JobState& state) {
  if (state.bytes_up() > 0) return {state.bytes_up(), state.bytes_down()};
  uint64_t up = 0, down = 0;
  for (const auto& round : state.rounds()) {
    up += round.bytes_up();
    down += round.bytes_down();
  }
  return {up, down};
}

}  // namespace

std::string_view JobStateName(pb::JobState::State state) {
  static constexpr std::array<std::string_view, 6> kNames = {"unknown", "waiting",   "running",
                                                             "done",    "cancelled", "failed"};
  return At(kNames, static_cast<uint32_t>(state));
}
bool HasEnded(pb::JobState::State state) { return state >= pb::JobState::DONE; }

std::string_view PhaseName(uint32_t phase) {
  static constexpr std::array<std::string_view, 8> kNames = {"-",       "idle",      "loading", "training",
                                                             "masking", "uploading", "waiting", "evaluating"};
  return At(kNames, phase);
}

std::string_view VerdictName(uint32_t verdict) {
  static constexpr std::array<std::string_view, 6> kNames = {"no answer",          "eligible",  "refused",
                                                             "waits for approval", "withdrawn", "paused"};
  return At(kNames, verdict);
}

std::string_view StepName(uint32_t step) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "offer",  "keys",      "key list",  "shares",    "delivery of shares",
      "upload", "survivors", "agreement", "unmasking", "sum and result"};
  return At(kNames, step);
}

ordered_json ToJson(const pb::RoundSummary& round) {
  return {{"round", round.round()},
          {"attempt", round.attempt()},
          {"survivors", NamesJson(round.survivors())},
          {"missing", NamesJson(round.missing())},
          {"adapter", DigestOf(round.adapter()).hex()},
          {"parent", DigestOf(round.parent()).hex()},
          {"sum_sha256", DigestOf(round.sum_sha256()).hex()},
          {"mean_loss", NumberJson(round.mean_loss())},
          {"tokens", NumberJson(round.clipped_tokens())},
          {"epsilon_local", NumberJson(round.epsilon_local())},
          {"epsilon_distributed", NumberJson(round.epsilon_distributed())},
          {"bytes_up", round.bytes_up()},
          {"bytes_down", round.bytes_down()},
          {"started", InstantJson(round.started_ms())},
          {"ended", InstantJson(round.ended_ms())},
          {"milliseconds", round.ended_ms() - round.started_ms()}};
}

ordered_json ToJson(const pb::JobState& state) {
  ordered_json regions = ordered_json::array(), rounds = ordered_json::array();
  for (const auto& region : state.regions()) regions.push_back(ToJson(region));
  for (const auto& round : state.rounds()) rounds.push_back(ToJson(round));
  return {{"job", DigestOf(state.job()).hex()},
          {"name", Printable(state.name())},
          {"state", JobStateName(state.state())},
          {"submitter", Printable(state.submitter())},
          {"submitted", InstantJson(state.submitted_ms())},
          {"rounds_done", state.rounds_done()},
          {"rounds_total", state.rounds_total()},
          {"attempt", state.attempt()},
          {"step", state.step()},
          {"step_name", StepName(state.step())},
          {"eta_ms", state.eta_ms() > 0 ? ordered_json(state.eta_ms()) : ordered_json()},
          {"adapter", DigestOf(state.adapter()).hex()},
          {"failure", state.failure()},
          {"failure_text", FailureText(state)},
          {"regions", regions},
          {"rounds", rounds}};
}

std::vector<std::string> DescribeRules(const google::protobuf::RepeatedField<uint32_t>& rules) {
  std::vector<std::string> out;
  for (uint32_t rule : rules) out.push_back(policy::DescribeRule(rule));
  return out;
}

std::string LossText(double mean_loss) {
  return std::isfinite(mean_loss) ? fmt::format("{:.4f}", mean_loss) : "not measured";
}

std::string RoundLine(const pb::RoundSummary& round, uint32_t total) {
  std::string missing;
  for (const auto& worker : round.missing()) missing += (missing.empty() ? "" : ", ") + BriefWorker(worker);
  return fmt::format("round {} of {}: loss {}, {} regions{}, planned epsilon {}, {} up, {} down, took {}",
                     round.round() + 1, total, LossText(round.mean_loss()), round.survivors_size(),
                     missing.empty() ? "" : " (missing: " + missing + ")",
                     HumanEpsilon(round.epsilon_local()), HumanBytes(round.bytes_up()),
                     HumanBytes(round.bytes_down()), HumanDuration(round.ended_ms() - round.started_ms()));
}

std::vector<std::string> LiveLines(const pb::JobState& state, const Output& output, size_t columns) {
  std::vector<std::string> lines;
  const bool ended = HasEnded(state.state());
  const auto style = state.state() == pb::JobState::DONE ? Output::Style::kGood
                     : ended                             ? Output::Style::kBad
                                                         : Output::Style::kBold;
  std::string head = fmt::format(
      "job {} {}  {}  round {} of {}", DigestOf(state.job()).brief(), Printable(state.name(), 63),
      output.Paint(JobStateName(state.state()), style),
      std::min(state.rounds_done() + (ended ? 0 : 1), state.rounds_total()), state.rounds_total());
  if (state.state() == pb::JobState::RUNNING) {
    head +=
        fmt::format(", attempt {}, step {} ({})", state.attempt() + 1, state.step(), StepName(state.step()));
  }
  if (!ended && state.eta_ms() > 0) head += "  about " + HumanDuration(state.eta_ms()) + " left";
  lines.push_back(head);
  if (const std::string why = FailureText(state); !why.empty()) {
    lines.push_back("  " + output.Paint(why, ended ? Output::Style::kBad : Output::Style::kWarn));
  }
  size_t width = 0;
  for (const auto& region : state.regions()) width = std::max(width, BriefWorker(region.worker()).size());
  for (const auto& region : state.regions()) lines.push_back(RegionLine(region, output, width));
  // The newest rounds: a screen has an end.
  const int first = std::max(0, state.rounds_size() - 8);
  for (int i = first; i < state.rounds_size(); ++i) {
    lines.push_back("  " + RoundLine(state.rounds(i), state.rounds_total()));
  }
  const auto [up, down] = Traffic(state);
  if (state.rounds_size() > 0) {
    lines.push_back(output.Paint(fmt::format("  in all {} up, {} down", HumanBytes(up), HumanBytes(down)),
                                 Output::Style::kFaint));
  }
  for (auto& line : lines) line = Cut(line, columns);
  return lines;
}

std::vector<std::string> PlainWatch::Next(const pb::JobState& state) {
  std::vector<std::string> lines;
  const bool first = !last_.has_value();
  const auto changed = [&](auto get) { return first || get(*last_) != get(state); };
  const bool ended = HasEnded(state.state());
  const bool turned = first || last_->state() != state.state();
  const std::string head = fmt::format("job {} {}: {}", DigestOf(state.job()).brief(),
                                       Printable(state.name(), 63), JobStateName(state.state()));
  if (turned && !ended) lines.push_back(head);
  for (int i = 0; i < state.rounds_size(); ++i) {
    // A state holds the newest rounds only: what was said of the others stays said.
    if (!first && last_->rounds_size() > 0 &&
        state.rounds(i).round() <= last_->rounds(last_->rounds_size() - 1).round())
      continue;
    lines.push_back(RoundLine(state.rounds(i), state.rounds_total()));
  }
  // The end comes after the rounds that led to it; what regions answer to a job that is over says nothing.
  if (turned && ended) lines.push_back(head);
  if (state.state() == pb::JobState::RUNNING && (changed([](const auto& s) { return s.step(); }) ||
                                                 changed([](const auto& s) { return s.attempt(); }) ||
                                                 changed([](const auto& s) { return s.rounds_done(); }))) {
    lines.push_back(fmt::format("round {} of {}, attempt {}: step {} ({})", state.rounds_done() + 1,
                                state.rounds_total(), state.attempt() + 1, state.step(),
                                StepName(state.step())));
  }
  for (const auto& region : state.regions()) {
    if (ended) break;
    const pb::RegionState* before = nullptr;
    if (!first) {
      for (const auto& r : last_->regions())
        if (r.worker() == region.worker()) before = &r;
    }
    const bool differs = before == nullptr || before->connected() != region.connected() ||
                         before->dropped() != region.dropped() || before->verdict() != region.verdict();
    if (!differs) continue;
    std::string text = region.connected() ? std::string(VerdictName(region.verdict())) : "not connected";
    if (region.dropped() != 0) text = "out of this attempt: " + DropText(region.dropped());
    for (const auto& rule : DescribeRules(region.rules())) text += "; " + rule;
    lines.push_back(fmt::format("{}: {}", BriefWorker(region.worker()), text));
  }
  if (const std::string why = FailureText(state); !why.empty() && (first || FailureText(*last_) != why)) {
    lines.push_back(why);
  }
  last_ = state;
  return lines;
}

}  // namespace concordat::cli
