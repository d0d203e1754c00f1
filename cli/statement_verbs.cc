#include "cli/statement_verbs.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <set>

#include "aggregation/strict_json.h"
#include "cli/anchored_ledger.h"
#include "cli/certificate_file.h"
#include "cli/released_privacy.h"
#include "common/files.h"
#include "common/secret.h"
#include "policy/dataset_card.h"
#include "policy/node_config.h"

// What was charged: said by a region, added to an adapter.
namespace concordat::cli {
namespace {

using nlohmann::ordered_json;
using policy::SignedLedgerStatement;
using std::filesystem::path;

constexpr uint64_t kMaxStatementBytes = 64u << 20;

// ---- In the region.

struct LedgerOptions {
  std::string worker, job, out, charter;
};

/// The job that `text` names among those that the ledger has charges of: its id or the first digits.
StatusOr<JobId> ChargedJob(const std::vector<policy::LedgerEntry>& ledger, const std::string& text) {
  std::set<JobId> found;
  for (const auto& entry : ledger)
    if (entry.charge.kind != ChargeKind::kRestored && entry.charge.attempt.job.hex().starts_with(text))
      found.insert(entry.charge.attempt.job);
  if (found.size() == 1 && !text.empty()) return *found.begin();
  if (found.size() > 1) return InvalidArgument("{} jobs in the ledger begin with {}", found.size(), text);
  // What is left of a job whose charges were lost and restored.
  if (const auto whole = Digest::FromHexText(text); whole.ok()) return *whole;
  return NotFound("the ledger has no charge of a job {}: give its id, or the first digits", Printable(text));
}

/// The ledger, as far as its anchor says it goes. FailedPrecondition when it does not go so far.
StatusOr<std::vector<policy::LedgerEntry>> ReadHeld(const policy::WorkerConfig& config,
                                                    const std::string& dataset) {
  ASSIGN_OR_RETURN(AnchoredLedger ledger, ReadAnchoredLedger(config, dataset));
  RETURN_IF_ERROR(ledger.held);
  if (!ledger.there) return NotFound("{}: there is no ledger: nothing was charged", config.ledger.string());
  return std::move(ledger.entries);
}

struct Signer {
  crypto::SigningKey key;
  std::string chain;
  SpiffeId worker;
};

StatusOr<Signer> LoadSigner(const policy::WorkerConfig& config) {
  ASSIGN_OR_RETURN(CertificateFile own, ReadCertificateFile(config.certificate));
  ASSIGN_OR_RETURN(SpiffeId worker, own.leaf.spiffe_id());
  RETURN_IF_ERROR(CheckPrivateFile(config.key));
  ASSIGN_OR_RETURN(Bytes pem, ReadFile(config.key, 64 << 10));
  const crypto::SecretText secret{pem};
  Wipe(pem);
  ASSIGN_OR_RETURN(crypto::SigningKey key, crypto::SigningKey::FromPem(secret.view()));
  if (key.Public().KeyHash() != own.leaf.key_hash())
    return PermissionDenied("{}: not the key of {}", config.key.string(), config.certificate.string());
  return Signer{std::move(key), std::move(own.chain), std::move(worker)};
}

/// The charter that the job ran under: the worker's own, or an earlier one that was given.
StatusOr<policy::SignedCharter> CharterOfStatement(const policy::WorkerConfig& config,
                                                   const std::string& file) {
  if (file.empty()) return policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash);
  ASSIGN_OR_RETURN(policy::SignedCharter charter, policy::LoadSignedCharter(file));
  RETURN_IF_ERROR(Annotate(policy::VerifyCharter(charter), file));
  return charter;
}

StatusOr<policy::LedgerStatement> MakeStatement(const policy::DatasetCard& card, const Digest& charter,
                                                const SpiffeId& worker,
                                                const std::vector<policy::LedgerEntry>& ledger,
                                                const JobId& job, Instant now) {
  policy::LedgerStatement body;
  body.charter = charter;
  body.worker = worker;
  body.job = job;
  body.dataset = card.name;
  body.unit = card.privacy.unit;
  body.neighbour = NeighbourOf(card.privacy.unit);
  body.delta = card.privacy.delta;
  body.period = card.privacy.period;
  body.issued = now;
  ASSIGN_OR_RETURN(body.rows, policy::StatementRows(ledger, job));
  body.head = body.rows.back().hash;
  return body;
}

void SayStatement(Output& out, const policy::LedgerStatement& body, const std::string& file) {
  const auto others = std::ranges::count_if(body.rows, [&](const policy::LedgerEntry& row) {
    return row.charge.kind != ChargeKind::kRestored && row.charge.attempt.job != body.job;
  });
  out.Json({{"job", body.job.hex()},
            {"worker", body.worker.ToString()},
            {"dataset", body.dataset},
            {"rows", body.rows.size()},
            {"rows_of_other_jobs", others},
            {"head", body.head.hex()},
            {"file", file}});
  out.Say(fmt::format("{} rows of the ledger of dataset {}, signed by {}, in {}", body.rows.size(),
                      body.dataset, body.worker.ToString(), file));
  if (others > 0)
    out.Say(fmt::format(
        "  {} of them are other jobs' (ids, times, prices): without them the chain would show nothing",
        others));
  out.Say("  nothing was sent: give the file to whoever holds the adapter, if you want to");
}

Status RunLedgerStatement(Context& context, const LedgerOptions& options) {
  ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(options.worker));
  ASSIGN_OR_RETURN(const policy::DatasetCard card, policy::LoadDatasetCard(config.dataset_card.string()));
  ASSIGN_OR_RETURN(const policy::SignedCharter charter, CharterOfStatement(config, options.charter));
  ASSIGN_OR_RETURN(const auto ledger, ReadHeld(config, card.name));
  ASSIGN_OR_RETURN(const JobId job, ChargedJob(ledger, options.job));
  ASSIGN_OR_RETURN(const Signer signer, LoadSigner(config));
  ASSIGN_OR_RETURN(policy::LedgerStatement body,
                   MakeStatement(card, charter.hash, signer.worker, ledger, job, context.clock().Now()));
  const SignedLedgerStatement statement =
      policy::SignLedgerStatement(std::move(body), signer.key, signer.chain);
  // Before it leaves: what its readers will ask.
  RETURN_IF_ERROR(Annotate(policy::VerifyLedgerStatement(statement, charter), options.worker));
  RETURN_IF_ERROR(WriteFileAtomically(options.out, policy::ToJson(statement).dump(2) + "\n"));
  SayStatement(context.output, statement.body, options.out);
  return OkStatus();
}

