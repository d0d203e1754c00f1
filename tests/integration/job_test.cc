#include <gtest/gtest.h>

#include "common/files.h"
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
using ::testing::ElementsAre;

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

/// Ledger and receipts of one region after two rounds and one evaluation: each attempt and the evaluation
/// charged once, each artefact receipted, every signature good.
void ExpectBooks(const Federation& federation, const std::string& region, const std::string& job) {
  SCOPED_TRACE(region);
  const std::string worker = (federation.Region(region) / "worker.yaml").string();
  const Ran ledger = federation.Concordat({"ledger", "show", "--worker", worker});
  ASSERT_EQ(ledger.code, 0) << ledger.err;
  std::vector<std::string> charges;
  const json book = json::parse(ledger.out);
  for (const json& entry : book.at("entries")) {
    EXPECT_EQ(entry.at("job"), job);
    EXPECT_GT(entry.at("epsilon_after"), entry.at("epsilon_before"));
    charges.push_back(fmt::format("{} {}.{}", entry.at("kind").get<std::string>(),
                                  entry.at("round").get<int>(), entry.at("attempt").get<int>()));
  }
  EXPECT_THAT(charges, ElementsAre("delta 0.0", "delta 1.0", "evaluation 2.0"));

  const Ran receipts = federation.Concordat({"receipts", "--worker", worker});
  ASSERT_EQ(receipts.code, 0) << receipts.err;
  std::vector<std::string> left;
  for (const json& receipt : JsonLines(receipts.out)) {
    EXPECT_EQ(receipt.at("sandbox"), "enforced");
    EXPECT_EQ(receipt.at("legal_basis"), "consent");
    left.push_back(
        fmt::format("{} {}", receipt.at("kind").get<std::string>(), receipt.at("round").get<int>()));
  }
  EXPECT_THAT(left, ElementsAre("delta 0", "metrics 0", "delta 1", "metrics 1", "evaluation 2"));
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
  const json matrix = json::parse(eval.out);
  ASSERT_EQ(matrix.at("models").size(), 2u);
  EXPECT_EQ(matrix.at("models")[0].at("model"), "base");
  EXPECT_EQ(matrix.at("models")[1].at("adapter"), watch.last().at("adapter"));
  for (const json& model : matrix.at("models")) {
    ASSERT_EQ(model.at("cells").size(), 3u);
    for (const json& cell : model.at("cells")) {
      EXPECT_EQ(cell.at("state"), "released");
      EXPECT_GT(cell.at("bits_per_byte"), 0);
    }
  }
  for (const std::string& region : federation.jurisdictions()) ExpectBooks(federation, region, job);

  federation.StopAll();
  EXPECT_THAT(FilesThatHold(federation.root(), kPlanted, "data"), ::testing::IsEmpty());
  for (const std::string secret : {"card-of-", "records.jsonl", "the test ends"}) {
    EXPECT_THAT(FilesThatHold(federation.coordinator_folder(), secret), ::testing::IsEmpty()) << secret;
  }
}

// Identities, TLS, signatures and masks on NIST's curve, through the same programs.
TEST(JobTest, AFederationOfP256KeysMakesAnAdapterThatVerifies) {
  FederationOptions options;
  options.keys = crypto::SignatureProfile::kP256;
  Federation federation(options);
  federation.Start();
  const std::string job = federation.Submit(federation.WriteJob({}));
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("state"), "done");
  ASSERT_EQ(watch.last().at("rounds").size(), 2u);
  for (const json& round : watch.last().at("rounds")) EXPECT_EQ(round.at("survivors").size(), 3u);
  EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0);
  for (const std::string& region : federation.jurisdictions()) {
    const std::string worker = (federation.Region(region) / "worker.yaml").string();
    EXPECT_EQ(federation.Concordat({"receipts", "--worker", worker}).code, 0) << region;
  }
}

// Small matrices travel, and what leaves the command is an adapter as any other: it verifies, every format
// can be had of it, and regions evaluate it.
TEST(JobTest, ACoreAdapterTravelsAsItsCoresAndLeavesAsAPeftFolder) {
  Federation federation;
  federation.Start();
  JobOptions options;
  options.method = "core";
  const std::string job = federation.Submit(federation.WriteJob(options));
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("state"), "done");
  ASSERT_EQ(watch.last().at("rounds").size(), 2u);
  for (const json& round : watch.last().at("rounds")) EXPECT_EQ(round.at("survivors").size(), 3u);
  const std::string adapter = (federation.root() / "adapter").string();
  const Ran pull = federation.Concordat({"adapter", "pull", job, "--out", adapter});
  ASSERT_EQ(pull.code, 0) << pull.err;
  EXPECT_EQ(federation.Concordat({"adapter", "verify", adapter}).code, 0);
  ASSERT_OK_AND_ASSIGN(const std::string card, ReadTextFile(adapter + "/README.md"));
  EXPECT_NE(card.find("rank 4 (a trained core of 4 × 4 between public random factors), trained together"),
            std::string::npos)
      << card;
  const Ran inspect = federation.Concordat({"adapter", "inspect", adapter});
  ASSERT_EQ(inspect.code, 0) << inspect.err;
  const json tensors = json::parse(inspect.out).at("tensors");
  ASSERT_EQ(tensors.size(), 2u * 3);
  for (const json& tensor : tensors) EXPECT_GT(tensor.at("norm_update"), 0);
  const std::string gguf = (federation.root() / "adapter.gguf").string();
  EXPECT_EQ(federation.Concordat({"adapter", "export", adapter, "--format", "gguf", "--out", gguf}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(gguf));
  const std::string merged = (federation.root() / "merged").string();
  const Ran merge = federation.Concordat({"adapter", "export", adapter, "--format", "merged", "--base",
                                          (federation.root() / "tiny.gguf").string(), "--out", merged});
  EXPECT_EQ(merge.code, 0) << merge.err;
  EXPECT_TRUE(std::filesystem::exists(merged + "/model.safetensors"));
  EXPECT_EQ(federation.Concordat({"eval", job}).code, 0);
}

