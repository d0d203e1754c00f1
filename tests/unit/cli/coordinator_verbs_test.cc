#include "cli/report.h"
#include "tests/unit/cli/cli_world.h"

namespace concordat::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CoordinatorVerbs : public CliWorld {
 protected:
  pb::RegionPlan* AddPlan(const std::string& name, uint32_t verdict) {
    pb::RegionPlan* region = service_.plan.add_regions();
    region->set_worker(fmt::format("spiffe://{}.example/worker/site", name));
    region->set_connected(true);
    region->set_verdict(verdict);
    region->set_bytes_per_round(2048);
    region->set_epsilon_after(12.5);
    region->set_epsilon_budget(HUGE_VAL);
    return region;
  }
};

TEST_F(CoordinatorVerbs, PlanShowsRegionsFlowsAndPriceAndSignsTheFile) {
  for (const char* name : {"de", "es", "fr"}) AddPlan(name, 1);
  service_.plan.set_can_start(true);
  const Ran text = Go({"plan", At("job.yaml")});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("de.example/site"));
  EXPECT_THAT(text.out, HasSubstr("de.example -> ch.example"));
  EXPECT_THAT(text.out, HasSubstr("statute"));
  EXPECT_THAT(text.out, HasSubstr("It can start."));
  EXPECT_EQ(service_.submitted.job_file(), job_text_);
  EXPECT_EQ(service_.submitted.signature().size(), 64u);
  const auto json = Go({"plan", At("job.yaml"), "--json"}).json();
  EXPECT_THAT(Keys(json),
              ElementsAre("bytes_per_region", "bytes_per_round", "can_start", "flows", "job", "name",
                          "privacy", "regions", "regions_joining", "regions_needed", "remarks", "rounds"));
  EXPECT_THAT(Keys(json["regions"][0]),
              ElementsAre("bytes_per_round", "connected", "epsilon_after", "epsilon_before", "epsilon_budget",
                          "rules", "verdict", "worker"));
  EXPECT_EQ(json["regions"][0]["epsilon_budget"], "infinity");
  EXPECT_EQ(json["regions_joining"], 3);
}

TEST_F(CoordinatorVerbs, PlanSaysWhichRuleRefusesAndExitsWithThree) {
  AddPlan("de", 1);
  AddPlan("es", 1);
  AddPlan("fr", 2)->add_rules(502);
  const Ran ran = Go({"plan", At("job.yaml")});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.out, HasSubstr("fr.example/site: "));
  EXPECT_THAT(ran.out, HasSubstr("the noise is lower than this region needs"));
  EXPECT_THAT(ran.out, HasSubstr("2 of at least 3"));
}

TEST_F(CoordinatorVerbs, PlanOfAnotherJobIsRefused) {
  service_.id = Digest{};
  EXPECT_EQ(Go({"plan", At("job.yaml")}).code, 1);
}

TEST_F(CoordinatorVerbs, SubmitPrintsTheIdAndTheSameFileAgainChangesNothing) {
  const auto first = Go({"submit", At("job.yaml"), "--json"}).json();
  EXPECT_THAT(Keys(first), ElementsAre("existed", "job", "name"));
  EXPECT_EQ(first["job"], service_.id.hex());
  EXPECT_FALSE(first["existed"].get<bool>());
  EXPECT_TRUE(Go({"submit", At("job.yaml"), "--json"}).json()["existed"].get<bool>());
}

