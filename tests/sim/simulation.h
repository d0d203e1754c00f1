#ifndef CONCORDAT_TESTS_SIM_SIMULATION_H_
#define CONCORDAT_TESTS_SIM_SIMULATION_H_

#include <optional>
#include <string>
#include <vector>

#include "tests/sim/env.h"

namespace concordat::sim {

/// A death at one write of one node, for walks over all of them.
struct PlannedCrash {
  SiteIndex node = 0;  // 0: the coordinator
  uint64_t write = 0;
  CrashMode mode{};
  bool power_cut = true;
  Millis away{0};  // 0: as the weather is
};

/// How unkind a run is. Probabilities are for each message or write.
struct Weather {
  double loss = 0;
  double repeat = 0;
  double slow = 0;  // a delay of seconds: what was sent later overtakes it
  double disconnect = 0;
  double worker_crash = 0;
  double coordinator_crash = 0;
  uint32_t crashes_of_a_node = 3;
  uint32_t sudden_deaths = 0;  // of any node, at any time, not only in a write
  double gone_for_good = 0;    // a worker that crashed stays away
  Millis patience{6'000};      // of the coordinator with a lost connection
  double long_outage = 0;      // a crashed node is away for longer than a step
};

struct Options {
  uint64_t seed = 1;
  uint32_t sites = 0;                             // 0: 3 to 8, by the seed
  uint64_t elements = 0;                          // 0: 8 to 32, by the seed
  uint32_t attempts = 0;                          // 0: 1 to 3, by the seed
  std::optional<Weather> weather = std::nullopt;  // by the seed
  std::vector<PlannedCrash> crashes = {};
  std::vector<SiteIndex> absent = {};  // sites that never come
  Sabotage sabotage = Sabotage::kNone;
  bool pairwise = false;  // a job with pairwise keys
  bool trace = false;
  bool stop_at_violation = true;
};

struct Report {
  uint64_t seed = 0;
  uint32_t sites = 0;
  bool finished = false;
  AttemptIndex attempts = 0;  // begun
  uint32_t crashes = 0;
  uint64_t events = 0;
  std::vector<uint64_t> writes;  // by node
  std::vector<Violation> violations;
  std::vector<std::string> trace;

  /// What failed, and how to see it again.
  std::string Describe() const;
};

/// Runs a round from its beginning until a sum is published or every attempt is spent, and a minute longer.
/// Both ends' cores are the real ones, keys and masks are real; network, clock and disks are simulated. The
/// same options give the same run. Any thread.
Report Simulate(const Options& options);

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_SIMULATION_H_
