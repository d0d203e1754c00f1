#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "common/logging.h"
#include "policy/charter.h"
#include "privacy/crypto/hash.h"
#include "tests/links/probe.h"
#include "worker/rpc/session.h"
#include "worker/rpc/transfers.h"

// One upload by the worker's own code, with the identity of a region, and nothing else of a worker: for links
// that take more than a tiny model has to send.
//
//   upload_probe ADDRESS FEDERATION JURISDICTION ELEMENTS FOLDER
namespace concordat::worker {
namespace {

template <typename T>
T Must(StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(2);
}

StartUpload OrderOf(uint64_t elements) {
  EncodingConfig config;
  config.elements = elements;
  config.clip = 1;
  config.sites = 3;
  config.noise_stddev = 4;
  StartUpload order;
  order.id = testing::ProbeAttempt();
  order.plan = Must(EncodingPlan::Make(config));
  order.delta = std::make_shared<const std::vector<float>>(order.plan.total_elements(), 0.00001f);
  order.seed = Secret32(crypto::Sha256(AsBytes("seed")).bytes);
  order.masks = {{Secret32(crypto::Sha256(AsBytes("mask")).bytes), 1}};
  return order;
}

int Main(const std::string& address, const std::filesystem::path& root, const std::string& jurisdiction,
         uint64_t elements, const std::filesystem::path& folder) {
  const auto charter = Must(policy::LoadSignedCharter((root / "charter.yaml").string()));
  const auto keys = root / "regions" / jurisdiction / "worker";
  const SystemClock clock;
  SessionOptions options;
  options.address = address;
  options.identity = {Must(ReadTextFile(keys / "cert.pem")), Must(ReadTextFile(keys / "key.pem"))};
  const auto& coordinator = charter.charter.coordinator;
  options.coordinator = {coordinator.root_pem, coordinator.id, coordinator.key_hash()};
  options.charter = charter.hash;

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<UploadEvent> end;
  Upload upload(
      OrderOf(elements), folder, [&] { return OpenBulkChannel(options, clock); },
      [&](UploadEvent event) {
        if (std::holds_alternative<UploadProgress>(event)) return;
        const std::lock_guard lock(mutex);
        end = std::move(event);
        changed.notify_all();
      });
  upload.Start();
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return end.has_value(); });
  }
  upload.Discard();
  if (const auto* done = std::get_if<Uploaded>(&*end)) {
    std::printf("%s\n", done->sha256.hex().c_str());
    return 0;
  }
  std::fprintf(stderr, "%s\n", std::get<UploadEnded>(*end).status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace concordat::worker

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("probe"));
  concordat::tls::RequireTls13();
  return concordat::worker::Main(argv[1], argv[2], argv[3], std::strtoull(argv[4], nullptr, 10), argv[5]);
}
