#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "cli/context.h"
#include "common/files.h"
#include "policy/dataset_card.h"
#include "policy/ledger.h"
#include "policy/node_config.h"
#include "policy/receipts.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

ordered_json EpsilonJson(double epsilon) {
  return std::isinf(epsilon) ? ordered_json("infinity") : ordered_json(epsilon);
}

ordered_json EntryJson(const policy::LedgerEntry& entry) {
  // The line itself is the record: whoever recomputes the spend finds every mechanism's parameters in it.
  ordered_json json = ordered_json::parse(policy::FormatLedgerLine(entry));
  return json;
}

Status RunLedgerShow(Context& context, const std::string& worker_file) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(const policy::DatasetCard card, policy::LoadDatasetCard(config.dataset_card.string()));
  auto entries = policy::ReadLedger(config.ledger, card.name);
  if (entries.status().code() == StatusCode::kNotFound) entries = std::vector<policy::LedgerEntry>{};
  RETURN_IF_ERROR(entries.status());
  const double spent = entries->empty() ? 0 : entries->back().epsilon_after;
  Output& out = context.output;
  ordered_json rows = ordered_json::array();
  std::vector<std::vector<std::string>> table;
  for (const auto& entry : *entries) {
    rows.push_back(EntryJson(entry));
    table.push_back({std::to_string(entry.sequence), FormatInstant(entry.time),
                     std::string(ChargeKindText(entry.charge.kind)), entry.charge.attempt.job.brief(),
                     std::to_string(entry.charge.attempt.round), std::to_string(entry.charge.attempt.attempt),
                     HumanEpsilon(entry.epsilon_before), HumanEpsilon(entry.epsilon_after)});
  }
  out.Json({{"dataset", card.name},
            {"unit", PrivacyUnitText(card.privacy.unit)},
            {"budget_epsilon", EpsilonJson(card.privacy.epsilon)},
            {"delta", card.privacy.delta},
            {"period", policy::BudgetPeriodName(card.privacy.period)},
            {"spent_epsilon", EpsilonJson(spent)},
            {"head", (entries->empty() ? policy::LedgerGenesis(card.name) : entries->back().hash).hex()},
            {"entries", rows}});
  out.Say(fmt::format("dataset {}: {} charges, epsilon {} of {} at delta {:g}, unit {}, renews {}", card.name,
                      entries->size(), HumanEpsilon(spent), HumanEpsilon(card.privacy.epsilon),
                      card.privacy.delta, PrivacyUnitText(card.privacy.unit),
                      policy::BudgetPeriodName(card.privacy.period)));
  if (!table.empty()) {
    out.Table({"#", "time", "kind", "job", "round", "attempt", "before", "after"}, table,
              {true, false, false, false, true, true, true, true});
  }
  return OkStatus();
}

ordered_json FindingJson(const policy::LedgerFinding& finding) {
  ordered_json json = {{"wrong", finding.wrong},
                       {"entries", finding.entries},
                       {"entries_known", finding.entries_known},
                       {"epsilon_before", EpsilonJson(finding.epsilon_before)},
                       {"epsilon_known", EpsilonJson(finding.epsilon_known)},
                       {"written", finding.written}};
  json["epsilon_after"] = finding.written ? EpsilonJson(finding.epsilon_after) : ordered_json(nullptr);
  json["kept"] = finding.kept.empty() ? ordered_json(nullptr) : ordered_json(finding.kept.string());
  return json;
}

Status RunLedgerReconcile(Context& context, const std::string& worker_file, bool yes) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(const policy::DatasetCard card, policy::LoadDatasetCard(config.dataset_card.string()));
  ASSIGN_OR_RETURN(
      const policy::LedgerFinding finding,
      policy::Ledger::Reconcile(config.ledger, policy::LedgerAnchorPath(config.anchor), card.name,
                                card.budget(), card.privacy.period, SystemClock().Now(), yes));
  Output& out = context.output;
  if (finding.wrong.empty()) {
    out.Json(FindingJson(finding));
    out.Say(
        fmt::format("dataset {}: the ledger and its anchor agree, {} entries", card.name, finding.entries));
    return OkStatus();
  }
  for (const std::string& wrong : finding.wrong) out.Say(wrong);
  out.Say(fmt::format("{} entries verify, epsilon {}; the anchor knows of {}, epsilon {}", finding.entries,
                      HumanEpsilon(finding.epsilon_before), finding.entries_known,
                      HumanEpsilon(finding.epsilon_known)));
  if (!yes)
    return FailedPrecondition(
        "{}. Nothing was changed. If a newer copy of the ledger exists, put it back instead. With --yes what "
        "the anchor knows is charged on top of what verifies, for good",
        finding.wrong.front());
  out.Json(FindingJson(finding));
  if (!finding.kept.empty()) out.Say("the file as it was is kept as " + finding.kept.string());
  out.Say(fmt::format("reconciled: epsilon {} of {} is spent", HumanEpsilon(finding.epsilon_after),
                      HumanEpsilon(card.privacy.epsilon)));
  return OkStatus();
}