TEST_F(CoordinatorVerbs, WatchPrintsEachRoundOnceAndEndsWithTheJob) {
  MakeRounds(3);
  pb::JobState running = service_.states[0];
  running.set_state(pb::JobState::RUNNING);
  running.mutable_rounds()->DeleteSubrange(1, 2);
  running.set_rounds_done(1);
  service_.states.insert(service_.states.begin(), {running, running});
  const Ran ran = Go({"watch", "smollm2-manuals"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  for (const char* line :
       {"round 1 of 3: loss 2.5000", "round 2 of 3: loss 2.2500", "round 3 of 3: loss 2.0000"}) {
    EXPECT_THAT(ran.out, HasSubstr(line));
    EXPECT_EQ(ran.out.find(line), ran.out.rfind(line));
  }
  EXPECT_THAT(ran.out, HasSubstr("missing: fr.example/site"));
  EXPECT_THAT(ran.out, Not(HasSubstr("\x1b")));
  const Ran json = Go({"watch", service_.id.brief(), "--json"});
  EXPECT_EQ(std::count(json.out.begin(), json.out.end(), '\n'), 3);
  const auto first = nlohmann::json::parse(json.out.substr(0, json.out.find('\n')));
  EXPECT_THAT(Keys(first), ElementsAre("adapter", "attempt", "eta_ms", "failure", "failure_text", "job",
                                       "name", "regions", "rounds", "rounds_done", "rounds_total", "state",
                                       "step", "step_name", "submitted", "submitter"));
}

TEST_F(CoordinatorVerbs, WatchRedrawsOnATerminal) {
  MakeRounds(3);
  service_.states.insert(service_.states.begin(), StateOf(pb::JobState::RUNNING, 2));
  service_.states[0].mutable_regions(0)->set_permille(500);
  const Ran ran = Go({"watch", "smollm2-manuals"}, true);
  EXPECT_EQ(ran.code, 0);
  EXPECT_THAT(ran.out, HasSubstr("██████████░░░░░░░░░░"));
  EXPECT_THAT(ran.out, HasSubstr("A\x1b[J"));
}

TEST_F(CoordinatorVerbs, WatchReconnectsWhenTheCoordinatorRestarts) {
  MakeRounds(3);
  service_.broken_watches = 3;
  EXPECT_EQ(Go({"watch", service_.id.hex()}).code, 0);
  EXPECT_EQ(service_.watches, 4);
}

TEST_F(CoordinatorVerbs, WatchGivesUpAfterItsPatience) {
  MakeRounds(3);
  service_.broken_watches = 1000;
  EXPECT_EQ(Go({"watch", service_.id.hex(), "--patience", "0"}).code, 5);
}

TEST_F(CoordinatorVerbs, WatchOfAFailedJobExitsWithOneAndSaysWhy) {
  MakeRounds(1);
  service_.states[0].set_state(pb::JobState::FAILED);
  service_.states[0].set_failure_text("all attempts were aborted\x1b[2J");
  const Ran ran = Go({"watch", "smollm2-manuals"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.out, HasSubstr("all attempts were aborted?[2J"));
}

TEST_F(CoordinatorVerbs, AJobThatIsNotThereIsNamed) {
  const Ran ran = Go({"watch", "nothing-here"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("nothing-here"));
}

TEST_F(CoordinatorVerbs, PullVerifiesTheChainAndTheFolderVerifiesWithoutACoordinator) {
  MakeRounds(3);
  const Ran pull = Go({"adapter", "pull", "smollm2-manuals", "--out", At("out"), "--json"});
  ASSERT_EQ(pull.code, 0) << pull.err << pull.out;
  EXPECT_EQ(pull.json()["rounds_done"], 3);
  for (const char* name :
       {"adapter_config.json", "adapter_model.safetensors", "chain.json", "privacy.json"}) {
    EXPECT_TRUE(std::filesystem::exists(dir_ / "out" / name)) << name;
  }
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 0);
  const auto inspect = Cli({"adapter", "inspect", At("out"), "--json"}).json();
  EXPECT_EQ(inspect["rank"], 8);
  EXPECT_EQ(inspect["rounds_done"], 3);
  EXPECT_EQ(inspect["tensors"].size(), 4u);
  EXPECT_GT(inspect["tensors"][0]["norm_update"].get<double>(), 0);
  EXPECT_EQ(Cli({"adapter", "export", At("out"), "--format", "gguf", "--out", At("a.gguf")}).code, 0);
  EXPECT_EQ(Cli({"adapter", "export", At("out"), "--format", "merged", "--out", At("m")}).code, 2);
}

TEST_F(CoordinatorVerbs, PullOfAnEarlierRoundEndsThere) {
  MakeRounds(3);
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out"), "--round", "1"}).code, 0);
  EXPECT_EQ(Cli({"adapter", "verify", At("out"), "--json"}).json()["rounds_done"], 1);
  EXPECT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("o2"), "--round", "9"}).code, 2);
}

