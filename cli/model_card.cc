#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "cli/released_privacy.h"

namespace concordat::cli {
namespace {

/// Text of a submitter's or a peer's choosing, so that Markdown shows it and does nothing else with it.
std::string Escape(std::string_view text) {
  std::string out;
  for (char c : Printable(text, SIZE_MAX)) {
    if (c == '<' || c == '>' || c == '&') {
      out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : "&amp;";
      continue;
    }
    if (std::string_view("\\`*_[]|#!~").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

/// A YAML scalar: JSON's strings are YAML's.
std::string Quoted(std::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::string Lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string FrontMatter(const policy::JobSpec& job, bool merged) {
  return fmt::format(
      "---\nlibrary_name: {}\nbase_model: {}\nlicense: {}\ntags:\n- lora\n- federated-learning\n"
      "- differential-privacy\n---\n\n",
      merged ? "transformers" : "peft", Quoted(job.base_model.name), Quoted(Lower(job.base_model.license)));
}

std::string Together(const std::optional<double>& epsilon, uint32_t honest) {
  return epsilon ? fmt::format("{} (h = {})", HumanEpsilon(*epsilon), honest) : "no claim";
}

std::string Plan(const ReleasedPrivacy& privacy) {
  const PrivacyStatement& plan = privacy.price.plan;
  std::string out = fmt::format(
      "| | |\n|---|---|\n| Unit of privacy | {} |\n| Neighbours | {} |\n| Sampler | {} |\n"
      "| Rounds, sites at most | {}, {} |\n| Attempts begun | {} |\n| Planned ε, local | {} |\n"
      "| Planned ε with h honest survivors | {} |\n| Planned δ | {:g} |\n\n",
      PrivacyUnitText(plan.unit), NeighbourText(plan.neighbour), Escape(plan.sampler), plan.rounds,
      plan.cohort, privacy.price.attempts, HumanEpsilon(plan.epsilon_local),
      Together(plan.epsilon_distributed, plan.honest_survivors), plan.delta);
  for (const auto& sentence : Explain(privacy.price)) out += Escape(sentence) + "\n";
  return out;
}

std::string Region(const RegionPrivacy& region) {
  const bool charged = region.statement.has_value();
  const auto worker = SpiffeId::Parse(region.worker);
  const auto or_dash = [&](auto value) { return charged ? fmt::format("{}", value) : std::string("–"); };
  return fmt::format("| {} | {} | {} | {} | {} | {:g} | {} | {} | {} | {} | {} |\n",
                     Escape(worker.ok() ? worker->Brief() : region.worker), charged ? "charged" : "planned",
                     PrivacyUnitText(region.unit), HumanEpsilon(region.epsilon_local),
                     Together(region.epsilon_distributed, region.honest_survivors), region.delta,
                     or_dash(HumanEpsilon(region.epsilon_charged)), region.rounds, or_dash(region.attempts),
                     or_dash(region.evaluations),
                     charged ? "`" + region.statement->body.head.hex() + "`" : "–");
}

std::string Regions(const ReleasedPrivacy& privacy) {
  std::string out =
      "\n### What each region's data paid\n\n"
      "| Region | Figures | Unit | ε, local | ε with h honest survivors | δ | ε of all the job's charges | "
      "Rounds in the sum | Attempts charged | Evaluations charged | Ledger head |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const RegionPrivacy& region : privacy.regions) out += Region(region);
  out +=
      "\n*charged*: recomputed from the region's own privacy ledger, as far as the head that is named, in a "
      "statement that its worker signed; aborted attempts are in it, and in the last ε evaluations too. "
      "`privacy.json` holds the statement whole, and `python3 -m accountant.ledger --statement privacy.json` "
      "(`experiments/reference` of Concordat) recomputes each figure from its rows. *planned*: the region "
      "has "
      "handed out no statement, and the figure is that of an undisturbed job.\n";
  return out;
}

}  // namespace

std::string ModelCard(const ReleasedPrivacy& privacy, bool merged) {
  const policy::JobSpec& job = privacy.job;
  const std::string base = Escape(job.base_model.name);
  const std::string core =
      job.adapter.method != LoraMethod::kCore
          ? ""
          : fmt::format(" (a trained core of {0} × {0} between public random factors)", job.adapter.rank);
  const std::string what =
      merged ? fmt::format("{} with a LoRA adapter of rank {}{} added to it", base, job.adapter.rank, core)
             : fmt::format("A LoRA adapter for {}, rank {}{}", base, job.adapter.rank, core);
  return FrontMatter(job, merged) + "# " + Escape(job.name) + "\n\n" + what +
         fmt::format(
             ", trained together by {} regions in {} rounds with Concordat: no record left its region. The "
             "base model's licence is {}.\n\nJob `{}`, charter `{}`, adapter `{}`.\n\n## Privacy\n\n",
             privacy.regions.size(), privacy.rounds, Escape(job.base_model.license), privacy.record.job.hex(),
             job.charter.hex(), privacy.adapter.hex()) +
         Plan(privacy) + Regions(privacy);
}

}  // namespace concordat::cli
