#include "cli/released_privacy.h"
#include "policy/dataset_card.h"
#include "policy/job_privacy.h"
#include "policy/ledger.h"
#include "policy/node_config.h"
#include "tests/unit/cli/cli_world.h"

// From a region's ledger to the figures that an adapter is released with.
namespace concordat::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// Two rounds, the second at its second attempt; de and es in both sums, fr in neither.
class StatementVerbs : public CliWorld {
 protected:
  void SetUp() override {
    CliWorld::SetUp();
    for (const char* name : {"es", "fr"}) {
      std::filesystem::copy_file(dir_ / "charter.yaml", dir_ / name / "charter.yaml");
      ASSERT_EQ(Cli({"charter", "pin", At("charter.yaml"), At(std::string(name) + "/worker.yaml")}).code, 0);
    }
    Prepare();
  }
  void Prepare() {
    service_.rounds.Clear();
    MakeRounds(2);
    service_.rounds.mutable_rounds(1)->set_attempt(1);
    ASSERT_OK_AND_ASSIGN(job_, policy::ParseJob(job_text_, "job.yaml"));
    const Ran pull = Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")});
    ASSERT_EQ(pull.code, 0) << pull.err;
  }
  LedgerCharge Attempt(uint32_t round, uint32_t attempt) {
    return policy::RoundCharge(job_, {service_.id, round, attempt}, 3).value();
  }
  LedgerCharge Evaluation() {
    LedgerCharge charge = Attempt(2, 0);
    charge.kind = ChargeKind::kEvaluation;
    return charge;
  }
  std::vector<LedgerCharge> All() { return {Attempt(0, 0), Attempt(1, 0), Attempt(1, 1), Evaluation()}; }
  /// Charges in the ledger of a region; `anew` forgets what was there.
  void Charge(const std::string& region, const std::vector<LedgerCharge>& charges, bool anew = false) {
    ASSERT_OK_AND_ASSIGN(const auto config, policy::LoadWorkerConfig(At(region + "/worker.yaml")));
    ASSERT_OK_AND_ASSIGN(const auto card, policy::LoadDatasetCard(config.dataset_card.string()));
    const auto anchor = policy::LedgerAnchorPath(config.anchor);
    if (anew) {
      std::filesystem::remove(config.ledger);
      std::filesystem::remove(anchor);
    }
    ASSERT_OK(MakeFolder(config.state, 0700));
    ASSERT_OK_AND_ASSIGN(const auto ledger, policy::Ledger::Open(config.ledger, card.name, card.budget(),
                                                                 card.privacy.period, anchor));
    for (const LedgerCharge& charge : charges) ASSERT_OK(ledger->Charge(SystemClock().Now(), charge));
  }
  Ran State(const std::string& region, const std::string& file, const std::string& job = "") {
    return Cli({"ledger", "statement", "--worker", At(region + "/worker.yaml"), "--job",
                job.empty() ? service_.id.hex() : job, "--out", At(file), "--json"});
  }
  Ran Add(const std::string& file, const std::string& folder = "out") {
    return Cli({"adapter", "statement", At(folder), At(file), "--charter", At("charter.yaml")});
  }
  /// Charges, states and adds in one go.
  Ran Tell(const std::string& region, const std::vector<LedgerCharge>& charges) {
    Charge(region, charges, true);
    const Ran said = State(region, region + ".json");
    EXPECT_EQ(said.code, 0) << said.out;
    return Add(region + ".json");
  }
  nlohmann::json Json(const std::string& file) {
    return nlohmann::json::parse(ReadTextFile(dir_ / file).value_or(""), nullptr, false);
  }
  nlohmann::json RegionIn(const std::string& region, const std::string& folder = "out") {
    const auto privacy = Json(folder + "/privacy.json");
    for (const auto& r : privacy["regions"])
      if (r["worker"] == "spiffe://" + region + ".example/worker/site") return r;
    return nullptr;
  }
  void Edit(const std::string& file, const std::function<void(nlohmann::ordered_json&)>& change) {
    auto json = nlohmann::ordered_json::parse(ReadTextFile(dir_ / file).value());
    change(json);
    ASSERT_OK(WriteFileAtomically(dir_ / file, json.dump(2) + "\n"));
  }

