#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

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
  for (const std::string& region : federation.jurisdictions()) OpenGate(federation, region, "gate-0");
  watch.Until([&](const json& state) { return state.at("rounds_done") == 1; });
  federation.StartWorker(victim);
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

/// Epsilon charges of a region.
size_t Charges(const Federation& federation, const std::string& region) {
  const auto ledger = federation.Concordat(
      {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
  return json::parse(ledger.out).at("entries").size();
}

// Three of three are needed: whoever is lost ends the attempt. So what completes as attempt 0 was gone on
// with.
class ResumeTest : public ::testing::Test {
 protected:
  void StartAndAwaitTwoUploads() {
    CloseGate(federation_, kLast);
    federation_.Start();
    JobOptions options;
    options.rounds = 1;
    job_ = federation_.Submit(federation_.WriteJob(options));
    for (const char* region : {"de.example", "es.example"})
      ASSERT_TRUE(Federation::AwaitText(federation_.WorkerLog(region), "uploaded"));
  }
  void ExpectDoneInOneAttempt() {
    OpenGate(federation_, kLast);
    auto watch = federation_.WatchJob(job_);
    ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
    EXPECT_EQ(watch.last().at("rounds").at(0).at("attempt"), 0);
    EXPECT_EQ(watch.last().at("rounds").at(0).at("survivors").size(), 3u);
    EXPECT_EQ(federation_.Concordat({"adapter", "verify", job_}).code, 0);
    for (const std::string& region : federation_.jurisdictions()) {
      EXPECT_EQ(Charges(federation_, region), 1u) << region << " paid once";
      EXPECT_TRUE(std::filesystem::is_empty(federation_.Region(region) / "state/rounds")) << region;
      EXPECT_TRUE(std::filesystem::is_empty(federation_.Region(region) / "state/outbox")) << region;
    }
    EXPECT_TRUE(std::filesystem::is_empty(federation_.coordinator_folder() / "state/spool"));
    federation_.StopAll();
  }

  static constexpr const char* kLast = "fr.example";
  Federation federation_{Planted({"de.example", "es.example", kLast})};
  std::string job_;
};

TEST_F(ResumeTest, AWorkerKilledAfterItsUploadSignsAndOpensSharesWhenItIsBack) {
  StartAndAwaitTwoUploads();
  federation_.Worker("es.example").Kill();
  federation_.StartWorker("es.example");
  federation_.AwaitConnected("es.example");
  ExpectDoneInOneAttempt();
}

TEST_F(ResumeTest, AWorkerKilledWhileItTrainsKeepsItsKeysAndUploadsWhenItIsBack) {
  StartAndAwaitTwoUploads();
  federation_.Worker(kLast).Kill();
  federation_.StartWorker(kLast);
  federation_.AwaitConnected(kLast);
  ExpectDoneInOneAttempt();
}

TEST_F(ResumeTest, ACoordinatorKilledAfterTwoUploadsSumsThemWhenItIsBack) {
  StartAndAwaitTwoUploads();
  federation_.coordinator().Kill();
  federation_.StartCoordinator();
  for (const std::string& region : federation_.jurisdictions()) federation_.AwaitConnected(region);
  ExpectDoneInOneAttempt();
}

TEST_F(ResumeTest, AllKilledAtOnceGoOnTogether) {
  StartAndAwaitTwoUploads();
  federation_.coordinator().Kill();
  for (const std::string& region : federation_.jurisdictions()) federation_.Worker(region).Kill();
  federation_.StartCoordinator();
  for (const std::string& region : federation_.jurisdictions()) federation_.StartWorker(region);
  for (const std::string& region : federation_.jurisdictions()) federation_.AwaitConnected(region);
  ExpectDoneInOneAttempt();
}

/// Runs a job of three rounds to its end and gives the final adapter's hash. `in_second_round` is called
/// while all regions train in the second round.
std::string FinalAdapter(Federation& federation, const std::function<void()>& in_second_round) {
  JobOptions options;
  options.rounds = 3;
  options.noise = false;
  // Long enough that a round is seen while it runs: states are published four times a second.
  options.local_steps = 250;
  const std::string job = federation.Submit(federation.WriteJob(options));
  auto watch = federation.WatchJob(job);
  watch.Until([](const json& state) { return state.at("rounds_done") == 1 && state.at("step") >= 2; });
  in_second_round();
  EXPECT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("rounds_done"), 3);
  EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0) << "the hash chain";
  return watch.last().value("adapter", "");
}

