#include "cli/leak.h"

#include <sys/stat.h>

#include "policy/dataset_card.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using ::testing::ElementsAre;
using testing::HasStatus;
using ::testing::HasSubstr;
using ::testing::Not;

sandbox::Audited Figures(double exposure, double epsilon) {
  sandbox::Audited out;
  out.membership = audit::Membership{400, 200, 0.55, 0.02, 0.03};
  out.exposure = audit::Exposure{120, 1024, exposure, 1.25, 9, 1.85};
  out.one_run = audit::OneRunAudit{256, 64, 40, 1e-6, 0.95, epsilon, 3.5};
  out.seconds = 12;
  return out;
}

/// A region with an adapter of three rounds that it helped to train, and a stand-in for its trainer that
/// gives the answers it was given, in their order, whatever it is asked.
class LeakTest : public CliWorld {
 protected:
  void SetUp() override {
    CliWorld::SetUp();
    MakeRounds(3);
    ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("adapter")}).code, 0);
    ASSERT_OK_AND_ASSIGN(const std::string worker, ReadTextFile(dir_ / "de/worker.yaml"));
    ASSERT_OK(WriteFileAtomically(dir_ / "de/worker.yaml", worker + "\ntrainer: ../trainer\n"));
    Say({sandbox::Ready{}, sandbox::Prepared{}, sandbox::TrainerProgress{500, 10, 2}, Figures(1.4, 0.25)});
    Claim(R"({"unit": "record", "epsilon_local": 8.0, "delta": 1e-6})");
  }
  void Say(const std::vector<sandbox::FromTrainer>& answers) {
    std::string script = "#!/bin/sh\n";
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::string file = At(fmt::format("answer-{}", i));
      ASSERT_OK(WriteFileAtomically(file, ByteView(sandbox::Encode(answers[i]))));
      script += "cat " + file + " >&3\n";
    }
    ASSERT_OK(WriteFileAtomically(dir_ / "trainer", script + "exec sleep 600\n", 0700));
  }
  void Claim(const std::string& privacy) {
    ASSERT_OK(WriteFileAtomically(dir_ / "adapter/privacy.json", privacy));
  }
  Ran Audit(std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"eval", "--leak", At("adapter"), "--worker", At("de/worker.yaml")};
    words.insert(words.end(), more.begin(), more.end());
    return Cli(std::move(words));
  }
};

TEST_F(LeakTest, FiguresAreShownBesideTheClaimAndNothingFoundIsNoFailure) {
  const Ran text = Audit();
  EXPECT_EQ(text.code, 0) << text.err << text.out;
  EXPECT_THAT(text.out, HasSubstr("mean exposure 1.40 bits"));
  EXPECT_THAT(text.out, HasSubstr("AUC 0.550 ± 0.020"));
  EXPECT_THAT(text.out, HasSubstr("epsilon at least 0.25 at 95% confidence"));
  EXPECT_THAT(text.out, HasSubstr("epsilon 8"));
  EXPECT_THAT(text.out, HasSubstr("no proof"));
  const Ran ran = Audit({"--json"});
  EXPECT_EQ(ran.code, 0);
  const auto json = ran.json();
  EXPECT_THAT(Keys(json),
              ElementsAre("above_claim", "adapter", "auc", "auc_standard_error", "canaries", "canaries_found",
                          "canaries_trained_on", "confidence", "correct", "dataset", "delta",
                          "epsilon_audited", "epsilon_audited_ceiling", "epsilon_claimed", "exposure_flag",
                          "exposure_mean", "exposure_median", "exposure_most", "guesses", "job", "members",
                          "members_told_apart", "name", "non_members", "references", "region", "rounds_done",
                          "rounds_here", "seconds", "tpr_at_1_percent_fpr", "unit"));
  EXPECT_EQ(json["epsilon_claimed"], 8.0);
  EXPECT_EQ(json["epsilon_audited"], 0.25);
  EXPECT_EQ(json["canaries_found"], false);
  EXPECT_EQ(json["above_claim"], false);
  EXPECT_EQ(json["rounds_here"], 3);
  EXPECT_EQ(json["region"], "spiffe://de.example/worker/site");
}

TEST_F(LeakTest, FoundCanariesEndWithOne) {
  Say({sandbox::Ready{}, sandbox::Prepared{}, Figures(4.5, 0.25)});
  const Ran ran = Audit();
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("CANARIES FOUND"));
  EXPECT_EQ(Audit({"--json"}).json()["canaries_found"], true);
}

TEST_F(LeakTest, AnAuditAboveTheClaimEndsWithOne) {
  Claim(R"({"unit": "person", "epsilon_local": 0.2, "delta": 1e-6})");
  const Ran ran = Audit();
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("ABOVE THE CLAIMED"));
  Claim(R"({"unit": "person", "epsilon_local": 0.25, "delta": 1e-6})");
  EXPECT_EQ(Audit().code, 0) << "as much as claimed is not above it";
}

TEST_F(LeakTest, WhatIsNotClaimedCannotBeContradicted) {
  Claim(R"({"unit": "record", "epsilon_local": "infinity", "delta": 1e-6})");
  EXPECT_EQ(Audit().code, 0);
  EXPECT_EQ(Audit({"--json"}).json()["epsilon_claimed"], "infinity");
  Claim(R"({"unit": "site", "epsilon_local": 0.001, "delta": 1e-6})");
  const Ran site = Audit({"--json"});
  EXPECT_EQ(site.code, 0);
  EXPECT_TRUE(site.json()["epsilon_claimed"].is_null());
  EXPECT_TRUE(site.json()["above_claim"].is_null());
}

