#ifndef CONCORDAT_CLI_DOCTOR_CHECKS_H_
#define CONCORDAT_CLI_DOCTOR_CHECKS_H_

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "policy/charter.h"
#include "policy/dataset_card.h"
#include "policy/node_config.h"
#include "policy/region_policy.h"

namespace concordat::cli {

/// One line of the preflight.
struct Check {
  enum class Level { kOk, kWarn, kFail };
  Level level{};
  std::string name;  // stable, for programs
  std::string text;
  std::string next;  // what to do; empty when ok
};
std::string_view LevelName(Check::Level level);

/// The checks of one node. What is tried is undone; no record is shown.
class Doctor {
 public:
  explicit Doctor(Instant now) : now_(now) {}

  void CheckClock();
  void CheckKernel();
  /// Certificate and key: readable, modes, they belong together, dates, chain to the charter.
  void CheckIdentity(const std::filesystem::path& certificate, const std::filesystem::path& key, Role role);
  /// Signatures and pin. Keeps the charter for later checks.
  void CheckCharter(const policy::CharterPin& pin);
  void CheckFolder(const std::filesystem::path& folder, uint64_t wanted_bytes);
  /// Whether the daemon could write its log; empty: standard error alone.
  void CheckLog(const std::filesystem::path& file);
  /// Policy, dataset card, dataset, split key, ledger, base model, trainer. Starts the trainer once, unless
  /// the worker runs and has one.
  void CheckWorker(const policy::WorkerConfig& config);
  /// Whether a coordinator could listen at `address`. \param taken asked when somebody listens there already:
  /// OK when that is this coordinator
  void CheckListen(const std::string& address, const std::function<Status()>& taken);
  void Add(Check::Level level, std::string name, std::string text, std::string next = "");
  void Add(const Status& status, std::string name, std::string ok, std::string next);

  const std::vector<Check>& checks() const { return checks_; }
  const std::optional<policy::SignedCharter>& charter() const { return charter_; }
  bool failed() const;
  /// Whether the check of this name failed.
  bool failed(std::string_view name) const;

 private:
  void CheckData();
  void CheckLedger(const policy::WorkerConfig& config);
  void CheckModel(const policy::WorkerConfig& config);
  void CheckPairwiseKeys(const policy::WorkerConfig& config);
  void CheckTrainer(const policy::WorkerConfig& config);
  Instant now_;
  std::vector<Check> checks_;
  std::optional<policy::SignedCharter> charter_;
  // What the worker's files say, where they read.
  std::optional<policy::RegionPolicy> policy_;
  std::optional<policy::DatasetCard> card_;
  std::optional<Digest> split_key_, canary_key_, base_model_;
};

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_DOCTOR_CHECKS_H_
