#include "tests/support/federation.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

#include "common/clock.h"
#include "common/random.h"
#include "policy/charter.h"
#include "policy/node_config.h"
#include "policy/region_init.h"
#include "privacy/crypto/hash.h"
#include "tests/support/free_port.h"
#include "tests/support/tiny_model.h"

namespace concordat::testing {
namespace {

using nlohmann::json;
using std::filesystem::path;

void Must(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}
template <typename T>
T Must(StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

std::string Slurp(const path& file) { return Must(ReadTextFile(file)); }

constexpr std::string_view kPolicy = R"(submitters: [spiffe://{submitter}/operator/*]
base_models:
  - {{sha256: {model}, license: Apache-2.0}}
adapters: {{methods: [ffa, fedit, core], targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj], max_rank: 16}}
cohort: {{min_sites: 3, min_survivors: 3, min_honest: 2, min_colluding: 1, max_attempts_per_round: 5}}
privacy:
  max_clip: 10
  min_noise_multiplier: 0
  min_metrics_noise_multiplier: 0
  max_delta: 0.00001
  noise: [local, distributed]
  rounding: [stochastic, nearest]
  modulus_bits: [32, 24]
training: {{max_rounds: 100, max_local_steps: 100000, max_sequence_tokens: 2048, max_batch_sequences: 64}}
deadlines:
  advert: {{min: 1s, max: 10m}}
  shares: {{min: 1s, max: 10m}}
  input: {{min: 1s, max: 24h}}
  agreement: {{min: 1s, max: 10m}}
  unmask: {{min: 1s, max: 10m}}
artefacts:
  delta: allow
  metrics: allow
  evaluation: {{release: allow, bound_bits_per_byte: 16, noise_stddev: 0.01, max_requests: 20{unit_noise}}}
approval: automatic
sandbox: required
)";

constexpr std::string_view kCard = R"(name: card-of-{jurisdiction}
path: data/records.jsonl
kind: jsonl
classification: {{raw: restricted, embeddings: restricted, activations: restricted, logs: internal,
                 checkpoints: restricted, deltas: confidential, metrics: internal}}
legal_frameworks: [GDPR]
residency: [{jurisdiction}]
sovereignty: [{jurisdiction}]
operation: [{jurisdiction}]
{person}privacy: {{unit: {unit}, epsilon: {epsilon}, delta: 0.00001, period: none}}
retention: until the test ends
licence: made up
held_out_permille: 250
split_key: split.key
)";

constexpr std::string_view kWorker = R"(charter:
  file: ../../charter.yaml
  hash: {charter}
certificate: worker/cert.pem
key: worker/key.pem
policy: policy.yaml
dataset_card: dataset-card.yaml
base_model: {model}
device: cpu
threads: 1
state: state
log: worker.log
trainer: {trainer}
)";

constexpr std::string_view kOperator = R"(charter:
  file: {folder}charter.yaml
  hash: {charter}
certificate: operator/cert.pem
key: operator/key.pem
)";

constexpr std::string_view kCoordinator = R"(listen: 127.0.0.1:{port}
charter:
  file: ../charter.yaml
  hash: {charter}
certificate: coordinator/cert.pem
key: coordinator/key.pem
state: state
log: coordinator.log
limits: {{reconnect_grace: {grace}ms}}
)";

}  // namespace

// ---- Watch.

json Watch::Until(const std::function<bool(const json&)>& holds, std::chrono::seconds patience) {
  const Deadline deadline = After(patience);
  while (auto line = process_->ReadLine(deadline)) {
    last_ = json::parse(*line);
    if (holds(last_)) return last_;
  }
  throw std::runtime_error("watch did not show what was waited for; last: " + last_.dump(2));
}

int Watch::End(std::chrono::seconds patience) {
  const Deadline deadline = After(patience);
  while (auto line = process_->ReadLine(deadline)) last_ = json::parse(*line);
  const auto code = process_->Wait(deadline);
  if (!code) throw std::runtime_error("watch did not end; last: " + last_.dump(2));
  return *code;
}

