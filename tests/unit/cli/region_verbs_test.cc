#include "concordat/v1/region.grpc.pb.h"
#include "policy/dataset_card.h"
#include "policy/ledger.h"
#include "policy/node_config.h"
#include "policy/pairwise_key_files.h"
#include "policy/receipts.h"
#include "privacy/crypto/x509.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(CliWorld, RegionInitAndCharterShowPrintTheSameFingerprints) {
  const Ran show = Cli({"charter", "show", At("charter.yaml"), "--json"});
  ASSERT_OK_AND_ASSIGN(const std::string pem, ReadTextFile(dir_ / "de/ca/root.pem"));
  ASSERT_OK_AND_ASSIGN(const auto root, crypto::Certificate::FromPem(pem));
  EXPECT_EQ(show.json()["members"][0]["root_sha256"], root.fingerprint().hex());
  ASSERT_OK_AND_ASSIGN(const std::string leaf, ReadTextFile(dir_ / "neutral/coordinator/cert.pem"));
  ASSERT_OK_AND_ASSIGN(const auto coordinator, crypto::Certificate::FromPem(leaf));
  const Ran text = Cli({"charter", "show", At("charter.yaml")});
  EXPECT_THAT(text.out, HasSubstr(root.fingerprint().hex()));
  EXPECT_THAT(text.out, HasSubstr(coordinator.key_hash().hex()));
  const Ran init = Cli({"region", "init", At("it"), "--jurisdiction", "it.example", "--json"});
  ASSERT_OK_AND_ASSIGN(const std::string new_pem, ReadTextFile(dir_ / "it/ca/root.pem"));
  ASSERT_OK_AND_ASSIGN(const auto new_root, crypto::Certificate::FromPem(new_pem));
  EXPECT_EQ(init.json()["root_sha256"], new_root.fingerprint().hex());
}

TEST_F(CliWorld, APairwiseKeyIsMadeForBothShownToNobodyAndFoundByBothDoctors) {
  const Ran made =
      Cli({"region", "pairwise-key", At("de"), "--peer", "spiffe://fr.example/worker/site", "--json"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.json()["self"], "spiffe://de.example/worker/site");
  const std::filesystem::path file(made.json()["file"].get<std::string>());
  EXPECT_EQ(file, dir_ / "de/pairwise/fr.example_site.key");
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(file));
  const std::string key = text.substr(text.size() - 65, 64);
  EXPECT_THAT(made.out, Not(HasSubstr(key.substr(0, 16))));
  // Carried as it is, the other region's worker reads the same key.
  std::filesystem::create_directory(dir_ / "fr/pairwise");
  std::filesystem::permissions(dir_ / "fr/pairwise", std::filesystem::perms::owner_all);
  std::filesystem::copy_file(file, dir_ / "fr/pairwise/whatever.key");
  const auto self = [](const char* id) { return SpiffeId::Parse(id).value(); };
  ASSERT_OK_AND_ASSIGN(const auto here, policy::LoadPairwiseKeys(dir_ / "de/pairwise",
                                                                 self("spiffe://de.example/worker/site")));
  ASSERT_OK_AND_ASSIGN(const auto there, policy::LoadPairwiseKeys(dir_ / "fr/pairwise",
                                                                  self("spiffe://fr.example/worker/site")));
  EXPECT_TRUE(here.begin()->second == there.begin()->second);
  EXPECT_EQ(made.json()["check"], policy::PairwiseKeyCheck(there.begin()->second));
  // Again: the key that is in use stays.
  const Ran again = Cli({"region", "pairwise-key", At("de"), "--peer", "spiffe://fr.example/worker/site"});
  EXPECT_NE(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("is there already"));
}

TEST_F(CliWorld, APairwiseKeyNeedsAnotherWorker) {
  EXPECT_THAT(Cli({"region", "pairwise-key", At("de"), "--peer", "fr.example"}).err, HasSubstr("--peer"));
  EXPECT_EQ(Cli({"region", "pairwise-key", At("de"), "--peer", "spiffe://de.example/worker/site"}).code, 2);
  EXPECT_EQ(Cli({"region", "pairwise-key", At("de"), "--peer", "spiffe://fr.example/operator/anne"}).code, 2);
}