  policy::JobSpec job_;
};

TEST_F(StatementVerbs, APulledFolderSaysThatAllIsPlannedUntilRegionsSpeak) {
  const auto privacy = Json("out/privacy.json");
  ASSERT_EQ(privacy["regions"].size(), 2u);
  EXPECT_EQ(privacy["job"], service_.id.hex());
  for (const auto& region : privacy["regions"]) {
    EXPECT_EQ(region["source"], "plan");
    EXPECT_EQ(region["epsilon_local"], privacy["epsilon_local"]);
    for (const char* key : {"statement", "ledger", "epsilon_charged", "attempts_charged"})
      EXPECT_TRUE(region[key].is_null()) << key;
  }
  const std::string card = ReadTextFile(dir_ / "out/README.md").value();
  EXPECT_THAT(card, HasSubstr("| de.example/site | planned | site |"));
  EXPECT_THAT(card, Not(HasSubstr("| charged |")));
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 0);
}

TEST_F(StatementVerbs, AFolderSaysForEachRegionWhetherItsFiguresAreChargedOrPlanned) {
  const Ran added = Tell("de", All());
  ASSERT_EQ(added.code, 0) << added.err;
  EXPECT_THAT(added.out, HasSubstr("1 of 2 regions"));
  const auto privacy = Json("out/privacy.json");
  const auto de = RegionIn("de"), es = RegionIn("es");
  EXPECT_EQ(de["source"], "ledger");
  EXPECT_EQ(de["rounds"], 2);
  EXPECT_EQ(de["attempts_charged"], 3);
  EXPECT_EQ(de["evaluations_charged"], 1);
  EXPECT_EQ(de["ledger"], Json("de.json")["head"]);
  EXPECT_EQ(de["statement"], Json("de.json"));
  const auto close = [](double value) { return ::testing::DoubleNear(value, 1e-9 * value); };
  EXPECT_THAT(de["epsilon_local"].get<double>(), close(policy::PlanEpsilon(job_, 3, 3).value()));
  EXPECT_THAT(de["epsilon_charged"].get<double>(), close(policy::PlanEpsilon(job_, 4, 3).value()));
  EXPECT_TRUE(de["epsilon_distributed"].is_null());
  EXPECT_EQ(es["source"], "plan");
  EXPECT_THAT(es["epsilon_local"].get<double>(), close(policy::PlanEpsilon(job_, 2, 3).value()));
  // What was there before statements is as it was.
  EXPECT_EQ(privacy["prices"], "plan");
  EXPECT_EQ(privacy["attempts_begun"], 3);
  const std::string card = ReadTextFile(dir_ / "out/README.md").value();
  EXPECT_THAT(card, HasSubstr("library_name: peft"));
  EXPECT_THAT(card, HasSubstr("| de.example/site | charged | site |"));
  EXPECT_THAT(card, HasSubstr("| es.example/site | planned | site |"));
  EXPECT_THAT(card, HasSubstr(de["ledger"].get<std::string>()));
  for (const char* what : {"Unit of privacy | site", "Neighbours | zero", "Sampler | all sites", "Planned δ"})
    EXPECT_THAT(card, HasSubstr(what));

  const Ran alone = Cli({"adapter", "verify", At("out")});
  EXPECT_EQ(alone.code, 0) << alone.err;
  EXPECT_THAT(alone.out, HasSubstr("give --charter"));
  const Ran full = Cli({"adapter", "verify", At("out"), "--charter", At("charter.yaml"), "--json"});
  EXPECT_EQ(full.code, 0) << full.out;
  EXPECT_EQ(full.json()["from_ledgers"], 1);
}

