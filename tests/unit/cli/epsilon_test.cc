#include "policy/job_privacy.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> Words(std::string_view line) {
  std::istringstream in{std::string(line)};
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

TEST(EpsilonVerbTest, PricesASetting) {
  const Ran ran = Cli(Words("epsilon --sigma 1.5 --q 0.04 --steps 2250 --delta 1e-5 --json"));
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = ran.json();
  EXPECT_THAT(Keys(json), ElementsAre("by_steps", "delta", "epsilon", "epsilon_rdp", "epsilon_target",
                                      "noise_multiplier", "q", "relation", "remarks", "sigma", "steps"));
  EXPECT_GE(json["epsilon"].get<double>(), 6.76878);
  EXPECT_LE(json["epsilon"].get<double>(), 6.76878042 * 1.001);
  EXPECT_NEAR(json["epsilon_rdp"].get<double>(), 7.32835, 1e-4);
  EXPECT_EQ(json["relation"], "add-remove");
  EXPECT_TRUE(json["epsilon_target"].is_null());
  EXPECT_EQ(json["by_steps"].size(), 1u);
}

TEST(EpsilonVerbTest, RelationsHaveDifferentPrices) {
  const auto price = [](const std::string& relation) {
    return Cli(Words("epsilon --sigma 2 --q 0.05 --steps 1000 --delta 1e-6 --json --relation " + relation))
        .json()["epsilon"]
        .get<double>();
  };
  EXPECT_NEAR(price("add-remove"), 4.1626, 5e-3);
  EXPECT_NEAR(price("replace-one"), 8.2967, 9e-3);
}

TEST(EpsilonVerbTest, FindsTheNoiseForATarget) {
  const auto json = Cli(Words("epsilon --epsilon 8 --q 0.04 --steps 2250 --delta 1e-5 --json")).json();
  EXPECT_GE(json["sigma"].get<double>(), 1.3458986);
  EXPECT_LE(json["sigma"].get<double>(), 1.3458986 * 1.001);
  EXPECT_LE(json["epsilon"].get<double>(), 8);
  EXPECT_EQ(json["epsilon_target"], 8.0);
  EXPECT_THAT(Cli(Words("epsilon --epsilon 8 --q 0.04 --steps 2250 --delta 1e-5")).out,
              HasSubstr("sigma 1.34"));
}

// The price of a job with the noise that the command names for it is the target's, metrics and all.
TEST(EpsilonVerbTest, NamesTheNoiseOfAJobForATarget) {
  const auto json = Cli(Words("epsilon --epsilon 8 --q 0.002 --steps 60 --delta 1e-5 --json")).json();
  policy::JobSpec job;
  job.privacy.unit = PrivacyUnit::kRecord;
  job.privacy.noise_multiplier = json["noise_multiplier"].get<double>();
  job.metrics.noise_multiplier = policy::kUnitMetricNoise * job.privacy.noise_multiplier;
  const double sigma = policy::RoundSteps(job).sigma;
  EXPECT_GE(sigma, json["sigma"].get<double>());
  EXPECT_LE(sigma, json["sigma"].get<double>() * (1 + 1e-12));
  const std::string text = Cli(Words("epsilon --epsilon 8 --q 0.002 --steps 60 --delta 1e-5")).out;
  const size_t at = text.find("noise_multiplier ");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_GE(std::stod(text.substr(at + 17)), job.privacy.noise_multiplier);
  EXPECT_TRUE(
      Cli(Words("epsilon --sigma 1 --q 0.002 --delta 1e-5 --json")).json()["noise_multiplier"].is_null());
  EXPECT_TRUE(
      Cli(Words("epsilon --epsilon 8 --q 0 --delta 1e-5 --json")).json()["noise_multiplier"].is_null());
  EXPECT_TRUE(Cli(Words("epsilon --epsilon 8 --q 0.002 --delta 1e-5 --relation replace-one --json"))
                  .json()["noise_multiplier"]
                  .is_null());
}

