#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "aggregation/peft.h"
#include "cli/adapter_chain.h"
#include "cli/export.h"
#include "cli/released_privacy.h"
#include "cli/statement_verbs.h"
#include "common/files.h"

namespace concordat::cli {
namespace {

using nlohmann::ordered_json;
using std::filesystem::path;

StatusOr<ChainRecord> FetchRecord(Client& client, const JobId& job) {
  ASSIGN_OR_RETURN(const pb::RoundsReply rounds, client.Rounds(job));
  ASSIGN_OR_RETURN(const pb::JobState state, client.State(job));
  return ChainRecordOf(job, state.submitter(), rounds);
}

struct PullOptions {
  std::string job, out;
  int64_t round = -1;
};

/// The statements of a folder that is pulled into again: those that still say what the chain needs.
std::vector<policy::SignedLedgerStatement> KeptStatements(Output& out, const path& folder,
                                                          const policy::SignedCharter& charter,
                                                          const ChainRecord& record, uint32_t rounds) {
  std::vector<policy::SignedLedgerStatement> kept;
  auto statements = ReadStatements(folder);
  if (!statements.ok()) {
    out.Say(fmt::format("{}; it is written anew, without statements", Message(statements.status())));
    return kept;
  }
  for (policy::SignedLedgerStatement& statement : *statements) {
    Status good = policy::VerifyLedgerStatement(statement, charter);
    if (good.ok()) good = PrivacyOf(record, rounds, {}, {statement}).status();
    if (good.ok()) {
      kept.push_back(std::move(statement));
      continue;
    }
    out.Say(fmt::format("the ledger statement of {} is left out, ask for a new one: {}",
                        statement.body.worker.ToString(), Message(good)));
  }
  return kept;
}

Status RunPull(Context& context, const PullOptions& options) {
  ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
  ASSIGN_OR_RETURN(const JobId job, client->FindJob(options.job));
  ASSIGN_OR_RETURN(const ChainRecord record, FetchRecord(*client, job));
  const uint32_t rounds =
      options.round < 0 ? static_cast<uint32_t>(record.rounds.size()) : static_cast<uint32_t>(options.round);
  const path folder = options.out;
  if (rounds > record.rounds.size()) {
    return InvalidArgument("job {} has {} finished rounds: there is no adapter of round {}", job.brief(),
                           record.rounds.size(), rounds);
  }
  RETURN_IF_ERROR(CheckAdapterFolder(folder, record));
  RETURN_IF_ERROR(MakeFolder(folder / "chain"));
  const auto source = [&](const Digest& hash, uint64_t max_bytes) -> StatusOr<Bytes> {
    const path file = BlobPath(folder, hash);
    if (auto kept = ReadFile(file, max_bytes); kept.ok() && AdapterHash(*kept) == hash) return kept;
    path partial = file;
    partial += ".part";
    ASSIGN_OR_RETURN(Bytes bytes, client->Fetch(hash, partial, max_bytes));
    RETURN_IF_ERROR(WriteFileAtomically(file, bytes));
    return bytes;
  };
  ASSIGN_OR_RETURN(const VerifiedAdapter adapter, VerifyChain(record, rounds, source));
  auto statements = KeptStatements(context.output, folder, client->me().charter, record, rounds);
  const size_t charged = statements.size();
  RETURN_IF_ERROR(WriteAdapterFolder(folder, record, adapter, std::move(statements)));
  context.output.Json({{"job", job.hex()},
                       {"name", adapter.job.name},
                       {"rounds_done", adapter.blob.round},
                       {"adapter", adapter.hash.hex()},
                       {"verified", true},
                       {"folder", options.out}});
  context.output.Say(fmt::format("adapter {} after {} rounds of {} in {}", adapter.hash.brief(),
                                 adapter.blob.round, adapter.job.name, options.out));
  context.output.Say("  its chain verifies back to the job's seed");
  context.output.Say(
      charged > 0 ? fmt::format("  privacy.json says what {} regions were charged, and the plan's price "
                                "of the others",
                                charged)
                  : "  privacy.json prices it as planned; what was charged is in each region's ledger");
  context.output.Say(
      fmt::format("  next: concordat adapter statement {} FILE…, with what regions hand out "
                  "(concordat ledger statement)",
                  options.out));
  return OkStatus();
}

struct VerifyOptions {
  std::string what, charter;
};

/// A pulled folder's statements and figures. \return how many regions' figures are from their ledgers
StatusOr<size_t> VerifyPrivacy(Context& context, const VerifyOptions& options, const Digest& job_charter) {
  const path folder = options.what;
  ASSIGN_OR_RETURN(const AdapterFolder chain, ReadAdapterFolder(folder));
  ASSIGN_OR_RETURN(const auto charter, CharterOfJob(context, options.charter, job_charter));
  ASSIGN_OR_RETURN(const ReleasedPrivacy privacy,
                   PrivacyOfFolder(folder, chain, charter ? &*charter : nullptr));
  RETURN_IF_ERROR(CheckPrivacyFile(folder, privacy));
  size_t charged = 0;
  for (const RegionPrivacy& region : privacy.regions) charged += region.statement.has_value();
  context.output.Say(fmt::format("privacy.json: {} of {} regions' figures follow from their ledgers' rows",
                                 charged, privacy.regions.size()));
  if (charged > 0 && !charter)
    context.output.Say("  whose the signatures are was not checked: give --charter for that");
  return charged;
}

Status RunVerify(Context& context, const VerifyOptions& options) {
  const std::string& what = options.what;
  std::error_code error;
  VerifiedAdapter adapter;
  std::optional<size_t> charged;
  if (std::filesystem::is_directory(what, error)) {
    ASSIGN_OR_RETURN(adapter, VerifyAdapterFolder(what));
    ASSIGN_OR_RETURN(charged, VerifyPrivacy(context, options, adapter.job.charter));
  } else {
    ASSIGN_OR_RETURN(const auto client, Client::Connect(context));
    ASSIGN_OR_RETURN(const JobId job, client->FindJob(what));
    ASSIGN_OR_RETURN(const ChainRecord record, FetchRecord(*client, job));
    ASSIGN_OR_RETURN(adapter, VerifyChain(record, static_cast<uint32_t>(record.rounds.size()),
                                          [&](const Digest& hash, uint64_t max_bytes) {
                                            return client->Fetch(hash, {}, max_bytes);
                                          }));
  }
  context.output.Json({{"job", adapter.blob.job.hex()},
                       {"name", adapter.job.name},
                       {"rounds_done", adapter.blob.round},
                       {"adapter", adapter.hash.hex()},
                       {"from_ledgers", charged ? ordered_json(*charged) : ordered_json()},
                       {"verified", true}});
  context.output.Say(fmt::format("verified: {} links from the seed of {} to adapter {}", adapter.blob.round,
                                 adapter.job.name, adapter.hash.brief()));
  return OkStatus();
}

struct Loaded {
  PeftAdapter peft;
  std::optional<AdapterFolder> chain;
};

/// \param base where the model's shape comes from when the folder does not say
StatusOr<Loaded> LoadFolder(const path& folder, const std::string& base) {
  Loaded out;
  std::error_code error;
  ModelShape shape;
  if (std::filesystem::exists(folder / kChainFile, error)) {
    ASSIGN_OR_RETURN(out.chain, ReadAdapterFolder(folder));
    ASSIGN_OR_RETURN(const policy::JobSpec job, policy::ParseJob(out.chain->record.job_file, kJobFile));
    shape = job.base_model.shape;
  } else if (!base.empty()) {
    ASSIGN_OR_RETURN(shape, ShapeOfModel(base));
  } else {
    return InvalidArgument("{} has no {}: name the model with --base", folder.string(), kChainFile);
  }
  ASSIGN_OR_RETURN(out.peft, ReadPeftFolder(folder, shape));
  return out;
}

struct ExportOptions {
  std::string folder, format = "peft", base, out;
};

Status RunExport(Context& context, const ExportOptions& options) {
  if (options.format == "merged" && options.base.empty()) {
    return InvalidArgument("--format merged: name the base model with --base MODEL");
  }
  ASSIGN_OR_RETURN(const Loaded loaded, LoadFolder(options.folder, options.base));
  const PeftAdapter& peft = loaded.peft;
  std::error_code error;
  if (std::filesystem::exists(options.out, error)) {
    return AlreadyExists("{} exists; nothing was written", options.out);
  }
  // What is released carries its price along.
  std::optional<ReleasedPrivacy> privacy;
  if (loaded.chain) {
    ASSIGN_OR_RETURN(privacy, PrivacyOfFolder(options.folder, *loaded.chain, nullptr));
  }
  if (options.format == "peft") {
    RETURN_IF_ERROR(WritePeftFolder(options.out, peft.layout, peft.adapter, peft.base_model));
  } else if (options.format == "gguf") {
    ASSIGN_OR_RETURN(const Bytes bytes, GgufAdapter(peft.layout, peft.adapter, peft.base_model));
    RETURN_IF_ERROR(WriteFileAtomically(options.out, bytes));
  } else {
    RETURN_IF_ERROR(ExportMerged(options.base, peft, options.out));
  }
  if (privacy) {
    RETURN_IF_ERROR(options.format == "gguf"
                        ? WritePrivacyBeside(options.out, *privacy)
                        : WritePrivacy(options.out, *privacy, options.format == "merged"));
  }
  context.output.Json({{"format", options.format}, {"out", options.out}});
  context.output.Say(fmt::format("wrote {} ({})", options.out, options.format));
  return OkStatus();
}

double Norm(std::span<const float> values) {
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

/// Frobenius norm of scale·B·A without forming it: tr((BᵀB)(AAᵀ)).
double ProductNorm(const AdapterLayout& layout, std::span<const float> adapter, const AdapterTensor& a,
                   const AdapterTensor& b) {
  const uint64_t rank = a.rows;
  double trace = 0;
  for (uint64_t i = 0; i < rank; ++i) {
    for (uint64_t j = 0; j < rank; ++j) {
      double aa = 0, bb = 0;
      for (uint64_t k = 0; k < a.cols; ++k) {
        aa += static_cast<double>(adapter[a.offset + i * a.cols + k]) * adapter[a.offset + j * a.cols + k];
      }
      for (uint64_t k = 0; k < b.rows; ++k) {
        bb += static_cast<double>(adapter[b.offset + k * rank + i]) * adapter[b.offset + k * rank + j];
      }
      trace += aa * bb;
    }
  }
  return layout.spec().scale() * std::sqrt(std::max(0.0, trace));
}

Status RunInspect(Context& context, const std::string& folder, const std::string& base) {
  ASSIGN_OR_RETURN(const Loaded loaded, LoadFolder(folder, base));
  const AdapterLayout& layout = loaded.peft.layout;
  const std::span<const float> adapter = loaded.peft.adapter;
  ordered_json targets = ordered_json::array(), tensors = ordered_json::array();
  std::string names;
  for (LoraTarget target : layout.spec().targets) {
    targets.push_back(LoraTargetName(target));
    names += (names.empty() ? "" : " ") + std::string(LoraTargetName(target));
  }
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i + 1 < layout.tensors().size(); i += 2) {
    const AdapterTensor &a = layout.tensors()[i], &b = layout.tensors()[i + 1];
    const double norm_a = Norm(adapter.subspan(a.offset, a.elements()));
    const double norm_b = Norm(adapter.subspan(b.offset, b.elements()));
    const double norm = ProductNorm(layout, adapter, a, b);
    tensors.push_back({{"layer", a.layer},
                       {"target", LoraTargetName(a.target)},
                       {"norm_a", norm_a},
                       {"norm_b", norm_b},
                       {"norm_update", norm}});
    rows.push_back({std::to_string(a.layer), std::string(LoraTargetName(a.target)),
                    fmt::format("{:.4f}", norm_a), fmt::format("{:.4f}", norm_b),
                    fmt::format("{:.4f}", norm)});
  }
  ordered_json json = {{"base_model", loaded.peft.base_model},
                       {"rank", layout.spec().rank},
                       {"targets", targets},
                       {"elements", layout.adapter_elements()},
                       {"job", nullptr},
                       {"rounds_done", nullptr},
                       {"adapter", nullptr},
                       {"parent", nullptr}};
  Output& out = context.output;
  out.Say(fmt::format("adapter of {}: rank {}, {} weights, on {}", Printable(loaded.peft.base_model),
                      layout.spec().rank, layout.adapter_elements(), names));
  if (loaded.chain) {
    const ChainRecord& record = loaded.chain->record;
    const Digest hash = record.rounds.empty() ? record.initial_adapter : record.rounds.back().adapter;
    json["job"] = record.job.hex();
    json["rounds_done"] = loaded.chain->rounds;
    json["adapter"] = hash.hex();
    if (!record.rounds.empty()) json["parent"] = record.rounds.back().parent.hex();
    out.Say(fmt::format("job {}, after {} rounds: {}{}", record.job.brief(), loaded.chain->rounds,
                        hash.brief(),
                        record.rounds.empty() ? "" : ", parent " + record.rounds.back().parent.brief()));
  }
  json["tensors"] = tensors;
  out.Json(json);
  out.Table({"layer", "target", "|A|", "|B|", "|scale BA|"}, rows, {true, false, true, true, true});
  return OkStatus();
}

}  // namespace

void AddAdapterVerbs(CLI::App& app, Context& context) {
  CLI::App* adapter = app.add_subcommand("adapter", "get, check, convert and look into adapters");
  adapter->require_subcommand(1);
  {
    auto o = std::make_shared<PullOptions>();
    CLI::App* verb = adapter->add_subcommand("pull", "fetch a job's adapter and verify where it comes from");
    verb->footer("Example: concordat --config operator.yaml adapter pull smollm2-manuals --out adapter");
    verb->add_option("job", o->job, "job id, its first digits, its name, or its file")->required();
    verb->add_option("--out", o->out,
                     "folder to write: new, empty, or this job's; a broken transfer goes on there")
        ->required();
    verb->add_option("--round", o->round, "after how many rounds (default: all that are done)")
        ->check(CLI::Range(int64_t{0}, int64_t{UINT32_MAX}));
    verb->callback([&context, o] { context.run = [&context, o] { return RunPull(context, *o); }; });
  }
  {
    auto o = std::make_shared<VerifyOptions>();
    CLI::App* verb = adapter->add_subcommand(
        "verify", "every link of an adapter's chain, from the job's seed, and its privacy.json");
    verb->footer("Example: concordat adapter verify adapter --charter charter.yaml");
    verb->add_option("what", o->what, "a pulled folder (needs no coordinator), or a job")->required();
    verb->add_option("--charter", o->charter,
                     "for a folder: the charter whose members' signatures count (default: the one that "
                     "--config pins)");
    verb->callback([&context, o] { context.run = [&context, o] { return RunVerify(context, *o); }; });
  }
  AddAdapterStatementVerb(*adapter, context);
  {
    auto o = std::make_shared<ExportOptions>();
    CLI::App* verb = adapter->add_subcommand("export", "an adapter for other programs");
    verb->footer(
        "Example: concordat adapter export adapter --format merged --base SmolLM2.gguf --out merged");
    verb->add_option("folder", o->folder, "a pulled folder, or any PEFT folder (then give --base)")
        ->required();
    verb->add_option("--format", o->format,
                     "peft (folder), gguf (file for llama.cpp), merged (Hugging Face folder)")
        ->check(CLI::IsMember({"peft", "gguf", "merged"}))
        ->capture_default_str();
    verb->add_option("--base", o->base, "the base model: GGUF file or Hugging Face folder");
    verb->add_option("--out", o->out, "file or folder to write")->required();
    verb->callback([&context, o] { context.run = [&context, o] { return RunExport(context, *o); }; });
  }
  auto folder = std::make_shared<std::string>();
  auto base = std::make_shared<std::string>();
  CLI::App* verb = adapter->add_subcommand("inspect", "rank, targets, norms by layer, round, parent");
  verb->footer("Example: concordat adapter inspect adapter");
  verb->add_option("folder", *folder, "a pulled folder, or any PEFT folder (then give --base)")->required();
  verb->add_option("--base", *base, "the base model, for a folder without chain.json");
  verb->callback([&context, folder, base] {
    context.run = [&context, folder, base] { return RunInspect(context, *folder, *base); };
  });
}

}  // namespace concordat::cli