TEST_F(StatementVerbs, AStatementThatWasTamperedWithIsRefused) {
  ASSERT_EQ(Tell("de", All()).code, 0);
  const std::string before = ReadTextFile(dir_ / "out/privacy.json").value();
  Edit("de.json", [](auto& json) { json["rows"][1]["epsilon_after"] = 0.5; });
  const Ran row = Add("de.json");
  EXPECT_EQ(row.code, 1);
  EXPECT_THAT(row.err, HasSubstr("row 2: its hash is wrong"));
  ASSERT_EQ(State("de", "de.json").code, 0);
  Edit("de.json", [](auto& json) { json["rows"].erase(size_t{3}); });
  const Ran cut = Add("de.json");
  EXPECT_EQ(cut.code, 3);
  EXPECT_THAT(cut.err, HasSubstr("not as spiffe://de.example/worker/site signed it"));
  EXPECT_EQ(ReadTextFile(dir_ / "out/privacy.json").value(), before) << "nothing was written";
}

TEST_F(StatementVerbs, AStatementOfAnotherJobOrOfARegionWithoutAPartIsRefused) {
  LedgerCharge other = Attempt(0, 0);
  other.attempt.job = crypto::Sha256(AsBytes("another job"));
  Charge("de", {other});
  ASSERT_EQ(State("de", "de.json", other.attempt.job.brief()).code, 0);
  const Ran of_other = Add("de.json");
  EXPECT_EQ(of_other.code, 2);
  EXPECT_THAT(of_other.err, HasSubstr("it is of job " + other.attempt.job.brief()));

  // fr was missing in both rounds: it paid, and is in no sum. A region that was never asked has no part.
  EXPECT_EQ(Tell("fr", {Attempt(0, 0)}).code, 0);
  EXPECT_EQ(RegionIn("fr")["rounds"], 0);
  for (auto& round : *service_.rounds.mutable_rounds()) round.clear_missing();
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("o2")}).code, 0);
  const Ran foreign = Add("fr.json", "o2");
  EXPECT_EQ(foreign.code, 2);
  EXPECT_THAT(foreign.err, HasSubstr("spiffe://fr.example/worker/site: it has no part"));
}

TEST_F(StatementVerbs, AStatementThatLacksARoundOrChargesLessThanTheJobCostsIsRefused) {
  const Ran lacking = Tell("de", {Attempt(0, 0), Attempt(1, 0)});
  EXPECT_EQ(lacking.code, 2);
  EXPECT_THAT(lacking.err, HasSubstr("no charge for round 2, attempt 2"));

  std::vector<LedgerCharge> cheap = All();
  cheap[1].price = Price();
  RdpTerm term = cheap[0].price.curve().terms().front();
  term.share_variance *= 4;
  ASSERT_OK(cheap[1].price.Add(term));
  const Ran undercharged = Tell("de", cheap);
  EXPECT_EQ(undercharged.code, 1);
  EXPECT_THAT(undercharged.err, HasSubstr("row 2: it charges epsilon"));

  // Noise that others are said to have added: not in a job whose noise is each site's own.
  cheap[1] = Attempt(1, 0);
  term = cheap[0].price.curve().terms().front();
  term.shares = 2;
  ASSERT_OK(cheap[1].price.Add(term));
  const Ran together = Tell("de", cheap);
  EXPECT_EQ(together.code, 1);
  EXPECT_THAT(together.err, HasSubstr("counts on the noise of 2 honest sites, the job on that of 1"));
}

