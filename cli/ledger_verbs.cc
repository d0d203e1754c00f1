#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "cli/anchored_ledger.h"
#include "cli/context.h"
#include "cli/statement_verbs.h"
#include "common/files.h"
#include "policy/charter.h"
#include "policy/dataset_card.h"
#include "policy/ledger.h"
#include "policy/node_config.h"
#include "policy/receipts.h"
#include "privacy/crypto/x509.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;

ordered_json EpsilonJson(double epsilon) {
  return std::isinf(epsilon) ? ordered_json("infinity") : ordered_json(epsilon);
}

/// What a charge added; nothing is added to an infinity.
std::string CostText(const policy::LedgerEntry& entry) {
  if (std::isinf(entry.epsilon_after)) return std::isinf(entry.epsilon_before) ? "-" : "infinite";
  return HumanEpsilon(std::max(0.0, entry.epsilon_after - entry.epsilon_before));
}

/// Round and attempt for people, from 1; other kinds than deltas have none.
std::pair<std::string, std::string> PlaceText(bool has_one, const AttemptId& attempt) {
  if (!has_one) return {"-", "-"};
  return {std::to_string(uint64_t{attempt.round} + 1), std::to_string(uint64_t{attempt.attempt} + 1)};
}

ordered_json EntryJson(const policy::LedgerEntry& entry) {
  // The line itself is the record: whoever recomputes the spend finds every mechanism's parameters in it.
  ordered_json json = ordered_json::parse(policy::FormatLedgerLine(entry));
  return json;
}

Status RunLedgerShow(Context& context, const std::string& worker_file) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(const policy::DatasetCard card, policy::LoadDatasetCard(config.dataset_card.string()));
  ASSIGN_OR_RETURN(const AnchoredLedger ledger, ReadAnchoredLedger(config, card.name));
  const std::vector<policy::LedgerEntry>& entries = ledger.entries;
  const Instant now = SystemClock().Now();
  const double spent = policy::SpentBy(entries, card.budget(), card.privacy.period, now);
  Output& out = context.output;
  ordered_json rows = ordered_json::array();
  std::vector<std::vector<std::string>> table;
  for (const auto& entry : entries) {
    rows.push_back(EntryJson(entry));
    const auto [round, attempt] = PlaceText(entry.charge.kind == ChargeKind::kDelta, entry.charge.attempt);
    table.push_back({std::to_string(entry.sequence), FormatInstant(entry.time),
                     std::string(ChargeKindText(entry.charge.kind)), entry.charge.attempt.job.brief(), round,
                     attempt, CostText(entry), HumanEpsilon(entry.epsilon_after)});
  }
  out.Json({{"dataset", card.name},
            {"unit", PrivacyUnitText(card.privacy.unit)},
            {"budget_epsilon", EpsilonJson(card.privacy.epsilon)},
            {"delta", card.privacy.delta},
            {"period", policy::BudgetPeriodName(card.privacy.period)},
            {"spent_epsilon", EpsilonJson(spent)},
            {"head", (entries.empty() ? policy::LedgerGenesis(card.name) : entries.back().hash).hex()},
            {"entries", rows}});
  out.Say(fmt::format("dataset {}: {} charges, epsilon {} of {} at delta {:g}, unit {}, renews {}", card.name,
                      entries.size(), HumanEpsilon(spent), HumanEpsilon(card.privacy.epsilon),
                      card.privacy.delta, PrivacyUnitText(card.privacy.unit),
                      policy::BudgetPeriodName(card.privacy.period)));
  const Digest head = entries.empty() ? policy::LedgerGenesis(card.name) : entries.back().hash;
  out.Say("head " + head.hex());
  if (!table.empty()) {
    out.Table({"#", "time", "kind", "job", "round", "attempt", "cost", "spent after"}, table,
              {true, false, false, false, true, true, true, true});
  }
  if (policy::OtherUnitIn(entries, card.budget(), card.privacy.period, now))
    out.Say(fmt::format(
        "Some charges are in another unit than the card's budget, {}: guarantees of different units do not "
        "add, and the budget counts as spent.",
        PrivacyUnitText(card.privacy.unit)));
  else if (!entries.empty() && entries.back().epsilon_after != spent)
    out.Say(
        "What is spent is at the card's delta and in its period today; a row says what it was when it was "
        "charged.");
  // The lines that are there help whoever looks for the rest; they are not the spend.
  return ledger.held;
}

