#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/heap.h"
#include "common/logging.h"
#include "common/process.h"
#include "common/version.h"
#include "coordinator/rpc/server.h"
#include "proto/tls.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int Complain(const concordat::Status& status) {
  fmt::print(stderr, "concordat-coordinator: {}\n", concordat::Message(status));
  return concordat::DaemonExitCode(status);
}

int Run(const std::string& config_file, bool verbose, const sigset_t& signals) {
  using namespace concordat;
  const auto config = policy::LoadCoordinatorConfig(config_file);
  if (!config.ok()) return Complain(OfOwnFile(config.status()));
  if (const Status status = StartLogging("concordat-coordinator", config->log, verbose); !status.ok())
    return Complain(OfOwnFile(status));
  // A fatal error ends the process the way an operator would: through its own signal.
  auto server = coordinator::Server::Start(*config, [] { kill(getpid(), SIGUSR1); });
  if (!server.ok()) {
    spdlog::critical("{}", Message(server.status()));
    return DaemonExitCode(server.status());
  }
  spdlog::info("concordat-coordinator {} ready on {}", kVersion, (*server)->address());
  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("shutting down");
  (*server)->Stop();
  spdlog::info("stopped");
  return signal == SIGUSR1 ? kFailed : 0;
}

}  // namespace

int main(int argc, char** argv) {
  concordat::KeepHeapSmall();  // a hundred uploads at once leave holes between what stays
  concordat::tls::RequireTls13();
  CLI::App app{"Runs rounds of a federation and holds nothing worth stealing."};
  std::string config;
  bool verbose = false;
  app.add_option("--config", config, "its YAML file; configs/coordinator.yaml is the example")->required();
  app.add_flag("--verbose", verbose, "log more");
  app.set_version_flag("--version", std::string(concordat::kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  // Before any thread: all inherit the mask, and only sigwait takes these.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // a file size limit is a full disk, not an end
  concordat::RaiseFileLimit();
  if (const auto status = concordat::HardenProcess(); !status.ok()) return Complain(status);
  return Run(config, verbose, signals);
}