TEST_F(LeakTest, WithoutCanariesThatIsSaid) {
  sandbox::Audited only;
  only.membership = audit::Membership{40, 20, 0.5, 0.05, std::nullopt};
  Say({sandbox::Ready{}, sandbox::Prepared{}, only});
  const Ran ran = Audit();
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, HasSubstr("plants none"));
  EXPECT_THAT(ran.out, HasSubstr("nothing was planted"));
  const auto json = Audit({"--json"}).json();
  EXPECT_TRUE(json["canaries_found"].is_null());
  EXPECT_TRUE(json["epsilon_audited"].is_null());
  EXPECT_TRUE(json["tpr_at_1_percent_fpr"].is_null());
}

TEST_F(LeakTest, ARegionThatTookPartInNoRoundHasNothingToLookFor) {
  ASSERT_OK_AND_ASSIGN(std::string chain, ReadTextFile(dir_ / "adapter/chain.json"));
  for (size_t at; (at = chain.find("spiffe://de.example/worker")) != std::string::npos;)
    chain.replace(at, 26, "spiffe://at.example/worker");
  ASSERT_OK(WriteFileAtomically(dir_ / "adapter/chain.json", chain));
  const Ran ran = Audit();
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("no round"));
}

TEST_F(LeakTest, WhatTheTrainerRefusesIsTheReason) {
  Say({sandbox::Failed{7, "expected a base model with SHA-256 ab, got cd"}});
  const Ran refused = Audit();
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("expected a base model"));
  Say({sandbox::Ready{}, sandbox::Prepared{}, sandbox::Evaluated{}});
  EXPECT_THAT(Audit().err, HasSubstr("another answer"));
}

TEST_F(LeakTest, AnAdapterThatWasChangedIsNotAudited) {
  ASSERT_OK_AND_ASSIGN(Bytes weights, ReadFile(dir_ / "adapter/adapter_model.safetensors"));
  weights.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(dir_ / "adapter/adapter_model.safetensors", ByteView(weights)));
  EXPECT_THAT(Audit().err, HasSubstr("not the weights"));
}

TEST_F(LeakTest, AClaimThatDoesNotReadIsNamed) {
  const std::pair<const char*, const char*> wrong[] = {
      {"", "JSON object"},
      {"[]", "JSON object"},
      {R"({"epsilon_local": 8, "delta": 0.1})", "unit"},
      {R"({"unit": 3, "epsilon_local": 8, "delta": 0.1})", "unit"},
      {R"({"unit": "record", "delta": 0.1})", "epsilon_local"},
      {R"({"unit": "record", "epsilon_local": "much", "delta": 0.1})", "epsilon_local"},
      {R"({"unit": "record", "epsilon_local": -1, "delta": 0.1})", "epsilon_local"},
      {R"({"unit": "record", "epsilon_local": null, "delta": 0.1})", "epsilon_local"},
      {R"({"unit": "record", "epsilon_local": 8, "delta": 2})", "delta"},
      {R"({"unit": "record", "epsilon_local": 8})", "delta"}};
  for (const auto& [text, what] : wrong) {
    Claim(text);
    EXPECT_THAT(ReadClaim(At("adapter")), HasStatus(StatusCode::kInvalidArgument, what)) << text;
    EXPECT_EQ(Audit().code, 2) << text;
  }
}

// A released adapter's file holds the lines of its regions' ledgers.
TEST_F(LeakTest, AClaimIsReadFromAFileThatHoldsLongStatements) {
  Claim(fmt::format(R"({{"unit": "record", "epsilon_local": 8, "delta": 0.1, "regions": ["{}"]}})",
                    std::string(5 << 20, 'x')));
  ASSERT_OK_AND_ASSIGN(const ClaimedPrivacy claim, ReadClaim(At("adapter")));
  EXPECT_EQ(claim.epsilon, 8);
}

TEST_F(LeakTest, AWrongCallSaysWhatIsMissing) {
  EXPECT_EQ(Cli({"eval"}).code, 2);
  EXPECT_EQ(Cli({"eval", "--leak", At("adapter")}).code, 2);
  EXPECT_EQ(Cli({"eval", "--worker", At("de/worker.yaml")}).code, 2);
  EXPECT_EQ(Audit({"smollm2-manuals"}).code, 2);
  EXPECT_EQ(Audit({"--confidence", "1"}).code, 2);
}

TEST_F(LeakTest, RegionCanariesMakesAKeyOnceAndSaysWhatToDo) {
  const Ran made = Cli({"region", "canaries", At("de"), "--count", "64"});
  ASSERT_EQ(made.code, 0) << made.err;
  struct stat info {};
  ASSERT_EQ(::stat(At("de/canary.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(info.st_size, 32);
  ASSERT_OK_AND_ASSIGN(const std::string before, ReadTextFile(dir_ / "de/canary.key"));
  const Ran again = Cli({"region", "canaries", At("de")});
  EXPECT_EQ(again.code, 1);
  EXPECT_EQ(ReadTextFile(dir_ / "de/canary.key").value(), before);
  // What it says to add is a card that reads.
  ASSERT_OK_AND_ASSIGN(const std::string card, ReadTextFile(dir_ / "de/dataset-card.yaml"));
  ASSERT_OK_AND_ASSIGN(
      const auto read,
      policy::ParseDatasetCard(card + "\ncanaries:\n  key: canary.key\n  count: 64\n", "card", At("de")));
  EXPECT_EQ(read.canaries.count, 64u);
  EXPECT_EQ(read.canaries.key, At("de/canary.key"));
  EXPECT_THAT(made.out, HasSubstr("    canaries:\n      key: canary.key\n      count: 64\n"));
}

}  // namespace
}  // namespace concordat::cli