json RegionOf(const json& state, const std::string& jurisdiction) {
  for (const json& region : state.at("regions")) {
    if (region.at("worker") == "spiffe://" + jurisdiction + "/worker/site") return region;
  }
  return nullptr;
}

// ---- Making the federation.

Federation::Federation(FederationOptions options) : options_(std::move(options)), port_(FreePort()) {
  if (options_.worker.empty()) options_.worker = CONCORDAT_WORKER_PATH;
  if (options_.trainer.empty()) options_.trainer = CONCORDAT_TRAINER_PATH;
  if (options_.model.empty()) {
    options_.model = root() / "tiny.gguf";
    options_.shape = kTinyShape;
    WriteTinyModel(options_.model);
  }
  if (!options_.records) options_.records = [](size_t i) { return TinyRecords(60, i + 1); };
  base_model_ = Must(crypto::Sha256File(options_.model));
  MakeIdentities();
  MakeCharter();
  for (size_t i = 0; i < options_.jurisdictions.size(); ++i) WriteRegion(i);
  Must(WriteFileAtomically(
      coordinator_folder() / "coordinator.yaml",
      fmt::format(kCoordinator, fmt::arg("port", port_), fmt::arg("charter", charter_.hex()),
                  fmt::arg("grace", options_.reconnect_grace.count()))));
}

Federation::~Federation() {
  workers_.clear();
  coordinator_.reset();
  if (::testing::Test::HasFailure() || std::uncaught_exceptions() > 0) PrintLogs();
}

path Federation::Region(const std::string& jurisdiction) const { return root() / "regions" / jurisdiction; }
path Federation::WorkerLog(const std::string& jurisdiction) const {
  return Region(jurisdiction) / "worker.log";
}
std::string Federation::address() const { return fmt::format("127.0.0.1:{}", port_); }

void Federation::MakeIdentities() {
  const SystemClock clock;
  OsRandom random;
  policy::CoordinatorInitOptions coordinator;
  coordinator.jurisdiction = "neutral.example";
  coordinator.ip_addresses = {"127.0.0.1"};
  coordinator.dns_names = {"localhost"};
  coordinator.keys = options_.keys;
  Must(policy::InitCoordinator(coordinator_folder(), coordinator, clock.Now(), random));
  Must(MakeFolder(root() / "regions"));
  for (const std::string& jurisdiction : options_.jurisdictions) {
    policy::RegionInitOptions region;
    region.jurisdiction = jurisdiction;
    region.keys = options_.keys;
    Must(policy::InitRegion(Region(jurisdiction), region, clock.Now(), random));
  }
}

void Federation::MakeCharter() {
  policy::Charter charter;
  charter.name = "test";
  charter.version = 1;
  charter.minimum_cohort = 3;
  charter.coordinator.id = Must(SpiffeId::Make("neutral.example", Role::kCoordinator, "main"));
  charter.coordinator.root_pem = Slurp(coordinator_folder() / "ca/root.pem");
  charter.coordinator.spki =
      Must(crypto::Certificate::FromPem(Slurp(coordinator_folder() / "coordinator/cert.pem"))).spki();
  charter.coordinator.address = address();
  charter.coordinator.tls_name = "localhost";
  for (const std::string& j : options_.jurisdictions) {
    charter.members.push_back({j, "the law of " + j, Slurp(Region(j) / "ca/root.pem")});
  }
  using policy::ArtefactKind;
  for (const auto kind : {ArtefactKind::kDelta, ArtefactKind::kMetrics, ArtefactKind::kEvaluation}) {
    charter.flows.push_back({kind, "*", "neutral.example", policy::LegalBasis::kConsent});
  }
  charter.flows.push_back({ArtefactKind::kAdapter, "neutral.example", "*", policy::LegalBasis::kConsent});
  std::string text = policy::CharterText(charter);
  charter_ = policy::CharterHash(text);
  for (const std::string& j : options_.jurisdictions) {
    const auto key = Must(crypto::SigningKey::FromPem(AsBytes(Slurp(Region(j) / "ca/root.key"))));
    text = Must(policy::SignCharterFile(text, "charter.yaml", j, key));
  }
  Must(WriteFileAtomically(root() / "charter.yaml", text));
}

