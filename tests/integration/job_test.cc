#include <gtest/gtest.h>

#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model.h"

// A whole job by the book: real processes, mutual TLS, masks, noise, the command as people use it.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::FilesThatHold;
using concordat::testing::JobOptions;
using concordat::testing::JsonLines;
using concordat::testing::Ran;
using nlohmann::json;

// In one record of every region, and nowhere else.
constexpr std::string_view kPlanted = "Zyxquorbal";

FederationOptions WithPlantedWord() {
  FederationOptions options;
  options.records = [](size_t i) {
    return concordat::testing::TinyRecords(60, i + 1) +
           fmt::format("{{\"text\": \"{} lives at the river.\"}}\n", kPlanted);
  };
  return options;
}

/// A job of two rounds that ran to its end, for all that is looked at afterwards.
TEST(JobTest, ThreeRegionsTrainOneAdapterAndNothingButWhatIsAllowedLeaves) {
  Federation federation(WithPlantedWord());
  federation.Start();
  const std::string job_file = federation.WriteJob({});

  const Ran plan = federation.Concordat({"plan", job_file});
  ASSERT_EQ(plan.code, 0) << plan.err << plan.out;
  EXPECT_EQ(json::parse(plan.out).at("regions_joining"), 3);

  const std::string job = federation.Submit(job_file);
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("state"), "done");
  ASSERT_EQ(watch.last().at("rounds").size(), 2u);
  for (const json& round : watch.last().at("rounds")) {
    EXPECT_EQ(round.at("survivors").size(), 3u);
    EXPECT_EQ(round.at("attempt"), 0);
    EXPECT_GT(round.at("mean_loss"), 0);
    EXPECT_GT(round.at("bytes_up"), 0);
  }

  const std::string adapter = (federation.root() / "adapter").string();
  const Ran pull = federation.Concordat({"adapter", "pull", job, "--out", adapter});
  ASSERT_EQ(pull.code, 0) << pull.err;
  EXPECT_EQ(json::parse(pull.out).at("adapter"), watch.last().at("adapter"));
  EXPECT_TRUE(std::filesystem::exists(adapter + "/adapter_model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(adapter + "/adapter_config.json"));
  EXPECT_EQ(federation.Concordat({"adapter", "verify", adapter}).code, 0);
  EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0);

  const Ran eval = federation.Concordat({"eval", job});
  ASSERT_EQ(eval.code, 0) << eval.err;
  std::cout << eval.out << plan.out << watch.last().dump(1);

  for (const std::string& region : federation.jurisdictions()) {
    const std::string worker = (federation.Region(region) / "worker.yaml").string();
    const Ran ledger = federation.Concordat({"ledger", "show", "--worker", worker});
    ASSERT_EQ(ledger.code, 0) << ledger.err;
    const Ran receipts = federation.Concordat({"receipts", "--worker", worker});
    ASSERT_EQ(receipts.code, 0) << receipts.err;
    std::cout << ledger.out << receipts.out;
  }
  federation.StopAll();
  EXPECT_THAT(FilesThatHold(federation.root(), kPlanted, "data"), ::testing::IsEmpty());
  for (const std::string secret : {"card-of-", "records.jsonl", "the test ends"}) {
    EXPECT_THAT(FilesThatHold(federation.coordinator_folder(), secret), ::testing::IsEmpty()) << secret;
  }
}

}  // namespace
}  // namespace concordat
