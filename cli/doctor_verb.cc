#include <CLI/CLI.hpp>
#include <memory>

#include "cli/client.h"
#include "cli/doctor_checks.h"
#include "common/files.h"
#include "proto/tls.h"

namespace concordat::cli {
namespace {

using Level = Check::Level;

constexpr uint64_t kComfort = uint64_t{5} << 30;

struct DoctorOptions {
  std::string worker, coordinator;
};

void CheckReach(Doctor& doctor, const Context& context) {
  auto client = Client::Connect(context);
  if (!client.ok()) {
    // Its own advice is to come here.
    std::string text(Message(client.status()));
    text = text.substr(0, text.find(" Next: concordat doctor"));
    return doctor.Add(Level::kFail, "coordinator", text,
                      "check that it runs, its address in the charter, and the firewall's outbound rules");
  }
  const pb::StatusReply& status = (*client)->coordinator();
  doctor.Add(Level::kOk, "coordinator",
             fmt::format("{} answers over mutual TLS: version {}, {} workers connected",
                         (*client)->me().address, Printable(status.version(), 40), status.connected_size()));
}

/// A worker's certificate opens the connection; whether the coordinator lets a worker ask for its status is
/// its matter: PermissionDenied means that both sides have proved who they are.
void CheckWorkerReach(Doctor& doctor, const policy::WorkerConfig& config, const Context& context) {
  if (!doctor.charter()) return;
  const auto chain = ReadTextFile(config.certificate, crypto::kMaxChainBytes);
  const auto key = ReadTextFile(config.key, 64 << 10);
  if (!chain.ok() || !key.ok()) return;
  const policy::CharterCoordinator& coordinator = doctor.charter()->charter.coordinator;
  const std::string address =
      config.coordinator_address.empty() ? coordinator.address : config.coordinator_address;
  const auto credentials = tls::ClientCredentials(
      {*chain, *key}, {coordinator.root_pem, coordinator.id, coordinator.key_hash()}, context.clock());
  const auto stub = pb::Jobs::NewStub(grpc::CreateChannel(address, credentials));
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  pb::StatusReply reply;
  const grpc::Status status = stub->Status(&call, pb::StatusRequest(), &reply);
  const bool spoke = status.ok() || status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
  if (spoke) return doctor.Add(Level::kOk, "coordinator", address + " answers over mutual TLS");
  doctor.Add(Level::kFail, "coordinator",
             fmt::format("{} does not answer: {}", address, Printable(status.error_message())),
             "check that it runs, coordinator_address or proxy in the worker's file, and the firewall");
}

StatusOr<std::string> Examine(Doctor& doctor, const Context& context, const DoctorOptions& options) {
  doctor.CheckClock();
  if (!options.worker.empty()) {
    ASSIGN_OR_RETURN(const policy::WorkerConfig config, policy::LoadWorkerConfig(options.worker));
    doctor.Add(Level::kOk, "config", options.worker);
    doctor.CheckKernel();
    doctor.CheckCharter(config.charter);
    doctor.CheckIdentity(config.certificate, config.key, Role::kWorker);
    doctor.CheckWorker(config);
    doctor.CheckFolder(config.state, kComfort);
    CheckWorkerReach(doctor, config, context);
    return "worker";
  }
  if (!options.coordinator.empty()) {
    ASSIGN_OR_RETURN(const policy::CoordinatorConfig config,
                     policy::LoadCoordinatorConfig(options.coordinator));
    doctor.Add(Level::kOk, "config", options.coordinator);
    doctor.CheckCharter(config.charter);
    doctor.CheckIdentity(config.certificate, config.key, Role::kCoordinator);
    doctor.CheckFolder(config.state, kComfort);
    return "coordinator";
  }
  if (context.config.empty()) {
    return InvalidArgument(
        "name a node: --worker FILE, --coordinator FILE, or --config FILE for an operator");
  }
  ASSIGN_OR_RETURN(const policy::OperatorConfig config, policy::LoadOperatorConfig(context.config));
  doctor.Add(Level::kOk, "config", context.config);
  doctor.CheckCharter(config.charter);
  doctor.CheckIdentity(config.certificate, config.key, Role::kOperator);
  if (!doctor.failed()) CheckReach(doctor, context);
  return "operator";
}

Status RunDoctor(Context& context, const DoctorOptions& options) {
  Doctor doctor(context.clock().Now());
  ASSIGN_OR_RETURN(const std::string node, Examine(doctor, context, options));
  Output& out = context.output;
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const Check& check : doctor.checks()) {
    checks.push_back(
        {{"check", check.name},
         {"level", LevelName(check.level)},
         {"text", check.text},
         {"next", check.next.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(check.next)}});
    const auto style = check.level == Level::kOk     ? Output::Style::kGood
                       : check.level == Level::kWarn ? Output::Style::kWarn
                                                     : Output::Style::kBad;
    out.Say(fmt::format("{}  {:<16} {}", out.Paint(fmt::format("{:<4}", LevelName(check.level)), style),
                        check.name, check.text));
    if (!check.next.empty()) out.Say("      -> " + check.next);
  }
  out.Json({{"node", node}, {"ready", !doctor.failed()}, {"checks", checks}});
  out.Say(doctor.failed() ? out.Paint("not ready", Output::Style::kBad)
                          : out.Paint("ready", Output::Style::kGood));
  if (doctor.failed()) context.exit = ExitCode::kFailed;
  return OkStatus();
}

}  // namespace

void AddDoctorVerb(CLI::App& app, Context& context) {
  auto o = std::make_shared<DoctorOptions>();
  CLI::App* verb =
      app.add_subcommand("doctor", "is this node ready? each line ok, warn or fail, with what to do");
  verb->footer("Example: concordat doctor --worker hospital-de/worker.yaml");
  CLI::Option* worker = verb->add_option("--worker", o->worker, "a worker's file");
  verb->add_option("--coordinator", o->coordinator, "a coordinator's file")->excludes(worker);
  verb->callback([&context, o] { context.run = [&context, o] { return RunDoctor(context, *o); }; });
}

}  // namespace concordat::cli
