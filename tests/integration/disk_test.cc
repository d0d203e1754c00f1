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
using ::testing::IsEmpty;

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

TEST(DiskTest, ACoordinatorWithoutRoomRefusesAndPausesAndGoesOnWithRoom) {
  Federation federation(Planted({"de.example", "es.example", "fr.example"}));
  federation.Start();
  const std::string job_file = federation.WriteJob({});
  federation.coordinator().LimitFiles(kNoRoom);
  EXPECT_NE(federation.Concordat({"submit", job_file}).code, 0) << "a job that cannot be written down";
  EXPECT_TRUE(federation.coordinator().running());
  federation.coordinator().LimitFiles({});
  const std::string job = federation.Submit(job_file);

  auto watch = federation.WatchJob(job);
  watch.Until([](const json& state) { return state.at("step") >= 1 || state.at("rounds_done") >= 1; });
  federation.coordinator().LimitFiles(kNoRoom);
  ASSERT_TRUE(Federation::AwaitText(federation.coordinator_folder() / "stderr.log", "paused"));
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
  const auto gate = federation.Region(full) / "state/scratch/gate-0";
  std::filesystem::create_directories(gate.parent_path());
  ASSERT_OK(WriteFileAtomically(gate, std::string_view("closed")));
  federation.Start();
  const std::string job = federation.Submit(federation.WriteJob({}));
  auto watch = federation.WatchJob(job);
  watch.Until([&](const json& state) {
    const json entry = concordat::testing::RegionOf(state, full);
    return !entry.is_null() && entry.at("phase") == "training";
  });
  federation.Worker(full).LimitFiles(kNoRoom);
  std::filesystem::remove(gate);
  watch.Until([](const json& state) { return state.at("rounds_done") == 1; });
  EXPECT_TRUE(federation.Worker(full).running());
  const json first = watch.last().at("rounds").at(0);
  EXPECT_EQ(first.at("survivors").size(), 3u);
  EXPECT_THAT(first.at("missing").dump(), HasSubstr(full));
  federation.Worker(full).LimitFiles({});
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);

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
