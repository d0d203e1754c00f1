#include "policy/region_policy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "policy/job_privacy.h"
#include "policy/plan.h"
#include "policy/worker_bounds.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

/// A question that every rule answers with yes.
struct Case {
  World world;
  RegionPolicy policy = ExamplePolicy();
  DatasetCard card = ExampleCard();
  Digest hash = ExampleJob().charter;
  SpiffeId worker = Id("spiffe://de.example/worker/site");
  JobSpec job = ExampleJob();
  SpiffeId submitter = Id("spiffe://de.example/operator/anne");
  LedgerView ledger{10, 20, 30};

  PolicyQuestion question() const {
    return {policy, card, world.charter, hash, worker, job, submitter, ledger};
  }
  std::vector<RuleCode> Codes() const { return policy::Codes(Evaluate(question())); }
};

TEST(RegionPolicyTest, ExampleJobMayRunUnderTheExamplePolicy) { EXPECT_TRUE(Case().Codes().empty()); }

TEST(RegionPolicyTest, ARegionThatDemandsPairwiseKeysTakesAJobThatUsesThem) {
  Case c;
  c.policy.secure_aggregation.pairwise_keys_required = true;
  c.job.secure_aggregation.pairwise_keys = true;
  EXPECT_TRUE(c.Codes().empty());
  c.policy.secure_aggregation.pairwise_keys_required = false;
  EXPECT_TRUE(c.Codes().empty()) << "a stricter job than it has to be";
}

struct Breach {
  RuleCode code;
  std::function<void(Case&)> commit;
};

