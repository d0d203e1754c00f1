#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// Processes that are killed in the middle, with real training; the trainer with a gate where the middle must
// be held.
namespace concordat {
namespace {

using concordat::testing::Await;
using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::RegionOf;
using nlohmann::json;
using ::testing::ElementsAre;

/// Closes or opens the gate of a region's planted trainer.
std::filesystem::path Gate(const Federation& federation, const std::string& region, const std::string& name) {
  return federation.Region(region) / "state/scratch" / name;
}
void CloseGate(const Federation& federation, const std::string& region, const std::string& name = "gate") {
  std::filesystem::create_directories(federation.Region(region) / "state/scratch");
  ASSERT_OK(WriteFileAtomically(Gate(federation, region, name), std::string_view("closed")));
}
void OpenGate(const Federation& federation, const std::string& region, const std::string& name = "gate") {
  std::filesystem::remove(Gate(federation, region, name));
}

bool IsTraining(const json& state, const std::string& region) {
  const json entry = RegionOf(state, region);
  return !entry.is_null() && entry.at("phase") == "training";
}

FederationOptions Planted(std::vector<std::string> jurisdictions) {
  FederationOptions options;
  options.jurisdictions = std::move(jurisdictions);
  options.trainer = CONCORDAT_PLANTED_TRAINER_PATH;
  return options;
}

TEST(FaultsTest, ARoundCompletesWithoutAWorkerThatWasKilledAndTheNextHasItBack) {
  const std::string victim = "it.example";
  Federation federation(Planted({"de.example", "es.example", "fr.example", victim}));
  for (const std::string& region : federation.jurisdictions()) CloseGate(federation, region, "gate-0");
  federation.Start();
  const std::string job = federation.Submit(federation.WriteJob({}));
  auto watch = federation.WatchJob(job);
  watch.Until([&](const json& state) { return IsTraining(state, victim); });
  federation.Worker(victim).Kill();
  watch.Until([&](const json& state) { return RegionOf(state, victim).at("connected") == false; });
  federation.StartWorker(victim);
  federation.AwaitConnected(victim);
  for (const std::string& region : federation.jurisdictions()) OpenGate(federation, region, "gate-0");
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);

  const json rounds = watch.last().at("rounds");
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_EQ(rounds[0].at("attempt"), 0);
  EXPECT_EQ(rounds[0].at("survivors").size(), 3u);
  EXPECT_THAT(rounds[0].at("missing"), ElementsAre("spiffe://it.example/worker/site"));
  EXPECT_EQ(rounds[1].at("survivors").size(), 4u);
  EXPECT_THAT(rounds[1].at("missing"), ::testing::IsEmpty());

  const std::string report = (federation.root() / "report.html").string();
  ASSERT_EQ(federation.Concordat({"report", job, "--no-eval", "--out", report}).code, 0);
  EXPECT_NE(ReadTextFile(report).value_or("").find("it.example/site"), std::string::npos);
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
