#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "cli/certificate_file.h"
#include "cli/context.h"
#include "common/clock.h"
#include "common/files.h"
#include "common/random.h"
#include "policy/dataset_card.h"
#include "policy/node_config.h"
#include "policy/pairwise_key_files.h"
#include "policy/region_init.h"

namespace concordat::cli {
namespace {

/// SHA-256 of the root that hangs over `folder`, for its owner to read to the other members.
StatusOr<std::string> RootFingerprint(const std::string& folder) {
  ASSIGN_OR_RETURN(const std::string pem,
                   ReadTextFile(std::filesystem::path(folder) / "ca" / "root.pem", 64 << 10));
  ASSIGN_OR_RETURN(const crypto::Certificate root, crypto::Certificate::FromPem(pem));
  return root.fingerprint().hex();
}

/// --keys of both kinds of node.
void AddKeysOption(CLI::App* init, crypto::SignatureProfile& keys) {
  init->add_option_function<std::string>(
          "--keys",
          [&keys](const std::string& kind) {
            keys = kind == "p256" ? crypto::SignatureProfile::kP256 : crypto::SignatureProfile::kEd25519;
          },
          "ed25519, or p256 for sites whose rules want NIST's curves; all nodes of a charter have one kind")
      ->check(CLI::IsMember({"ed25519", "p256"}))
      ->default_str("ed25519");
}

struct RegionOptions {
  std::string folder;
  policy::RegionInitOptions init;
};

Status RunRegionInit(Context& context, const RegionOptions& options) {
  OsRandom random;
  RETURN_IF_ERROR(policy::InitRegion(options.folder, options.init, context.clock().Now(), random));
  ASSIGN_OR_RETURN(const std::string fingerprint, RootFingerprint(options.folder));
  context.output.Say(fmt::format("made region {} in {}", options.init.jurisdiction, options.folder));
  context.output.Say("  ca/root.pem has SHA-256 " + fingerprint +
                     ": tell the other members by another way than the file");
  context.output.Say("  ca/root.key signs the charter and new certificates: keep it offline");
  context.output.Say(
      "  next: edit policy.yaml, dataset-card.yaml and worker.yaml, give ca/root.pem to the charter's "
      "author,");
  context.output.Say("        sign the charter: concordat charter sign CHARTER --region " + options.folder);
  context.output.Say(
      "  policy.yaml admits jobs of this region's own operators alone: a job runs where every region that it "
      "needs lists its submitter");
  context.output.Json({{"jurisdiction", options.init.jurisdiction},
                       {"folder", options.folder},
                       {"root_sha256", fingerprint}});
  return OkStatus();
}

struct CoordinatorOptions {
  std::string folder;
  policy::CoordinatorInitOptions init;
};

Status RunCoordinatorInit(Context& context, const CoordinatorOptions& options) {
  OsRandom random;
  RETURN_IF_ERROR(policy::InitCoordinator(options.folder, options.init, context.clock().Now(), random));
  context.output.Say(fmt::format("made coordinator {}/{} in {}", options.init.jurisdiction, options.init.name,
                                 options.folder));
  ASSIGN_OR_RETURN(const std::string fingerprint, RootFingerprint(options.folder));
  context.output.Say("  ca/root.pem has SHA-256 " + fingerprint +
                     ": tell the members by another way than the file");
  context.output.Say("  ca/root.key signs new certificates: keep it offline");
  context.output.Say("  next: concordat charter new CHARTER --coordinator " + options.folder +
                     " ..., and when all have signed: concordat charter pin CHARTER " + options.folder +
                     "/coordinator.yaml");
  context.output.Json({{"jurisdiction", options.init.jurisdiction},
                       {"name", options.init.name},
                       {"folder", options.folder},
                       {"root_sha256", fingerprint}});
  return OkStatus();
}

struct RenewOptions {
  std::string folder;
  std::string role = "worker";
};

Status RunRenew(Context& context, const RenewOptions& options) {
  OsRandom random;
  const std::filesystem::path folder = options.folder;
  RETURN_IF_ERROR(policy::RenewLeaf(folder / "ca", folder / options.role / "key.pem",
                                    folder / options.role / "cert.pem", context.clock().Now(), random));
  context.output.Say(fmt::format("renewed {}/cert.pem for 90 days; the key is the same", options.role));
  if (options.role != "operator")
    context.output.Say("  next: restart the daemon, which reads it as it starts");
  context.output.Json({{"renewed", options.role}});
  return OkStatus();
}

struct PairwiseKeyOptions {
  std::string folder;
  std::string peer;
  std::string out;
};

/// The worker of the region in `folder`, from its certificate.
StatusOr<SpiffeId> WorkerOf(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const CertificateFile own, ReadCertificateFile(folder / "worker" / "cert.pem"));
  return own.leaf.spiffe_id();
}

Status RunPairwiseKey(Context& context, const PairwiseKeyOptions& options) {
  auto peer = SpiffeId::Parse(options.peer);
  if (!peer.ok()) return Annotate(peer.status(), "--peer");
  ASSIGN_OR_RETURN(const SpiffeId self, WorkerOf(options.folder));
  std::filesystem::path file = options.out;
  if (file.empty()) {
    const auto folder = std::filesystem::path(options.folder) / "pairwise";
    RETURN_IF_ERROR(MakePrivateFolder(folder));
    file = folder / fmt::format("{}_{}{}", peer->jurisdiction(), peer->name(), policy::kPairwiseKeySuffix);
  }
  OsRandom random;
  ASSIGN_OR_RETURN(const Secret32 key, policy::MakePairwiseKeyFile(file, self, *peer, random));
  const std::string check = policy::PairwiseKeyCheck(key);
  context.output.Say(
      fmt::format("made a key between {} and {} in {}", self.Brief(), peer->Brief(), file.string()));
  context.output.Say("  check value " + check + ": both must see the same (concordat doctor --worker)");
  context.output.Say(
      "  next: carry this very file to the other region, by hand or by any way that is not recorded with "
      "the");
  context.output.Say(
      "        traffic, into the folder that pairwise_keys in its worker's file names (mode 0700, the file "
      "0600);");
  context.output.Say("        name the folder in worker.yaml here too, and restart both workers");
  context.output.Json(
      {{"self", self.ToString()}, {"peer", peer->ToString()}, {"file", file.string()}, {"check", check}});
  return OkStatus();
}

struct CanaryOptions {
  std::string folder;
  uint32_t count = 256;
};

/// Only the key: canaries are made from it in the trainer, and never written anywhere.
Status RunCanaries(Context& context, const CanaryOptions& options) {
  const std::filesystem::path key = std::filesystem::path(options.folder) / "canary.key";
  std::error_code error;
  if (std::filesystem::exists(key, error)) {
    return AlreadyExists(
        "{} is there already: with another key the canaries that adapters were trained on could not be "
        "looked "
        "for any more",
        key.string());
  }
  OsRandom random;
  const Secret32 secret = random.Seed();
  RETURN_IF_ERROR(WriteFileAtomically(key, secret.view(), 0600));
  context.output.Say(fmt::format("made {}: it never leaves the region, and is never changed", key.string()));
  context.output.Say("  next: add to dataset-card.yaml, then restart the worker:");
  context.output.Say("    canaries:");
  context.output.Say("      key: canary.key");
  context.output.Say(fmt::format("      count: {}", options.count));
  context.output.Say("  and after a job: concordat eval --leak ADAPTER --worker worker.yaml");
  context.output.Json({{"key", key.string()}, {"count", options.count}});
  return OkStatus();
}

}  // namespace

