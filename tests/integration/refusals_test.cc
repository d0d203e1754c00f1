#include <gtest/gtest.h>
#include <signal.h>

#include <regex>

#include "common/clock.h"
#include "policy/charter.h"
#include "privacy/crypto/x509.h"
#include "tests/support/federation.h"
#include "tests/support/status_matchers.h"

// What is refused, by whom, with which exit code and in which words.
namespace concordat {
namespace {

using concordat::testing::Await;
using concordat::testing::Federation;
using concordat::testing::FederationOptions;
using concordat::testing::JobOptions;
using concordat::testing::Ran;
using nlohmann::json;
using ::testing::HasSubstr;

FederationOptions Planted() {
  FederationOptions options;
  options.trainer = CONCORDAT_PLANTED_TRAINER_PATH;
  return options;
}

TEST(RefusalsTest, ARegionsPolicyRefusesAJobAndThePlanNamesTheRule) {
  Federation federation(Planted());
  Federation::Edit(federation.Region("fr.example") / "policy.yaml", "max_rank: 16", "max_rank: 2");
  federation.Start();
  const std::string job = federation.WriteJob({});
  const Ran plan = federation.Concordat({"plan", job});
  EXPECT_EQ(plan.code, 3) << plan.err;
  const json seen = json::parse(plan.out);
  EXPECT_EQ(seen.at("can_start"), false);
  EXPECT_THAT(federation.ConcordatAs("de.example", {"plan", job}).out, HasSubstr("rank"));
  EXPECT_THAT(ReadTextFile(federation.WorkerLog("fr.example")).value_or(""), HasSubstr("adapters.max_rank"));
  federation.StopAll();
}

TEST(RefusalsTest, AJobThatCostsMoreThanIsLeftExitsWithFour) {
  FederationOptions options = Planted();
  options.epsilon = "4000000";  // a round of the small job costs three million
  Federation federation(options);
  federation.Start();
  const Ran plan = federation.Concordat({"plan", federation.WriteJob({})});
  EXPECT_EQ(plan.code, 4) << plan.out << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("budget"));

