// What a round costs besides training: a real coordinator as a process of its own, real certificates, mutual
// TLS over loopback, one jurisdiction for each site; the sites are workers without a trainer (round_site.h),
// whose delta is there at once, all in this process. Each round is a job of its own, checked: what was
// published is, bit for bit, the plain sum of what the survivors encoded. Exit code 1 when it is not.
//
//   round_bench --sites 100 --elements 1000000 --lost 30
//   round_bench --sites 10 --elements 24400000 --lost 1 --at input --noise off --rounds 4 --json
//
// A round's time is from the first offer that a site has until the last site has recomputed the adapter.
// Sites and coordinator share the machine; quote ratios from one run.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "common/logging.h"
#include "concordat/v1/jobs.grpc.pb.h"
#include "policy/job.h"
#include "policy/region_init.h"
#include "policy/signed_job.h"
#include "privacy/crypto/hash.h"
#include "privacy/mechanism/encoder.h"
#include "proto/tls.h"
#include "proto/wire.h"
#include "tests/bench/round_site.h"
#include "tests/support/child_process.h"
#include "tests/support/free_port.h"
#include "tests/support/temp_dir.h"

namespace concordat::bench {
namespace {

namespace pb = ::concordat::v1;
using nlohmann::json;
using std::filesystem::path;

struct Options {
  uint32_t sites = 4;
  uint64_t elements = 1'000'000;
  uint32_t lost = 0;
  std::string at = "random";
  std::string noise = "off";
  uint32_t rounds = 1;
  uint64_t seed = 1;
  uint32_t grace_ms = 1000;
  uint32_t patience_s = 900;
  std::string coordinator;
  bool as_json = false;
  bool verbose = false;
};

/// Layers and rank of an adapter of at least `elements`, all seven linear layers of SmolLM2-135M's shape.
struct Model {
  ModelShape shape{0, 576, 1536, 9, 3, 64};
  uint32_t rank = 0;
};
Model ModelOf(uint64_t elements) {
  constexpr uint64_t kOfOne = 10'176;  // of one layer and rank
  constexpr uint64_t kMostLayers = 30, kMostRank = 256;
  for (uint64_t units = std::max<uint64_t>(1, (elements + kOfOne - 1) / kOfOne);; ++units) {
    if (units > kMostLayers * kMostRank) throw std::runtime_error("--elements: too many");
    for (uint64_t layers = kMostLayers; layers > 0; --layers) {
      if (units % layers != 0 || units / layers > kMostRank) continue;
      Model model;
      model.shape.layers = static_cast<uint32_t>(layers);
      model.rank = static_cast<uint32_t>(units / layers);
      return model;
    }
  }
}

std::string JurisdictionOf(uint32_t i) { return fmt::format("j{:03}.example", i); }
std::string WorkerOf(uint32_t i) { return fmt::format("spiffe://{}/worker/site", JurisdictionOf(i)); }

/// Uniform, with an L2 norm of about 0.9.
worker::Floats Planted(uint64_t elements, uint64_t seed) {
  auto out = std::make_shared<std::vector<float>>(elements);
  std::minstd_rand random(static_cast<uint32_t>(seed) + 1);
  const float scale = 0.9F * std::sqrt(3.0F / static_cast<float>(elements));
  for (float& x : *out)
    x = scale * (static_cast<float>(random()) / static_cast<float>(std::minstd_rand::max()) * 2 - 1);
  return out;
}

/// A figure of /proc/PID/status, in bytes; 0 when it is not there.
uint64_t MemoryOf(pid_t pid, const std::string& name) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1)) * 1024;
  return 0;
}

/// The most anonymous memory (heap and stacks, no mapped files) that a process has had since Reset, looked at
/// every 5 ms: the kernel keeps a peak only for all kinds together.
class AnonymousPeak {
 public:
  explicit AnonymousPeak(pid_t pid)
      : thread_([this, pid](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            const uint64_t now = MemoryOf(pid, "RssAnon");
            if (now > peak_) peak_ = now;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }) {}
  void Reset() { peak_ = 0; }
  uint64_t bytes() const { return peak_; }