std::vector<Breach> Breaches() {
  using R = RuleCode;
  return {
      {R::kSubmitter, [](Case& c) { c.submitter = Id("spiffe://fr.example/operator/anne"); }},
      {R::kCharter, [](Case& c) { c.hash.bytes[3] ^= 1; }},
      {R::kCharterFlowDelta, [](Case& c) { c.world.charter.flows[0].from = "fr.example"; }},
      {R::kCharterFlowMetrics, [](Case& c) { c.world.charter.flows[1].to = "es.example"; }},
      {R::kCharterMinimumCohort, [](Case& c) { c.world.charter.minimum_cohort = 4; }},
      {R::kCharterMembers, [](Case& c) { c.job.cohort.jurisdictions.push_back("it.example"); }},
      {R::kBaseModel, [](Case& c) { c.job.base_model.sha256.bytes[0] ^= 1; }},
      {R::kBaseModelLicense, [](Case& c) { c.job.base_model.license = "MIT"; }},
      {R::kAdapterMethod, [](Case& c) { c.policy.adapters.methods = {LoraMethod::kFedIt}; }},
      {R::kAdapterTarget, [](Case& c) { c.policy.adapters.targets = {LoraTarget::kQ}; }},
      {R::kAdapterRank, [](Case& c) { c.policy.adapters.max_rank = 7; }},
      {R::kCohortMinSites,
       [](Case& c) {
         c.policy.cohort.min_sites = 4;
         c.job.cohort.jurisdictions.clear();
       }},
      {R::kCohortMinSurvivors, [](Case& c) { c.policy.cohort.min_survivors = 4; }},
      {R::kCohortMinHonest, [](Case& c) { c.policy.cohort.min_honest = 3; }},
      {R::kCohortMinColluding, [](Case& c) { c.policy.cohort.min_colluding = 2; }},
      {R::kCohortMaxAttempts, [](Case& c) { c.policy.cohort.max_attempts_per_round = 2; }},
      {R::kCohortNotInvited, [](Case& c) { c.worker = Id("spiffe://it.example/worker/site"); }},
      {R::kPrivacyMaxClip, [](Case& c) { c.policy.privacy.max_clip = 0.99; }},
      {R::kPrivacyMinNoise, [](Case& c) { c.policy.privacy.min_noise_multiplier = 0.06; }},
      {R::kPrivacyMetricsNoise, [](Case& c) { c.job.metrics.noise_multiplier = 0; }},
      {R::kPrivacyMaxDelta, [](Case& c) { c.policy.privacy.max_delta = 1e-6; }},
      {R::kPrivacyNoisePlacement, [](Case& c) { c.job.privacy.noise = NoisePlacement::kDistributed; }},
      {R::kPrivacyRounding, [](Case& c) { c.job.privacy.rounding = RoundingMode::kNearest; }},
      {R::kPrivacyModulusBits,
       [](Case& c) {
         c.policy.privacy.modulus_bits = {kPlainBits};
         c.job.privacy.modulus_bits = kPackedBits;
       }},
      {R::kPairwiseKeysRequired, [](Case& c) { c.policy.secure_aggregation.pairwise_keys_required = true; }},
      {R::kDatasetUnit, [](Case& c) { c.card.privacy.unit = PrivacyUnit::kPerson; }},
      {R::kDatasetUnit, [](Case& c) { c.job.privacy.unit = PrivacyUnit::kRecord; }},
      {R::kDatasetBudget, [](Case& c) { c.ledger.after_job = 30.0001; }},
      {R::kDatasetDelta, [](Case& c) { c.card.privacy.delta = 1e-7; }},
      {R::kDatasetClassDeltas, [](Case& c) { c.card.classification.deltas = DataClass::kSecret; }},
      {R::kDatasetClassMetrics, [](Case& c) { c.card.classification.metrics = DataClass::kSecret; }},
      {R::kTrainingMaxRounds, [](Case& c) { c.policy.training.max_rounds = 2; }},
      {R::kTrainingMaxLocalSteps, [](Case& c) { c.policy.training.max_local_steps = 19; }},
      {R::kTrainingMaxSequenceTokens, [](Case& c) { c.policy.training.max_sequence_tokens = 255; }},
      {R::kTrainingMaxBatchSequences, [](Case& c) { c.policy.training.max_batch_sequences = 1; }},
      {R::kDeadlineAdvert, [](Case& c) { c.job.deadlines.advert_ms = 999; }},
      {R::kDeadlineShares, [](Case& c) { c.job.deadlines.shares_ms = 600'001; }},
      {R::kDeadlineInput, [](Case& c) { c.job.deadlines.input_ms = 9'999; }},
      {R::kDeadlineAgreement, [](Case& c) { c.job.deadlines.agreement_ms = 999; }},
      {R::kDeadlineUnmask, [](Case& c) { c.job.deadlines.unmask_ms = 600'001; }},
      {R::kArtefactDelta, [](Case& c) { c.policy.artefacts.delta = false; }},
      {R::kArtefactMetrics, [](Case& c) { c.policy.artefacts.metrics = false; }},
  };
}

TEST(RegionPolicyTest, EachBreachIsRefusedUnderItsOwnRuleAndNoOther) {
  for (const Breach& breach : Breaches()) {
    Case c;
    breach.commit(c);
    EXPECT_EQ(c.Codes(), std::vector<RuleCode>{breach.code})
        << DescribeRule(static_cast<uint32_t>(breach.code));
  }
}

TEST(RegionPolicyTest, AllBreachesAreReportedAtOnce) {
  Case c;
  c.policy.adapters.max_rank = 7;
  c.policy.cohort.min_sites = 4;
  c.policy.artefacts.delta = false;
  EXPECT_EQ(c.Codes(), (std::vector<RuleCode>{RuleCode::kAdapterRank, RuleCode::kCohortMinSites,
                                              RuleCode::kArtefactDelta}));
}

TEST(RegionPolicyTest, DetailHasBothNumbersForTheRegionsEyes) {
  Case c;
  c.policy.adapters.max_rank = 7;
  EXPECT_EQ(Evaluate(c.question()).at(0).detail, "job: 8, at most 7");
}

TEST(RegionPolicyTest, AnEmptyListAllowsNobody) {
  Case c;
  c.policy.submitters.clear();
  c.policy.base_models.clear();
  EXPECT_EQ(c.Codes(), (std::vector<RuleCode>{RuleCode::kSubmitter, RuleCode::kBaseModel}));
}

TEST(RegionPolicyTest, PackedWordsAreDeniedUnlessTheFileAllowsThem) {
  const std::string text = ReadExample("region-policy.yaml");
  const auto read = [](const std::string& file) { return ParseRegionPolicy(file, "policy.yaml"); };
  ASSERT_OK_AND_ASSIGN(const RegionPolicy both, read(text));
  EXPECT_EQ(both.privacy.modulus_bits, (std::vector<uint32_t>{32, 24}));
  const size_t begin = text.find("  modulus_bits:"), end = text.find('\n', begin);
  std::string without = text;
  without.erase(begin, end + 1 - begin);
  ASSERT_OK_AND_ASSIGN(const RegionPolicy silent, read(without));
  EXPECT_EQ(silent.privacy.modulus_bits, std::vector<uint32_t>{32});
  for (const char* wrong : {"[16]", "[]", "[24, 24]", "24", "[24, 25]"}) {
    EXPECT_THAT(read(With(text, "[32, 24]", wrong)),
                HasStatus(StatusCode::kInvalidArgument, "privacy.modulus_bits"))
        << wrong;
  }
}

TEST(RegionPolicyTest, AnInfinitePriceFitsOnlyAnUnlimitedBudget) {
  Case c;
  c.ledger = {0, INFINITY, 1e18};
  EXPECT_EQ(c.Codes(), std::vector<RuleCode>{RuleCode::kDatasetBudget});
  c.ledger.budget = INFINITY;
  EXPECT_TRUE(c.Codes().empty());
}

TEST(RegionPolicyTest, WhatNoBudgetWouldPayForIsNotSaidToBeWantOfBudget) {
  Case unit;
  unit.job.privacy.unit = PrivacyUnit::kRecord;
  unit.ledger = {0, INFINITY, 30};
  EXPECT_EQ(unit.Codes(), std::vector<RuleCode>{RuleCode::kDatasetUnit});
  for (const double least : {0.0, 0.5}) {
    Case quiet;
    quiet.policy.privacy.min_noise_multiplier = least;
    quiet.job.privacy.noise_multiplier = 0;
    quiet.ledger = {0, INFINITY, 30};
    EXPECT_EQ(quiet.Codes(), std::vector<RuleCode>{RuleCode::kPrivacyMinNoise}) << least;
    Case metrics;
    metrics.policy.privacy.min_metrics_noise_multiplier = least;
    metrics.job.metrics.noise_multiplier = 0;
    metrics.ledger = {0, INFINITY, 30};
    EXPECT_EQ(metrics.Codes(), std::vector<RuleCode>{RuleCode::kPrivacyMetricsNoise}) << least;
  }
}

TEST(SubmitterPatternTest, MatchesOperatorsOnly) {
  ASSERT_OK_AND_ASSIGN(const auto all, SubmitterPattern::Parse("spiffe://de.example/operator/*"));
  EXPECT_TRUE(all.Matches(Id("spiffe://de.example/operator/x")));
  EXPECT_FALSE(all.Matches(Id("spiffe://de.example/worker/x")));
  EXPECT_FALSE(all.Matches(Id("spiffe://de.example.org/operator/x")));
  ASSERT_OK_AND_ASSIGN(const auto one, SubmitterPattern::Parse("spiffe://de.example/operator/anne"));
  EXPECT_TRUE(one.Matches(Id("spiffe://de.example/operator/anne")));
  EXPECT_FALSE(one.Matches(Id("spiffe://de.example/operator/ann")));
  for (const char* wrong :
       {"*", "spiffe://*/operator/*", "spiffe://de.example/worker/*", "spiffe://de.example/*",
        "spiffe://de.example/worker/w", "/operator/*", "", "spiffe:///operator/*"}) {
    EXPECT_EQ(SubmitterPattern::Parse(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(RulesTest, EveryRuleHasANumberANameAndASentenceOfItsOwn) {
  std::set<std::string_view> names, sentences;
  std::set<RuleCode> codes;
  for (const Rule& rule : AllRules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    EXPECT_TRUE(sentences.insert(rule.sentence).second) << rule.sentence;
    EXPECT_TRUE(codes.insert(rule.code).second);
    EXPECT_EQ(FindRule(static_cast<uint32_t>(rule.code)), &rule);
  }
  for (const Breach& breach : Breaches()) EXPECT_TRUE(codes.contains(breach.code));
  EXPECT_EQ(
      DescribeRule(401),
      "region policy rule cohort.min_sites (401): the job accepts smaller cohorts than this region does");
  EXPECT_NE(DescribeRule(65000).find("65000"), std::string::npos);
}

TEST(EvaluationReleaseTest, WithoutNoiseNoBudgetIsSaidToBeTooSmall) {
  Case c;
  c.policy.artefacts.evaluation.noise_stddev = 0;
  c.ledger = {0, INFINITY, 30};
  EXPECT_EQ(Codes(EvaluateRelease(c.question(), 0)), std::vector<RuleCode>{RuleCode::kArtefactEvaluation});
  c.ledger.budget = INFINITY;
  EXPECT_TRUE(EvaluateRelease(c.question(), 0).empty());
}

TEST(EvaluationReleaseTest, EachConditionHasItsRule) {
  const auto codes = [](const Case& c, uint32_t before) {
    return Codes(EvaluateRelease(c.question(), before));
  };
  Case c;
  const uint32_t most = c.policy.artefacts.evaluation.max_requests;
  ASSERT_GT(most, 0u);
  EXPECT_TRUE(codes(c, 0).empty());
  EXPECT_TRUE(codes(c, most - 1).empty());
  EXPECT_EQ(codes(c, most), std::vector<RuleCode>{RuleCode::kEvaluationRequests});
  c.policy.artefacts.evaluation.release = false;
  EXPECT_EQ(codes(c, 99), std::vector<RuleCode>{RuleCode::kArtefactEvaluation});
  Case flow;
  flow.world.charter.flows[2].to = "es.example";
  EXPECT_EQ(codes(flow, 0), std::vector<RuleCode>{RuleCode::kCharterFlowEvaluation});
  Case spent;
  spent.ledger.after_job = 31;
  EXPECT_EQ(codes(spent, 0), std::vector<RuleCode>{RuleCode::kDatasetBudget});
}

TEST(EvaluationReleaseTest, ClipsToTheBoundAndPricesIt) {
  RegionPolicy::Artefacts::Evaluation evaluation{true, 8, 0.01, 20};
  EXPECT_EQ(EvaluationClip(evaluation, 1.5), 1.5 * kEvaluationUnits);
  EXPECT_EQ(EvaluationClip(evaluation, 99), 8 * kEvaluationUnits);
  EXPECT_EQ(EvaluationClip(evaluation, -1), 0);
  EXPECT_EQ(EvaluationClip(evaluation, NAN), 8 * kEvaluationUnits);
  ASSERT_OK_AND_ASSIGN(const RdpCurve one, EvaluationCurve(evaluation, 1));
  ASSERT_OK_AND_ASSIGN(const RdpCurve two, EvaluationCurve(evaluation, 2));
  // αΔ²/(2σ²) with Δ/σ = 800; the variance drawn is never below the one asked for.
  EXPECT_NEAR(one.Rdp(2) / (2 * 800.0 * 800.0 / 2), 1, 1e-5);
  EXPECT_NEAR(two.Rdp(2) / one.Rdp(2), 2, 1e-12);
  evaluation.noise_stddev = 0;
  EXPECT_TRUE(std::isinf(EpsilonFor(EvaluationCurve(evaluation, 1).value(), 1e-5)));
}

TEST(AnswerJobTest, PricesTheRoundsStillToComeAgainstTheLedger) {
  Case c;
  const testing::TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto ledger,
                       Ledger::Open(dir / "ledger", c.card.name, c.card.budget(), c.card.privacy.period));
  const JobId id = JobIdOf("job", c.submitter);
  const auto ask = [&](uint32_t done) {
    return AnswerJob(c.policy, c.card, c.world.charter, c.hash, c.worker, c.job, id, c.submitter, *ledger,
                     done, Now());
  };
  const RegionAnswer first = ask(0);
  EXPECT_TRUE(first.eligible());
  EXPECT_FALSE(first.needs_approval);
  EXPECT_EQ(first.epsilon_before, 0);
  EXPECT_NEAR(first.epsilon_after, PlanEpsilon(c.job, 3, 3).value(), 1e-9);
  EXPECT_EQ(first.bytes_per_round, MaskedBytes(c.job).value());
  ASSERT_OK_AND_ASSIGN(const LedgerCharge charge, RoundCharge(c.job, AttemptId{id, 0, 0}, 3));
  ASSERT_OK(ledger->Charge(Now(), charge));
  const RegionAnswer later = ask(1);
  EXPECT_NEAR(later.epsilon_after, first.epsilon_after, 1e-6 * first.epsilon_after);
  EXPECT_GT(later.epsilon_before, 0);
  EXPECT_GT(ask(0).epsilon_after, first.epsilon_after) << "a fourth attempt costs more than three";
  EXPECT_EQ(ask(3).epsilon_after, ask(3).epsilon_before);
  c.policy.approval = ApprovalMode::kManual;
  EXPECT_TRUE(ask(1).needs_approval);
}

TEST(AnswerJobTest, RefusesWhatTheBudgetCannotPay) {
  Case c;
  c.card.privacy.epsilon = 1;
  const testing::TempDir dir;
  ASSERT_OK_AND_ASSIGN(const auto ledger,
                       Ledger::Open(dir / "ledger", c.card.name, c.card.budget(), c.card.privacy.period));
  const RegionAnswer answer = AnswerJob(c.policy, c.card, c.world.charter, c.hash, c.worker, c.job, JobId{},
                                        c.submitter, *ledger, 0, Now());
  EXPECT_EQ(Codes(answer.refusals), std::vector<RuleCode>{RuleCode::kDatasetBudget});
  EXPECT_FALSE(answer.needs_approval);
}

TEST(FlowsTest, EveryWorkersFlowsHaveBorderBasisAndBytes) {
  World world;
  world.charter.flows[1].from = "de.example";  // metrics from one member only
  JobSpec job = ExampleJob();
  const std::vector<SpiffeId> workers = {Id("spiffe://de.example/worker/a"),
                                         Id("spiffe://fr.example/worker/b")};
  ASSERT_OK_AND_ASSIGN(const auto rows, FlowsOf(world.charter, job, workers));
  ASSERT_EQ(rows.size(), 8u);
  EXPECT_EQ(rows[0].kind, ArtefactKind::kDelta);
  EXPECT_EQ(rows[0].bytes + rows[1].bytes, 3 * MaskedBytes(job).value());
  job.privacy.modulus_bits = kPackedBits;
  ASSERT_OK_AND_ASSIGN(const auto packed, FlowsOf(world.charter, job, workers));
  EXPECT_EQ(packed[0].bytes + packed[1].bytes, 3 * MaskedBytes(job).value());
  EXPECT_EQ(4 * packed[0].bytes, 3 * rows[0].bytes);
  EXPECT_EQ(rows[0].basis, LegalBasis::kConsent);
  EXPECT_TRUE(rows[1].basis.has_value());
  EXPECT_FALSE(rows[5].basis.has_value()) << "fr.example has no flow for metrics";
  EXPECT_EQ(rows[7].from, "neutral.example");
  EXPECT_EQ(rows[7].to, "fr.example");
}

class BoundsTest : public ::testing::Test {
 protected:
  BoundsTest() {
    for (const char* id :
         {"spiffe://de.example/worker/a", "spiffe://es.example/worker/b", "spiffe://fr.example/worker/c"}) {
      offer_.roster.push_back({Id(id), crypto::Sha256(AsBytes(id))});
    }
    offer_.id = {JobIdOf("job", c_.submitter), 1, 0};
    offer_.adapter = crypto::Sha256(AsBytes("adapter"));
    EXPECT_OK(FillOffer(c_.job, &offer_));
  }
  StatusOr<secagg::WorkerBounds> Bounds() {
    return BoundsFor(c_.policy, c_.world.charter, c_.hash, c_.job, offer_.id, offer_.adapter);
  }
  Case c_;
  secagg::Offer offer_;
};

TEST_F(BoundsTest, AnOfferFilledFromTheJobPasses) {
  ASSERT_OK_AND_ASSIGN(const auto bounds, Bounds());
  EXPECT_OK(secagg::CheckOffer(offer_, bounds));
  EXPECT_OK(CheckOfferKeepsJob(c_.job, offer_));
}

TEST_F(BoundsTest, TheStrictestOfPolicyCharterAndJobCounts) {
  c_.policy.cohort.max_attempts_per_round = 2;
  c_.world.charter.minimum_cohort = 4;
  ASSERT_OK_AND_ASSIGN(const auto bounds, Bounds());
  EXPECT_EQ(bounds.max_attempts, 2u);
  EXPECT_EQ(bounds.min_cohort, 4u);
  EXPECT_FALSE(secagg::CheckOffer(offer_, bounds).ok());
}

TEST_F(BoundsTest, ARosterWithTheUninvitedIsRefused) {
  c_.job.cohort.jurisdictions = {"de.example", "es.example", "it.example"};
  ASSERT_OK_AND_ASSIGN(const auto bounds, Bounds());
  EXPECT_EQ(bounds.jurisdictions, (std::set<std::string>{"de.example", "es.example"}));
  EXPECT_THAT(CheckOfferKeepsJob(c_.job, offer_),
              HasStatus(StatusCode::kPermissionDenied, "does not invite"));
}

TEST_F(BoundsTest, AnythingTheCoordinatorChangesIsNamed) {
  const auto expect = [&](auto change, const char* what) {
    secagg::Offer changed = offer_;
    change(changed);
    EXPECT_THAT(CheckOfferKeepsJob(c_.job, changed), HasStatus(StatusCode::kPermissionDenied, what));
  };
  expect([](secagg::Offer& o) { o.elements -= 1; }, "length");
  expect([](secagg::Offer& o) { o.charter.bytes[0] ^= 1; }, "charter");
  expect([](secagg::Offer& o) { o.base_model.bytes[0] ^= 1; }, "base model");
  expect([](secagg::Offer& o) { o.threshold -= 1; }, "threshold");
  expect([](secagg::Offer& o) { o.min_survivors -= 1; }, "survivors");
  expect([](secagg::Offer& o) { o.assumed_colluding = 0; }, "colluders");
  expect([](secagg::Offer& o) { o.attempts_allowed += 1; }, "attempts");
  expect([](secagg::Offer& o) { o.deadlines.unmask_ms += 1; }, "deadline");
  expect([](secagg::Offer& o) { o.roster.pop_back(); }, "a roster of 2 sites");
}

TEST(UnitEvaluationTest, SumsOfAllModelsAndOfBytesAreOneRelease) {
  RegionPolicy::Artefacts::Evaluation rule;
  rule.bound_bits_per_byte = 4;
  rule.unit_noise_multiplier = 6;
  rule.unit_bytes = 100;
  const SubsampledGaussian price = UnitEvaluationPrice(rule, 3);
  EXPECT_EQ(price.q, 1);
  EXPECT_EQ(price.steps, 1u);
  EXPECT_NEAR(price.sigma, 3, 1e-12);
  EXPECT_LT(price.sigma, 3);
  EXPECT_EQ(UnitEvaluationBits(rule), 4 * 100 * 16);
}

TEST(UnitEvaluationTest, WithoutNoiseForUnitsTheirCellsAreWithheld) {
  Case c;
  c.card.privacy.unit = PrivacyUnit::kRecord;
  c.policy.artefacts.evaluation.unit_noise_multiplier = 0;
  EXPECT_THAT(Codes(EvaluateRelease(c.question(), 0)), ::testing::Contains(RuleCode::kDatasetUnit));
  c.policy.artefacts.evaluation.unit_noise_multiplier = 1;
  EXPECT_THAT(Codes(EvaluateRelease(c.question(), 0)),
              ::testing::Not(::testing::Contains(RuleCode::kDatasetUnit)));
}

}  // namespace
}  // namespace concordat::policy