  // What fits runs; what is left afterwards does not pay for the same again.
  JobOptions one;
  one.rounds = 1;
  auto watch = federation.WatchJob(federation.Submit(federation.WriteJob(one)));
  ASSERT_EQ(watch.End(), 0) << watch.last().dump(2);
  one.seed = 8;
  EXPECT_EQ(federation.Concordat({"plan", federation.WriteJob(one)}).code, 4);
  const Ran ledger = federation.Concordat(
      {"ledger", "show", "--worker", (federation.Region("de.example") / "worker.yaml").string()});
  const json book = json::parse(ledger.out);
  EXPECT_EQ(book.at("entries").size(), 1u);
  EXPECT_LE(book.at("spent_epsilon"), book.at("budget_epsilon"));
  federation.StopAll();
}

TEST(RefusalsTest, ABudgetThatRunsOutInTheMiddleStopsTheJobWithCodeFour) {
  FederationOptions options = Planted();
  options.epsilon = "6500000";  // two rounds, and no attempt more
  Federation federation(options);
  const auto gate = federation.Region("fr.example") / "state/scratch/gate";
  std::filesystem::create_directories(gate.parent_path());
  ASSERT_OK(WriteFileAtomically(gate, std::string_view("closed")));
  federation.Start();
  const std::string job = federation.Submit(federation.WriteJob({}));
  // Two regions have paid for the first attempt when the coordinator dies and loses what they sent: they
  // would have to pay again.
  for (const char* region : {"de.example", "es.example"})
    ASSERT_TRUE(Federation::AwaitText(federation.WorkerLog(region), "uploaded"));
  federation.coordinator().Kill();
  std::filesystem::remove_all(federation.coordinator_folder() / "state/spool");
  federation.StartCoordinator();
  std::filesystem::remove(gate);
  auto watch = federation.WatchJob(job);
  EXPECT_EQ(watch.End(), 4) << watch.last().dump(2);
  EXPECT_EQ(watch.last().at("rounds_done"), 0) << "two have not enough left, and three are needed";
  for (const char* region : {"de.example", "es.example"}) {
    const Ran ledger = federation.Concordat(
        {"ledger", "show", "--worker", (federation.Region(region) / "worker.yaml").string()});
    const json book = json::parse(ledger.out);
    EXPECT_EQ(book.at("entries").size(), 1u);
    EXPECT_LE(book.at("spent_epsilon"), book.at("budget_epsilon"));
    EXPECT_TRUE(Federation::AwaitText(federation.WorkerLog(region), "privacy.epsilon"));
  }
  federation.StopAll();
}

TEST(RefusalsTest, AMistakeInAJobFileIsNamedWithLineAndColumn) {
  const Federation federation(Planted());
  const std::string job = federation.WriteJob({});
  Federation::Edit(job, "local_steps: 4", "local_step: 4");
  const Ran plan = federation.Concordat({"plan", job});
  EXPECT_EQ(plan.code, 2);
  const std::string error = json::parse(plan.out).at("error");
  EXPECT_THAT(error, ::testing::ContainsRegex("job\\.yaml:[0-9]+:[0-9]+"));
  EXPECT_THAT(error, HasSubstr("local_step"));
}

TEST(RefusalsTest, ACoordinatorThatIsDownIsCodeFive) {
  const Federation federation(Planted());
  const std::string job = federation.WriteJob({});
  for (const std::string verb : {"plan", "submit"})
    EXPECT_EQ(federation.Concordat({verb, job}).code, 5) << verb;
  EXPECT_EQ(federation.Concordat({"jobs"}).code, 5);
}

/// Starts a worker that must refuse to run; gives its exit code and what it said.
std::pair<int, std::string> RefusedStart(Federation& federation, const std::string& region) {
  federation.StartWorker(region);
  const auto code = federation.Worker(region).Wait();
  return {code.value_or(-1), ReadTextFile(federation.Region(region) / "stderr.log").value_or("")};
}

TEST(RefusalsTest, AWorkerDoesNotStartWithACertificateThatIsNotItsOwn) {
  Federation federation(Planted());
  const std::string region = "es.example";
  const auto folder = federation.Region(region);
  const auto key = crypto::SigningKey::FromPem(AsBytes(*ReadTextFile(folder / "ca/root.key")));
  const auto leaf = crypto::SigningKey::FromPem(AsBytes(*ReadTextFile(folder / "worker/key.pem")));
  const std::string root = *ReadTextFile(folder / "ca/root.pem");
  const std::string good = *ReadTextFile(folder / "worker/cert.pem");
  const Instant now = SystemClock().Now();
  OsRandom random;
  crypto::CertificateProfile profile;
  profile.id = *SpiffeId::Make(region, Role::kWorker, "site");
  profile.spki = leaf->PublicSpki();
  profile.not_before = now;
  profile.not_after = now + std::chrono::seconds(2);
  ASSERT_OK_AND_ASSIGN(const std::string expired, crypto::IssueLeaf(*key, root, profile, random));
  ASSERT_OK(WriteFileAtomically(folder / "worker/cert.pem", expired));
  ASSERT_TRUE(Await([&] { return SystemClock().Now() > profile.not_after + std::chrono::seconds(1); }));
  auto [code, text] = RefusedStart(federation, region);
  EXPECT_EQ(code, 3);
  EXPECT_THAT(text, HasSubstr("expired"));

  // Another jurisdiction's leaf, by its own good root.
  ASSERT_OK(WriteFileAtomically(folder / "worker/cert.pem",
                                *ReadTextFile(federation.Region("fr.example") / "worker/cert.pem")));
  std::tie(code, text) = RefusedStart(federation, region);
  EXPECT_EQ(code, 3);
  EXPECT_THAT(text, HasSubstr("not the key of"));

  // A root of its own making that claims the jurisdiction.
  const auto forger = crypto::SigningKey::Generate(random);
  profile.not_before = now - std::chrono::hours(1);
  profile.not_after = now + std::chrono::hours(24);
  ASSERT_OK_AND_ASSIGN(const std::string false_root,
                       crypto::MakeRootCertificate(forger, region, now - std::chrono::hours(2),
                                                   now + std::chrono::hours(48), random));
  ASSERT_OK_AND_ASSIGN(const std::string forged, crypto::IssueLeaf(forger, false_root, profile, random));
  ASSERT_OK(WriteFileAtomically(folder / "worker/cert.pem", forged));
  std::tie(code, text) = RefusedStart(federation, region);
  EXPECT_EQ(code, 3);
  EXPECT_THAT(text, HasSubstr("worker/cert.pem"));

  ASSERT_OK(WriteFileAtomically(folder / "worker/cert.pem", good));
  ASSERT_OK(
      WriteFileAtomically(folder / "worker.yaml",
                          std::regex_replace(*ReadTextFile(folder / "worker.yaml"),
                                             std::regex(federation.charter().hex()), std::string(64, 'a'))));
  std::tie(code, text) = RefusedStart(federation, region);
  EXPECT_EQ(code, 3);
  EXPECT_THAT(text, HasSubstr("pins aaaa"));
}

TEST(RefusalsTest, AWorkerDoesNotStartWhenItsTrainerCouldReachItsKeys) {
  Federation federation(Planted());
  const auto config = federation.Region("es.example") / "worker.yaml";
  std::string text = *ReadTextFile(config);
  ASSERT_EQ(text.find("scratch:"), std::string::npos);
  ASSERT_OK(WriteFileAtomically(config, text + "scratch: .\n"));
  const auto [code, error] = RefusedStart(federation, "es.example");
  EXPECT_EQ(code, 2);
  EXPECT_THAT(error, HasSubstr("the trainer may write there"));
}

TEST(RefusalsTest, AWorkerUnderAnotherCharterIsToldWhichOne) {
  Federation federation(Planted());
  // The members sign a second text; one region moves to it, the coordinator does not.
  policy::SignedCharter charter = *policy::LoadSignedCharter((federation.root() / "charter.yaml").string());
  charter.charter.version = 2;
  std::string text = policy::CharterText(charter.charter);
  const Digest hash = policy::CharterHash(text);
  for (const std::string& j : federation.jurisdictions()) {
    const auto key =
        crypto::SigningKey::FromPem(AsBytes(*ReadTextFile(federation.Region(j) / "ca/root.key")));
    ASSERT_OK_AND_ASSIGN(text, policy::SignCharterFile(text, "charter", j, *key));
  }
  ASSERT_OK(WriteFileAtomically(federation.root() / "charter2.yaml", text));
  const auto config = federation.Region("fr.example") / "worker.yaml";
  Federation::Edit(config, "charter.yaml", "charter2.yaml");
  Federation::Edit(config, federation.charter().hex(), hash.hex());
  federation.StartCoordinator();
  federation.StartWorker("fr.example");
  EXPECT_TRUE(Federation::AwaitText(federation.WorkerLog("fr.example"), "this coordinator pins"));
  EXPECT_THAT(ReadTextFile(federation.WorkerLog("fr.example")).value_or(""), HasSubstr(hash.hex()));
  EXPECT_TRUE(Federation::AwaitText(federation.coordinator_log(), "fr.example/site: session ended"));
  federation.StopAll();
}

}  // namespace
}  // namespace concordat