TEST_F(CliWorld, ErrorsOfInitAndCharterNameTheFlag) {
  EXPECT_THAT(Cli({"coordinator", "init", At("c"), "--jurisdiction", "ch.example"}).err, HasSubstr("--dns"));
  EXPECT_THAT(Cli({"coordinator", "init", At("c"), "--jurisdiction", "ch.example", "--dns", "x", "--listen",
                   "nowhere"})
                  .err,
              HasSubstr("--listen"));
  const auto made = [&](const std::string& address, const std::string& basis) {
    return Cli({"charter", "new", At("c.yaml"), "--name", "c", "--member",
                "de.example=" + At("de/ca/root.pem"), "--member", "es.example=" + At("es/ca/root.pem"),
                "--member", "fr.example=" + At("fr/ca/root.pem"), "--coordinator", At("neutral"), "--address",
                address, "--legal-basis", basis})
        .err;
  };
  EXPECT_THAT(made("foo", "scc"), HasSubstr("--address"));
  EXPECT_THAT(made("foo:1", "whim"), HasSubstr("--legal-basis"));
  const Ran few =
      Cli({"charter", "new", At("c.yaml"), "--name", "c", "--member", "de.example=" + At("de/ca/root.pem"),
           "--coordinator", At("neutral"), "--address", "foo:1"});
  EXPECT_EQ(few.code, 2);
  EXPECT_THAT(few.err, HasSubstr("at least 3 members, 1 came"));
}

TEST_F(CliWorld, AnInitThatIsRefusedNamesItsFlagAndLeavesNothing) {
  const Ran address = Cli({"coordinator", "init", At("c"), "--jurisdiction", "ch.example", "--ip", "1.2.3"});
  EXPECT_EQ(address.code, 2);
  EXPECT_THAT(address.err, HasSubstr("--ip"));
  const Ran name = Cli({"coordinator", "init", At("c"), "--jurisdiction", "ch.example", "--dns", "no_name"});
  EXPECT_THAT(name.err, HasSubstr("--dns"));
  EXPECT_FALSE(std::filesystem::exists(At("c")));
  EXPECT_EQ(Cli({"coordinator", "init", At("c"), "--jurisdiction", "ch.example", "--ip", "1.2.3.4"}).code, 0);
  EXPECT_THAT(Cli({"region", "init", At("r"), "--jurisdiction", "it.example", "--worker", "a b"}).err,
              HasSubstr("--worker: expected"));
  EXPECT_FALSE(std::filesystem::exists(At("r")));
}

TEST(UsageTest, AFolderWhereAFileBelongsIsAUsageErrorAsAMissingFileIs) {
  EXPECT_EQ(Cli({"charter", "show", "/tmp"}).code, 2);
  EXPECT_EQ(Cli({"charter", "show", "/tmp/nowhere/charter.yaml"}).code, 2);
}

TEST(UsageTest, AWrongCallPointsToTheHelpOfItsVerb) {
  EXPECT_THAT(Cli({"plan"}).err, HasSubstr("concordat plan --help"));
  EXPECT_THAT(Cli({"adapter", "pull", "x"}).err, HasSubstr("concordat adapter pull --help"));
  EXPECT_THAT(Cli({"frobnicate"}).err, HasSubstr("(concordat --help)"));
}

