#include "tests/sim/simulation.h"

#include <algorithm>
#include <queue>

#include "tests/sim/coordinator_node.h"
#include "tests/sim/worker_node.h"

namespace concordat::sim {
namespace {

using secagg::testing::At;

constexpr Millis kLimit{30 * 60'000};
constexpr Millis kAftermath{60'000};
constexpr size_t kTraceLines = 4'000;

Weather WeatherOf(Rng& rng) {
  const auto pick = [&](std::initializer_list<double> of) { return of.begin()[rng.Below(of.size())]; };
  Weather w;
  w.loss = pick({0, 0, 0.01, 0.05, 0.15});
  w.repeat = pick({0, 0.05, 0.2});
  w.slow = pick({0, 0.02, 0.1});
  w.disconnect = pick({0, 0.005, 0.03});
  w.worker_crash = pick({0, 0, 0.02, 0.06});
  w.coordinator_crash = pick({0, 0, 0.03, 0.1});
  w.crashes_of_a_node = static_cast<uint32_t>(rng.Below(4));
  w.sudden_deaths = static_cast<uint32_t>(rng.Below(4));
  w.gone_for_good = pick({0, 0, 0.2});
  w.patience = Millis(static_cast<int64_t>(pick({0, 6'000, 6'000, 15'000})));
  w.long_outage = pick({0, 0, 0.2});
  return w;
}

// Sites' keys are the same in every run and slow to make: each thread keeps its own.
World& WorldOf(uint32_t sites, uint64_t elements) {
  thread_local std::map<uint32_t, std::unique_ptr<World>> worlds;
  auto& world = worlds[sites];
  if (world == nullptr) world = std::make_unique<World>(sites);
  world->offer.elements = world->bounds.elements = elements;
  return *world;
}

class Simulation final : public Env {
 public:
  explicit Simulation(const Options& options)
      : options_(options),
        rng_(options.seed),
        sites_(options.sites != 0 ? options.sites : DrawSites(rng_)),
        world_(WorldOf(sites_, options.elements != 0 ? options.elements : 8 + rng_.Below(25))),
        weather_(options.weather.has_value() ? *options.weather : WeatherOf(rng_)) {
    world_.pairwise.clear();
    if (options_.pairwise) world_.CarryPairwiseKeys();
    if (options_.attempts == 0) options_.attempts = static_cast<uint32_t>(rng_.Between(1, 3));
    world_.offer.attempts_allowed = options_.attempts;
    world_.offer.deadlines = {10'000, 10'000, 40'000, 10'000, 10'000};
    world_.offer.id.attempt = world_.bounds.id.attempt = 0;
    watchdog_ = Millis(rng_.Between(1'000, 3'000));
    for (uint32_t i = 0; i <= world_.n(); ++i) MakeNode(static_cast<SiteIndex>(i));
  }
  Report Run();

  Instant now() const override { return now_; }
  Rng& rng() override { return rng_; }
  Monitor& monitor() override { return monitor_; }
  World& world() override { return world_; }
  Sabotage sabotage() const override { return options_.sabotage; }
  AttemptIndex attempts_allowed() const override { return options_.attempts; }
  Millis patience() const override { return weather_.patience; }
  void SendToCoordinator(SiteIndex from, ToCoordinator message) override;
  void SendToWorker(SiteIndex to, ToWorker message) override;
  void CallAt(SiteIndex node, Instant when, std::function<void()> call) override;
  void Trace(SiteIndex node, const std::string& line) override;

 private:
  struct Event {
    Instant at;
    uint64_t order = 0;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // for a queue whose greatest is the earliest
      return std::tie(other.at, other.order) < std::tie(at, order);
    }
  };
  struct Node {
    std::unique_ptr<Disk> disk;
    std::unique_ptr<WorkerNode> worker;
    std::unique_ptr<CoordinatorNode> coordinator;
    bool up = false;
    uint64_t incarnation = 0;
    uint32_t crashes = 0;
    bool power_cut = false;
    Millis away{0};  // of the planned crash that it died of
    // A worker's connection as it sees it.
    bool connected = false;
    uint64_t connection = 0;
    Instant heard{};
  };

  static uint32_t DrawSites(Rng& rng) {
    constexpr uint32_t kSites[] = {3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5, 5, 5, 6, 7, 8};
    return kSites[rng.Below(std::size(kSites))];
  }
  void MakeNode(SiteIndex id);
  std::optional<CrashMode> DiesAt(SiteIndex id, uint64_t write);
  void Schedule(Instant at, std::function<void()> run) { events_.push({at, order_++, std::move(run)}); }
  // Runs something on a node that is up; its death ends there.
  void On(SiteIndex id, const std::function<void(Node&)>& what);
  void Boot(SiteIndex id);
  void Die(SiteIndex id);
  void Connect(SiteIndex id);
  void Disconnect(SiteIndex id);
  void Watch(SiteIndex id, Millis wait, secagg::WorkerPhase before);
  void Transmit(SiteIndex site, const std::function<void()>& deliver);
  bool Quiet() const;

  Options options_;
  Rng rng_;
  uint32_t sites_;
  World& world_;
  Weather weather_;
  Monitor monitor_;
  Millis watchdog_;
  Instant now_ = At(0);
  uint64_t order_ = 0;
  std::priority_queue<Event> events_;
  std::vector<Node> nodes_;
  uint32_t crashes_ = 0;
  uint64_t handled_ = 0;
  std::vector<std::string> trace_;
};

// ---- Nodes.

void Simulation::MakeNode(SiteIndex id) {
  Node& node = nodes_.emplace_back();
  node.disk = std::make_unique<Disk>(rng_, [this, id](uint64_t write) { return DiesAt(id, write); });
}

std::optional<CrashMode> Simulation::DiesAt(SiteIndex id, uint64_t write) {
  Node& node = nodes_[id];
  for (const PlannedCrash& crash : options_.crashes) {
    if (crash.node != id || crash.write != write) continue;
    node.power_cut = crash.power_cut;
    node.away = crash.away;
    return crash.mode;
  }
  if (node.crashes >= weather_.crashes_of_a_node) return std::nullopt;
  if (!rng_.Chance(id == 0 ? weather_.coordinator_crash : weather_.worker_crash)) return std::nullopt;
  node.power_cut = rng_.Chance(0.5);
  return static_cast<CrashMode>(rng_.Below(3));
}

void Simulation::On(SiteIndex id, const std::function<void(Node&)>& what) {
  Node& node = nodes_[id];
  if (!node.up) return;
  try {
    what(node);
  } catch (const NodeCrashed&) {
    Die(id);
  }
}

void Simulation::Boot(SiteIndex id) {
  Node& node = nodes_[id];
  node.up = true;
  ++node.incarnation;
  Trace(id, fmt::format("starts, {} writes so far", node.disk->writes()));
  On(id, [&](Node& n) {
    if (id == 0) {
      n.coordinator = std::make_unique<CoordinatorNode>(*this, *n.disk);
    } else {
      n.worker = std::make_unique<WorkerNode>(id, n.incarnation, *this, *n.disk);
    }
  });
  if (node.up && id != 0) Connect(id);
}

void Simulation::Die(SiteIndex id) {
  Node& node = nodes_[id];
  Trace(id, fmt::format("dies at write {}{}", node.disk->writes(), node.power_cut ? ", power cut" : ""));
  node.up = false;
  node.worker.reset();
  node.coordinator.reset();
  node.disk->Crash(node.power_cut);
  ++node.crashes;
  ++crashes_;
  if (id == 0) {
    for (size_t i = 1; i < nodes_.size(); ++i) Disconnect(static_cast<SiteIndex>(i));
  } else {
    Disconnect(id);
    if (rng_.Chance(weather_.gone_for_good)) return;
  }
  Millis away = std::exchange(node.away, Millis(0));
  if (away == Millis(0)) {
    const bool is_long = rng_.Chance(weather_.long_outage);
    away = Millis(is_long ? rng_.Between(5'000, 90'000) : rng_.Between(50, 3'000));
  }
  Schedule(now_ + away, [this, id] { Boot(id); });
}

void Simulation::CallAt(SiteIndex node, Instant when, std::function<void()> call) {
  const uint64_t incarnation = nodes_[node].incarnation;
  Schedule(std::max(when, now_), [this, node, incarnation, call = std::move(call)] {
    if (nodes_[node].incarnation == incarnation) On(node, [&](Node&) { call(); });
  });
}

void Simulation::Trace(SiteIndex node, const std::string& line) {
  if (!options_.trace || trace_.size() >= kTraceLines) return;
  trace_.push_back(fmt::format("{:>8} ms  {}  {}", (now_ - At(0)).count(),
                               node == 0 ? "coordinator" : fmt::format("site {}     ", int{node}), line));
}

// ---- The network.

void Simulation::Connect(SiteIndex id) {
  Node& node = nodes_[id];
  if (!node.up || node.connected) return;
  if (!nodes_[0].up || nodes_[0].coordinator == nullptr) {
    Schedule(now_ + Millis(rng_.Between(200, 1'500)), [this, id] { Connect(id); });
    return;
  }
  node.connected = true;
  node.heard = now_;
  const uint64_t connection = ++node.connection;
  Schedule(now_ + Millis(rng_.Between(1, 60)), [this, id, connection] {
    On(0, [&](Node& n) { n.coordinator->OnConnected(id, connection); });
    On(id, [&](Node& n) { n.worker->OnConnected(); });
  });
}

void Simulation::Disconnect(SiteIndex id) {
  Node& node = nodes_[id];
  if (!node.connected) return;
  node.connected = false;
  const uint64_t connection = node.connection;
  // The other end hears of it at its own time, now and then after the next connection.
  Schedule(now_ + Millis(rng_.Between(1, 4'000)),
           [this, id, connection] { On(0, [&](Node& n) { n.coordinator->OnLost(id, connection); }); });
  Schedule(now_ + Millis(rng_.Between(50, 2'500)), [this, id] { Connect(id); });
}

// A worker that hears nothing for a while connects anew, and so asks for the current step again; less and
// less often while that brings it no further.
void Simulation::Watch(SiteIndex id, Millis wait, secagg::WorkerPhase before) {
  Node& node = nodes_[id];
  const auto phase = node.up ? node.worker->phase() : before;
  const bool waits = node.up && node.connected && phase != secagg::WorkerPhase::kReady;
  if (phase != before) wait = watchdog_;
  if (waits && now_ - node.heard >= wait && !(Quiet() && node.worker->idle())) {
    Disconnect(id);
    wait = std::min(2 * wait, Millis(8'000));
  }
  Schedule(now_ + wait, [this, id, wait, phase] { Watch(id, wait, phase); });
}

void Simulation::Transmit(SiteIndex site, const std::function<void()>& deliver) {
  Node& node = nodes_[site];
  if (!node.connected) return;
  if (rng_.Chance(weather_.disconnect)) Disconnect(site);
  const int copies = rng_.Chance(weather_.repeat) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    if (rng_.Chance(weather_.loss)) continue;
    const Millis delay(rng_.Chance(weather_.slow) ? rng_.Between(100, 9'000) : rng_.Between(1, 80));
    Schedule(now_ + delay, deliver);
  }
}

void Simulation::SendToCoordinator(SiteIndex from, ToCoordinator message) {
  Transmit(from, [this, from, message = std::move(message)] {
    On(0, [&](Node& n) {
      if (const auto* m = std::get_if<secagg::WorkerMessage>(&message))
        return n.coordinator->OnMessage(from, *m);
      if (const auto* m = std::get_if<Chunk>(&message)) return n.coordinator->OnChunk(from, *m);
      n.coordinator->OnDropout(from, std::get<Dropout>(message));
    });
  });
}

void Simulation::SendToWorker(SiteIndex to, ToWorker message) {
  Transmit(to, [this, to, message = std::move(message)] {
    On(to, [&](Node& n) {
      n.heard = now_;
      if (const auto* m = std::get_if<0>(&message)) return n.worker->OnMessage(**m);
      if (const auto* m = std::get_if<Ack>(&message)) return n.worker->OnAck(*m);
      n.worker->OnAbandoned(std::get<Abandoned>(message));
    });
  });
}

// ---- A run.

bool Simulation::Quiet() const { return nodes_[0].coordinator != nullptr && nodes_[0].coordinator->over(); }

Report Simulation::Run() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const auto id = static_cast<SiteIndex>(i);
    if (std::ranges::find(options_.absent, id) != options_.absent.end()) continue;
    Schedule(At(i == 0 ? 0 : rng_.Between(0, 2'000)), [this, id] { Boot(id); });
    if (i != 0) Schedule(At(0) + watchdog_, [this, id] { Watch(id, watchdog_, secagg::WorkerPhase::kIdle); });
  }
  for (uint32_t k = 0; k < weather_.sudden_deaths; ++k) {
    const auto id = static_cast<SiteIndex>(rng_.Below(nodes_.size()));
    Schedule(At(rng_.Between(0, 40'000)), [this, id] {
      On(id, [this](Node& n) {
        n.power_cut = rng_.Chance(0.5);
        throw NodeCrashed{};
      });
    });
  }
  std::optional<Instant> end;
  AttemptIndex attempts = 0;
  while (!events_.empty() && now_ < At(0) + kLimit && (!end || now_ < *end)) {
    const Event event = std::move(const_cast<Event&>(events_.top()));  // popped at once
    events_.pop();
    now_ = event.at;
    ++handled_;
    event.run();
    if (nodes_[0].coordinator != nullptr) attempts = std::max(attempts, nodes_[0].coordinator->attempt() + 1);
    if (!end && Quiet()) end = now_ + kAftermath;
    if (options_.stop_at_violation && !monitor_.violations().empty()) break;
  }
  Report report{options_.seed, world_.n(), monitor_.finished(), attempts, crashes_, handled_, {}, {}, {}};
  for (const Node& node : nodes_) report.writes.push_back(node.disk->writes());
  report.violations = monitor_.violations();
  report.trace = std::move(trace_);
  return report;
}

}  // namespace

Report Simulate(const Options& options) { return Simulation(options).Run(); }

std::string Report::Describe() const {
  std::string out =
      fmt::format("seed {} ({} sites): CONCORDAT_SIM_SEED={} shows it again", seed, sites, seed);
  for (const Violation& v : violations) out += fmt::format("\n  {}: {}", v.kind, v.text);
  for (const std::string& line : trace) out += "\n" + line;
  return out;
}

}  // namespace concordat::sim