Status RunReceipts(Context& context, const std::string& worker_file) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  auto receipts = policy::ReadReceipts(config.receipts);
  if (receipts.status().code() == StatusCode::kNotFound) receipts = std::vector<policy::SignedReceipt>{};
  RETURN_IF_ERROR(receipts.status());
  ASSIGN_OR_RETURN(const std::string certificate, ReadTextFile(config.certificate, 64 << 10));
  RETURN_IF_ERROR(policy::VerifyReceipts(*receipts, certificate));
  Output& out = context.output;
  std::vector<std::vector<std::string>> table;
  uint64_t bytes = 0;
  for (const auto& receipt : *receipts) {
    const policy::Receipt& r = receipt.body;
    bytes += r.bytes;
    out.Json(ordered_json::parse(policy::FormatReceiptLine(receipt)));
    table.push_back({FormatInstant(r.time), std::string(policy::ArtefactKindName(r.kind)),
                     r.from + " -> " + r.to, std::string(policy::LegalBasisName(r.basis)),
                     HumanBytes(r.bytes), r.sha256.brief(), r.attempt.job.brief(),
                     std::to_string(r.attempt.round), HumanEpsilon(r.epsilon_charged),
                     std::string(policy::SandboxStateName(r.sandbox))});
  }
  out.Say(fmt::format("{} artefacts left, {} in all; every signature verifies", receipts->size(),
                      HumanBytes(bytes)));
  if (!table.empty()) {
    out.Table({"time", "kind", "border", "basis", "bytes", "sha256", "job", "round", "epsilon", "sandbox"},
              table, {false, false, false, false, true, false, false, true, true, false});
  }
  return OkStatus();
}

}  // namespace

void AddLedgerVerbs(CLI::App& app, Context& context) {
  CLI::App* ledger = app.add_subcommand("ledger", "a dataset's privacy ledger, in its region");
  ledger->require_subcommand(1);
  auto worker = std::make_shared<std::string>();
  CLI::App* show = ledger->add_subcommand("show", "every charge, and what is left");
  show->footer("Example: concordat ledger show --worker hospital-de/worker.yaml");
  show->add_option("--worker", *worker, "the worker's file")->required();
  show->callback(
      [&context, worker] { context.run = [&context, worker] { return RunLedgerShow(context, *worker); }; });

  auto worker3 = std::make_shared<std::string>();
  auto yes = std::make_shared<bool>(false);
  CLI::App* reconcile = ledger->add_subcommand(
      "reconcile", "after a ledger was cut, edited or put back from a copy: the higher spend stands");
  reconcile->footer("Example: concordat ledger reconcile --worker hospital-de/worker.yaml --yes");
  reconcile->add_option("--worker", *worker3, "the worker's file; the worker must not run")->required();
  reconcile->add_flag("--yes", *yes, "do it; without, only what is wrong is said");
  reconcile->callback([&context, worker3, yes] {
    context.run = [&context, worker3, yes] { return RunLedgerReconcile(context, *worker3, *yes); };
  });

  auto worker2 = std::make_shared<std::string>();
  CLI::App* receipts =
      app.add_subcommand("receipts", "what left the region: signed, one line for each artefact");
  receipts->footer("Example: concordat receipts --worker hospital-de/worker.yaml");
  receipts->add_option("--worker", *worker2, "the worker's file")->required();
  receipts->callback(
      [&context, worker2] { context.run = [&context, worker2] { return RunReceipts(context, *worker2); }; });
}

}  // namespace concordat::cli