ordered_json FindingJson(const policy::LedgerFinding& finding) {
  ordered_json json = {
      {"wrong", finding.wrong},
      {"entries", finding.entries},
      {"entries_known", finding.anchored ? ordered_json(finding.entries_known) : ordered_json(nullptr)},
      {"epsilon_before", EpsilonJson(finding.epsilon_before)},
      {"epsilon_known", finding.anchored ? EpsilonJson(finding.epsilon_known) : ordered_json(nullptr)},
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
  const std::string verified =
      fmt::format("{} entries verify, epsilon {}", finding.entries, HumanEpsilon(finding.epsilon_before));
  out.Say(finding.anchored ? fmt::format("{}; the anchor knows of {}, epsilon {}", verified,
                                         finding.entries_known, HumanEpsilon(finding.epsilon_known))
                           : verified + "; without an anchor nothing here says whether there were more");
  if (!yes)
    return FailedPrecondition(
        "{}. Nothing was changed. If a newer copy of the ledger{} exists, put it back instead. With --yes {}",
        finding.wrong.front(), finding.anchored ? "" : " or of its anchor",
        finding.anchored
            ? "what the anchor knows is charged on top of what verifies, for good"
            : "what verifies is anchored as it is: what was cut off before counts as never spent, unless "
              "the worker's journal knows of it");
  out.Json(FindingJson(finding));
  if (!finding.kept.empty()) out.Say("the file as it was is kept as " + finding.kept.string());
  out.Say(fmt::format("reconciled: epsilon {} of {} is spent", HumanEpsilon(finding.epsilon_after),
                      HumanEpsilon(card.privacy.epsilon)));
  return OkStatus();
}

struct ReceiptOptions {
  std::string worker;                      // in the region, or
  std::string file, certificate, charter;  // for an auditor
};

/// Charges that no receipt speaks of: of attempts that ended before anything left, or of receipts that are
/// gone.
size_t Unreceipted(const std::vector<policy::LedgerEntry>& entries,
                   const std::vector<policy::SignedReceipt>& receipts) {
  std::set<Digest> heads;
  for (const auto& receipt : receipts) heads.insert(receipt.body.ledger_head);
  size_t count = 0;
  for (const auto& entry : entries)
    count += entry.charge.kind != ChargeKind::kRestored && !heads.contains(entry.hash);
  return count;
}

Status ShowReceipts(Output& out, const std::vector<policy::SignedReceipt>& receipts) {
  std::vector<std::vector<std::string>> table;
  uint64_t bytes = 0;
  for (const auto& receipt : receipts) {
    const policy::Receipt& r = receipt.body;
    bytes += r.bytes;
    out.Json(ordered_json::parse(policy::FormatReceiptLine(receipt)));
    table.push_back({FormatInstant(r.time), std::string(policy::ArtefactKindName(r.kind)),
                     r.from + " -> " + r.to, std::string(policy::LegalBasisName(r.basis)),
                     HumanBytes(r.bytes), r.sha256.brief(), r.attempt.job.brief(),
                     PlaceText(r.kind != policy::ArtefactKind::kEvaluation, r.attempt).first,
                     HumanEpsilon(r.epsilon_charged), std::string(policy::SandboxStateName(r.sandbox))});
  }
  out.Say(fmt::format("{} artefacts left, {} in all; every signature verifies", receipts.size(),
                      HumanBytes(bytes)));
  if (!table.empty()) {
    out.Table({"time", "kind", "border", "basis", "bytes", "sha256", "job", "round", "epsilon", "sandbox"},
              table, {false, false, false, false, true, false, false, true, true, false});
  }
  return OkStatus();
}

Status RunRegionReceipts(Context& context, const std::string& worker_file) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(worker_file));
  ASSIGN_OR_RETURN(const policy::DatasetCard card, policy::LoadDatasetCard(config.dataset_card.string()));
  auto entries = policy::ReadLedger(config.ledger, card.name);
  if (entries.status().code() == StatusCode::kNotFound) entries = std::vector<policy::LedgerEntry>{};
  RETURN_IF_ERROR(entries.status());
  const auto receipts = policy::ReadReceipts(config.receipts);
  if (receipts.status().code() == StatusCode::kNotFound) {
    if (const size_t charged = Unreceipted(*entries, {}); charged > 0) {
      return DataLoss(
          "{} is not there, and the ledger has {} charges: what left cannot be shown. Put the file back, or "
          "set `receipts` in the worker's file to where it is",
          config.receipts.string(), charged);
    }
    context.output.Say("there are no receipts yet: nothing has left");
    return OkStatus();
  }
  RETURN_IF_ERROR(receipts.status());
  ASSIGN_OR_RETURN(const std::string certificate, ReadTextFile(config.certificate, 64 << 10));
  RETURN_IF_ERROR(policy::VerifyReceipts(*receipts, certificate));
  RETURN_IF_ERROR(ShowReceipts(context.output, *receipts));
  if (const size_t charged = Unreceipted(*entries, *receipts); charged > 0) {
    context.output.Say(
        fmt::format("{} charges of the ledger have no receipt: attempts that ended before anything left, or "
                    "receipts that are gone",
                    charged));
  }
  return OkStatus();
}