void AddRegionVerbs(CLI::App& app, Context& context) {
  CLI::App* region = app.add_subcommand("region", "make and keep a jurisdiction's own CA, keys and policy");
  region->require_subcommand(1);
  {
    auto options = std::make_shared<RegionOptions>();
    CLI::App* init =
        region->add_subcommand("init", "a new region: its CA, worker and operator keys, policy template");
    init->footer("Example: concordat region init hospital-de --jurisdiction de.example --worker charite");
    init->add_option("folder", options->folder, "folder to make")->required();
    init->add_option("--jurisdiction", options->init.jurisdiction,
                     "name of the jurisdiction, e.g. de.example")
        ->required();
    init->add_option("--worker", options->init.worker_name, "name of the worker")->capture_default_str();
    init->add_option("--operator", options->init.operator_name, "name of the operator")
        ->capture_default_str();
    AddKeysOption(init, options->init.keys);
    init->callback([&context, options] {
      context.run = [&context, options] { return RunRegionInit(context, *options); };
    });
  }
  {
    auto options = std::make_shared<RenewOptions>();
    CLI::App* renew = region->add_subcommand("renew", "a fresh certificate for the same key");
    renew->footer("Example: concordat region renew hospital-de --role worker");
    renew->add_option("folder", options->folder, "the region's folder")->required();
    renew->add_option("--role", options->role, "worker or operator")
        ->check(CLI::IsMember({"worker", "operator"}))
        ->capture_default_str();
    renew->callback(
        [&context, options] { context.run = [&context, options] { return RunRenew(context, *options); }; });
  }
  {
    auto options = std::make_shared<PairwiseKeyOptions>();
    CLI::App* key = region->add_subcommand(
        "pairwise-key",
        "a fresh key with one peer's worker, to be carried there by another way than the network");
    key->footer("Example: concordat region pairwise-key hospital-de --peer spiffe://fr.example/worker/curie");
    key->add_option("folder", options->folder, "the region's folder")->required();
    key->add_option("--peer", options->peer, "the other worker, spiffe://JURISDICTION/worker/NAME")
        ->required();
    key->add_option("--out", options->out,
                    "file to make (default: in FOLDER/pairwise, named after the peer); never written over");
    key->callback([&context, options] {
      context.run = [&context, options] { return RunPairwiseKey(context, *options); };
    });
  }
  {
    auto options = std::make_shared<CanaryOptions>();
    CLI::App* canaries = region->add_subcommand(
        "canaries", "a key for made-up records that `eval --leak` looks for in adapters");
    canaries->footer("Example: concordat region canaries hospital-de --count 256");
    canaries->add_option("folder", options->folder, "the region's folder")->required();
    canaries->add_option("--count", options->count, "canaries; a fair coin plants each or not")
        ->check(CLI::Range(policy::kFewestCanaries, policy::kMostCanaries))
        ->capture_default_str();
    canaries->callback([&context, options] {
      context.run = [&context, options] { return RunCanaries(context, *options); };
    });
  }
  CLI::App* coordinator = app.add_subcommand("coordinator", "make and renew a coordinator's identity");
  coordinator->require_subcommand(1);
  auto options = std::make_shared<CoordinatorOptions>();
  CLI::App* init =
      coordinator->add_subcommand("init", "a new coordinator: its own CA, key, certificate, config");
  init->footer(
      "Example: concordat coordinator init neutral --jurisdiction ch.example --dns coordinator.example");
  init->add_option("folder", options->folder, "folder to make")->required();
  init->add_option("--jurisdiction", options->init.jurisdiction, "name of its jurisdiction")->required();
  init->add_option("--name", options->init.name, "name of the coordinator")->capture_default_str();
  init->add_option("--dns", options->init.dns_names, "host name under which it is reached (repeat for more)");
  init->add_option("--ip", options->init.ip_addresses, "address under which it is reached (repeat for more)");
  init->add_option("--listen", options->init.listen, "host:port to listen on")->capture_default_str();
  AddKeysOption(init, options->init.keys);
  init->callback([&context, options] {
    context.run = [&context, options] { return RunCoordinatorInit(context, *options); };
  });
  auto leaf = std::make_shared<RenewOptions>();
  leaf->role = "coordinator";
  CLI::App* renew = coordinator->add_subcommand("renew", "a fresh certificate for the same key and names");
  renew->footer("Example: concordat coordinator renew neutral");
  renew->add_option("folder", leaf->folder, "the coordinator's folder")->required();
  renew->callback([&context, leaf] { context.run = [&context, leaf] { return RunRenew(context, *leaf); }; });
}

}  // namespace concordat::cli