// Keys made by the command, carried as files: a region that has none stays out, all that have run the job,
// and no key is anywhere but in its two regions' folders.
TEST(JobTest, RegionsThatCarriedKeysToEachOtherRunAJobThatAsksForThem) {
  Federation federation;
  const auto& regions = federation.jurisdictions();
  std::vector<std::string> keys;
  for (size_t i = 0; i < regions.size(); ++i) {
    for (size_t j = i + 1; j < regions.size(); ++j) {
      const Ran made = federation.Concordat({"region", "pairwise-key", federation.Region(regions[i]).string(),
                                             "--peer", "spiffe://" + regions[j] + "/worker/site"});
      ASSERT_EQ(made.code, 0) << made.err;
      const std::filesystem::path file(json::parse(made.out).at("file").get<std::string>());
      const auto there = federation.Region(regions[j]) / "pairwise";
      ASSERT_OK(MakePrivateFolder(there));
      std::filesystem::copy_file(file, there / (regions[i] + ".key"));
      ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(file));
      keys.push_back(text.substr(text.size() - 65, 64));
    }
  }
  for (size_t i = 0; i + 1 < regions.size(); ++i)
    Federation::Edit(federation.Region(regions[i]) / "worker.yaml", "state: state\n",
                     "state: state\npairwise_keys: pairwise\n");
  federation.Start();
  const std::string job_file = federation.WriteJob({});
  Federation::Edit(job_file, "server:", "secure_aggregation: {pairwise_keys: required}\nserver:");

  const Ran plan = federation.Concordat({"plan", job_file});
  EXPECT_EQ(plan.code, 3) << "the last region has not named its folder";
  EXPECT_THAT(plan.out, ::testing::HasSubstr("542"));
  federation.StopAll();
  Federation::Edit(federation.Region(regions.back()) / "worker.yaml", "state: state\n",
                   "state: state\npairwise_keys: pairwise\n");
  federation.Start();

  const std::string job = federation.Submit(job_file);
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("state"), "done");
  ASSERT_EQ(watch.last().at("rounds").size(), 2u);
  for (const json& round : watch.last().at("rounds")) EXPECT_EQ(round.at("survivors").size(), 3u);
  federation.StopAll();
  for (const std::string& key : keys)
    EXPECT_THAT(FilesThatHold(federation.root(), key, "pairwise"), ::testing::IsEmpty());
}

// Deltas rotated, words of three bytes: through the same programs, and with the same books.
TEST(JobTest, APackedJobSendsThreeBytesAnElementAndMakesAnAdapterThatVerifies) {
  Federation federation;
  federation.Start();
  JobOptions packed;
  packed.modulus_bits = 24;
  const std::string job_file = federation.WriteJob(packed);
  JobOptions plain;
  plain.name = "plain";
  const auto bytes_of = [&](const std::string& file) {
    const Ran plan = federation.Concordat({"plan", file});
    EXPECT_EQ(plan.code, 0) << plan.err << plan.out;
    return json::parse(plan.out).at("bytes_per_round").get<uint64_t>();
  };
  const uint64_t bytes = bytes_of(job_file);
  EXPECT_EQ(4 * bytes, 3 * bytes_of(federation.WriteJob(plain, "plain.yaml")));

  const std::string job = federation.Submit(job_file);
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("state"), "done");
  const json rounds = watch.last().at("rounds");
  ASSERT_EQ(rounds.size(), 2u);
  for (const json& round : rounds) {
    EXPECT_EQ(round.at("survivors").size(), 3u);
    EXPECT_GT(round.at("mean_loss"), 0);
    EXPECT_GT(round.at("bytes_up"), 3 * bytes);
  }
  EXPECT_EQ(federation.Concordat({"adapter", "verify", job}).code, 0);

  for (const std::string& region : federation.jurisdictions()) {
    const Ran receipts =
        federation.Concordat({"receipts", "--worker", (federation.Region(region) / "worker.yaml").string()});
    ASSERT_EQ(receipts.code, 0) << receipts.err;
    uint64_t left = 0;
    for (const json& receipt : JsonLines(receipts.out)) left += receipt.at("bytes").get<uint64_t>();
    EXPECT_EQ(left, 2 * bytes) << region;
  }
  federation.StopAll();
}

TEST(JobTest, RealWeightsGoThroughTheSameProgramsInAFewSteps) {
  const auto model = concordat::testing::CacheFolder() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  ASSERT_TRUE(std::filesystem::exists(model)) << model << " is missing: run scripts/setup";
  FederationOptions options;
  options.model = model;
  options.model_name = "SmolLM2-135M-Instruct";
  options.shape = {30, 576, 1536, 9, 3, 64};
  Federation federation(options);
  federation.Start();
  JobOptions small;
  small.rounds = 2;
  small.local_steps = 3;
  small.learning_rate = "0.002";
  const std::string job = federation.Submit(federation.WriteJob(small));
  auto watch = federation.WatchJob(job);
  ASSERT_EQ(watch.End(std::chrono::seconds(600)), 0) << watch.last().dump(2);
  const json rounds = watch.last().at("rounds");
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_LT(rounds[1].at("mean_loss"), rounds[0].at("mean_loss"));
  const std::string adapter = (federation.root() / "adapter").string();
  EXPECT_EQ(federation.Concordat({"adapter", "pull", job, "--out", adapter}).code, 0);
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
