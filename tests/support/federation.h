#ifndef CONCORDAT_TESTS_SUPPORT_FEDERATION_H_
#define CONCORDAT_TESTS_SUPPORT_FEDERATION_H_

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "aggregation/adapter_layout.h"
#include "common/bytes.h"
#include "privacy/crypto/signature.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace concordat::testing {

/// A job's file in numbers; the rest is as small as a real job can be.
struct JobOptions {
  std::string name = "small";
  uint64_t seed = 7;
  uint32_t rounds = 2;
  uint32_t local_steps = 4;
  uint32_t batch_sequences = 2;
  uint32_t sequence_tokens = 64;
  std::string learning_rate = "0.005";
  std::vector<std::string> jurisdictions;  // invited; empty: all
  uint32_t minimum = 3, min_survivors = 3, attempts_per_round = 3;
  std::string wait = "2m";  // the harness connects all before it submits: nobody is waited for in vain
  std::string input_deadline = "5m", step_deadline = "1m";
  bool noise = true;  // false: none, and rounding to nearest, so that runs are reproducible
  std::string clip = "2.0";
  std::string method = "ffa";
  uint32_t modulus_bits = 32;
  /// record, person: DP-SGD with this noise, by units that `person` of every record or the record itself
  /// names.
  std::string unit = "site", unit_noise = "1.0";
  /// The sites share the noise, of multiplier `unit_noise`; of a person or a record with one sum of all units
  /// a round.
  bool shared_noise = false;
};

struct FederationOptions {
  std::vector<std::string> jurisdictions = {"de.example", "es.example", "fr.example"};
  /// Base model; empty: the tiny one, made in the folder.
  std::filesystem::path model;
  std::string model_name = "tiny";
  ModelShape shape;  // of `model`
  /// The worker's program, and the trainer that it starts.
  std::filesystem::path worker, trainer;
  /// Each region's budget, "unlimited" or a number, and whom it counts: site, record or person.
  std::string epsilon = "unlimited", unit = "site";
  /// More of the policy's rules for evaluation cells: ", key: value".
  std::string evaluation;
  /// Of all identities.
  crypto::SignatureProfile keys = crypto::SignatureProfile::kEd25519;
  /// How long a step waits for a worker whose connection broke.
  std::chrono::milliseconds reconnect_grace{1'000};
  /// Networks that the workers of some regions run in (relay/link.h); the others in the test's.
  std::map<std::string, int> networks;
  /// JSONL of a region, by its place in the list.
  std::function<std::string(size_t)> records;
};

/// `concordat --json watch`, read line by line.
class Watch {
 public:
  explicit Watch(ChildProcess::Options options)
      : process_(std::make_unique<ChildProcess>(std::move(options))) {}
  /// The first state from here on for which `holds`; throws with the last one when the stream ends or the
  /// time is over before.
  nlohmann::json Until(const std::function<bool(const nlohmann::json&)>& holds,
                       std::chrono::seconds patience = kPatience);
  /// Reads to the end; its exit code.
  int End(std::chrono::seconds patience = kPatience);
  const nlohmann::json& last() const { return last_; }

 private:
  std::unique_ptr<ChildProcess> process_;
  nlohmann::json last_;
};

/// A region of the state that Watch gives, by jurisdiction; null when it is not there.
nlohmann::json RegionOf(const nlohmann::json& state, const std::string& jurisdiction);

/// N jurisdictions and a coordinator in a folder of their own, each with its own CA, policy, card and files,
/// bound by a charter that all have signed; and their real processes. All that does not concern the test
/// throws std::runtime_error when it fails. On a failed test the logs' ends are printed. One thread.
class Federation {
 public:
  explicit Federation(FederationOptions options = {});
  ~Federation();

  // ---- Where things are.
  const std::filesystem::path& root() const { return folder_.path(); }
  std::filesystem::path Region(const std::string& jurisdiction) const;
  std::filesystem::path coordinator_folder() const { return root() / "coordinator"; }
  std::filesystem::path WorkerLog(const std::string& jurisdiction) const;
  std::filesystem::path coordinator_log() const { return coordinator_folder() / "coordinator.log"; }
  const std::vector<std::string>& jurisdictions() const { return options_.jurisdictions; }
  const Digest& charter() const { return charter_; }
  const Digest& base_model() const { return base_model_; }
  std::string address() const;
  const FederationOptions& options() const { return options_; }

  // ---- Files.
  std::string JobText(const JobOptions& options) const;
  /// Writes it to job.yaml (or `name`) and gives the path.
  std::string WriteJob(const JobOptions& options, const std::string& name = "job.yaml") const;
  /// Replaces the only occurrence of `from` in a file.
  static void Edit(const std::filesystem::path& file, const std::string& from, const std::string& to);

  // ---- Processes.
  void StartCoordinator(std::optional<uint64_t> file_bytes = {});
  /// \param more words of its command line
  void StartWorker(const std::string& jurisdiction, std::optional<uint64_t> file_bytes = {},
                   const std::vector<std::string>& more = {});
  /// Coordinator and all workers; returns once all are connected.
  void Start();
  void AwaitConnected(const std::string& jurisdiction);
  ChildProcess& coordinator() { return *coordinator_; }
  ChildProcess& Worker(const std::string& jurisdiction) { return *workers_.at(jurisdiction); }
  /// Ends all with SIGTERM; their exit codes must be 0.
  void StopAll();
  /// Ends all and removes state and logs: the next run starts as the first did.
  void Reset();

  // ---- The command.
  /// `concordat --json --config <operator of the first region> WORDS`.
  Ran Concordat(std::vector<std::string> words, std::chrono::seconds patience = kPatience) const;
  /// The same without --json, as another region's operator.
  Ran ConcordatAs(const std::string& jurisdiction, std::vector<std::string> words) const;
  /// Submits and gives the job's id.
  std::string Submit(const std::string& job_file) const;
  Watch WatchJob(const std::string& job) const;
  /// `status --worker` of a region; null when it does not answer.
  nlohmann::json StatusOf(const std::string& jurisdiction) const;

  /// Waits until the file holds `text`.
  static bool AwaitText(const std::filesystem::path& file, const std::string& text,
                        std::chrono::seconds patience = kPatience);

 private:
  void MakeIdentities();
  void MakeCharter();
  void WriteRegion(size_t index);
  void PrintLogs() const;

  TempDir folder_;
  FederationOptions options_;
  uint16_t port_ = 0;
  Digest charter_, base_model_;
  std::unique_ptr<ChildProcess> coordinator_;
  std::map<std::string, std::unique_ptr<ChildProcess>> workers_;
};

/// All files under `folder` but those under a folder called `skip` that hold `needle`; for failures' texts.
std::vector<std::string> FilesThatHold(const std::filesystem::path& folder, std::string_view needle,
                                       const std::string& skip = "");

/// The lines of a file of JSON lines.
std::vector<nlohmann::json> JsonLines(const std::string& text);

/// A region's sixty tiny records, of twenty persons.
std::string PersonRecords(size_t region);

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_FEDERATION_H_
