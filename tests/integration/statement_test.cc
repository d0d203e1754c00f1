#include <gtest/gtest.h>

#include "policy/job_privacy.h"
#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// A job's charges from the ledgers of real regions into the folder of its adapter, and an outside script that
// recomputes them.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::PersonRecords;
using concordat::testing::Ran;
using concordat::testing::RunToEnd;
using nlohmann::json;
using ::testing::HasSubstr;

/// Tests run in the source folder. Of integer releases it needs nothing but Python itself.
/// \param what `file` is: --statement, a privacy.json; --every, what `ledger show` printed
Ran Recompute(const std::string& file, const std::string& what = "--statement") {
  return RunToEnd({"/bin/sh", "-c",
                   "cd experiments/reference && exec python3 -B -m accountant.ledger \"$1\" \"$0\" 2>&1",
                   file, what});
}

/// Writes `page` to `privacy` with one figure made smaller: the script says so.
void ExpectTooLowIsFound(const std::string& privacy, json page, const char* key, double factor) {
  json& figure = page[json::json_pointer(key)];
  figure = figure.get<double>() * factor;
  ASSERT_OK(WriteFileAtomically(privacy, page.dump(2)));
  const Ran differs = Recompute(privacy);
  EXPECT_EQ(differs.code, 1) << key;
  EXPECT_THAT(differs.out, HasSubstr("DIFFERS")) << key;
}

std::string RunJob(Federation& federation, const JobOptions& options) {
  federation.Start();
  const std::string job = federation.Submit(federation.WriteJob(options));
  auto watch = federation.WatchJob(job);
  EXPECT_EQ(watch.End(), 0) << watch.last().dump(2);
  return job;
}

/// Each region's statement of `job`, added to the adapter's folder.
void TellAll(const Federation& federation, const std::string& job, const std::string& adapter) {
  std::vector<std::string> words = {"adapter", "statement", adapter};
  for (const std::string& region : federation.jurisdictions()) {
    const std::string file = (federation.root() / (region + ".json")).string();
    const Ran said = federation.Concordat({"ledger", "statement", "--worker",
                                           (federation.Region(region) / "worker.yaml").string(), "--job", job,
                                           "--out", file});
    ASSERT_EQ(said.code, 0) << said.err << said.out;
    EXPECT_EQ(json::parse(said.out).at("rows_of_other_jobs"), 0);
    words.push_back(file);
  }
  const Ran added = federation.Concordat(words);
  ASSERT_EQ(added.code, 0) << added.err << added.out;
  EXPECT_EQ(json::parse(added.out).at("from_ledgers"), federation.jurisdictions().size());
}

TEST(StatementTest, AnAdapterCarriesWhatItsRegionsWereChargedAndAScriptRecomputesIt) {
  Federation federation;
  const std::string job = RunJob(federation, {});
  const std::string adapter = (federation.root() / "adapter").string();
  ASSERT_EQ(federation.Concordat({"adapter", "pull", job, "--out", adapter}).code, 0);
  const std::string privacy = adapter + "/privacy.json";
  const Ran planned = Recompute(privacy);
  EXPECT_EQ(planned.code, 1) << "no ledger stands behind it yet: " << planned.out;
  EXPECT_THAT(planned.out, HasSubstr("0 of 3 regions"));

  ASSERT_EQ(federation.Concordat({"eval", job}).code, 0);
  TellAll(federation, job, adapter);
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(privacy));
  const json page = json::parse(text);
  ASSERT_EQ(page.at("regions").size(), 3u);
  for (const json& region : page.at("regions")) {
    EXPECT_EQ(region.at("source"), "ledger");
    EXPECT_EQ(region.at("attempts_charged"), 2);
    EXPECT_EQ(region.at("evaluations_charged"), 1);
    EXPECT_NEAR(region.at("epsilon_local").get<double>() / page.at("epsilon_local").get<double>(), 1, 1e-9);
    EXPECT_GT(region.at("epsilon_charged"), region.at("epsilon_local"));
    ASSERT_OK_AND_ASSIGN(const std::string card, ReadTextFile(adapter + "/README.md"));
    EXPECT_THAT(card, HasSubstr(region.at("ledger").get<std::string>()));
  }
  EXPECT_EQ(federation.Concordat({"adapter", "verify", adapter}).code, 0);
  const Ran agreed = Recompute(privacy);
  EXPECT_EQ(agreed.code, 0) << agreed.out;
  EXPECT_THAT(agreed.out, HasSubstr("3 of 3 regions"));

  // A row's figure, and a region's, made smaller: both the script and the command find it.
  for (const char* key : {"/regions/1/statement/rows/1/epsilon_after", "/regions/2/epsilon_charged"}) {
    ExpectTooLowIsFound(privacy, page, key, 0.99);
    EXPECT_NE(federation.Concordat({"adapter", "verify", adapter}).code, 0) << key;
  }
  ASSERT_OK(WriteFileAtomically(privacy, text));
  EXPECT_EQ(federation.Concordat({"adapter", "verify", adapter}).code, 0);
  federation.StopAll();
}