TEST_F(CliWorld, PlanOfAJobThatIsThereShowsTheFileThatARegionIsAskedToApprove) {
  MakeRounds(0);
  const Ran text = Go({"plan", "smollm2-manuals"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("noise_multiplier: 0.05"));
  EXPECT_THAT(text.out, HasSubstr(self_.ToString()));
  EXPECT_TRUE(service_.submitted.job_file().empty()) << "nothing is submitted";
  const Ran json = Go({"plan", service_.id.brief(), "--json"});
  EXPECT_EQ(json.json()["job_file"], job_text_);
  // A coordinator that shows another file than the one that the id names.
  service_.rounds.set_job_file(job_text_ + "# more\n");
  EXPECT_EQ(Go({"plan", service_.id.brief()}).code, 1);
}

TEST_F(CliWorld, WatchOfAJobThatIsOverTellsItsRoundsThenItsEnd) {
  MakeRounds(3);
  for (auto& region : *service_.states[0].mutable_regions()) region.set_verdict(0);
  const Ran ran = Go({"watch", "smollm2-manuals"});
  EXPECT_LT(ran.out.find("round 3 of 3"), ran.out.find(": done"));
  EXPECT_THAT(ran.out, Not(HasSubstr("no answer")));
}

TEST_F(CliWorld, WatchWaitsForACoordinatorThatIsDownAtTheStart) {
  MakeRounds(3);
  int dials = 0;
  const auto dial = surroundings_.dial;
  surroundings_.dial = [&](const auto& config,
                           const auto& charter) -> StatusOr<std::shared_ptr<grpc::Channel>> {
    if (++dials < 3) return Unavailable("down");
    return dial(config, charter);
  };
  EXPECT_EQ(Go({"watch", "smollm2-manuals"}).code, 0);
  EXPECT_EQ(dials, 3);
  dials = -1000;
  EXPECT_EQ(Go({"watch", "smollm2-manuals", "--patience", "0"}).code, 5);
}

/// A worker's socket that knows the jobs that a test gives it.
class FakeRegion final : public pb::Region::Service {
 public:
  grpc::Status Status(grpc::ServerContext*, const pb::RegionStatusRequest*, pb::RegionStatus* out) override {
    *out = status;
    return grpc::Status::OK;
  }
  pb::RegionStatus status;
};

TEST_F(CliWorld, ARegionSeesWhichJobsRunAndWhichIdsOneNameStandsFor) {
  ASSERT_OK_AND_ASSIGN(const auto config, policy::LoadWorkerConfig(At("de/worker.yaml")));
  ASSERT_OK(MakeFolder(config.socket.parent_path(), 0700));
  FakeRegion region;
  const std::pair<const char*, pb::RegionJob::State> jobs[] = {{"one", pb::RegionJob::PLANNED_ONLY},
                                                               {"two", pb::RegionJob::ENDED}};
  std::vector<Digest> ids;
  for (const auto& [seed, state] : jobs) {
    ids.push_back(crypto::Sha256(AsBytes(std::string_view(seed))));
    pb::RegionJob* job = region.status.add_jobs();
    job->set_job(ids.back().bytes.data(), 32);
    job->set_name("x");
    job->set_verdict(1);
    job->set_state(state);
  }
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + config.socket.string(), grpc::InsecureServerCredentials());
  builder.RegisterService(&region);
  const auto server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const Ran shown = Cli({"status", "--worker", At("de/worker.yaml"), "--json"});
  ASSERT_EQ(shown.code, 0) << shown.err;
  EXPECT_EQ(shown.json()["jobs"][0]["state"], "planned only");
  EXPECT_EQ(shown.json()["jobs"][1]["state"], "ended");
  const Ran denied = Cli({"deny", "x", "--worker", At("de/worker.yaml")});
  EXPECT_EQ(denied.code, 2);
  for (const Digest& id : ids) EXPECT_THAT(denied.err, HasSubstr(id.brief()));
  server->Shutdown();
}

