#ifndef CONCORDAT_CLI_DOCTOR_CHECKS_H_
#define CONCORDAT_CLI_DOCTOR_CHECKS_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "policy/charter.h"
#include "policy/node_config.h"

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

/// The checks of one node. Nothing is changed anywhere; no record is shown.
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
  /// Policy, dataset card, dataset, split key, base model, trainer.
  void CheckWorker(const policy::WorkerConfig& config);
  void Add(Check::Level level, std::string name, std::string text, std::string next = "");
  void Add(const Status& status, std::string name, std::string ok, std::string next);

  const std::vector<Check>& checks() const { return checks_; }
  const std::optional<policy::SignedCharter>& charter() const { return charter_; }
  bool failed() const;

 private:
  void CheckData(const std::filesystem::path& card_file);
  void CheckModel(const policy::WorkerConfig& config);
  Instant now_;
  std::vector<Check> checks_;
  std::optional<policy::SignedCharter> charter_;
};

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_DOCTOR_CHECKS_H_