TEST_F(CoordinatorVerbs, PullLeavesForeignFilesAndOtherJobsAlone) {
  MakeRounds(2);
  std::filesystem::create_directories(dir_ / "mine");
  ASSERT_OK(WriteFileAtomically(dir_ / "mine/job.yaml", "my own"));
  const Ran mine = Go({"adapter", "pull", "smollm2-manuals", "--out", At("mine")});
  EXPECT_EQ(mine.code, 1);
  EXPECT_THAT(mine.err, HasSubstr("mine/job.yaml"));
  EXPECT_EQ(ReadTextFile(dir_ / "mine/job.yaml").value(), "my own");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "mine/chain"));

  // A chain of another job, whole and as what a broken transfer left.
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 0);
  EXPECT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 0) << "the same job again";
  std::filesystem::create_directories(dir_ / "part/chain");
  ASSERT_OK(WriteFileAtomically(dir_ / "part/chain" / (std::string(64, '0') + ".adapter.part"), "x"));
  EXPECT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("part")}).code, 1);
  ASSERT_OK_AND_ASSIGN(std::string chain, ReadTextFile(dir_ / "out/chain.json"));
  chain.replace(chain.find(service_.id.hex()), 64, std::string(64, 'b'));
  ASSERT_OK(WriteFileAtomically(dir_ / "out/chain.json", chain));
  EXPECT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 1);
}

TEST_F(CoordinatorVerbs, PullOfARoundThatIsNotThereLeavesNothing) {
  MakeRounds(2);
  EXPECT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out"), "--round", "9"}).code, 2);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
}

TEST_F(CoordinatorVerbs, ThePulledPriceSaysThatItIsAPlansAndHowOftenRoundsWereTried) {
  MakeRounds(2);
  service_.rounds.mutable_rounds(1)->set_attempt(2);
  const Ran pull = Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")});
  ASSERT_EQ(pull.code, 0) << pull.err;
  EXPECT_THAT(pull.out, Not(HasSubstr("what it cost")));
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(dir_ / "out/privacy.json"));
  const auto price = nlohmann::json::parse(text);
  EXPECT_EQ(price["prices"], "plan");
  EXPECT_EQ(price["attempts_begun"], 4);
  EXPECT_GT(price["epsilon_of_attempts"].get<double>(), price["epsilon_local"].get<double>());
  EXPECT_THAT(price["prices_text"].get<std::string>(), HasSubstr("in that region's own ledger"));
  ASSERT_OK_AND_ASSIGN(const std::string chain, ReadTextFile(dir_ / "out/chain.json"));
  EXPECT_EQ(nlohmann::json::parse(chain)["attempts_begun"], 4);
}

TEST_F(CoordinatorVerbs, ABrokenTransferGoesOnWhereItStopped) {
  MakeRounds(1);
  service_.break_after = 2;
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 0);
  EXPECT_THAT(service_.fetched_from, ElementsAre(0, 1000));
}

TEST_F(CoordinatorVerbs, VerifyRefusesALaterAdapterWithOtherFactorsThanTheSeeds) {
  MakeRounds(1);
  ASSERT_OK_AND_ASSIGN(const policy::JobSpec job, policy::ParseJob(job_text_, "job.yaml"));
  ASSERT_OK_AND_ASSIGN(const AdapterLayout layout, AdapterLayout::Make(job.base_model.shape, job.adapter));
  const std::string honest = service_.blobs[service_.rounds.rounds(0).adapter()];
  ASSERT_OK_AND_ASSIGN(AdapterBlob blob, DecodeAdapterBlob(AsBytes(honest), layout));
  blob.weights[0] += 1;  // of the first A: the record that names it is as consistent as the honest one
  const Digest hash = Keep(blob);
  service_.rounds.mutable_rounds(0)->set_adapter(hash.bytes.data(), 32);
  const Ran verify = Go({"adapter", "verify", "smollm2-manuals"});
  EXPECT_EQ(verify.code, 1);
  EXPECT_THAT(verify.err, HasSubstr("q_proj.lora_A.weight' is not trained by this job and has changed"));
}