TEST_F(StatementVerbs, RestoredChargesStandForRoundsWhoseOwnAreLost) {
  ASSERT_OK_AND_ASSIGN(const auto config, policy::LoadWorkerConfig(At("de/worker.yaml")));
  ASSERT_OK_AND_ASSIGN(const auto card, policy::LoadDatasetCard(config.dataset_card.string()));
  Charge("de", {Attempt(0, 0), Attempt(1, 0), Attempt(1, 1)});
  ASSERT_OK(WriteFileAtomically(config.ledger, "", 0600));
  EXPECT_EQ(State("de", "de.json").code, 1) << "its anchor knows better";
  ASSERT_OK(policy::Ledger::Reconcile(config.ledger, policy::LedgerAnchorPath(config.anchor), card.name,
                                      card.budget(), card.privacy.period, SystemClock().Now(), true));
  const Ran said = State("de", "de.json");
  ASSERT_EQ(said.code, 0) << said.out;
  const Ran added = Add("de.json");
  ASSERT_EQ(added.code, 0) << added.err;
  EXPECT_EQ(RegionIn("de")["restored"], 1);
  EXPECT_NEAR(RegionIn("de")["epsilon_local"].get<double>(), policy::PlanEpsilon(job_, 3, 3).value(), 1e-3);

  // One round's price does not make good for two.
  Charge("es", {Attempt(0, 0)});
  ASSERT_OK_AND_ASSIGN(const auto es, policy::LoadWorkerConfig(At("es/worker.yaml")));
  ASSERT_OK_AND_ASSIGN(const auto es_card, policy::LoadDatasetCard(es.dataset_card.string()));
  ASSERT_OK(WriteFileAtomically(es.ledger, "", 0600));
  ASSERT_OK(policy::Ledger::Reconcile(es.ledger, policy::LedgerAnchorPath(es.anchor), es_card.name,
                                      es_card.budget(), es_card.privacy.period, SystemClock().Now(), true));
  ASSERT_EQ(State("es", "es.json").code, 0);
  EXPECT_THAT(Add("es.json").err, HasSubstr("no charge for round 1"));
}

TEST_F(StatementVerbs, WhoIsNoMemberSaysNothingThatCounts) {
  ASSERT_EQ(Tell("de", All()).code, 0);
  ASSERT_EQ(Cli({"region", "init", At("impostor"), "--jurisdiction", "de.example"}).code, 0);
  ASSERT_OK_AND_ASSIGN(auto statement, policy::ReadLedgerStatement(Json("de.json")));
  const std::string pem = ReadTextFile(dir_ / "impostor/worker/key.pem").value();
  ASSERT_OK_AND_ASSIGN(const auto key, crypto::SigningKey::FromPem(AsBytes(pem)));
  const std::string chain = ReadTextFile(dir_ / "impostor/worker/cert.pem").value();
  const auto signed_by = policy::SignLedgerStatement(statement.body, key, chain);
  ASSERT_OK(policy::VerifyLedgerStatement(signed_by)) << "by itself it is sound";
  ASSERT_OK(WriteFileAtomically(dir_ / "impostor.json", policy::ToJson(signed_by).dump()));
  const Ran refused = Add("impostor.json");
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("impostor.json: its signer"));
  // In the region itself: a worker whose certificate the charter does not know says nothing either.
  std::filesystem::copy_file(dir_ / "charter.yaml", dir_ / "impostor/charter.yaml");
  ASSERT_EQ(Cli({"charter", "pin", At("charter.yaml"), At("impostor/worker.yaml")}).code, 0);
  Charge("impostor", All());
  EXPECT_EQ(State("impostor", "i.json").code, 3);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "i.json"));
}

TEST_F(StatementVerbs, WithoutTheJobsCharterNothingIsAdded) {
  Charge("de", All());
  ASSERT_EQ(State("de", "de.json").code, 0);
  const Ran without = Cli({"adapter", "statement", At("out"), At("de.json")});
  EXPECT_EQ(without.code, 2);
  EXPECT_THAT(without.err, HasSubstr("--charter"));
  // The operator's file pins it.
  EXPECT_EQ(Go({"adapter", "statement", At("out"), At("de.json")}).code, 0);
  const auto other = Cli(
      {"charter", "new", At("other.yaml"), "--name", "other", "--member",
       "de.example=" + At("de/ca/root.pem"), "--member", "es.example=" + At("es/ca/root.pem"), "--member",
       "fr.example=" + At("fr/ca/root.pem"), "--coordinator", At("neutral"), "--address", "localhost:7443"});
  ASSERT_EQ(other.code, 0) << other.err;
  for (const char* name : {"de", "es", "fr"})
    ASSERT_EQ(Cli({"charter", "sign", At("other.yaml"), "--region", At(name)}).code, 0);
  const Ran refused = Cli({"adapter", "statement", At("out"), At("de.json"), "--charter", At("other.yaml")});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr("the job ran under charter"));
}

