#ifndef CONCORDAT_POLICY_NODE_CONFIG_H_
#define CONCORDAT_POLICY_NODE_CONFIG_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/status.h"

// Files that one node reads about itself. Relative paths are taken from the file's own folder and are
// absolute once read.
namespace concordat::policy {

/// Where a node's charter is, and which one it must be.
struct CharterPin {
  std::filesystem::path file;
  Digest hash;
};

/// configs/worker.yaml is the commented example.
struct WorkerConfig {
  CharterPin charter;
  std::string coordinator_address;  // host:port; empty: the charter's
  std::string proxy;                // host:port of an HTTPS proxy (CONNECT); empty: none
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path policy;
  std::filesystem::path dataset_card;
  std::filesystem::path base_model;  // GGUF file or Hugging Face folder
  std::string device;                // "cpu" or "cuda:N"
  uint32_t threads = 0;              // of the trainer; 0: all cores
  std::filesystem::path state;       // folder: journals, adapters, spool
  std::filesystem::path scratch;     // folder the trainer may write; default state/scratch
  std::filesystem::path seal_key;    // seals what attempts need after a restart; default state/seal.key
  std::filesystem::path
      anchor;  // how far the journal has come, kept apart from it; default anchor beside state
  std::filesystem::path pairwise_keys;  // folder of keys shared with peers' workers; empty: none
  std::filesystem::path ledger;         // default state/ledger.jsonl
  std::filesystem::path receipts;       // default state/receipts.jsonl
  std::filesystem::path log;            // empty: standard error
  std::filesystem::path trainer;        // empty: concordat-trainer beside the worker
  std::filesystem::path socket;         // unix socket for the region's operator; default state/region.sock
};
StatusOr<WorkerConfig> ParseWorkerConfig(std::string_view text, std::string_view file_name,
                                         const std::filesystem::path& folder);
StatusOr<WorkerConfig> LoadWorkerConfig(const std::string& path);

/// configs/coordinator.yaml is the commented example.
struct CoordinatorConfig {
  std::string listen;           // host:port
  std::filesystem::path state;  // folder: database, adapters, spool
  CharterPin charter;
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path log;  // empty: standard error
  struct Limits {
    uint32_t max_jobs = 0;             // waiting or running at once
    uint32_t max_workers = 0;          // connected at once, at most 100
    uint64_t max_vector_elements = 0;  // of a masked vector
    uint64_t max_state_bytes = 0;      // of the state folder; new jobs are refused beyond it
    uint64_t idle_timeout_ms = 0;      // a silent stream is closed after this
    uint64_t reconnect_grace_ms = 0;   // a step waits so long for a site whose connection broke
  } limits;
};
StatusOr<CoordinatorConfig> ParseCoordinatorConfig(std::string_view text, std::string_view file_name,
                                                   const std::filesystem::path& folder);
StatusOr<CoordinatorConfig> LoadCoordinatorConfig(const std::string& path);

/// configs/operator.yaml: how the `concordat` command reaches the coordinator and who it is.
struct OperatorConfig {
  CharterPin charter;
  std::string coordinator_address;  // host:port; empty: the charter's
  std::filesystem::path certificate;
  std::filesystem::path key;
};
StatusOr<OperatorConfig> ParseOperatorConfig(std::string_view text, std::string_view file_name,
                                             const std::filesystem::path& folder);
StatusOr<OperatorConfig> LoadOperatorConfig(const std::string& path);

/// Writes the charter's hash into a worker's, coordinator's or operator's file: replaces the value of
/// `charter.hash`, all else stays as it is. InvalidArgument when the file has no such line.
StatusOr<std::string> PinCharterHash(std::string_view config_text, const Digest& hash);

/// Splits "host:port" or "[v6]:port". InvalidArgument otherwise.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
StatusOr<HostPort> ParseHostPort(std::string_view text);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_NODE_CONFIG_H_