// ---- With the adapter.

struct AdapterOptions {
  std::string folder, charter;
  std::vector<std::string> files;
};

StatusOr<SignedLedgerStatement> LoadStatement(const std::string& file, const policy::SignedCharter& charter) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file, kMaxStatementBytes));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseStrictJson(text, file));
  auto statement = policy::ReadLedgerStatement(json);
  if (!statement.ok()) return Annotate(statement.status(), file);
  RETURN_IF_ERROR(Annotate(policy::VerifyLedgerStatement(*statement, charter), file));
  return statement;
}

void Show(Output& out, const ReleasedPrivacy& privacy) {
  std::vector<std::vector<std::string>> table;
  for (const RegionPrivacy& region : privacy.regions) {
    const bool charged = region.statement.has_value();
    table.push_back({BriefWorker(region.worker), charged ? "charged" : "planned",
                     HumanEpsilon(region.epsilon_local),
                     region.epsilon_distributed ? HumanEpsilon(*region.epsilon_distributed) : "no claim",
                     charged ? HumanEpsilon(region.epsilon_charged) : "-",
                     charged ? region.statement->body.head.brief() : "-"});
  }
  out.Table({"region", "figures", "local", "distributed", "all charges", "ledger head"}, table,
            {false, false, true, true, true, false});
}

