#include <gtest/gtest.h>

#include <cmath>

#include "policy/job_privacy.h"
#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// Jobs that protect records and persons: DP-SGD in real trainers, their price in real ledgers.
namespace concordat {
namespace {

using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::PersonRecords;
using concordat::testing::Ran;
using nlohmann::json;

json LedgerOf(const Federation& federation, const std::string& region) {
  const Ran shown = federation.Concordat(
      {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
  EXPECT_EQ(shown.code, 0) << shown.err;
  return json::parse(shown.out);
}

/// Every charge is what `job` costs by its own file, and nothing else.
void ExpectCharged(const Federation& federation, const JobOptions& options, const std::string& region) {
  SCOPED_TRACE(region);
  const auto spec = policy::ParseJob(federation.JobText(options), "job.yaml").value();
  const SubsampledGaussian steps = policy::RoundSteps(spec);
  const json book = LedgerOf(federation, region);
  EXPECT_EQ(book.at("unit"), options.unit);
  ASSERT_EQ(book.at("entries").size(), options.rounds);
  for (uint32_t r = 0; r < options.rounds; ++r) {
    const json& entry = book.at("entries")[r];
    EXPECT_EQ(entry.at("unit"), options.unit);
    EXPECT_EQ(entry.at("neighbour"), "add_remove");
    ASSERT_EQ(entry.at("mechanisms").size(), 1u);
    EXPECT_EQ(entry.at("mechanisms")[0],
              json({{"sampling_rate", steps.q}, {"noise_multiplier", steps.sigma}, {"steps", steps.steps}}));
    EXPECT_DOUBLE_EQ(entry.at("epsilon_after"), policy::PlanEpsilon(spec, r + 1, 3).value());
  }
}

TEST(PerUnitJobTest, AJobForRecordsIsTrainedAndChargedByItsSteps) {
  FederationOptions options;
  options.unit = "record";
  options.epsilon = "200";
  Federation federation(options);
  federation.Start();
  JobOptions records;
  records.unit = "record";
  const std::string file = federation.WriteJob(records);
  const Ran plan = federation.Concordat({"plan", file});
  ASSERT_EQ(plan.code, 0) << plan.err << plan.out;
  const json privacy = json::parse(plan.out).at("privacy");
  EXPECT_EQ(privacy.at("unit"), "record");
  EXPECT_EQ(privacy.at("sampler"), "Poisson, every record with probability 0.1 in each of 4 steps a round");

  const std::string job = federation.Submit(file);
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  ASSERT_EQ(watch.last().at("rounds").size(), 2u);
  for (const json& round : watch.last().at("rounds")) EXPECT_EQ(round.at("survivors").size(), 3u);
  EXPECT_DOUBLE_EQ(watch.last().at("rounds")[1].at("epsilon_local"), privacy.at("epsilon_local"));
  for (const std::string& region : federation.jurisdictions()) ExpectCharged(federation, records, region);

  // The model card and the statement beside an adapter say the same.
  const std::string adapter = (federation.root() / "adapter").string();
  ASSERT_EQ(federation.Concordat({"adapter", "pull", job, "--out", adapter}).code, 0);
  EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0);

  // Of a policy that does not set a unit's noise no cell leaves, and nothing is charged.
  const Ran eval = federation.Concordat({"eval", job});
  ASSERT_EQ(eval.code, 3) << eval.err;
  for (const json& model : json::parse(eval.out).at("models"))
    for (const json& cell : model.at("cells")) EXPECT_EQ(cell.at("state"), "withheld");
  for (const std::string& region : federation.jurisdictions()) ExpectCharged(federation, records, region);
  federation.StopAll();
}

TEST(PerUnitJobTest, AJobForPersonsReadsWhoARecordBelongsTo) {
  FederationOptions options;
  options.unit = "person";
  options.epsilon = "200";
  options.records = PersonRecords;
  Federation federation(options);
  federation.Start();
  JobOptions persons;
  persons.unit = "person";
  const std::string job = federation.Submit(federation.WriteJob(persons));
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  for (const std::string& region : federation.jurisdictions()) ExpectCharged(federation, persons, region);
  federation.StopAll();
}

// Of a policy that sets their noise: cells leave, and cost what their sums' noise says.
TEST(PerUnitJobTest, CellsOfPersonsAreSumsWithNoiseThatAreCharged) {
  FederationOptions options;
  options.unit = "person";
  options.evaluation = ", unit_noise_multiplier: 0.05, unit_bytes: 512";
  options.records = PersonRecords;
  Federation federation(options);
  federation.Start();
  JobOptions persons;
  persons.unit = "person";
  persons.rounds = 1;
  const std::string job = federation.Submit(federation.WriteJob(persons));
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  const Ran eval = federation.Concordat({"eval", job});
  ASSERT_EQ(eval.code, 0) << eval.err << eval.out;
  for (const json& model : json::parse(eval.out).at("models")) {
    for (const json& cell : model.at("cells")) {
      EXPECT_EQ(cell.at("state"), "released");
      EXPECT_GT(cell.at("bits_per_byte"), 0);
      EXPECT_LE(cell.at("bits_per_byte"), 16);
      EXPECT_GT(cell.at("standard_error"), 0);
    }
  }
  const json entries = LedgerOf(federation, "de.example").at("entries");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1].at("kind"), "evaluation");
  EXPECT_EQ(entries[1].at("unit"), "person");
  const json mechanism = entries[1].at("mechanisms").at(0);
  EXPECT_EQ(mechanism.at("sampling_rate"), 1);
  EXPECT_NEAR(mechanism.at("noise_multiplier").get<double>(), 0.05 / std::sqrt(3.0), 1e-12);
  EXPECT_GT(entries[1].at("epsilon_after"), entries[0].at("epsilon_after"));
  federation.StopAll();
}

TEST(PerUnitJobTest, WhatTheBudgetDoesNotCoverIsRefusedBeforeItBegins) {
  FederationOptions options;
  options.unit = "record";
  JobOptions records;
  records.unit = "record";
  // Enough for the first round and not for the second: refused at once, not at round 2.
  Federation probe(options);
  const auto spec = policy::ParseJob(probe.JobText(records), "job.yaml").value();
  const double one = policy::PlanEpsilon(spec, 1, 3).value(), two = policy::PlanEpsilon(spec, 2, 3).value();
  ASSERT_LT(one, two);
  options.epsilon = fmt::format("{:.6f}", (one + two) / 2);
  Federation federation(options);
  federation.Start();
  const Ran plan = federation.Concordat({"plan", federation.WriteJob(records)});
  EXPECT_NE(plan.out.find("512"), std::string::npos) << plan.out << plan.err;
  EXPECT_EQ(json::parse(plan.out).at("can_start"), false);
  // And whose budget counts records takes no job that protects sites.
  const Ran site = federation.Concordat({"plan", federation.WriteJob({}, "site.yaml")});
  EXPECT_NE(site.out.find("511"), std::string::npos) << site.out << site.err;
  EXPECT_TRUE(LedgerOf(federation, "de.example").at("entries").empty());
  federation.StopAll();
}

// One sum of integers a round, whose noise the sites share: trained, summed, stepped and charged.
TEST(PerUnitJobTest, AJobWhoseSitesShareTheNoiseIsChargedForItsHonestSurvivors) {
  for (const uint32_t bits : {32u, 24u}) {
    SCOPED_TRACE(bits);
    FederationOptions options;
    options.unit = "record";
    options.epsilon = "200";
    Federation federation(options);
    federation.Start();
    JobOptions sums;
    sums.unit = "record";
    sums.shared_noise = true;
    sums.local_steps = 1;
    sums.learning_rate = "0.5";
    sums.clip = "0.2";
    sums.modulus_bits = bits;
    const auto spec = policy::ParseJob(federation.JobText(sums), "job.yaml").value();
    const std::string file = federation.WriteJob(sums);
    const Ran plan = federation.Concordat({"plan", file});
    ASSERT_EQ(plan.code, 0) << plan.err << plan.out;
    const json privacy = json::parse(plan.out).at("privacy");
    EXPECT_EQ(privacy.at("unit"), "record");
    EXPECT_EQ(privacy.at("honest_survivors"), 2);
    EXPECT_EQ(privacy.at("sampler"), "every record, every round (q = 1, no amplification)");
    EXPECT_LT(privacy.at("epsilon_distributed"), privacy.at("epsilon_local"));

    const std::string job = federation.Submit(file);
    auto watch = federation.WatchJob(job);
    ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
    ASSERT_EQ(watch.last().at("rounds").size(), 2u);
    for (const json& round : watch.last().at("rounds")) {
      EXPECT_EQ(round.at("survivors").size(), 3u);
      // Some nats a token, of about 48 records in each region; noise of six records' worth or so on either.
      EXPECT_GT(round.at("mean_loss"), 1);
      EXPECT_LE(round.at("mean_loss"), 8);
      EXPECT_GT(round.at("tokens"), 500);
    }
    EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0);
    for (const std::string& region : federation.jurisdictions()) {
      SCOPED_TRACE(region);
      const json book = LedgerOf(federation, region);
      ASSERT_EQ(book.at("entries").size(), 2u);
      for (uint32_t r = 0; r < 2; ++r) {
        const json& entry = book.at("entries")[r];
        EXPECT_EQ(entry.at("unit"), "record");
        EXPECT_EQ(entry.at("neighbour"), "add_remove");
        EXPECT_DOUBLE_EQ(entry.at("epsilon_after"), policy::PlanEpsilon(spec, r + 1, 3).value());
        const auto terms = policy::RoundCharge(spec, AttemptId{}, 3)->price.curve().terms();
        ASSERT_EQ(entry.at("mechanisms").size(), terms.size());
        for (size_t i = 0; i < terms.size(); ++i) {
          EXPECT_EQ(entry.at("mechanisms")[i].at("delta2_squared"), terms[i].delta2_squared);
          EXPECT_EQ(entry.at("mechanisms")[i].at("share_variance"), terms[i].share_variance);
          EXPECT_EQ(entry.at("mechanisms")[i].at("shares"), 2);
        }
      }
    }
    federation.StopAll();
  }
}

}  // namespace
}  // namespace concordat