void Federation::WriteRegion(size_t index) {
  const std::string& jurisdiction = options_.jurisdictions[index];
  const path folder = Region(jurisdiction);
  const auto write = [&](const char* name, const std::string& text) {
    Must(WriteFileAtomically(folder / name, text));
  };
  write("policy.yaml",
        fmt::format(kPolicy, fmt::arg("submitter", options_.jurisdictions[0]),
                    fmt::arg("model", base_model_.hex()), fmt::arg("unit_noise", options_.evaluation)));
  write("dataset-card.yaml",
        fmt::format(kCard, fmt::arg("jurisdiction", jurisdiction), fmt::arg("epsilon", options_.epsilon),
                    fmt::arg("unit", options_.unit),
                    fmt::arg("person", options_.unit == "person" ? "person_id_field: person\n" : "")));
  write("worker.yaml",
        fmt::format(kWorker, fmt::arg("charter", charter_.hex()), fmt::arg("model", options_.model.string()),
                    fmt::arg("trainer", options_.trainer.string())));
  write("operator.yaml",
        fmt::format(kOperator, fmt::arg("folder", "../../"), fmt::arg("charter", charter_.hex())));
  Must(MakeFolder(folder / "data"));
  write("data/records.jsonl", options_.records(index));
}

namespace {

std::string PrivacyText(const JobOptions& job) {
  if (job.shared_noise && job.unit != "site") {
    return fmt::format(
        "privacy:\n  unit: {}\n  noise: distributed\n  clip: {}\n  unit_clip: 0.5\n  noise_multiplier: {}\n"
        "  sampling_rate: 1\n  expected_units: 40\n  delta: 0.00001\n  modulus_bits: {}\n",
        job.unit, job.clip, job.unit_noise, job.modulus_bits);
  }
  if (job.unit != "site") {
    return fmt::format(
        "privacy:\n  unit: {}\n  noise: local\n  clip: {}\n  unit_clip: 0.5\n  noise_multiplier: {}\n"
        "  sampling_rate: 0.1\n  expected_units: 4\n  delta: 0.00001\n  modulus_bits: {}\n",
        job.unit, job.clip, job.unit_noise, job.modulus_bits);
  }
  return fmt::format(
      "privacy:\n  unit: site\n  noise: {}\n  clip: {}\n  noise_multiplier: {}\n  delta: 0.00001\n"
      "  rounding: {}\n  modulus_bits: {}\nmetrics: {{loss_bound: 8, noise_multiplier: {}}}\n",
      job.shared_noise ? "distributed" : "local", job.clip,
      job.shared_noise ? job.unit_noise
      : job.noise      ? "0.0005"
                       : "0",
      job.noise ? "stochastic" : "nearest", job.modulus_bits, job.noise ? "0.001" : "0");
}

}  // namespace

