#include <CLI/CLI.hpp>
#include <memory>

#include "cli/context.h"
#include "common/clock.h"
#include "common/files.h"
#include "common/random.h"
#include "policy/node_config.h"
#include "policy/region_init.h"

namespace concordat::cli {
namespace {

struct RegionOptions {
  std::string folder;
  policy::RegionInitOptions init;
};

Status RunRegionInit(Context& context, const RegionOptions& options) {
  OsRandom random;
  RETURN_IF_ERROR(policy::InitRegion(options.folder, options.init, context.clock().Now(), random));
  context.output.Say(fmt::format("made region {} in {}", options.init.jurisdiction, options.folder));
  context.output.Say("  ca/root.key signs the charter and new certificates: keep it offline");
  context.output.Say(
      "  next: edit policy.yaml, dataset-card.yaml and worker.yaml, give ca/root.pem to the charter's "
      "author,");
  context.output.Say("        sign the charter: concordat charter sign CHARTER --region " + options.folder);
  context.output.Json({{"jurisdiction", options.init.jurisdiction}, {"folder", options.folder}});
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
  context.output.Json(
      {{"jurisdiction", options.init.jurisdiction}, {"name", options.init.name}, {"folder", options.folder}});
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
  context.output.Json({{"renewed", options.role}});
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
  CLI::App* coordinator = app.add_subcommand("coordinator", "make a coordinator's identity");
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
  init->callback([&context, options] {
    context.run = [&context, options] { return RunCoordinatorInit(context, *options); };
  });
}

}  // namespace concordat::cli