TEST(EpsilonVerbTest, ALargeDeltaIsWarnedOf) {
  EXPECT_THAT(Cli(Words("epsilon --sigma 1 --q 0.1 --delta 0.01")).out, HasSubstr("published outright"));
  EXPECT_THAT(Cli(Words("epsilon --sigma 1 --q 0.1 --delta 0.001")).out,
              Not(HasSubstr("published outright")));
  const testing::TempDir dir;
  ASSERT_OK_AND_ASSIGN(std::string job, ReadTextFile("configs/job-record.yaml"));
  const size_t at = job.find("delta: 0.000001 ");
  ASSERT_NE(at, std::string::npos);
  job.replace(at, 15, "delta: 0.01");
  ASSERT_OK(WriteFileAtomically(dir / "job.yaml", job, 0600));
  EXPECT_THAT(Cli({"epsilon", (dir / "job.yaml").string()}).out, HasSubstr("published outright"));
  EXPECT_THAT(Cli({"epsilon", "configs/job-record.yaml"}).out, Not(HasSubstr("published outright")));
}

TEST(EpsilonVerbTest, ShowsTheCurveOverSteps) {
  const auto rows =
      Cli(Words("epsilon --sigma 1 --q 0.01 --steps 100 --delta 1e-6 --table --json")).json()["by_steps"];
  ASSERT_EQ(rows.size(), 8u);  // 1, 2, 4, … 64, 100
  EXPECT_EQ(rows[0]["steps"], 1);
  EXPECT_EQ(rows[7]["steps"], 100);
  EXPECT_LT(rows[0]["epsilon"].get<double>(), rows[7]["epsilon"].get<double>());
  EXPECT_THAT(Cli(Words("epsilon --sigma 1 --q 0.01 --steps 100 --delta 1e-6 --table")).out,
              HasSubstr("steps  epsilon"));
}

TEST(EpsilonVerbTest, SaysZeroAndInfinityPlainly) {
  EXPECT_EQ(Cli(Words("epsilon --sigma 0 --q 0.1 --delta 1e-6 --json")).json()["epsilon"], "infinity");
  EXPECT_EQ(Cli(Words("epsilon --sigma 1 --q 0.1 --delta 0 --json")).json()["epsilon"], "infinity");
  EXPECT_EQ(Cli(Words("epsilon --sigma 1 --q 0 --delta 1e-6 --json")).json()["epsilon"], 0.0);
  EXPECT_EQ(Cli(Words("epsilon --sigma 1 --steps 0 --delta 1e-6 --json")).json()["epsilon"], 0.0);
  EXPECT_THAT(Cli(Words("epsilon --sigma 0 --q 0.1 --delta 1e-6")).out, HasSubstr("raise --sigma"));
  EXPECT_THAT(Cli(Words("epsilon --sigma 1 --delta 0")).out, HasSubstr("give a small delta"));
}

// What is wrong, and what to do.
TEST(EpsilonVerbTest, RefusesBadInputByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"epsilon", "--sigma for the epsilon of a setting"},
      {"epsilon --sigma 1", "--delta is missing"},
      {"epsilon --sigma 1 --delta 1", "--delta 1"},
      {"epsilon --sigma 1 --delta nan", "--delta nan"},
      {"epsilon --sigma 1 --delta 1e-6 --q 1.5", "batch size"},
      {"epsilon --sigma 1 --delta 1e-6 --q nan", "--q nan"},
      {"epsilon --sigma 1 --delta 1e-6 --steps 1.5", "whole number"},
      {"epsilon --sigma=-1 --delta 1e-6", "--sigma -1"},
      {"epsilon --sigma inf --delta 1e-6", "--sigma inf"},
      {"epsilon --sigma 1e308 --q 0.002 --steps 60 --delta 1e-6", "--sigma 1e+308"},
      {"epsilon --epsilon 0 --delta 1e-6", "--epsilon 0"},
      {"epsilon --epsilon 1 --delta 0", "--delta 0"},
      {"epsilon --epsilon 1 --sigma 1 --delta 1e-6", "give one"},
      {"epsilon job.yaml --sigma 1 --delta 1e-6", "not both"},
      {"epsilon --sigma 1 --delta 1e-6 --relation shuffle", "add-remove"},
      {"epsilon --sigma many --delta 1e-6", "--sigma"}};
  for (const auto& [line, text] : cases) {
    const Ran ran = Cli(Words(line));
    EXPECT_EQ(ran.code, 2) << line;
    EXPECT_THAT(ran.err, HasSubstr(text)) << line;
    EXPECT_TRUE(ran.out.empty()) << line;
  }
}

}  // namespace
}  // namespace concordat::cli
