// concordat-sim [--seeds N] [--from N] [--threads N] [--json FILE]: the simulation of tests/sim over many
// seeds. Exit code 1 and the failing seeds when an invariant breaks.
#include <CLI/CLI.hpp>
#include <atomic>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/sim/simulation.h"

namespace concordat::sim {
namespace {

struct Totals {
  uint64_t runs = 0, finished = 0, crashes = 0, events = 0, attempts = 0, writes = 0;
  std::map<uint32_t, std::pair<uint64_t, uint64_t>> by_sites;  // runs, finished
  std::vector<Report> failures;

  void Add(Report report) {
    ++runs;
    finished += report.finished ? 1 : 0;
    crashes += report.crashes;
    events += report.events;
    attempts += report.attempts;
    for (const uint64_t w : report.writes) writes += w;
    auto& [all, done] = by_sites[report.sites];
    ++all;
    done += report.finished ? 1 : 0;
    if (!report.violations.empty() && failures.size() < 20) failures.push_back(std::move(report));
  }
};

nlohmann::json ToJson(const Totals& totals, uint64_t from) {
  nlohmann::json j{{"from", from},
                   {"seeds", totals.runs},
                   {"finished", totals.finished},
                   {"crashes", totals.crashes},
                   {"attempts", totals.attempts},
                   {"events", totals.events},
                   {"journal_writes", totals.writes},
                   {"failing_seeds", nlohmann::json::array()}};
  for (const auto& [sites, counts] : totals.by_sites) {
    j["by_sites"][std::to_string(sites)] = {{"runs", counts.first}, {"finished", counts.second}};
  }
  for (const Report& report : totals.failures) j["failing_seeds"].push_back(report.seed);
  return j;
}

Totals RunAll(uint64_t from, uint64_t seeds, unsigned threads) {
  Totals totals;
  std::mutex mutex;
  std::atomic<uint64_t> next{from};
  const auto work = [&] {
    while (true) {
      const uint64_t seed = next++;
      if (seed >= from + seeds) return;
      Report report = Simulate({.seed = seed});
      const std::lock_guard lock(mutex);
      if (!report.violations.empty()) fmt::print("{}\n", report.Describe());
      totals.Add(std::move(report));
      if (totals.runs % 1000 == 0) {
        fmt::print("{} of {} seeds, {} with a sum, {} crashes\n", totals.runs, seeds, totals.finished,
                   totals.crashes);
        std::fflush(stdout);
      }
    }
  };
  std::vector<std::jthread> pool;
  for (unsigned i = 0; i < threads; ++i) pool.emplace_back(work);
  pool.clear();
  return totals;
}

int Main(int argc, char** argv) {
  uint64_t seeds = 1000;
  uint64_t from = 1;
  unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  std::string json;
  CLI::App app("The deterministic simulation of secure aggregation over many seeds");
  app.add_option("--seeds", seeds, "how many");
  app.add_option("--from", from, "the first");
  app.add_option("--threads", threads, "at once")->check(CLI::PositiveNumber);
  app.add_option("--json", json, "write the totals here");
  CLI11_PARSE(app, argc, argv);
  const Totals totals = RunAll(from, seeds, threads);
  const std::string report = ToJson(totals, from).dump(2);
  fmt::print("{}\n", report);
  if (!json.empty()) std::ofstream(json) << report << "\n";
  return totals.failures.empty() ? 0 : 1;
}

}  // namespace
}  // namespace concordat::sim

int main(int argc, char** argv) { return concordat::sim::Main(argc, argv); }
