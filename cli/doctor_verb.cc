#include <CLI/CLI.hpp>
#include <memory>

#include "cli/client.h"
#include "cli/doctor_checks.h"
#include "common/files.h"
#include "common/version.h"
#include "concordat/v1/federation.grpc.pb.h"
#include "proto/tls.h"

namespace concordat::cli {
namespace {

using Level = Check::Level;

constexpr uint64_t kComfort = uint64_t{5} << 30;

/// "it runs under charter …, this worker pins …", from a refusal that names the coordinator's charter.
std::string OtherCharter(const std::string& refusal, const Digest& ours) {
  static constexpr std::string_view kPins = "pins ";
  const size_t at = refusal.find(kPins);
  const auto theirs = at == std::string::npos ? Digest::FromHexText(refusal)
                                              : Digest::FromHexText(refusal.substr(at + kPins.size(), 64));
  return theirs.ok() ? fmt::format("it runs under charter {}, the worker pins {}", theirs->hex(), ours.hex())
                     : refusal;
}

struct DoctorOptions {
  std::string worker, coordinator;
};

void CheckReach(Doctor& doctor, const Context& context) {
  auto client = Client::Connect(context);
  if (!client.ok()) {
    // Its own advice is to come here.
    std::string text(Message(client.status()));
    text = text.substr(0, text.find(" Next: concordat doctor"));
    return doctor.Add(
        Level::kFail, "coordinator", text,
        client.status().code() == StatusCode::kPermissionDenied
            ? "compare concordat charter show on both sides; sign and pin one charter"
            : "check that it runs, its address in the charter, and the firewall's outbound rules");
  }
  const pb::StatusReply& status = (*client)->coordinator();
  doctor.Add(Level::kOk, "coordinator",
             fmt::format("{} answers over mutual TLS: version {}, {} workers connected",
                         (*client)->me().address, Printable(status.version(), 40), status.connected_size()));
}

/// A channel to the charter's coordinator with a node's own certificate; nullptr when its files do not read.
std::shared_ptr<grpc::Channel> ChannelOf(const Doctor& doctor, const std::string& address,
                                         const std::filesystem::path& certificate,
                                         const std::filesystem::path& key_file, const std::string& proxy,
                                         const Clock& clock) {
  const auto chain = ReadTextFile(certificate, crypto::kMaxChainBytes);
  const auto key = ReadTextFile(key_file, 64 << 10);
  if (!doctor.charter() || !chain.ok() || !key.ok()) return nullptr;
  const policy::CharterCoordinator& coordinator = doctor.charter()->charter.coordinator;
  grpc::ChannelArguments arguments;
  if (!proxy.empty()) arguments.SetString(GRPC_ARG_HTTP_PROXY, "http://" + proxy);
  return grpc::CreateCustomChannel(
      address,
      tls::ClientCredentials({*chain, *key}, {coordinator.root_pem, coordinator.id, coordinator.key_hash()},
                             clock),
      arguments);
}

/// What the coordinator says to a hello. It names no charter, so that it is always refused: a hello that is
/// taken would push a worker that runs out of its stream. The refusal names the coordinator's charter.
grpc::Status SayHello(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = pb::Federation::NewStub(channel);
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  const auto stream = stub->Session(&call);
  pb::WorkerMessage message;
  message.mutable_hello()->set_protocol(kProtocolVersion);
  message.mutable_hello()->set_version(std::string(kVersion));
  message.mutable_hello()->set_charter(std::string(32, '\0'));
  stream->Write(message);
  pb::CoordinatorMessage answer;
  while (stream->Read(&answer)) {
  }
  return stream->Finish();
}

void CheckWorkerReach(Doctor& doctor, const policy::WorkerConfig& config, const Clock& clock) {
  if (!doctor.charter()) return;
  if (doctor.failed("certificate")) {
    return doctor.Add(Level::kWarn, "coordinator", "not asked: the certificate opens no connection",
                      "mend the certificate first");
  }
  const std::string address = config.coordinator_address.empty()
                                  ? doctor.charter()->charter.coordinator.address
                                  : config.coordinator_address;
  const auto channel = ChannelOf(doctor, address, config.certificate, config.key, config.proxy, clock);
  if (channel == nullptr) return;
  const grpc::Status status = SayHello(channel);
  const std::string text = Printable(status.error_message());
  // A worker may say hello: whatever else is refused, both sides have proved who they are.
  if (status.error_code() != grpc::StatusCode::FAILED_PRECONDITION) {
    return doctor.Add(
        Level::kFail, "coordinator", fmt::format("{} does not answer: {}", address, text),
        "check that it runs, coordinator_address or proxy in the worker's file, and the firewall");
  }
  const bool other_charter =
      text.starts_with("charter:") && text.find(config.charter.hash.hex()) == std::string::npos;
  if (other_charter || text.starts_with("protocol:")) {
    return doctor.Add(Level::kFail, "coordinator",
                      fmt::format("{} refuses this worker: {}", address,
                                  other_charter ? OtherCharter(text, config.charter.hash) : text),
                      other_charter ? "compare concordat charter show on both sides; sign and pin one charter"
                                    : "use the same release on both sides");
  }
  doctor.Add(Level::kOk, "coordinator", address + " answers over mutual TLS, under the same charter");
}

/// OK when this coordinator itself answers where it would listen.
Status IsItself(const Doctor& doctor, const policy::CoordinatorConfig& config, const Clock& clock) {
  ASSIGN_OR_RETURN(const policy::HostPort where, policy::ParseHostPort(config.listen));
  const bool any = where.host == "0.0.0.0" || where.host == "::";
  const std::string address = any ? fmt::format("127.0.0.1:{}", where.port) : config.listen;
  const auto channel = ChannelOf(doctor, address, config.certificate, config.key, "", clock);
  if (channel == nullptr) return FailedPrecondition("its certificate, key or charter does not read");
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  pb::StatusReply reply;
  const grpc::Status status = pb::Jobs::NewStub(channel)->Status(&call, pb::StatusRequest(), &reply);
  // A coordinator is no operator: to be told so is to have shaken hands with the charter's coordinator.
  if (status.error_code() == grpc::StatusCode::PERMISSION_DENIED) return OkStatus();
  return tls::FromGrpc(status);
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
    doctor.CheckLog(config.log);
    CheckWorkerReach(doctor, config, context.clock());
    return "worker";
  }
  if (!options.coordinator.empty()) {
    ASSIGN_OR_RETURN(const policy::CoordinatorConfig config,
                     policy::LoadCoordinatorConfig(options.coordinator));
    doctor.Add(Level::kOk, "config", options.coordinator);
    doctor.CheckCharter(config.charter);
    doctor.CheckIdentity(config.certificate, config.key, Role::kCoordinator);
    doctor.CheckFolder(config.state, kComfort);
    doctor.CheckLog(config.log);
    doctor.CheckListen(config.listen, [&] { return IsItself(doctor, config, context.clock()); });
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