Status RunAdapterStatement(Context& context, const AdapterOptions& options) {
  const path folder = options.folder;
  ASSIGN_OR_RETURN(const VerifiedAdapter adapter, VerifyAdapterFolder(folder));
  ASSIGN_OR_RETURN(const AdapterFolder chain, ReadAdapterFolder(folder));
  ASSIGN_OR_RETURN(const auto charter, CharterOfJob(context, options.charter, adapter.job.charter));
  if (!charter)
    return InvalidArgument(
        "whose signatures count? Give --charter with the job's charter, or --config with an operator's file "
        "that pins it");
  ASSIGN_OR_RETURN(const ReleasedPrivacy before, PrivacyOfFolder(folder, chain, &*charter));
  RETURN_IF_ERROR(CheckPrivacyFile(folder, before));
  ASSIGN_OR_RETURN(auto statements, ReadStatements(folder));
  for (const std::string& file : options.files) {
    ASSIGN_OR_RETURN(SignedLedgerStatement added, LoadStatement(file, *charter));
    RETURN_IF_ERROR(Annotate(AddStatement(statements, std::move(added)), file));
  }
  ASSIGN_OR_RETURN(const ReleasedPrivacy privacy,
                   PrivacyOf(chain.record, chain.rounds, adapter.hash, std::move(statements)));
  RETURN_IF_ERROR(WritePrivacy(folder, privacy));
  const auto charged =
      std::ranges::count_if(privacy.regions, [](const RegionPrivacy& r) { return r.statement.has_value(); });
  context.output.Json({{"job", chain.record.job.hex()},
                       {"folder", options.folder},
                       {"regions", privacy.regions.size()},
                       {"from_ledgers", charged}});
  Show(context.output, privacy);
  context.output.Say(
      fmt::format("{} of {} regions' figures are from their ledgers; privacy.json holds the rows", charged,
                  privacy.regions.size()));
  return OkStatus();
}

}  // namespace

void AddLedgerStatementVerb(CLI::App& ledger, Context& context) {
  auto o = std::make_shared<LedgerOptions>();
  CLI::App* verb =
      ledger.add_subcommand("statement", "what a job was charged, signed, for whoever holds its adapter");
  verb->footer(
      "Example: concordat ledger statement --worker hospital-de/worker.yaml --job 3f9c --out de.json\n"
      "Writes a file and sends nothing. It holds the ledger's lines from the job's first charge on: prices, "
      "times, hashes, the dataset's name; no figure that depends on a record.");
  verb->add_option("--worker", o->worker, "the worker's file, in the region")->required();
  verb->add_option("--job", o->job, "job id, or its first digits")->required();
  verb->add_option("--out", o->out, "file to write")->required();
  verb->add_option("--charter", o->charter,
                   "the charter that the job ran under, when the worker pins a later one by now");
  verb->callback([&context, o] { context.run = [&context, o] { return RunLedgerStatement(context, *o); }; });
}

void AddAdapterStatementVerb(CLI::App& adapter, Context& context) {
  auto o = std::make_shared<AdapterOptions>();
  CLI::App* verb = adapter.add_subcommand(
      "statement", "adds what regions were charged, by their ledgers, to a pulled folder");
  verb->footer(
      "Example: concordat adapter statement adapter de.json es.json fr.json --charter charter.yaml\n"
      "The files are what `concordat ledger statement` writes in each region. privacy.json and README.md "
      "then "
      "say for each region whether a figure is charged or planned.");
  verb->add_option("folder", o->folder, "a pulled folder")->required();
  verb->add_option("files", o->files, "regions' statements; a newer one takes an older one's place")
      ->required();
  verb->add_option("--charter", o->charter, "the job's charter (default: the one that --config pins)");
  verb->callback([&context, o] { context.run = [&context, o] { return RunAdapterStatement(context, *o); }; });
}

}  // namespace concordat::cli