/// A job whose sites share the noise: each row and each region's figures, against everyone and with honest
/// survivors, follow from the rows by the script's formulas.
void ExpectSharedNoiseRecomputed(const std::string& unit) {
  SCOPED_TRACE(unit);
  FederationOptions options;
  options.unit = unit;
  if (unit == "person") options.records = PersonRecords;
  Federation federation(options);
  JobOptions shared;
  shared.unit = unit;
  shared.shared_noise = true;
  if (unit != "site") {
    shared.local_steps = 1;
    shared.learning_rate = "0.5";
    shared.clip = "0.2";
  }
  const std::string job = RunJob(federation, shared);
  const std::string adapter = (federation.root() / "adapter").string();
  ASSERT_EQ(federation.Concordat({"adapter", "pull", job, "--out", adapter}).code, 0);
  TellAll(federation, job, adapter);
  const std::string privacy = adapter + "/privacy.json";
  const Ran agreed = Recompute(privacy);
  EXPECT_EQ(agreed.code, 0) << agreed.out;
  EXPECT_THAT(agreed.out, HasSubstr("3 of 3 regions"));
  for (const std::string& region : federation.jurisdictions()) {
    const Ran shown = federation.Concordat(
        {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
    const std::string book = (federation.root() / "ledger.json").string();
    ASSERT_OK(WriteFileAtomically(book, shown.out));
    const Ran rows = Recompute(book, "--every");
    EXPECT_EQ(rows.code, 0) << rows.out;
    EXPECT_THAT(rows.out, HasSubstr("2 rows, all agree"));
  }

  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(privacy));
  const auto spec = policy::ParseJob(federation.JobText(shared), "job.yaml").value();
  const json page = json::parse(text);
  for (const json& region : page.at("regions")) {
    EXPECT_EQ(region.at("unit"), unit);
    EXPECT_NEAR(region.at("epsilon_distributed").get<double>() / policy::PlanEpsilon(spec, 2, 3).value(), 1,
                1e-9);
    EXPECT_EQ(region.at("epsilon_charged"), region.at("epsilon_distributed"));
    EXPECT_GT(region.at("epsilon_local"), region.at("epsilon_distributed"));
  }
  for (const char* key : {"/regions/0/epsilon_local", "/regions/1/epsilon_distributed"}) {
    ExpectTooLowIsFound(privacy, page, key, 0.999);
  }
  federation.StopAll();
}

TEST(StatementTest, SharedNoiseOfSitesIsRecomputed) { ExpectSharedNoiseRecomputed("site"); }
TEST(StatementTest, SharedNoiseOverRecordsIsRecomputed) { ExpectSharedNoiseRecomputed("record"); }
TEST(StatementTest, SharedNoiseOverPersonsIsRecomputed) { ExpectSharedNoiseRecomputed("person"); }

TEST(StatementTest, WhatRecordsWereChargedIsTheirSteps) {
  FederationOptions options;
  options.unit = "record";
  options.epsilon = "200";
  Federation federation(options);
  JobOptions records;
  records.unit = "record";
  const std::string job = RunJob(federation, records);
  const std::string adapter = (federation.root() / "adapter").string();
  ASSERT_EQ(federation.Concordat({"adapter", "pull", job, "--out", adapter}).code, 0);
  TellAll(federation, job, adapter);
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(adapter + "/privacy.json"));
  const auto spec = policy::ParseJob(federation.JobText(records), "job.yaml").value();
  for (const json& region : json::parse(text).at("regions")) {
    EXPECT_EQ(region.at("unit"), "record");
    EXPECT_EQ(region.at("neighbour"), "add_remove");
    EXPECT_TRUE(region.at("epsilon_distributed").is_null());
    EXPECT_NEAR(region.at("epsilon_local").get<double>(), policy::PlanEpsilon(spec, 2, 3).value(), 1e-9);
    EXPECT_EQ(region.at("epsilon_charged"), region.at("epsilon_local"));
  }
  EXPECT_EQ(federation.Concordat({"adapter", "verify", adapter}).code, 0);
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