TEST_F(CoordinatorVerbs, PullRefusesAnAlteredBlobAnotherParentAndAnotherStart) {
  MakeRounds(2);
  const auto rounds = service_.rounds;
  auto& blob = service_.blobs[rounds.rounds(1).adapter()];
  blob.back() = static_cast<char>(blob.back() ^ 1);
  const Ran altered = Go({"adapter", "verify", "smollm2-manuals"});
  EXPECT_EQ(altered.code, 1);
  EXPECT_THAT(altered.err, HasSubstr("another hash"));
  blob.back() = static_cast<char>(blob.back() ^ 1);
  EXPECT_EQ(Go({"adapter", "verify", "smollm2-manuals"}).code, 0);

  service_.rounds.mutable_rounds(1)->set_parent(std::string(32, 'p'));
  EXPECT_THAT(Go({"adapter", "verify", "smollm2-manuals"}).err, HasSubstr("is said to follow"));

  service_.rounds = rounds;
  service_.rounds.set_initial_adapter(std::string(32, 'i'));
  EXPECT_THAT(Go({"adapter", "verify", "smollm2-manuals"}).err, HasSubstr("seed"));

  // A chain whose record skips a round: the second blob's own parent gives it away.
  service_.rounds = rounds;
  service_.rounds.mutable_rounds()->DeleteSubrange(0, 1);
  service_.rounds.mutable_rounds(0)->set_round(0);
  service_.rounds.mutable_rounds(0)->set_parent(rounds.initial_adapter());
  EXPECT_EQ(Go({"adapter", "verify", "smollm2-manuals"}).code, 1);

  service_.rounds = rounds;
  service_.rounds.set_job_file(job_text_ + "# another\n");
  EXPECT_THAT(Go({"adapter", "verify", "smollm2-manuals"}).err, HasSubstr("job file"));
}

TEST_F(CoordinatorVerbs, AnAlteredFolderNoLongerVerifies) {
  MakeRounds(2);
  ASSERT_EQ(Go({"adapter", "pull", "smollm2-manuals", "--out", At("out")}).code, 0);
  ASSERT_OK_AND_ASSIGN(Bytes weights, ReadFile(dir_ / "out/adapter_model.safetensors"));
  weights.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(dir_ / "out/adapter_model.safetensors", weights));
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 1);
  weights.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(dir_ / "out/adapter_model.safetensors", weights));
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 0);
  std::filesystem::remove_all(dir_ / "out/chain");
  EXPECT_EQ(Cli({"adapter", "verify", At("out")}).code, 1);
}

class Evaluations : public CoordinatorVerbs {
 protected:
  void MakeCells() {
    MakeRounds(3);
    const auto add = [&](const char* name, uint32_t state, std::vector<int64_t> values) {
      auto* cell = service_.evaluation.add_cells();
      cell->set_worker(fmt::format("spiffe://{}.example/worker/site", name));
      cell->set_state(state);
      for (int64_t value : values) cell->add_values(value);
      if (state == 2) cell->set_rule(803);
    };
    add("de", 1, {1'500'000, 10'000, 1'250'000, 9'000});
    add("es", 1, {1'400'000, 10'000, 1'450'000, 9'000});
    add("fr", 2, {});
  }
};

