#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <mutex>

#include "common/logging.h"
#include "policy/charter.h"
#include "privacy/crypto/hash.h"
#include "tests/links/probe.h"
#include "worker/rpc/session.h"
#include "worker/rpc/transfers.h"

// Uploads by the worker's own code, with the identity of a region, and nothing else of a worker: for links
// that take more than a tiny model has to send. Prints the digest of each, in their order.
//
//   upload_probe ADDRESS FEDERATION JURISDICTION ELEMENTS FOLDER [UPLOADS]
namespace concordat::worker {
namespace {

template <typename T>
T Must(StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(2);
}

StartUpload OrderOf(uint64_t elements, RoundIndex number) {
  EncodingConfig config;
  config.elements = elements;
  config.clip = 1;
  config.sites = 3;
  config.noise_stddev = 4;
  StartUpload order;
  order.id = testing::ProbeAttempt(number);
  order.plan = Must(EncodingPlan::Make(config));
  order.delta = std::make_shared<const std::vector<float>>(order.plan.total_elements(), 0.00001f);
  order.seed = Secret32(crypto::Sha256(AsBytes("seed")).bytes);
  order.masks = {{Secret32(crypto::Sha256(AsBytes("mask")).bytes), 1}};
  return order;
}

/// One upload and how it ended.
class Probe {
 public:
  Probe(uint64_t elements, RoundIndex number, const std::filesystem::path& folder, const Dial& dial)
      : upload_(OrderOf(elements, number), folder, dial, [this](UploadEvent event) {
          if (std::holds_alternative<UploadProgress>(event)) return;
          const std::lock_guard lock(mutex_);
          end_ = std::move(event);
          changed_.notify_all();
        }) {
    upload_.Start();
  }
  bool Finish() {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return end_.has_value(); });
    }
    upload_.Discard();
    if (const auto* done = std::get_if<Uploaded>(&*end_)) {
      std::printf("%s\n", done->sha256.hex().c_str());
      return true;
    }
    std::fprintf(stderr, "%s\n", std::get<UploadEnded>(*end_).status.ToString().c_str());
    return false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<UploadEvent> end_;
  Upload upload_;
};

int Main(const std::string& address, const std::filesystem::path& root, const std::string& jurisdiction,
         uint64_t elements, const std::filesystem::path& folder, uint32_t uploads) {
  const auto charter = Must(policy::LoadSignedCharter((root / "charter.yaml").string()));
  const auto keys = root / "regions" / jurisdiction / "worker";
  const SystemClock clock;
  SessionOptions options;
  options.address = address;
  options.identity = {Must(ReadTextFile(keys / "cert.pem")), Must(ReadTextFile(keys / "key.pem"))};
  const auto& coordinator = charter.charter.coordinator;
  options.coordinator = {coordinator.root_pem, coordinator.id, coordinator.key_hash()};
  options.charter = charter.hash;
  const Dial dial = [&] { return OpenBulkChannel(options, clock); };
  std::deque<Probe> probes;
  for (uint32_t i = 0; i < uploads; ++i) probes.emplace_back(elements, i, folder, dial);
  bool all = true;
  for (Probe& probe : probes) all = probe.Finish() && all;
  return all ? 0 : 1;
}

}  // namespace
}  // namespace concordat::worker

int main(int argc, char** argv) {
  if (argc != 6 && argc != 7) return 2;
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("probe"));
  concordat::tls::RequireTls13();
  const auto uploads = argc == 7 ? static_cast<uint32_t>(std::strtoul(argv[6], nullptr, 10)) : 1;
  return concordat::worker::Main(argv[1], argv[2], argv[3], std::strtoull(argv[4], nullptr, 10), argv[5],
                                 uploads);
}