TEST_F(StatementVerbs, AWorkerUnderALaterCharterStatesUnderTheJobs) {
  Charge("de", All());
  const Ran made = Cli(
      {"charter", "new", At("later.yaml"), "--name", "later", "--member",
       "de.example=" + At("de/ca/root.pem"), "--member", "es.example=" + At("es/ca/root.pem"), "--member",
       "fr.example=" + At("fr/ca/root.pem"), "--coordinator", At("neutral"), "--address", "localhost:7443"});
  ASSERT_EQ(made.code, 0) << made.err;
  for (const char* name : {"de", "es", "fr"})
    ASSERT_EQ(Cli({"charter", "sign", At("later.yaml"), "--region", At(name)}).code, 0);
  std::filesystem::copy_file(dir_ / "later.yaml", dir_ / "de/charter.yaml",
                             std::filesystem::copy_options::overwrite_existing);
  ASSERT_EQ(Cli({"charter", "pin", At("later.yaml"), At("de/worker.yaml")}).code, 0);
  ASSERT_EQ(State("de", "de.json").code, 0);
  EXPECT_THAT(Add("de.json").err, HasSubstr("it was made under charter"));
  const Ran under = Cli({"ledger", "statement", "--worker", At("de/worker.yaml"), "--job", service_.id.hex(),
                         "--out", At("de.json"), "--charter", At("charter.yaml")});
  ASSERT_EQ(under.code, 0) << under.err;
  EXPECT_EQ(Add("de.json").code, 0);
}

TEST_F(StatementVerbs, ANewerStatementTakesAnOlderOnesPlaceAndNotTheOtherWayRound) {
  Charge("de", {Attempt(0, 0), Attempt(1, 0), Attempt(1, 1)});
  ASSERT_EQ(State("de", "old.json").code, 0);
  ASSERT_EQ(Add("old.json").code, 0);
  EXPECT_EQ(Add("old.json").code, 0) << "the same again changes nothing";
  EXPECT_EQ(RegionIn("de")["evaluations_charged"], 0);
  Charge("de", {Evaluation()});
  ASSERT_EQ(State("de", "new.json").code, 0);
  ASSERT_EQ(Add("new.json").code, 0);
  EXPECT_EQ(RegionIn("de")["evaluations_charged"], 1);
  const Ran older = Add("old.json");
  EXPECT_EQ(older.code, 1);
  EXPECT_THAT(older.err, HasSubstr("before the statement that is there"));
  // A ledger that began anew after the first statement was handed out.
  const Ran rewritten = Tell("de", {Attempt(0, 0), Attempt(1, 1)});
  EXPECT_EQ(rewritten.code, 1);
  EXPECT_THAT(rewritten.err, HasSubstr("another history"));
}