 private:
  std::atomic<uint64_t> peak_ = 0;
  std::jthread thread_;
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t n = values.size();
  return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), model_(ModelOf(options.elements)) {
    world_.root = folder_.path();
    world_.shape = model_.shape;
    world_.base_model = crypto::Sha256(AsBytes("base"));
    LoraSpec spec;
    spec.rank = model_.rank;
    spec.alpha = 2.0 * model_.rank;
    spec.targets.assign(kAllLoraTargets.begin(), kAllLoraTargets.end());
    elements_ = Must(AdapterLayout::Make(model_.shape, spec)).delta_elements();
    if (options.lost > options.sites - Threshold()) throw std::runtime_error("--lost: more than can be lost");
    MakeCharter();
    StartCoordinator();
    for (uint32_t i = 0; i < options.sites; ++i) {
      deltas_.push_back(Planted(elements_, i));
      sites_.push_back(nullptr);
    }
    for (uint32_t i = 0; i < options.sites; ++i) Join(i);
    AwaitAll();
    idle_ = MemoryOf(coordinator_->pid(), "RssAnon");
    peak_.emplace(coordinator_->pid());
  }

  ~Bench() {
    sites_.clear();
    peak_.reset();
    coordinator_->Signal(SIGTERM);
    (void)coordinator_->Wait();
  }

  /// Whether all was exact.
  bool Run() {
    json rounds = json::array();
    bool exact = true;
    for (uint32_t r = 0; r < options_.rounds; ++r) {
      rounds.push_back(RunRound(r));
      exact = exact && rounds.back()["exact"].get<bool>();
      if (!options_.as_json) Print(rounds.back());
      for (uint32_t i = 0; i < options_.sites; ++i)
        if (sites_[i]->gone()) Join(i);
      AwaitAll();
    }
    json out = {{"sites", options_.sites},
                {"lost", options_.lost},
                {"noise", options_.noise == "on"},
                {"elements", elements_},
                {"at", options_.at},
                {"grace_ms", options_.grace_ms},
                {"coordinator_idle_bytes", idle_},
                {"exact", exact},
                {"seconds", Typical(rounds, "seconds")},
                {"up_bytes_per_element", Typical(rounds, "up_bytes_per_element")},
                {"coordinator_vectors", Typical(rounds, "coordinator_vectors")}};
    if (options_.as_json) {
      out["rounds"] = rounds;
      fmt::print("{}\n", out.dump());
    } else {
      fmt::print("median{}: {:.2f} s\n", options_.rounds > 1 ? " after the first" : "",
                 out["seconds"].get<double>());
    }
    return exact;
  }

 private:
  uint32_t Threshold() const { return 2 * options_.sites / 3 + 1; }
  std::string Slurp(const path& file) const { return Must(ReadTextFile(file)); }

  void MakeCharter() {
    policy::CoordinatorInitOptions init;
    init.jurisdiction = "neutral.example";
    init.ip_addresses = {"127.0.0.1"};
    const path home = folder_ / "coordinator";
    Must(policy::InitCoordinator(home, init, clock_.Now(), random_));
    policy::Charter charter;
    charter.name = "bench";
    charter.version = 1;
    charter.minimum_cohort = 3;
    charter.coordinator.id = Must(SpiffeId::Make("neutral.example", Role::kCoordinator, "main"));
    charter.coordinator.root_pem = Slurp(home / "ca/root.pem");
    charter.coordinator.spki =
        Must(crypto::Certificate::FromPem(Slurp(home / "coordinator/cert.pem"))).spki();
    charter.coordinator.address = "127.0.0.1:7443";
    charter.coordinator.tls_name = "127.0.0.1";
    for (uint32_t i = 0; i < options_.sites; ++i) {
      policy::RegionInitOptions region;
      region.jurisdiction = JurisdictionOf(i);
      Must(policy::InitRegion(folder_ / region.jurisdiction, region, clock_.Now(), random_));
      charter.members.push_back(
          {region.jurisdiction, "some law", Slurp(folder_ / region.jurisdiction / "ca/root.pem")});
    }
    using policy::ArtefactKind;
    for (const auto kind : {ArtefactKind::kDelta, ArtefactKind::kMetrics, ArtefactKind::kAdapter})
      charter.flows.push_back({kind, "*", "*", policy::LegalBasis::kConsent});
    std::string text = policy::CharterText(charter);
    for (const auto& member : charter.members) {
      const auto key =
          Must(crypto::SigningKey::FromPem(AsBytes(Slurp(folder_ / member.jurisdiction / "ca/root.key"))));
      text = Must(policy::SignCharterFile(text, "charter.yaml", member.jurisdiction, key));
    }
    Must(WriteFileAtomically(folder_ / "charter.yaml", text));
    world_.charter = Must(policy::ParseSignedCharter(text, "charter.yaml"));
  }

  void StartCoordinator() {
    const path home = folder_ / "coordinator";
    world_.address = fmt::format("127.0.0.1:{}", testing::FreePort());
    Must(WriteFileAtomically(
        home / "bench.yaml",
        fmt::format("listen: {}\ncharter:\n  file: ../charter.yaml\n  hash: {}\n"
                    "certificate: coordinator/cert.pem\nkey: coordinator/key.pem\nstate: state\n"
                    "limits: {{reconnect_grace: {}ms, max_state_bytes: 1099511627776}}\n",
                    world_.address, world_.charter.hash.hex(), options_.grace_ms)));
    std::string program = options_.coordinator;
    if (program.empty())
      program =
          (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "concordat-coordinator").string();
    testing::ChildProcess::Options child;
    child.argv = {program, "--config", (home / "bench.yaml").string()};
    child.error_file = home / "coordinator.log";
    coordinator_ = std::make_unique<testing::ChildProcess>(std::move(child));
    const path port = home / "state/port";
    (void)testing::Await([&] { return std::filesystem::exists(port) || !coordinator_->running(); });
    if (!std::filesystem::exists(port))
      throw std::runtime_error("the coordinator did not start: " + Slurp(home / "coordinator.log"));
    const path keys = folder_ / JurisdictionOf(0) / "operator";
    operator_ = {Slurp(keys / "cert.pem"), Slurp(keys / "key.pem")};
    const auto& c = world_.charter.charter.coordinator;
    jobs_ = pb::Jobs::NewStub(grpc::CreateChannel(
        world_.address, tls::ClientCredentials(operator_, {c.root_pem, c.id, c.key_hash()}, clock_)));
  }

  void Join(uint32_t i) {
    sites_[i].reset();
    const path folder = folder_ / JurisdictionOf(i) / fmt::format("state-{}", joined_++);
    sites_[i] = std::make_unique<Site>(world_, JurisdictionOf(i), folder, deltas_[i], moments_);
  }

  void AwaitAll() {
    const bool all = testing::Await(
        [&] {
          grpc::ClientContext context;
          pb::StatusReply status;
          const auto said = jobs_->Status(&context, {}, &status);
          return said.ok() && static_cast<uint32_t>(status.connected_size()) == options_.sites;
        },
        testing::After(std::chrono::seconds(options_.patience_s)));
    if (!all) throw std::runtime_error("not all sites connected");
  }

  std::string JobText(uint32_t round) const {
    const auto& s = model_.shape;
    std::string invited;
    for (uint32_t i = 0; i < options_.sites; ++i) invited += (i == 0 ? "" : ", ") + JurisdictionOf(i);
    const bool noise = options_.noise == "on";
    return fmt::format(
        "name: round-{}\nseed: 7\ncharter: {}\n"
        "base_model:\n  name: bench\n  sha256: {}\n  license: Apache-2.0\n"
        "  shape: {{layers: {}, hidden: {}, intermediate: {}, heads: {}, kv_heads: {}, head_dim: {}}}\n"
        "adapter: {{method: fedit, rank: {}, alpha: {}, targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, "
        "up_proj, down_proj]}}\n"
        "training:\n  local_steps: 1\n  batch_sequences: 1\n  sequence_tokens: 16\n  learning_rate: 0.001\n"
        "  schedule: constant\nrounds: 1\n"
        "cohort:\n  jurisdictions: [{}]\n  minimum: {}\n  min_survivors: {}\n  assumed_colluding: 1\n"
        "  attempts_per_round: 1\n  wait: 10m\n"
        "deadlines: {{advert: 10m, shares: 10m, input: 1h, agreement: 10m, unmask: 10m}}\n"
        "privacy:\n  unit: site\n  noise: local\n  clip: 1.0\n  noise_multiplier: {}\n  delta: 0.00001\n"
        "  rounding: stochastic\nmetrics: {{loss_bound: 8, noise_multiplier: {}}}\n"
        "server: {{learning_rate: 1.0}}\n",
        round, world_.charter.hash.hex(), world_.base_model.hex(), s.layers, s.hidden, s.intermediate,
        s.heads, s.kv_heads, s.head_dim, model_.rank, 2 * model_.rank, invited, options_.sites, Threshold(),
        noise ? "1.0" : "0", noise ? "1.0" : "0");
  }

  std::string Submit(uint32_t round) {
    const auto key = Must(crypto::SigningKey::FromPem(AsBytes(operator_.private_key)));
    const policy::SignedJob job = policy::SignJob(JobText(round), key, operator_.certificate_chain);
    pb::SubmitRequest request;
    request.set_job_file(job.file);
    request.set_signature(job.signature.data(), job.signature.size());
    request.set_submitter_chain(job.submitter_chain);
    pb::SubmitReply reply;
    grpc::ClientContext context;
    const auto status = jobs_->Submit(&context, request, &reply);
    if (!status.ok()) throw std::runtime_error("submit: " + status.error_message());
    return reply.job();
  }

  /// The job's states up to its end, or only the first. A stream that breaks is opened again: on a machine
  /// that is busy with a hundred sites a connection's keepalive may come too late.
  pb::JobState Watch(const std::string& job, bool to_end) {
    const auto until = std::chrono::system_clock::now() + std::chrono::seconds(options_.patience_s);
    pb::WatchRequest request;
    request.set_job(job);
    for (pb::JobState state;;) {
      grpc::ClientContext context;
      context.set_deadline(until);
      const auto reader = jobs_->Watch(&context, request);
      bool read = false;
      while (reader->Read(&state)) {
        read = true;
        if (!to_end) break;
      }
      context.TryCancel();
      (void)reader->Finish();
      const bool ended = state.state() == pb::JobState::DONE || state.state() == pb::JobState::FAILED ||
                         state.state() == pb::JobState::CANCELLED;
      if ((read && !to_end) || ended || std::chrono::system_clock::now() > until) return state;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }

  /// Who vanishes before which of its messages.
  std::map<uint32_t, Step> Lost(uint32_t round) const {
    std::mt19937_64 random(options_.seed + round);
    std::vector<uint32_t> order(options_.sites);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::shuffle(order, random);
    std::map<uint32_t, Step> out;
    for (uint32_t i = 0; i < options_.lost; ++i) {
      int step = static_cast<int>(random() % kSteps);
      for (int s = 0; s < kSteps; ++s)
        if (StepName(static_cast<Step>(s)) == options_.at) step = s;
      out[order[i]] = static_cast<Step>(step);
    }
    return out;
  }

  json RunRound(uint32_t round) {
    const auto lost = Lost(round);
    for (const auto& [i, step] : lost) sites_[i]->VanishBefore(step);
    moments_.Reset();
    peak_->Reset();
    const std::string job = Submit(round);
    pb::JobState state = Watch(job, true);
    if (state.state() != pb::JobState::DONE || state.rounds_size() != 1)
      throw std::runtime_error(fmt::format("round {}: {} {}\n{}", round, static_cast<int>(state.state()),
                                           state.failure_text(), Troubles()));
    const uint32_t left = options_.sites - options_.lost;
    if (!moments_.Await(Moments::kAcknowledged, left, std::chrono::seconds(options_.patience_s)))
      throw std::runtime_error(fmt::format("round {}: {} of {} acknowledged\n{}", round,
                                           moments_.Count(Moments::kAcknowledged), left, Troubles()));
    state = Watch(job, false);
    json out = Times();
    out["lost_before"] = json::object();
    for (const auto& [i, step] : lost) {
      json& count = out["lost_before"][std::string(StepName(step))];
      count = count.is_null() ? 1 : count.get<int>() + 1;
    }
    out["survivors"] = state.rounds(0).survivors_size();
    const std::string troubles = Troubles();
    out["exact"] = troubles.empty() && IsExact(state.rounds(0));
    if (!troubles.empty()) out["troubles"] = troubles;
    AddTraffic(state, &out);
    const double grown = static_cast<double>(peak_->bytes()) - static_cast<double>(idle_);
    out["coordinator_grown_bytes"] = grown;
    out["coordinator_vectors"] = grown / (4.0 * static_cast<double>(elements_));
    return out;
  }

  std::string Troubles() const {
    std::string out;
    for (const auto& site : sites_)
      if (!site->trouble().empty()) out += site->trouble() + "\n";
    return out;
  }

  json Times() const {
    using M = Moments;
    const auto between = [](M::Time from, M::Time to) {
      return std::chrono::duration<double>(to - from).count();
    };
    const M::Time offer = moments_.First(M::kOffer), keys = moments_.First(M::kKeys);
    const M::Time delivery = moments_.First(M::kDelivery), survivors = moments_.First(M::kSurvivors);
    const M::Time bundle = moments_.First(M::kBundle), result = moments_.First(M::kResult);
    const M::Time end = moments_.Last(M::kAcknowledged);
    return {{"seconds", between(offer, end)},          {"adverts", between(offer, keys)},
            {"shares", between(keys, delivery)},       {"input", between(delivery, survivors)},
            {"agreement", between(survivors, bundle)}, {"unmask", between(bundle, result)},
            {"recompute", between(result, end)}};
  }

  /// What the survivors' encoders give, added up, against what was published.
  bool IsExact(const pb::RoundSummary& round) const {
    std::vector<uint32_t> sum, block;
    for (const std::string& worker : round.survivors()) {
      const Site* site = nullptr;
      for (uint32_t i = 0; i < options_.sites; ++i)
        if (WorkerOf(i) == worker) site = sites_[i].get();
      if (site == nullptr || !site->encoded()) return false;
      const Site::Encoded& e = *site->encoded();
      const Encoder encoder = Must(Encoder::Make(e.plan, *e.delta, 1, e.metrics, e.seed));
      sum.resize(e.plan.total_elements());
      for (uint64_t at = 0; at < sum.size(); at += kEncodeBlockElements) {
        block.resize(std::min<uint64_t>(kEncodeBlockElements, sum.size() - at));
        Must(encoder.Encode(at, block));
        for (size_t k = 0; k < block.size(); ++k) sum[at + k] += block[k];
      }
    }
    const ByteView bytes(reinterpret_cast<const uint8_t*>(sum.data()), 4 * sum.size());
    return !sum.empty() && wire::BytesOf(crypto::Sha256(bytes)) == round.sum_sha256();
  }

  /// The coordinator's own counters, of the sites that stayed.
  void AddTraffic(const pb::JobState& state, json* out) {
    double up = 0, down = 0;
    uint32_t stayed = 0;
    for (const auto& region : state.regions()) {
      auto& [up_before, down_before] = traffic_[region.worker()];
      for (uint32_t i = 0; i < options_.sites; ++i) {
        if (WorkerOf(i) != region.worker() || sites_[i]->gone()) continue;
        up += static_cast<double>(region.bytes_up() - up_before);
        down += static_cast<double>(region.bytes_down() - down_before);
        ++stayed;
      }
      up_before = region.bytes_up();
      down_before = region.bytes_down();
    }
    (*out)["up_bytes"] = up / stayed;
    (*out)["down_bytes"] = down / stayed;
    (*out)["up_bytes_per_element"] = up / stayed / static_cast<double>(elements_);
    (*out)["down_bytes_per_element"] = down / stayed / static_cast<double>(elements_);
  }

  /// Median over the rounds; the first warms up, if there are others.
  static double Typical(const json& rounds, const char* key) {
    std::vector<double> values;
    for (size_t r = rounds.size() > 1 ? 1 : 0; r < rounds.size(); ++r)
      values.push_back(rounds[r][key].get<double>());
    return Median(values);
  }

  void Print(const json& r) const {
    fmt::print(
        "{:.2f} s: adverts {:.2f}, shares {:.2f}, input {:.2f}, agreement {:.2f}, unmask and sum {:.2f}, "
        "fetched and "
        "recomputed {:.2f}\n  {} sites, {} elements, {} lost {}, {} summed: {}\n"
        "  up {:.4f} and down {:.4f} bytes an element and site; coordinator {:.1f} MiB over idle: {:.1f} "
        "vectors\n",
        r["seconds"].get<double>(), r["adverts"].get<double>(), r["shares"].get<double>(),
        r["input"].get<double>(), r["agreement"].get<double>(), r["unmask"].get<double>(),
        r["recompute"].get<double>(), options_.sites, elements_, options_.lost, r["lost_before"].dump(),
        r["survivors"].get<int>(), r["exact"].get<bool>() ? "exact" : "WRONG",
        r["up_bytes_per_element"].get<double>(), r["down_bytes_per_element"].get<double>(),
        r["coordinator_grown_bytes"].get<double>() / 1048576, r["coordinator_vectors"].get<double>());
    if (r.contains("troubles")) fmt::print("{}", r["troubles"].get<std::string>());
    std::fflush(stdout);
  }

  const Options options_;
  const Model model_;
  const testing::TempDir folder_;
  SystemClock clock_;
  OsRandom random_;
  World world_;
  uint64_t elements_ = 0;
  Moments moments_;
  std::unique_ptr<testing::ChildProcess> coordinator_;
  tls::Identity operator_;
  std::unique_ptr<pb::Jobs::Stub> jobs_;
  std::vector<worker::Floats> deltas_;
  std::vector<std::unique_ptr<Site>> sites_;
  uint32_t joined_ = 0;
  uint64_t idle_ = 0;  // anonymous memory of the coordinator before the first round
  std::optional<AnonymousPeak> peak_;
  std::map<std::string, std::pair<uint64_t, uint64_t>> traffic_;  // up and down, by worker
};

}  // namespace
}  // namespace concordat::bench