std::string Federation::JobText(const JobOptions& job) const {
  const auto& s = options_.shape;
  const std::string& step = job.step_deadline;
  return fmt::format(
      "name: {}\nseed: {}\ncharter: {}\n"
      "base_model:\n  name: {}\n  sha256: {}\n  license: Apache-2.0\n"
      "  shape: {{layers: {}, hidden: {}, intermediate: {}, heads: {}, kv_heads: {}, head_dim: {}}}\n"
      "adapter: {{method: {}, rank: 4, alpha: 8, targets: [q_proj, v_proj, down_proj]}}\n"
      "training:\n  local_steps: {}\n  batch_sequences: {}\n  sequence_tokens: {}\n  learning_rate: {}\n"
      "  schedule: constant\n{}rounds: {}\n"
      "cohort:\n  jurisdictions: [{}]\n  minimum: {}\n  min_survivors: {}\n  assumed_colluding: 1\n"
      "  attempts_per_round: {}\n  wait: {}\n"
      "deadlines: {{advert: {}, shares: {}, input: {}, agreement: {}, unmask: {}}}\n"
      "{}server: {{learning_rate: 1.0}}\n",
      job.name, job.seed, charter_.hex(), options_.model_name, base_model_.hex(), s.layers, s.hidden,
      s.intermediate, s.heads, s.kv_heads, s.head_dim, job.method, job.local_steps, job.batch_sequences,
      job.sequence_tokens, job.learning_rate,
      job.shared_noise && job.unit != "site" ? "  optimizer: sgd\n" : "", job.rounds,
      fmt::join(job.jurisdictions.empty() ? options_.jurisdictions : job.jurisdictions, ", "), job.minimum,
      job.min_survivors, job.attempts_per_round, job.wait, step, step, job.input_deadline, step, step,
      PrivacyText(job));
}

std::string Federation::WriteJob(const JobOptions& options, const std::string& name) const {
  Must(WriteFileAtomically(root() / name, JobText(options)));
  return (root() / name).string();
}

void Federation::Edit(const path& file, const std::string& from, const std::string& to) {
  std::string text = Slurp(file);
  const size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error(file.string() + " does not hold: " + from);
  Must(WriteFileAtomically(file, text.replace(at, from.size(), to)));
}

// ---- Processes.

void Federation::StartCoordinator(std::optional<uint64_t> file_bytes) {
  const path port_file = coordinator_folder() / "state/port";
  std::filesystem::remove(port_file);
  coordinator_ = std::make_unique<ChildProcess>(ChildProcess::Options{
      {CONCORDAT_COORDINATOR_PATH, "--config", (coordinator_folder() / "coordinator.yaml").string()},
      coordinator_folder() / "stderr.log",
      false,
      file_bytes});
  const bool ready = Await([&] { return std::filesystem::exists(port_file) || !coordinator_->running(); });
  if (!ready || !coordinator_->running()) throw std::runtime_error("the coordinator did not start");
}

void Federation::StartWorker(const std::string& jurisdiction, std::optional<uint64_t> file_bytes,
                             const std::vector<std::string>& more) {
  const auto network = options_.networks.find(jurisdiction);
  std::vector<std::string> words = {options_.worker.string(), "--config",
                                    (Region(jurisdiction) / "worker.yaml").string()};
  words.insert(words.end(), more.begin(), more.end());
  workers_[jurisdiction] = std::make_unique<ChildProcess>(
      ChildProcess::Options{std::move(words), Region(jurisdiction) / "stderr.log", false, file_bytes,
                            network == options_.networks.end() ? -1 : network->second});
}

json Federation::StatusOf(const std::string& jurisdiction) const {
  const Ran ran = RunToEnd(
      {CONCORDAT_CLI_PATH, "--json", "status", "--worker", (Region(jurisdiction) / "worker.yaml").string()});
  return ran.code == 0 ? json::parse(ran.out) : json();
}

void Federation::AwaitConnected(const std::string& jurisdiction) {
  const bool connected = Await([&] {
    const json status = StatusOf(jurisdiction);
    if (!status.is_null() && status.at("connected") == true) return true;
    if (!Worker(jurisdiction).running()) throw std::runtime_error("the worker of " + jurisdiction + " ended");
    return false;
  });
  if (!connected) throw std::runtime_error(jurisdiction + " did not connect");
}

void Federation::Start() {
  StartCoordinator();
  for (const std::string& j : options_.jurisdictions) StartWorker(j);
  for (const std::string& j : options_.jurisdictions) AwaitConnected(j);
}