TEST_F(StatementVerbs, AFigureOrAStatementThatWasChangedInTheFolderIsFound) {
  ASSERT_EQ(Tell("de", All()).code, 0);
  const std::string good = ReadTextFile(dir_ / "out/privacy.json").value();
  const auto verify = [&](const std::function<void(nlohmann::ordered_json&)>& change) {
    EXPECT_OK(WriteFileAtomically(dir_ / "out/privacy.json", good));
    Edit("out/privacy.json", change);
    const Ran ran = Cli({"adapter", "verify", At("out"), "--charter", At("charter.yaml")});
    EXPECT_NE(ran.code, 0);
    return ran.err;
  };
  EXPECT_THAT(verify([](auto& j) { j["regions"][0]["epsilon_local"] = 1; }),
              HasSubstr("epsilon_local of spiffe"));
  EXPECT_THAT(verify([](auto& j) { j["regions"][1]["source"] = "ledger"; }), HasSubstr("source of spiffe"));
  EXPECT_THAT(verify([](auto& j) { j["epsilon_local"] = 1; }), HasSubstr("epsilon_local is not"));
  EXPECT_THAT(verify([](auto& j) { j["delta"] = 1e-9; }), HasSubstr("delta is not"));
  EXPECT_THAT(verify([](auto& j) { j["regions"].erase(size_t{1}); }), HasSubstr("expected 2 regions"));
  EXPECT_THAT(verify([](auto& j) { j["regions"][0]["statement"] = nullptr; }),
              HasSubstr("attempts_charged of spiffe"));
  EXPECT_THAT(verify([](auto& j) { j["regions"][0]["statement"]["delta"] = 1e-9; }), HasSubstr("signed it"));
  EXPECT_THAT(verify([](auto& j) { j["regions"][0]["statement"]["rows"][0]["round"] = 5; }),
              HasSubstr("row 1: its hash"));
  std::filesystem::remove(dir_ / "out/privacy.json");
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 1);
  // As a version before statements wrote it.
  auto old = nlohmann::ordered_json::parse(good);
  for (const char* key : {"job", "adapter", "regions_text", "regions"}) old.erase(key);
  ASSERT_OK(WriteFileAtomically(dir_ / "out/privacy.json", old.dump()));
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 0);
  ASSERT_EQ(Add("de.json").code, 0);
  EXPECT_EQ(ReadTextFile(dir_ / "out/privacy.json").value(), good);
}

TEST_F(StatementVerbs, PullingAgainKeepsWhatRegionsHaveSaidAsFarAsItGoes) {
  ASSERT_EQ(Tell("de", All()).code, 0);
  ASSERT_EQ(Tell("es", {Attempt(0, 0), Attempt(1, 1)}).code, 0);
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 0);
  EXPECT_EQ(RegionIn("de")["source"], "ledger");
  // A third round, which de's ledger says nothing of.
  service_.rounds.Clear();
  MakeRounds(3);
  service_.rounds.mutable_rounds(1)->set_attempt(1);
  service_.rounds.mutable_rounds(2)->mutable_survivors()->DeleteSubrange(1, 1);
  const Ran pull = Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")});
  ASSERT_EQ(pull.code, 0) << pull.err;
  EXPECT_THAT(pull.out, HasSubstr("spiffe://de.example/worker/site is left out"));
  EXPECT_EQ(RegionIn("de")["source"], "plan");
  EXPECT_EQ(RegionIn("es")["source"], "ledger") << "it is not in the third sum";
}

TEST_F(StatementVerbs, WhateverIsExportedCarriesIt) {
  ASSERT_EQ(Tell("de", All()).code, 0);
  ASSERT_EQ(Cli({"adapter", "export", At("out"), "--out", At("peft")}).code, 0);
  ASSERT_EQ(Cli({"adapter", "export", At("out"), "--format", "gguf", "--out", At("a.gguf")}).code, 0);
  const std::string privacy = ReadTextFile(dir_ / "out/privacy.json").value();
  const std::string card = ReadTextFile(dir_ / "out/README.md").value();
  EXPECT_EQ(ReadTextFile(dir_ / "peft/privacy.json").value(), privacy);
  EXPECT_EQ(ReadTextFile(dir_ / "peft/README.md").value(), card);
  EXPECT_EQ(ReadTextFile(dir_ / "a.gguf.privacy.json").value(), privacy);
  EXPECT_EQ(ReadTextFile(dir_ / "a.gguf.README.md").value(), card);
  Edit("out/privacy.json", [](auto& j) { j["regions"][0]["statement"]["delta"] = 1e-9; });
  EXPECT_NE(Cli({"adapter", "export", At("out"), "--out", At("peft2")}).code, 0);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "peft2"));
}