TEST(FaultsTest, AKilledCoordinatorGoesOnAndTheAdapterIsTheSameToTheBit) {
  Federation federation;
  federation.Start();
  const std::string undisturbed = FinalAdapter(federation, [] {});
  federation.Reset();

  federation.Start();
  const std::string disturbed = FinalAdapter(federation, [&] {
    federation.coordinator().Kill();
    federation.StartCoordinator();
  });
  EXPECT_EQ(disturbed, undisturbed);
  EXPECT_EQ(undisturbed.size(), 64u);
  federation.StopAll();
}

/// What a region's ledger says.
json LedgerOf(const Federation& federation, const std::string& region) {
  const auto ran = federation.Concordat(
      {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out;
  return json::parse(ran.out);
}

TEST(FaultsTest, AWorkerWhoseLedgerWasPutBackStaysAwayUntilThatIsAcceptedAndTheSpendStands) {
  const std::string victim = "es.example";
  Federation federation(Planted({"de.example", victim, "fr.example"}));
  federation.Start();
  const auto run = [&](uint32_t rounds) {
    JobOptions options;
    options.rounds = rounds;
    auto watch = federation.WatchJob(federation.Submit(federation.WriteJob(options)));
    ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  };
  const auto ledger = federation.Region(victim) / "state/ledger.jsonl";
  const auto anchor = federation.Region(victim) / "anchor.ledger";
  const auto copy = federation.root() / "copy";
  std::filesystem::create_directories(copy);
  run(1);
  std::filesystem::copy(ledger, copy / "ledger");
  std::filesystem::copy(anchor, copy / "anchor");
  run(2);
  const double spent = LedgerOf(federation, victim).at("spent_epsilon").get<double>();
  federation.Worker(victim).Signal(SIGTERM);
  ASSERT_EQ(federation.Worker(victim).Wait(), 0);

  const auto put_back = [](const std::filesystem::path& from, const std::filesystem::path& to) {
    std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
  };
  put_back(copy / "ledger", ledger);  // its anchor knows better
  federation.StartWorker(victim);
  EXPECT_EQ(federation.Worker(victim).Wait(), 1);
  EXPECT_TRUE(Federation::AwaitText(federation.WorkerLog(victim), "concordat ledger reconcile"));
  put_back(copy / "anchor", anchor);  // its journal knows better
  federation.StartWorker(victim);
  EXPECT_EQ(federation.Worker(victim).Wait(), 1);
  EXPECT_TRUE(Federation::AwaitText(federation.WorkerLog(victim), "--accept-rollback"));
  EXPECT_LT(LedgerOf(federation, victim).at("spent_epsilon").get<double>(), spent);
  federation.StartWorker(victim, {}, {"--accept-rollback"});
  federation.AwaitConnected(victim);
  const json after = LedgerOf(federation, victim);
  EXPECT_NEAR(after.at("spent_epsilon").get<double>(), spent, 1e-9 * spent);
  EXPECT_EQ(after.at("entries").back().at("kind"), "restored");
  federation.StopAll();
}

/// The trainer of a region: the only child of its worker.
pid_t TrainerOf(Federation& federation, const std::string& region) {
  const pid_t worker = federation.Worker(region).pid();
  std::ifstream children(fmt::format("/proc/{}/task/{}/children", worker, worker));
  pid_t child = -1;
  children >> child;
  return child;
}

TEST(FaultsTest, AKilledTrainerIsStartedAgainAndTheRoundCompletes) {
  Federation federation(Planted({"de.example", "es.example", "fr.example"}));
  const std::string region = "es.example";
  CloseGate(federation, region);
  federation.Start();
  JobOptions options;
  options.rounds = 1;
  const std::string job = federation.Submit(federation.WriteJob(options));
  auto watch = federation.WatchJob(job);
  watch.Until([&](const json& state) { return IsTraining(state, region); });
  const pid_t trainer = TrainerOf(federation, region);
  ASSERT_GT(trainer, 0);
  ASSERT_EQ(::kill(trainer, SIGKILL), 0);
  ASSERT_TRUE(Await([&] {
    const pid_t now = TrainerOf(federation, region);
    return now > 0 && now != trainer;
  })) << "no new trainer was started";
  OpenGate(federation, region);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  const json round = watch.last().at("rounds").at(0);
  EXPECT_EQ(round.at("attempt"), 0);
  EXPECT_EQ(round.at("survivors").size(), 3u);
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