TEST_F(Evaluations, EvalShowsTheMatrixTheWithheldCellAndTheHarmedRegion) {
  MakeCells();
  const Ran text = Go({"eval", "smollm2-manuals"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("1.5000 ± 0.0100"));
  EXPECT_THAT(text.out, HasSubstr("1.2500 ± 0.0090"));
  EXPECT_THAT(text.out, HasSubstr("withheld"));
  EXPECT_THAT(text.out, HasSubstr("region harmed: es.example/site (+0.0500"));
  const auto json = Go({"eval", "smollm2-manuals", "--json"}).json();
  EXPECT_THAT(Keys(json),
              ElementsAre("charged", "job", "models", "name", "regions", "regions_harmed", "unit"));
  EXPECT_DOUBLE_EQ(json["models"][1]["mean"].get<double>(), 1.35);
  EXPECT_EQ(json["models"][1]["worst_region"], "spiffe://es.example/worker/site");
  EXPECT_EQ(json["models"][1]["cells"][2]["state"], "withheld");
  EXPECT_TRUE(json["models"][1]["cells"][2]["bits_per_byte"].is_null());
}

TEST_F(Evaluations, ACellWithAnotherNumberOfValuesIsRefused) {
  MakeCells();
  service_.evaluation.mutable_cells(0)->add_values(1);
  EXPECT_EQ(Go({"eval", "smollm2-manuals"}).code, 1);
}

TEST_F(Evaluations, JsonOfAnEvaluationReadsBack) {
  MakeCells();
  const Ran ran = Go({"eval", "smollm2-manuals", "--json"});
  ASSERT_OK_AND_ASSIGN(const Evaluation read, EvaluationFromJson(ran.json()));
  EXPECT_EQ(nlohmann::json(ToJson(read)), ran.json());
}

TEST_F(Evaluations, ReportEscapesWhatPeersSayAndLoadsNothing) {
  MakeCells();
  service_.states[0].set_failure_text("<script>alert('x')</script>");
  service_.rounds.mutable_rounds(0)->add_missing("<img src=x onerror=\"y\">");
  const Ran ran = Go({"report", "smollm2-manuals", "--out", At("report.html"), "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  ASSERT_OK_AND_ASSIGN(const std::string html, ReadTextFile(dir_ / "report.html"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("http://")));
  EXPECT_THAT(html, Not(HasSubstr("https://")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)"));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(html, HasSubstr("1.2500 ± 0.0090"));
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(dir_ / "report.json"));
  EXPECT_THAT(
      Keys(nlohmann::json::parse(text)),
      ElementsAre("base_model", "bytes_down", "bytes_up", "charter", "evaluation", "format",
                  "initial_adapter", "job", "made", "milliseconds", "name", "privacy", "remarks", "rounds",
                  "rounds_done", "rounds_total", "state", "submitted", "submitter", "version"));
}

TEST_F(Evaluations, NothingReleasedIsSaidAndIsNoSuccess) {
  MakeCells();
  const auto withhold = [&](uint32_t rule) {
    for (auto& cell : *service_.evaluation.mutable_cells()) {
      cell.set_state(2);
      cell.clear_values();
      cell.set_rule(rule);
    }
  };
  withhold(512);
  const Ran spent = Go({"eval", "smollm2-manuals"});
  EXPECT_EQ(spent.code, 4);
  EXPECT_THAT(spent.out, HasSubstr("nothing was released"));
  EXPECT_THAT(spent.out, Not(HasSubstr("none seen")));
  EXPECT_THAT(spent.out, Not(HasSubstr("rounds still to come")));
  ASSERT_EQ(Go({"report", "smollm2-manuals", "--out", At("r.html")}).code, 0);
  EXPECT_THAT(ReadTextFile(dir_ / "r.html").value(), HasSubstr("nothing was released"));
  withhold(803);
  EXPECT_EQ(Go({"eval", "smollm2-manuals"}).code, 3);
  for (auto& cell : *service_.evaluation.mutable_cells()) cell.set_state(0);
  EXPECT_EQ(Go({"eval", "smollm2-manuals"}).code, 5);
}

TEST_F(Evaluations, ReportSaysThatItPricesAPlanAndWhatTheEvaluationAdded) {
  MakeCells();
  service_.rounds.mutable_rounds(0)->set_attempt(1);
  service_.evaluation.mutable_cells(0)->set_epsilon_charged(123.5);
  const Ran ran = Go({"report", "smollm2-manuals", "--out", At("r.html")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("4 attempts began, 1 without a result"));
  ASSERT_OK_AND_ASSIGN(const std::string html, ReadTextFile(dir_ / "r.html"));
  EXPECT_THAT(html, HasSubstr("This prices an undisturbed job: 3 finished rounds"));
  EXPECT_THAT(html, HasSubstr("4 attempts began, 1 without a result"));
  EXPECT_THAT(html, HasSubstr("de.example/site: this evaluation was charged epsilon 123.5 there"));
  EXPECT_THAT(html, Not(HasSubstr("not charged")));
}

TEST_F(Evaluations, ReportOfAFailedJobCountsTheAttemptsThatWerePaidFor) {
  MakeRounds(0);
  service_.states = {StateOf(pb::JobState::FAILED, 0)};
  service_.states[0].set_attempt(2);
  service_.states[0].set_step(0);
  ASSERT_EQ(Go({"report", "smollm2-manuals", "--out", At("r.html"), "--no-eval"}).code, 0);
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadTextFile(dir_ / "r.json"));
  const auto privacy = nlohmann::json::parse(text)["privacy"];
  EXPECT_EQ(privacy["epsilon_local"], 0);
  EXPECT_EQ(privacy["attempts_begun"], 2);
  EXPECT_GT(privacy["epsilon_of_attempts"].get<double>(), 0);
}

TEST_F(Evaluations, ReportTakesAnEvaluationThatWasMadeBefore) {
  MakeCells();
  ASSERT_OK(WriteFileAtomically(dir_ / "eval.json", Go({"eval", "smollm2-manuals", "--json"}).out));
  service_.evaluation.Clear();
  ASSERT_EQ(Go({"report", "smollm2-manuals", "--out", At("r.html"), "--evaluation", At("eval.json")}).code,
            0);
  ASSERT_OK_AND_ASSIGN(const std::string html, ReadTextFile(dir_ / "r.html"));
  EXPECT_THAT(html, HasSubstr("1.2500 ± 0.0090"));
}

}  // namespace
}  // namespace concordat::cli