/// A region that charged an attempt and an evaluation.
class ReceiptsVerbTest : public CliWorld {
 protected:
  void SetUp() override {
    CliWorld::SetUp();
    ASSERT_OK_AND_ASSIGN(config_, policy::LoadWorkerConfig(At("de/worker.yaml")));
    ASSERT_OK_AND_ASSIGN(const auto card, policy::LoadDatasetCard(config_.dataset_card.string()));
    ASSERT_OK(MakeFolder(config_.state, 0700));
    ASSERT_OK_AND_ASSIGN(const auto ledger,
                         policy::Ledger::Open(config_.ledger, card.name, card.budget(), card.privacy.period,
                                              policy::LedgerAnchorPath(config_.anchor)));
    LedgerCharge charge;
    charge.attempt = {crypto::Sha256(AsBytes("job")), 1, 0};
    ASSERT_OK(charge.price.Add({1, 1, 1, 1, 1, 1}));
    ASSERT_OK_AND_ASSIGN(const auto entry, ledger->Charge(SystemClock().Now(), charge));
    head_ = entry.hash;
  }
  void WriteReceipt() {
    ASSERT_OK_AND_ASSIGN(const auto book, policy::ReceiptBook::Open(config_.receipts));
    ASSERT_OK_AND_ASSIGN(const std::string pem, ReadTextFile(config_.key));
    ASSERT_OK_AND_ASSIGN(const auto key, crypto::SigningKey::FromPem(AsBytes(pem)));
    policy::Receipt receipt;
    receipt.time = SystemClock().Now();
    ASSERT_OK_AND_ASSIGN(receipt.worker, SpiffeId::Parse("spiffe://de.example/worker/site"));
    receipt.attempt = {crypto::Sha256(AsBytes("job")), 1, 0};
    receipt.kind = policy::ArtefactKind::kDelta;
    receipt.bytes = 4096;
    receipt.rule = policy::RuleCode::kArtefactDelta;
    receipt.basis = policy::LegalBasis::kStatute;
    receipt.from = "de.example";
    receipt.to = "ch.example";
    receipt.sandbox = policy::SandboxState::kEnforced;
    receipt.ledger_head = head_;
    ASSERT_OK(book->Append(receipt, key).status());
  }
  Ran Receipts() { return Cli({"receipts", "--worker", At("de/worker.yaml")}); }

  policy::WorkerConfig config_;
  Digest head_;
};

TEST_F(ReceiptsVerbTest, MissingReceiptsAreNoProofThatNothingLeft) {
  const Ran gone = Receipts();
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.err, HasSubstr("the ledger has 1 charges"));
  EXPECT_THAT(gone.out, Not(HasSubstr("every signature verifies")));
  std::filesystem::remove(config_.ledger);
  const Ran fresh = Receipts();
  EXPECT_EQ(fresh.code, 0) << fresh.err;
  EXPECT_THAT(fresh.out, HasSubstr("nothing has left"));
}

TEST_F(ReceiptsVerbTest, ChargesWithoutAReceiptAreCounted) {
  WriteReceipt();
  const Ran ran = Receipts();
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("1 artefacts left"));
  EXPECT_THAT(ran.out, Not(HasSubstr("have no receipt")));
  head_ = Digest{};
  std::filesystem::remove(config_.receipts);
  WriteReceipt();
  EXPECT_THAT(Receipts().out, HasSubstr("1 charges of the ledger have no receipt"));
}

TEST_F(ReceiptsVerbTest, AnAuditorChecksACopyWithoutTheRegionsFolder) {
  WriteReceipt();
  const std::string book = config_.receipts.string();
  const auto audit = [&](const std::string& certificate) {
    return Cli(
        {"receipts", "--file", book, "--certificate", At(certificate), "--charter", At("charter.yaml")});
  };
  const Ran good = audit("de/worker/cert.pem");
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("every signature verifies"));
  EXPECT_NE(audit("fr/worker/cert.pem").code, 0);
  EXPECT_EQ(Cli({"receipts", "--file", book}).code, 2);
  EXPECT_EQ(Cli({"receipts"}).code, 2);
  EXPECT_EQ(Cli({"receipts", "--worker", At("de/worker.yaml"), "--file", book}).code, 2);
  // A certificate of nobody's: the charter has no such root.
  ASSERT_EQ(Cli({"region", "init", At("impostor"), "--jurisdiction", "de.example"}).code, 0);
  EXPECT_EQ(audit("impostor/worker/cert.pem").code, 3);
}

TEST_F(ReceiptsVerbTest, LedgerShowPrintsItsHeadAndWhatEachChargeAdded) {
  const Ran text = Cli({"ledger", "show", "--worker", At("de/worker.yaml")});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("head " + head_.hex()));
  EXPECT_THAT(text.out, HasSubstr("cost"));
  // Round 1 of the file is the second: people count from one.
  EXPECT_TRUE(std::regex_search(text.out, std::regex(" +2 +1 +[0-9.]+ +[0-9.]+\n"))) << text.out;
}

}  // namespace
}  // namespace concordat::cli