/// A book that a region handed out, checked by someone who has nothing else of it.
Status RunAuditReceipts(Context& context, const ReceiptOptions& o) {
  if (o.certificate.empty())
    return InvalidArgument("--certificate is missing: the certificate of the worker that signed {}", o.file);
  ASSIGN_OR_RETURN(const auto receipts, policy::ReadReceipts(o.file));
  ASSIGN_OR_RETURN(const std::string chain, ReadTextFile(o.certificate, crypto::kMaxChainBytes));
  if (!o.charter.empty()) {
    ASSIGN_OR_RETURN(const policy::SignedCharter charter, policy::LoadSignedCharter(o.charter));
    RETURN_IF_ERROR(policy::VerifyCharter(charter));
    ASSIGN_OR_RETURN(const auto pems, crypto::SplitPemChain(chain));
    ASSIGN_OR_RETURN(const crypto::Certificate leaf, crypto::Certificate::FromPem(pems.front()));
    // Who signed is the question, not whether the certificate is still good today.
    const auto peer = policy::CheckPeer(charter.charter, chain, leaf.not_before());
    if (!peer.ok()) return Annotate(peer.status(), o.certificate);
  }
  RETURN_IF_ERROR(policy::VerifyReceipts(receipts, chain));
  RETURN_IF_ERROR(ShowReceipts(context.output, receipts));
  if (o.charter.empty())
    context.output.Say("the certificate itself was not checked: give --charter for that");
  return OkStatus();
}

Status RunReceipts(Context& context, const ReceiptOptions& o) {
  if (o.worker.empty() == o.file.empty())
    return InvalidArgument(
        "give --worker in the region, or --file and --certificate for a copy of its receipts");
  return o.worker.empty() ? RunAuditReceipts(context, o) : RunRegionReceipts(context, o.worker);
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

  AddLedgerStatementVerb(*ledger, context);

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

  auto o = std::make_shared<ReceiptOptions>();
  CLI::App* receipts =
      app.add_subcommand("receipts", "what left the region: signed, one line for each artefact");
  receipts->footer(
      "Example: concordat receipts --worker hospital-de/worker.yaml\n"
      "Example: concordat receipts --file receipts.jsonl --certificate worker.pem --charter charter.yaml");
  receipts->add_option("--worker", o->worker, "the worker's file, in the region");
  receipts->add_option("--file", o->file, "a copy of a region's receipts, for an auditor");
  receipts->add_option("--certificate", o->certificate, "with --file: the worker's certificate");
  receipts->add_option("--charter", o->charter, "with --file: the charter whose root must stand behind it");
  receipts->callback([&context, o] { context.run = [&context, o] { return RunReceipts(context, *o); }; });
}

}  // namespace concordat::cli