TEST_F(StatementVerbs, ARegionNamesAJobItWasChargedForAndLearnsWhatItHandsOut) {
  LedgerCharge other = Attempt(0, 0);
  other.attempt.job = crypto::Sha256(AsBytes("another job"));
  Charge("de", {Attempt(0, 0), other, Attempt(1, 1)});
  const Ran said = State("de", "de.json", service_.id.brief());
  ASSERT_EQ(said.code, 0) << said.out;
  EXPECT_EQ(said.json()["rows"], 3);
  EXPECT_EQ(said.json()["rows_of_other_jobs"], 1);
  EXPECT_EQ(said.json()["head"], Json("de.json")["head"]);
  ASSERT_EQ(Add("de.json").code, 0);
  EXPECT_NEAR(RegionIn("de")["epsilon_charged"].get<double>(), policy::PlanEpsilon(job_, 2, 3).value(), 1e-6)
      << "the other job's is not this one's";
  EXPECT_EQ(State("de", "x.json", "no-such-job").code, 2);
  EXPECT_EQ(State("de", "x.json", std::string(64, '0')).code, 2);
  EXPECT_EQ(State("es", "x.json").code, 2) << "it has no ledger";
  // A copy from before the last charge is not the ledger.
  ASSERT_OK_AND_ASSIGN(const auto config, policy::LoadWorkerConfig(At("de/worker.yaml")));
  const std::string text = ReadTextFile(config.ledger).value();
  ASSERT_OK(
      WriteFileAtomically(config.ledger, text.substr(0, text.rfind('{', text.rfind("\"sequence\""))), 0600));
  const Ran rolled_back = State("de", "x.json");
  EXPECT_EQ(rolled_back.code, 1);
  EXPECT_THAT(rolled_back.out, HasSubstr("ledger reconcile"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "x.json"));
}

TEST_F(StatementVerbs, SharedNoiseIsPricedAloneAndWithTheHonest) {
  job_text_ = std::regex_replace(job_text_, std::regex("noise: local"), "noise: distributed");
  ASSERT_OK(WriteFileAtomically(dir_ / "job.yaml", job_text_));
  service_.id = policy::JobIdOf(job_text_, self_);
  std::filesystem::remove_all(dir_ / "out");
  Prepare();
  ASSERT_EQ(Tell("de", All()).code, 0);
  const auto de = RegionIn("de");
  EXPECT_EQ(de["honest_survivors"], 2);
  EXPECT_NEAR(de["epsilon_distributed"].get<double>() / policy::PlanEpsilon(job_, 3, 3).value(), 1, 1e-9);
  EXPECT_GT(de["epsilon_local"], de["epsilon_distributed"]);
  EXPECT_THAT(ReadTextFile(dir_ / "out/README.md").value(), HasSubstr("(h = 2)"));
  EXPECT_EQ(Cli({"adapter", "verify", At("out"), "--charter", At("charter.yaml")}).code, 0);
}

// With shared noise a site's own share is smaller the more sites there are.
TEST_F(StatementVerbs, APlanIsPricedWithTheLargestRosterOfItsRounds) {
  const auto local = [](const policy::JobSpec& job, uint32_t sites) {
    return PriceOf(job, 3, 3, sites).value().plan.epsilon_local;
  };
  EXPECT_EQ(local(job_, 3), local(job_, 10)) << "with noise of its own each site has all of it";
  policy::JobSpec shared = job_;
  shared.privacy.noise = policy::NoisePlacement::kDistributed;
  EXPECT_GT(local(shared, 10), 1.5 * local(shared, 3));
  EXPECT_EQ(local(shared, 1), local(shared, job_.cohort.minimum));
  EXPECT_EQ(local(shared, 5000), local(shared, kMaxSites));
  pb::RoundsReply rounds;
  EXPECT_EQ(LargestRoster(rounds), 0u);
  for (int lost : {2, 7, 1}) {
    auto& round = *rounds.add_rounds();
    for (int i = 0; i < 3; ++i) round.add_survivors("in");
    for (int i = 0; i < lost; ++i) round.add_missing("out");
  }
  EXPECT_EQ(LargestRoster(rounds), 10u);
}

}  // namespace
}  // namespace concordat::cli
