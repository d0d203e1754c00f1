#include <cmath>

#include "cli/report.h"
#include "common/clock.h"
#include "policy/dataset_card.h"
#include "policy/ledger.h"
#include "policy/node_config.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CommandTest, NoVerbAndUnknownVerbAndMissingArgumentAreUsageErrors) {
  EXPECT_EQ(Cli({}).code, 2);
  const Ran unknown = Cli({"frobnicate"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("frobnicate"));
  EXPECT_EQ(Cli({"plan"}).code, 2);
  EXPECT_EQ(Cli({"adapter", "export", "x", "--format", "onnx", "--out", "y"}).code, 2);
  EXPECT_EQ(Cli({"watch", "x", "--patience", "soon"}).code, 2);
  EXPECT_EQ(Cli({"doctor", "--worker", "a", "--coordinator", "b"}).code, 2);
}

TEST(CommandTest, UsageErrorsAreJsonOnRequest) {
  const Ran ran = Cli({"--json", "plan"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(Keys(ran.json()), ElementsAre("code", "error"));
}

TEST(CommandTest, EveryVerbHasHelpWithAnExample) {
  for (const char* verb : {"plan", "submit", "jobs", "watch", "cancel", "approve", "deny", "pause", "resume",
                           "withdraw", "status", "eval", "report", "epsilon", "receipts", "doctor"}) {
    const Ran ran = Cli({verb, "--help"});
    EXPECT_EQ(ran.code, 0) << verb;
    EXPECT_THAT(ran.out, HasSubstr("Example: concordat")) << verb;
  }
  for (const char* verb : {"pull", "verify", "export", "inspect"}) {
    EXPECT_THAT(Cli({"adapter", verb, "--help"}).out, HasSubstr("Example: concordat ")) << verb;
  }
}

TEST(CommandTest, VerbsForTheCoordinatorAskWhoYouAre) {
  const Ran ran = Cli({"jobs"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("--config"));
}

TEST(CommandTest, AFileThatIsNotThereIsAUsageError) {
  EXPECT_EQ(Cli({"epsilon", "/nowhere/job.yaml"}).code, 2);
  EXPECT_EQ(Cli({"model", "hash", "/nowhere/model.gguf"}).code, 2);
}

TEST(CommandTest, NoWorkerBehindTheSocketIsUnreachable) {
  testing::TempDir dir;
  ASSERT_EQ(Cli({"region", "init", (dir / "de").string(), "--jurisdiction", "de.example"}).code, 0);
  ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile(dir / "de/worker.yaml"));
  ASSERT_OK_AND_ASSIGN(text, policy::PinCharterHash(text, crypto::Sha256(AsBytes("any"))));
  ASSERT_OK(WriteFileAtomically(dir / "de/worker.yaml", text));
  const Ran ran = Cli({"status", "--worker", (dir / "de/worker.yaml").string()});
  EXPECT_EQ(ran.code, 5) << ran.err;
  EXPECT_EQ(Cli({"approve", "x", "--worker", (dir / "de/worker.yaml").string()}).code, 5);
}

/// A region with a ledger of three charges, from `region init`.
class LedgerVerbTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Cli({"region", "init", (dir_ / "de").string(), "--jurisdiction", "de.example"}).code, 0);
    ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile(worker_));
    ASSERT_OK_AND_ASSIGN(text, policy::PinCharterHash(text, crypto::Sha256(AsBytes("any"))));
    ASSERT_OK(WriteFileAtomically(worker_, text));
    ASSERT_OK_AND_ASSIGN(config_, policy::LoadWorkerConfig(worker_.string()));
    ASSERT_OK_AND_ASSIGN(const auto card, policy::LoadDatasetCard(config_.dataset_card.string()));
    ASSERT_OK(MakeFolder(config_.state, 0700));
    ASSERT_OK_AND_ASSIGN(const auto ledger,
                         policy::Ledger::Open(config_.ledger, card.name, card.budget(), card.privacy.period,
                                              policy::LedgerAnchorPath(config_.anchor)));
    for (uint32_t round = 0; round < 3; ++round) {
      LedgerCharge charge;
      charge.attempt = {crypto::Sha256(AsBytes("job")), round, 0};
      ASSERT_OK(charge.price.Add({1, 1, 1, 1, 1, 1}));
      ASSERT_OK(ledger->Charge(SystemClock().Now(), charge));
    }
    spent_ = ledger->Spent(SystemClock().Now());
  }
  Ran Ledger(std::vector<std::string> words) const {
    words.insert(words.begin(), "ledger");
    words.insert(words.end(), {"--worker", worker_.string(), "--json"});
    return Cli(words);
  }

  testing::TempDir dir_;
  std::filesystem::path worker_ = dir_ / "de/worker.yaml";
  policy::WorkerConfig config_;
  double spent_ = 0;
};