void Federation::StopAll() {
  for (auto& [j, worker] : workers_) worker->Signal(SIGTERM);
  for (auto& [j, worker] : workers_) {
    if (const auto code = worker->Wait(); code != 0) {
      ADD_FAILURE() << "the worker of " << j << " ended with " << code.value_or(-1);
    }
  }
  workers_.clear();
  if (!coordinator_) return;
  coordinator_->Signal(SIGTERM);
  if (const auto code = coordinator_->Wait(); code != 0) {
    ADD_FAILURE() << "the coordinator ended with " << code.value_or(-1);
  }
  coordinator_.reset();
}

void Federation::Reset() {
  StopAll();
  std::filesystem::remove_all(coordinator_folder() / "state");
  for (const std::string& j : options_.jurisdictions) {
    std::filesystem::remove_all(Region(j) / "state");
    for (const char* anchor : {"anchor", "anchor.ledger"}) std::filesystem::remove(Region(j) / anchor);
  }
}

// ---- The command.

Ran Federation::Concordat(std::vector<std::string> words, std::chrono::seconds patience) const {
  words.insert(words.begin(), {CONCORDAT_CLI_PATH, "--json", "--config",
                               (Region(options_.jurisdictions[0]) / "operator.yaml").string()});
  return RunToEnd(std::move(words), After(patience));
}

Ran Federation::ConcordatAs(const std::string& jurisdiction, std::vector<std::string> words) const {
  words.insert(words.begin(),
               {CONCORDAT_CLI_PATH, "--config", (Region(jurisdiction) / "operator.yaml").string()});
  return RunToEnd(std::move(words));
}

std::string Federation::Submit(const std::string& job_file) const {
  const Ran ran = Concordat({"submit", job_file});
  if (ran.code != 0) throw std::runtime_error(fmt::format("submit ended with {}: {}", ran.code, ran.err));
  return json::parse(ran.out).at("job");
}

Watch Federation::WatchJob(const std::string& job) const {
  return Watch({{CONCORDAT_CLI_PATH, "--json", "--config",
                 (Region(options_.jurisdictions[0]) / "operator.yaml").string(), "watch", job},
                root() / "watch.log",
                true,
                {}});
}

bool Federation::AwaitText(const path& file, const std::string& text, std::chrono::seconds patience) {
  return Await([&] { return ReadTextFile(file).value_or("").find(text) != std::string::npos; },
               After(patience));
}

void Federation::PrintLogs() const {
  const auto print = [](const path& file) {
    const std::string text = ReadTextFile(file).value_or("");
    if (text.empty()) return;
    constexpr size_t kTail = 6000;
    fmt::print(stderr, "---- {}\n{}\n", file.string(),
               text.substr(text.size() > kTail ? text.size() - kTail : 0));
  };
  print(coordinator_log());
  print(coordinator_folder() / "stderr.log");
  print(root() / "watch.log");
  for (const std::string& j : options_.jurisdictions) {
    print(WorkerLog(j));
    print(Region(j) / "stderr.log");
  }
}

std::vector<std::string> FilesThatHold(const path& folder, std::string_view needle, const std::string& skip) {
  std::vector<std::string> out;
  auto it = std::filesystem::recursive_directory_iterator(folder);
  for (; it != std::filesystem::recursive_directory_iterator(); ++it) {
    if (it->is_directory() && !skip.empty() && it->path().filename() == skip) it.disable_recursion_pending();
    if (!it->is_regular_file()) continue;
    const auto text = ReadTextFile(it->path(), uint64_t{1} << 32);
    if (text.ok() && text->find(needle) != std::string::npos) out.push_back(it->path().string());
  }
  return out;
}

std::string PersonRecords(size_t region) {
  std::string out;
  int n = 0;
  for (nlohmann::json record : JsonLines(TinyRecords(60, region + 1))) {
    record["person"] = fmt::format("p{}", n++ % 20);
    out += record.dump() + "\n";
  }
  return out;
}

std::vector<json> JsonLines(const std::string& text) {
  std::vector<json> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) out.push_back(json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

}  // namespace concordat::testing
