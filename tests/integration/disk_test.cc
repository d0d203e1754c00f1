#include <gtest/gtest.h>

#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// Full disks, on both sides: a limit on the size of files stands for the disk. Nothing is sent that was not
// written first, nobody crashes, and the job goes on.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::JsonLines;
using concordat::testing::Ran;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr uint64_t kNoRoom = 16;  // bytes in a file

FederationOptions Planted(std::vector<std::string> jurisdictions) {
  FederationOptions options;
  options.jurisdictions = std::move(jurisdictions);
  options.trainer = CONCORDAT_PLANTED_TRAINER_PATH;
  return options;
}

json Show(const Federation& federation, const std::string& region) {
  const Ran ran = federation.Concordat(
      {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
  EXPECT_EQ(ran.code, 0) << ran.err << ran.out;
  return json::parse(ran.out);
}

/// What the coordinator's journal has now: with it as the limit, the log can be written and the journal
/// cannot.
uint64_t JournalBytes(const Federation& federation) {
  return std::filesystem::file_size(federation.coordinator_folder() / "state/journal.sqlite-wal");
}

void CloseGate(const Federation& federation, const std::string& region, const std::string& name) {
  const auto folder = federation.Region(region) / "state/scratch";
  std::filesystem::create_directories(folder);
  ASSERT_OK(WriteFileAtomically(folder / name, std::string_view("closed")));
}
void OpenGates(const Federation& federation) {
  for (const std::string& region : federation.jurisdictions()) {
    for (const char* name : {"gate-0", "gate-1"})
      std::filesystem::remove(federation.Region(region) / "state/scratch" / name);
  }
}

TEST(DiskTest, ACoordinatorWithoutRoomRefusesAndPausesAndGoesOnWithRoom) {
  Federation federation(Planted({"de.example", "es.example", "fr.example"}));
  for (const std::string& region : federation.jurisdictions()) CloseGate(federation, region, "gate-0");
  federation.Start();
  const std::string job_file = federation.WriteJob({});
  federation.coordinator().LimitFiles(JournalBytes(federation));
  const Ran refused = federation.Concordat({"submit", job_file});
  EXPECT_EQ(refused.code, 5) << "a job that cannot be written down";
  EXPECT_THAT(refused.out, HasSubstr("disk is full"));
  ASSERT_TRUE(Federation::AwaitText(federation.coordinator_log(), "paused"));
  federation.coordinator().LimitFiles({});
  ASSERT_TRUE(Federation::AwaitText(federation.coordinator_log(), "takes writes again"));
  const std::string job = federation.Submit(job_file);

  // The same in the middle of a round, with all regions' uploads on the way.
  auto watch = federation.WatchJob(job);
  watch.Until([](const json& state) { return state.at("step") >= 1; });
  federation.coordinator().LimitFiles(JournalBytes(federation));
  OpenGates(federation);
  ASSERT_TRUE(concordat::testing::Await([&] {
    const std::string log = ReadTextFile(federation.coordinator_log()).value_or("");
    return log.find("paused") != log.rfind("paused");
  }));
  EXPECT_TRUE(federation.coordinator().running());
  federation.coordinator().LimitFiles({});
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("rounds_done"), 2);
  for (const std::string& region : federation.jurisdictions()) {
    const json book = Show(federation, region);
    std::set<std::string> attempts;
    for (const json& entry : book.at("entries"))
      attempts.insert(fmt::format("{}.{}", entry.at("round").get<int>(), entry.at("attempt").get<int>()));
    EXPECT_EQ(attempts.size(), book.at("entries").size()) << "an attempt was charged twice";
  }
  federation.StopAll();
}

TEST(DiskTest, AWorkerWithoutRoomSendsNothingThatItCouldNotChargeAndTheOthersGoOn) {
  const std::string full = "it.example";
  Federation federation(Planted({"de.example", "es.example", "fr.example", full}));
  CloseGate(federation, full, "gate-0");
  CloseGate(federation, "de.example", "gate-1");
  federation.Start();
  JobOptions three;
  three.rounds = 3;
  const std::string job = federation.Submit(federation.WriteJob(three));
  auto watch = federation.WatchJob(job);
  watch.Until([&](const json& state) {
    const json entry = concordat::testing::RegionOf(state, full);
    return !entry.is_null() && entry.at("phase") == "training";
  });
  federation.Worker(full).LimitFiles(kNoRoom);
  std::filesystem::remove(federation.Region(full) / "state/scratch/gate-0");
  const json first =
      watch.Until([](const json& state) { return state.at("rounds_done") == 1; }).at("rounds").at(0);
  EXPECT_TRUE(federation.Worker(full).running());
  EXPECT_EQ(first.at("survivors").size(), 3u);
  EXPECT_THAT(first.at("missing").dump(), HasSubstr(full));
  federation.Worker(full).LimitFiles({});
  OpenGates(federation);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("rounds").at(2).at("survivors").size(), 4u) << "with room again it takes part";

  // What left the region is what was charged there.
  std::set<std::string> charged, left;
  const json book = Show(federation, full);
  for (const json& entry : book.at("entries")) {
    charged.insert(fmt::format("{}.{}", entry.at("round").get<int>(), entry.at("attempt").get<int>()));
  }
  const Ran receipts =
      federation.Concordat({"receipts", "--worker", (federation.Region(full) / "worker.yaml").string()});
  ASSERT_EQ(receipts.code, 0) << receipts.out;
  for (const json& receipt : JsonLines(receipts.out))
    left.insert(fmt::format("{}.{}", receipt.at("round").get<int>(), receipt.at("attempt").get<int>()));
  for (const std::string& attempt : left) EXPECT_TRUE(charged.contains(attempt)) << attempt;
  EXPECT_FALSE(left.contains("0.0"));
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
