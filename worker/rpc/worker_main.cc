#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "common/logging.h"
#include "common/process.h"
#include "common/version.h"
#include "proto/tls.h"
#include "worker/rpc/worker_shell.h"

// concordat-worker: a region's daemon. Outbound connections only; keys, policy, ledger and the last word.
namespace concordat::worker {
namespace {

int Complain(const Status& status) {
  std::fprintf(stderr, "concordat-worker: %s\n", std::string(Message(status)).c_str());
  return DaemonExitCode(status);
}

int Main(const std::string& config_path, bool verbose, bool accept_rollback) {
  if (const Status hardened = HardenProcess(); !hardened.ok()) return Complain(hardened);
  auto setup = LoadSetup(config_path, SystemClock().Now());
  if (!setup.ok()) return Complain(setup.status());
  setup->accept_rollback = accept_rollback;
  if (const Status log = StartLogging("concordat-worker", setup->config.log, verbose); !log.ok())
    return Complain(OfOwnFile(log));
  spdlog::info("{} of {}, protocol {}, version {}, charter {}", setup->self.name(),
               setup->self.jurisdiction(), kProtocolVersion, kVersion, setup->charter.hash.brief());

  // Blocked before any thread is made, so that only the one that waits for them takes them.
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // a file size limit is a full disk, not an end

  auto shell = WorkerShell::Make(*std::move(setup));
  if (!shell.ok()) {
    spdlog::error("{}", Message(shell.status()));
    return DaemonExitCode(shell.status());
  }
  std::thread([&ends, worker = shell->get()] {
    int signal = 0;
    while (::sigwait(&ends, &signal) != 0) {
    }
    spdlog::info("ending on signal {}", signal);
    worker->End();
  }).detach();
  const Status status = (*shell)->Run();
  if (!status.ok()) spdlog::error("{}", Message(status));
  spdlog::info("ended");
  return DaemonExitCode(status);
}

}  // namespace
}  // namespace concordat::worker

int main(int argc, char** argv) {
  concordat::tls::RequireTls13();
  CLI::App app("A region's worker: trains on the region's data and lets only what its policy allows leave.",
               "concordat-worker");
  app.footer("Example: concordat-worker --config worker.yaml");
  std::string config;
  bool verbose = false, accept_rollback = false;
  app.add_option("--config", config, "the worker's file (configs/worker.yaml is the commented example)")
      ->required();
  app.add_flag("--verbose", verbose, "log more");
  app.add_flag("--accept-rollback", accept_rollback,
               "the state folder was put back from a copy: drop the rounds that it was in");
  app.set_version_flag("--version", fmt::format("concordat-worker {} (protocol {})", concordat::kVersion,
                                                concordat::kProtocolVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return concordat::worker::Main(config, verbose, accept_rollback);
}