TEST_F(LedgerVerbTest, ReconcileFindsNothingWhereNothingIsWrong) {
  const Ran ran = Ledger({"reconcile", "--yes"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.json().at("wrong").size(), 0u);
  EXPECT_EQ(ran.json().at("written"), false);
}

TEST_F(LedgerVerbTest, ReconcileChargesWhatWasForgottenWhenItIsToldTo) {
  std::filesystem::resize_file(config_.ledger, 0);
  const Ran asked = Ledger({"reconcile"});
  EXPECT_EQ(asked.code, 1);
  EXPECT_THAT(asked.out + asked.err, HasSubstr("Nothing was changed"));
  EXPECT_EQ(std::filesystem::file_size(config_.ledger), 0u);
  const Ran done = Ledger({"reconcile", "--yes"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(Keys(done.json()), ElementsAre("entries", "entries_known", "epsilon_after", "epsilon_before",
                                             "epsilon_known", "kept", "written", "wrong"));
  EXPECT_EQ(done.json().at("entries"), 0);
  EXPECT_EQ(done.json().at("entries_known"), 3);
  EXPECT_NEAR(done.json().at("epsilon_after").get<double>(), spent_, 1e-9);
  const Ran show = Ledger({"show"});
  EXPECT_EQ(show.json().at("entries").at(0).at("kind"), "restored");
  EXPECT_NEAR(show.json().at("spent_epsilon").get<double>(), spent_, 1e-9);
  EXPECT_EQ(Ledger({"reconcile"}).code, 0) << "it is settled";
}

TEST_F(LedgerVerbTest, WithoutAnAnchorNobodyKnowsWhetherEntriesAreMissing) {
  ASSERT_TRUE(std::filesystem::remove(policy::LedgerAnchorPath(config_.anchor)));
  ASSERT_OK_AND_ASSIGN(const std::string whole, ReadTextFile(config_.ledger));
  ASSERT_OK(WriteFileAtomically(config_.ledger, whole.substr(0, whole.find('\n') + 1), 0600));
  const Ran asked = Ledger({"reconcile"});
  EXPECT_EQ(asked.code, 1);
  EXPECT_THAT(asked.out + asked.err, HasSubstr("counts as never spent"));
  const Ran done = Ledger({"reconcile", "--yes"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.json().at("entries"), 1);
  EXPECT_TRUE(done.json().at("entries_known").is_null());
  EXPECT_TRUE(done.json().at("epsilon_known").is_null());
}

// A row's figure is at the delta of its day.
TEST_F(LedgerVerbTest, WhatIsSpentIsAtTheCardsDeltaOfToday) {
  const std::filesystem::path card = dir_ / "de/dataset-card.yaml";
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(card));
  const std::regex delta("delta: [0-9.e-]+");
  ASSERT_TRUE(std::regex_search(text, delta)) << text;
  ASSERT_OK(WriteFileAtomically(card, std::regex_replace(text, delta, "delta: 0.000000000001"), 0600));
  const Ran show = Ledger({"show"});
  ASSERT_EQ(show.code, 0) << show.err;
  EXPECT_GT(show.json().at("spent_epsilon").get<double>(), 1.2 * spent_);
  EXPECT_NEAR(show.json().at("entries").back().at("epsilon_after").get<double>(), spent_, 1e-9);
}

TEST_F(LedgerVerbTest, ShowOfACutLedgerPrintsItsLinesAndFails) {
  EXPECT_EQ(Ledger({"show"}).code, 0);
  ASSERT_OK_AND_ASSIGN(const std::string whole, ReadTextFile(config_.ledger));
  ASSERT_OK(WriteFileAtomically(config_.ledger, whole.substr(0, whole.find('\n') + 1), 0600));
  const Ran cut = Ledger({"show"});
  EXPECT_EQ(cut.code, 1);
  EXPECT_THAT(cut.out, HasSubstr("\"entries\":[{"));
  EXPECT_THAT(cut.out + cut.err, HasSubstr("1 entries are here, 3 are anchored"));
  std::filesystem::remove(config_.ledger);
  EXPECT_EQ(Ledger({"show"}).code, 1) << "taken away is not unspent";
  ASSERT_OK(WriteFileAtomically(config_.ledger, whole, 0600));
  std::filesystem::remove(policy::LedgerAnchorPath(config_.anchor));
  EXPECT_EQ(Ledger({"show"}).code, 1) << "no anchor to believe it by";
  std::filesystem::remove(config_.ledger);
  EXPECT_EQ(Ledger({"show"}).code, 0) << "a region in which nothing was ever charged";
}

TEST_F(LedgerVerbTest, DoctorFindsACutLedger) {
  const auto level = [&] {
    const auto report = Cli({"doctor", "--worker", worker_.string(), "--json"}).json();
    for (const auto& check : report["checks"])
      if (check["check"] == "ledger") return check["level"].get<std::string>();
    return std::string("not checked");
  };
  EXPECT_EQ(level(), "ok");
  std::filesystem::resize_file(config_.ledger, 0);
  EXPECT_EQ(level(), "fail");
}

TEST_F(LedgerVerbTest, DoctorFindsACardWhoseUnitIsNotTheLedgers) {
  const std::filesystem::path card = dir_ / "de/dataset-card.yaml";
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(card));
  ASSERT_NE(text.find("unit: site"), std::string::npos) << text;
  ASSERT_OK(
      WriteFileAtomically(card, std::regex_replace(text, std::regex("unit: site"), "unit: record"), 0600));
  const auto report = Cli({"doctor", "--worker", worker_.string(), "--json"}).json();
  const auto check =
      std::ranges::find_if(report["checks"], [](const auto& c) { return c["check"] == "ledger"; });
  ASSERT_NE(check, report["checks"].end());
  EXPECT_EQ((*check)["level"], "fail");
  EXPECT_THAT((*check)["text"].get<std::string>(),
              HasSubstr("charges in unit site, while the card says record"));
  EXPECT_THAT((*check)["next"].dump(), HasSubstr("set privacy.unit in the dataset card back"));
  EXPECT_THAT(Cli({"ledger", "show", "--worker", worker_.string()}).out,
              HasSubstr("another unit than the card's budget"));
}

TEST(OutputTest, TableAlignsCodePointsAndNumbersToTheRight) {
  std::ostringstream out, err;
  Output output(out, err, false);
  output.Table({"name", "n"}, {{"é", "1"}, {"long", "100"}}, {false, true});
  EXPECT_EQ(out.str(), "name    n\né       1\nlong  100\n");
}

TEST(OutputTest, ControlCharactersOfPeersNeverReachATerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\nc\x7f"), "a?[2Jb?c?");
  EXPECT_EQ(Printable("x\xC2\x9Bm"), "x?m");
  EXPECT_EQ(Printable("grün"), "grün");
}

TEST(OutputTest, InfinityIsTheStringInfinityInJson) {
  EXPECT_EQ(NumberJson(HUGE_VAL).dump(), "\"infinity\"");
  EXPECT_EQ(NumberJson(std::nan("")).dump(), "null");
  EXPECT_EQ(NumberJson(1.5).dump(), "1.5");
}

TEST(OutputTest, ExitCodesFollowFromStatusCodes) {
  EXPECT_EQ(ExitCodeOf(InvalidArgument("x")), ExitCode::kUsage);
  EXPECT_EQ(ExitCodeOf(PermissionDenied("x")), ExitCode::kRefused);
  EXPECT_EQ(ExitCodeOf(ResourceExhausted("x")), ExitCode::kBudgetSpent);
  EXPECT_EQ(ExitCodeOf(Unavailable("x")), ExitCode::kUnreachable);
  EXPECT_EQ(ExitCodeOf(DataLoss("x")), ExitCode::kFailed);
}

TEST_F(CliWorld, CharterIsMadeSignedVerifiedShownAndPinned) {
  const Ran verify = Cli({"charter", "verify", At("charter.yaml"), "--json"});
  EXPECT_EQ(verify.code, 0);
  EXPECT_THAT(Keys(verify.json()), ElementsAre("charter", "verified", "version"));
  const Ran show = Cli({"charter", "show", At("charter.yaml"), "--json"});
  EXPECT_THAT(Keys(show.json()), ElementsAre("charter", "coordinator", "flows", "members", "minimum_cohort",
                                             "name", "signed_by", "version"));
  EXPECT_EQ(show.json()["signed_by"].size(), 3u);
  ASSERT_OK_AND_ASSIGN(const std::string pinned, ReadTextFile(dir_ / "de/operator.yaml"));
  EXPECT_THAT(pinned, HasSubstr("hash: " + charter_));
}

TEST_F(CliWorld, AChangedCharterVerifiesNoLongerAndIsNotPinned) {
  ASSERT_OK_AND_ASSIGN(std::string text, ReadTextFile(dir_ / "charter.yaml"));
  text.replace(text.find("statute"), 7, "consent");
  ASSERT_OK(WriteFileAtomically(dir_ / "charter.yaml", text));
  EXPECT_EQ(Cli({"charter", "verify", At("charter.yaml")}).code, 3);
  EXPECT_EQ(Cli({"charter", "pin", At("charter.yaml"), At("de/operator.yaml")}).code, 3);
}

TEST_F(CliWorld, ABadJobFileIsNamedWithItsLineBeforeAnythingIsSent) {
  std::string bad = std::regex_replace(job_text_, std::regex("rounds: 3"), "rounds: many\nroundz: 3");
  ASSERT_OK(WriteFileAtomically(dir_ / "bad.yaml", bad));
  const Ran ran = Go({"plan", At("bad.yaml")});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:"));
  EXPECT_THAT(ran.err, HasSubstr("roundz"));
  EXPECT_TRUE(service_.submitted.job_file().empty());
}

TEST_F(CliWorld, AJobUnderAnotherCharterIsRefusedHere) {
  const std::string other = std::regex_replace(job_text_, std::regex(charter_), std::string(64, 'a'));
  ASSERT_OK(WriteFileAtomically(dir_ / "other.yaml", other));
  EXPECT_EQ(Go({"submit", At("other.yaml")}).code, 3);
  EXPECT_TRUE(service_.submitted.job_file().empty());
}

TEST_F(CliWorld, AnotherProtocolOrCharterOfTheCoordinatorIsRefusedNamingBoth) {
  service_.status.set_protocol(77);
  const Ran version = Go({"jobs"});
  EXPECT_EQ(version.code, 1);
  EXPECT_THAT(version.err, HasSubstr("protocol 77"));
  service_.status.set_protocol(kProtocolVersion);
  service_.status.set_charter(std::string(32, 'x'));
  EXPECT_EQ(Go({"jobs"}).code, 3);
}

TEST_F(CliWorld, EpsilonListsRoundsAndSaysWhatTheSiteUnitIsWorth) {
  const Ran json = Cli({"epsilon", At("job.yaml"), "--json"});
  EXPECT_EQ(json.code, 0);
  EXPECT_THAT(Keys(json.json()), ElementsAre("by_rounds", "job_name", "privacy", "remarks"));
  const auto rows = json.json()["by_rounds"];
  EXPECT_EQ(rows.size(), 3u);
  EXPECT_LT(rows[0]["epsilon_local"].get<double>(), rows[2]["epsilon_local"].get<double>());
  EXPECT_THAT(Cli({"epsilon", At("job.yaml")}).out, HasSubstr("everyone knows who takes part"));
  const auto silent =
      std::regex_replace(job_text_, std::regex("noise_multiplier: 0.05"), "noise_multiplier: 0");
  ASSERT_OK(WriteFileAtomically(dir_ / "silent.yaml", silent));
  EXPECT_EQ(Cli({"epsilon", At("silent.yaml"), "--json"}).json()["by_rounds"][0]["epsilon_local"],
            "infinity");
}

TEST_F(CliWorld, DoctorNamesWhatIsMissingAndWhatToDo) {
  const Ran ran = Cli({"doctor", "--worker", At("de/worker.yaml"), "--json"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(Keys(ran.json()), ElementsAre("checks", "node", "ready"));
  std::map<std::string, std::string> levels;
  const nlohmann::json report = ran.json();
  for (const auto& check : report["checks"]) levels[check["check"]] = check["level"];
  EXPECT_EQ(levels["charter"], "ok");
  EXPECT_EQ(levels["certificate"], "ok");
  EXPECT_EQ(levels["base_model"], "fail");
  EXPECT_EQ(levels["dataset"], "fail");
  std::filesystem::permissions(dir_ / "de/worker/key.pem", std::filesystem::perms(0644));
  EXPECT_THAT(Cli({"doctor", "--worker", At("de/worker.yaml")}).out, HasSubstr("chmod 600"));
  const Ran me = Go({"doctor"});
  EXPECT_EQ(me.code, 0) << me.out;
}

TEST_F(CliWorld, DoctorFailsOnAnExpiredCertificate) {
  class Later final : public Clock {
    Instant Now() const override { return SystemClock().Now() + std::chrono::days(200); }
  } later;
  surroundings_.clock = &later;
  const Ran ran = Go({"doctor"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("region renew"));
}

}  // namespace
}  // namespace concordat::cli