int main(int argc, char** argv) {
  using namespace concordat;
  tls::RequireTls13();
  bench::Options o;
  CLI::App app{"Times rounds of sites without trainers against a real coordinator, and checks every sum."};
  app.add_option("--sites", o.sites, "one jurisdiction each")->check(CLI::Range(3, 100));
  app.add_option("--elements", o.elements, "of a vector, at least; the nearest adapter is taken");
  app.add_option("--lost", o.lost, "sites that vanish in each round");
  app.add_option("--at", o.at, "before which message they vanish; input: in the middle of the upload")
      ->check(CLI::IsMember({"random", "advert", "shares", "input", "header", "agreement", "unmask"}));
  app.add_option("--noise", o.noise, "on: sigma is the sensitivity")->check(CLI::IsMember({"on", "off"}));
  app.add_option("--rounds", o.rounds, "the first is not counted when there are more")
      ->check(CLI::Range(1, 1000));
  app.add_option("--seed", o.seed, "of who is lost, and when");
  app.add_option("--grace-ms", o.grace_ms, "the coordinator waits so long for a site whose connection broke");
  app.add_option("--patience-s", o.patience_s, "a round that takes longer has failed");
  app.add_option("--coordinator", o.coordinator, "its program; else the one beside this");
  app.add_flag("--json", o.as_json, "one object at the end");
  app.add_flag("--verbose", o.verbose, "the sites' logs");
  CLI11_PARSE(app, argc, argv);
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("round_bench"));
  spdlog::set_level(o.verbose ? spdlog::level::debug : spdlog::level::warn);
  try {
    return bench::Bench(o).Run() ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
