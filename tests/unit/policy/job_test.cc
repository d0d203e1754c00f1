#include "policy/job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "policy/job_privacy.h"
#include "privacy/mechanism/rotation.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

StatusOr<JobSpec> Parse(const std::string& text) { return ParseJob(text, "job.yaml"); }
std::string Job() { return ReadExample("job.yaml"); }

TEST(JobTest, ReadsWhatTheFileSays) {
  ASSERT_OK_AND_ASSIGN(const JobSpec job, Parse(Job()));
  EXPECT_EQ(job.adapter.method, LoraMethod::kFfa);
  EXPECT_EQ(job.adapter.targets, (std::vector<LoraTarget>{LoraTarget::kQ, LoraTarget::kV}));
  EXPECT_EQ(job.cohort.wait_ms, 30000u);
  EXPECT_EQ(job.deadlines.input_ms, 3600000u);
  EXPECT_EQ(job.privacy.noise, NoisePlacement::kLocal);
  EXPECT_EQ(job.base_model.shape.intermediate, 1536u);
}

TEST(JobTest, OrderOfTargetsInTheFileDoesNotMatter) {
  ASSERT_OK_AND_ASSIGN(const JobSpec job, Parse(With(Job(), "[q_proj, v_proj]", "[v_proj, q_proj]")));
  EXPECT_EQ(job.adapter, ExampleJob().adapter);
  EXPECT_THAT(Parse(With(Job(), "[q_proj, v_proj]", "[q_proj, q_proj]")),
              HasStatus(StatusCode::kInvalidArgument, ": adapter.targets: entry 2: listed twice"));
  EXPECT_THAT(Parse(With(Job(), "[q_proj, v_proj]", "[lm_head]")),
              HasStatus(StatusCode::kInvalidArgument, "unknown LoRA target 'lm_head'"));
}

TEST(JobTest, ACoreSendsRankTimesRankElementsALayerAndIsRefusedWhereItDoesNotFit) {
  const std::string core = With(Job(), "method: ffa", "method: core");
  ASSERT_OK_AND_ASSIGN(const JobSpec job, Parse(core));
  EXPECT_EQ(job.adapter.method, LoraMethod::kCore);
  EXPECT_EQ(MaskedElements(job).value(), 30u * 2 * 8 * 8 + kMetricCount);
  EXPECT_THAT(
      Parse(With(core, "rank: 8 ", "rank: 193 ")),  // 3 kv heads of 64
      HasStatus(StatusCode::kInvalidArgument, "adapter: rank: with method core v_proj takes at most 192"));
  EXPECT_THAT(Parse(With(Job(), "method: ffa", "method: lora-xs")),
              HasStatus(StatusCode::kInvalidArgument, "adapter.method: expected one of: fedit, ffa, core"));
}

TEST(JobTest, PairwiseKeysAreRequiredOrNoneAndNoneWhenTheFileIsSilent) {
  const std::string line = "secure_aggregation: {pairwise_keys: none}";
  EXPECT_FALSE(ExampleJob().secure_aggregation.pairwise_keys);
  ASSERT_OK_AND_ASSIGN(const JobSpec with,
                       Parse(With(Job(), line, "secure_aggregation: {pairwise_keys: required}")));
  EXPECT_TRUE(with.secure_aggregation.pairwise_keys);
  ASSERT_OK_AND_ASSIGN(const JobSpec silent, Parse(With(Job(), line, "")));
  EXPECT_FALSE(silent.secure_aggregation.pairwise_keys);
  EXPECT_THAT(Parse(With(Job(), line, "secure_aggregation: {pairwise_keys: yes}")),
              HasStatus(StatusCode::kInvalidArgument, "secure_aggregation.pairwise_keys"));
}

std::string RecordJob() { return ReadExample("job-record.yaml"); }
JobSpec ExampleRecordJob() { return Parse(RecordJob()).value(); }

TEST(JobTest, ReadsAJobThatProtectsRecordsOrPersons) {
  const JobSpec job = ExampleRecordJob();
  EXPECT_EQ(job.privacy.unit, PrivacyUnit::kRecord);
  EXPECT_EQ(job.privacy.unit_clip, 0.5);
  EXPECT_EQ(job.privacy.sampling_rate, 0.002);
  EXPECT_EQ(job.privacy.expected_units, 200);
  ASSERT_OK_AND_ASSIGN(const JobSpec person, Parse(With(RecordJob(), "unit: record", "unit: person")));
  EXPECT_EQ(person.privacy.unit, PrivacyUnit::kPerson);
  EXPECT_THAT(Parse(With(Job(), "unit: site", "unit: household")),
              HasStatus(StatusCode::kInvalidArgument, "household"));
}

TEST(JobTest, NoiseOnMetricsIsFiveTimesThatOnGradientsUnlessTheFileSaysOtherwise) {
  const std::string left_out = With(RecordJob(), "  noise_multiplier: 3.5 ", "  # ");
  EXPECT_DOUBLE_EQ(Parse(left_out).value().metrics.noise_multiplier, 3.5);
}

TEST(JobTest, WhatATrainerWouldRefuseIsRefusedInTheFile) {
  const auto refused = [](std::string_view from, std::string_view to, std::string_view why) {
    EXPECT_THAT(Parse(With(RecordJob(), from, to)), HasStatus(StatusCode::kInvalidArgument, why)) << to;
  };
  refused("unit_clip: 0.5", "unit_clip: 0", "privacy.unit_clip");
  refused("sampling_rate: 0.002", "sampling_rate: 1.01", "privacy.sampling_rate");
  refused("sampling_rate: 0.002", "sampling_rate: 0",
          "privacy.sampling_rate: expected a probability of more than 0, at most 1, got '0'");
  refused("expected_units: 200", "expected_units: 0", "privacy.expected_units");
  refused("noise_multiplier: 0.7 ", "noise_multiplier: -1 ", "privacy.noise_multiplier");
  refused("noise_multiplier: 3.5", "noise_multiplier: 0.001", "metrics.noise_multiplier");
  refused("  unit_clip: 0.5", "  # unit_clip: 0.5", "privacy.unit_clip");
  // Of a site none of it is asked, and an answer to a question that nobody asked is a mistake.
  EXPECT_THAT(Parse(With(Job(), "unit: site", "unit: site\n  unit_clip: 1")),
              HasStatus(StatusCode::kInvalidArgument, "unit_clip"));
}

TEST(JobTest, OneMistakeIsOneMessage) {
  for (const char* wrong : {"0", "1.01", "-1", "nan", "no"}) {
    const Status status =
        Parse(With(RecordJob(), "sampling_rate: 0.002", fmt::format("sampling_rate: {}", wrong))).status();
    EXPECT_THAT(status, HasStatus(StatusCode::kInvalidArgument, "of more than 0, at most 1"));
    EXPECT_EQ(Message(status).find('\n'), std::string_view::npos) << Message(status);
  }
  const std::regex delta("delta: [0-9.e-]+");
  for (const char* wrong : {"0", "1", "2", "-1"}) {
    const Status status =
        Parse(std::regex_replace(RecordJob(), delta, fmt::format("delta: {}", wrong))).status();
    EXPECT_THAT(status, HasStatus(StatusCode::kInvalidArgument, "between 0 and 1, neither of them"));
    EXPECT_EQ(Message(status).find('\n'), std::string_view::npos) << Message(status);
  }
}

// An empty list would read as nobody and mean everybody.
TEST(JobTest, WhoIsInvitedIsNamedOrTheKeyIsLeftOut) {
  const std::regex line("  jurisdictions: [^\n]*\n");
  EXPECT_THAT(Parse(std::regex_replace(Job(), line, "  jurisdictions: []\n")),
              HasStatus(StatusCode::kInvalidArgument, "cohort.jurisdictions: expected a list of 1 to"));
  ASSERT_OK_AND_ASSIGN(const JobSpec all, Parse(std::regex_replace(Job(), line, "")));
  EXPECT_TRUE(all.cohort.jurisdictions.empty());
}

TEST(JobTest, CohortMustLeaveTwoHonestSurvivors) {
  EXPECT_THAT(Parse(With(Job(), "assumed_colluding: 1", "assumed_colluding: 2")),
              HasStatus(StatusCode::kInvalidArgument, "two honest sites"));
  EXPECT_THAT(Parse(With(Job(), "min_survivors: 3", "min_survivors: 4")),
              HasStatus(StatusCode::kInvalidArgument, "at most minimum = 3, got 4"));
  EXPECT_THAT(Parse(With(Job(), "minimum: 3", "minimum: 6")),
              HasStatus(StatusCode::kInvalidArgument, "at least the threshold of 6 sites, 5, got 3"));
  EXPECT_THAT(Parse(With(Job(), "minimum: 3", "minimum: 2")),
              HasStatus(StatusCode::kInvalidArgument, "from 3"));
}

TEST(JobTest, ThresholdMustWithstandTheColludersInEveryRosterTheJobAllows) {
  // Ten sites: t = 7, 2t - n = 4, so 3 colluders are withstood and 4 are not.
  std::string ten = With(With(Job(), "minimum: 3", "minimum: 10"), "min_survivors: 3", "min_survivors: 9");
  EXPECT_OK(Parse(With(ten, "assumed_colluding: 1", "assumed_colluding: 3")));
  EXPECT_THAT(Parse(With(ten, "assumed_colluding: 1", "assumed_colluding: 4")),
              HasStatus(StatusCode::kInvalidArgument, "withstands 3 colluding sites, not 4"));
}

TEST(JobTest, TwoInvitedJurisdictionsAreTooFew) {
  EXPECT_THAT(Parse(With(Job(), "[de.example, es.example, fr.example]", "[de.example, es.example]")),
              HasStatus(StatusCode::kInvalidArgument, "expected at least 3"));
  EXPECT_THAT(
      Parse(With(Job(), "[de.example, es.example, fr.example]", "[de.example, es.example, es.example]")),
      HasStatus(StatusCode::kInvalidArgument, "'es.example' is listed twice"));
}

TEST(JobTest, NearestRoundingNeedsNoiseOff) {
  const std::string nearest = With(Job(), "rounding: stochastic ", "rounding: nearest ");
  EXPECT_THAT(Parse(nearest), HasStatus(StatusCode::kInvalidArgument, "reproducible runs"));
  std::string off = With(nearest, "noise_multiplier: 0.05   # standard", "noise_multiplier: 0   # standard");
  EXPECT_OK(Parse(off));
}

TEST(JobTest, DeltaIsAProbabilityThatIsNeitherNoneNorCertain) {
  for (const char* wrong : {"delta: 0 ", "delta: 1 ", "delta: 1.5 ", "delta: -0.1 "}) {
    EXPECT_EQ(Parse(With(Job(), "delta: 0.00001", wrong)).status().code(), StatusCode::kInvalidArgument)
        << wrong;
  }
}

TEST(JobTest, ModelShapeMustBePossible) {
  EXPECT_THAT(Parse(With(Job(), "kv_heads: 3", "kv_heads: 2")),
              HasStatus(StatusCode::kInvalidArgument, "kv_heads: expected a divisor"));
}

TEST(JobTest, NoiseBeyondTheModulusIsRefused) {
  EXPECT_EQ(Parse(With(Job(), "noise_multiplier: 0.05   # standard", "noise_multiplier: 1000000 # standard"))
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

TEST(JobTest, WordsHave32BitsUnlessTheFileSays24) {
  ASSERT_OK_AND_ASSIGN(const JobSpec plain, Parse(Job()));
  EXPECT_EQ(plain.privacy.modulus_bits, 32u);
  ASSERT_OK_AND_ASSIGN(const JobSpec silent, Parse(With(Job(), "modulus_bits: 32 ", "# modulus_bits: 32 ")));
  EXPECT_EQ(silent.privacy.modulus_bits, 32u);
  ASSERT_OK_AND_ASSIGN(const JobSpec packed, Parse(With(Job(), "modulus_bits: 32 ", "modulus_bits: 24 ")));
  EXPECT_EQ(packed.privacy.modulus_bits, 24u);
  for (const char* wrong : {"16", "0", "31", "yes", "24.5", "-24"}) {
    EXPECT_THAT(Parse(With(Job(), "modulus_bits: 32 ", fmt::format("modulus_bits: {} ", wrong))),
                HasStatus(StatusCode::kInvalidArgument, "privacy.modulus_bits: expected one of: 32, 24"))
        << wrong;
  }
}

TEST(JobTest, NoiseThatPackedWordsDoNotHoldIsRefusedSayingWhatToChange) {
  const std::string packed = With(Job(), "modulus_bits: 32 ", "modulus_bits: 24 ");
  const auto with_noise = [](const std::string& job, double noise) {
    return Parse(With(job, "noise_multiplier: 0.05   # standard",
                      fmt::format("noise_multiplier: {}   # standard", noise)));
  };
  EXPECT_OK(with_noise(packed, 20));
  const auto refused = with_noise(packed, 60);
  EXPECT_THAT(refused, HasStatus(StatusCode::kInvalidArgument, "job.yaml:"));
  for (const char* said : {"privacy.noise_multiplier: with 100 sites", "24 bits",
                           "lower its scale, its noise", "or take modulus_bits 32"})
    EXPECT_THAT(refused, HasStatus(StatusCode::kInvalidArgument, said));
  EXPECT_OK(with_noise(Job(), 60));
}

TEST(JobTest, AllMistakesAreReportedAtOnce) {
  const Status status = Parse(With(With(Job(), "rank: 8", "rank: 0"), "rounds: 3", "rounds: x")).status();
  EXPECT_THAT(status, HasStatus(StatusCode::kInvalidArgument, "adapter.rank"));
  EXPECT_THAT(status, HasStatus(StatusCode::kInvalidArgument, "rounds: expected a whole number"));
}

TEST(JobTest, LearningRateFollowsItsSchedule) {
  JobSpec job = ExampleJob();
  job.rounds = 4;
  EXPECT_DOUBLE_EQ(LearningRateOf(job, 0), 0.001);
  EXPECT_NEAR(LearningRateOf(job, 2), 0.0005, 1e-12);
  EXPECT_GT(LearningRateOf(job, 3), 0);
  job.training.schedule = Schedule::kConstant;
  EXPECT_DOUBLE_EQ(LearningRateOf(job, 3), 0.001);
}

TEST(JobPrivacyTest, MaskedVectorIsTheDeltaThenTheMetrics) {
  // FFA sends B only: rank 8 on q (576 out) and v (192 out), 30 layers.
  ASSERT_OK_AND_ASSIGN(const uint64_t elements, MaskedElements(ExampleJob()));
  EXPECT_EQ(elements, 30u * 8 * (576 + 192) + kMetricCount);
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(ExampleJob(), 3));
  EXPECT_EQ(plan.total_elements(), elements);
  EXPECT_EQ(plan.config().metrics.size(), kMetricCount);
  EXPECT_EQ(MaskedBytes(ExampleJob()).value(), elements * 4);
}

TEST(JobPrivacyTest, APackedJobHasTheSamePriceAndThreeQuartersOfTheBytes) {
  const JobSpec plain = ExampleJob();
  JobSpec packed = plain;
  packed.privacy.modulus_bits = kPackedBits;
  ASSERT_OK_AND_ASSIGN(const uint64_t elements, MaskedElements(packed));
  EXPECT_EQ(MaskedElements(plain).value(), elements);
  EXPECT_EQ(MaskedBytes(packed).value(), elements * 3);
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(packed, 3));
  EXPECT_TRUE(plan.rotated());
  EXPECT_EQ(plan.sensitivity_squared(), EncodingFor(plain, 3)->sensitivity_squared());
  EXPECT_NEAR(PlanEpsilon(packed, 3, 3).value() / PlanEpsilon(plain, 3, 3).value(), 1, 1e-4);
}

TEST(JobPrivacyTest, TheRotationIsTheAttemptsAndOnlyPackedJobsHaveOne) {
  JobSpec job = ExampleJob();
  secagg::Offer offer;
  offer.id = {JobIdOf("x", Id("spiffe://a/operator/b")), 1, 2};
  for (const char* id : {"spiffe://a/worker/1", "spiffe://b/worker/1", "spiffe://c/worker/1"})
    offer.roster.push_back({Id(id), Digest{}});
  offer.min_survivors = 3;
  offer.assumed_colluding = 1;
  EXPECT_TRUE(EncodingFor(job, offer)->config().rotation.is_zero());
  job.privacy.modulus_bits = kPackedBits;
  EXPECT_EQ(EncodingFor(job, offer)->config().rotation, RotationSeed(offer.id));
  EXPECT_TRUE(EncodingFor(job, 3)->config().rotation.is_zero());
}

TEST(JobPrivacyTest, NoiseIsAMultipleOfTheSensitivity) {
  const JobSpec job = ExampleJob();
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, 3));
  EXPECT_NEAR(std::sqrt(plan.noise().value()) / plan.sensitivity(), 0.05, 1e-6);
  EXPECT_NEAR(std::sqrt(plan.metric_noise(0).value()) / static_cast<double>(plan.metric_sensitivity(0)), 0.05,
              1e-6);
}

TEST(JobPrivacyTest, DistributedNoiseSharesTheVarianceAmongTheHonest) {
  JobSpec job = ExampleJob();
  job.privacy.noise = NoisePlacement::kDistributed;
  job.cohort.minimum = job.cohort.min_survivors = 10;
  ASSERT_EQ(HonestSurvivorsFor(job, 10), 9u);
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, 10));
  EXPECT_NEAR(std::sqrt(9 * plan.noise().value()) / plan.sensitivity(), 0.05, 1e-6);
  // Both placements promise the same to someone outside, up to the price of summing discrete Gaussians.
  JobSpec local = job;
  local.privacy.noise = NoisePlacement::kLocal;
  EXPECT_NEAR(PlanEpsilon(job, 1, 10).value() / PlanEpsilon(local, 1, 10).value(), 1, 0.01);
}

TEST(JobPrivacyTest, SurvivorsNeededGrowWithTheRoster) {
  const JobSpec job = ExampleJob();
  EXPECT_EQ(MinSurvivorsFor(job, 3), 3u);
  EXPECT_EQ(MinSurvivorsFor(job, 10), 7u);
  EXPECT_EQ(HonestSurvivorsFor(job, 10), 6u);
}

TEST(JobPrivacyTest, HonestSurvivorsOfAnOfferCountAJurisdictionAsOneCoalition) {
  const JobSpec job = ExampleJob();
  secagg::Offer offer;
  for (const char* id : {"spiffe://a/worker/1", "spiffe://a/worker/2", "spiffe://b/worker/1",
                         "spiffe://c/worker/1", "spiffe://d/worker/1"}) {
    offer.roster.push_back({Id(id), Digest{}});
  }
  offer.min_survivors = 5;
  offer.assumed_colluding = 1;
  EXPECT_EQ(HonestSurvivorsFor(offer), 3u);
}

TEST(JobPrivacyTest, EpsilonGrowsWithRoundsAndIsInfiniteWithoutNoise) {
  JobSpec job = ExampleJob();
  ASSERT_OK_AND_ASSIGN(const double none, PlanEpsilon(job, 0, 3));
  ASSERT_OK_AND_ASSIGN(const double one, PlanEpsilon(job, 1, 3));
  ASSERT_OK_AND_ASSIGN(const double three, PlanEpsilon(job, 3, 3));
  EXPECT_EQ(none, 0);
  EXPECT_GT(one, 0);
  EXPECT_GT(three, one);
  EXPECT_TRUE(std::isfinite(three));
  ASSERT_OK_AND_ASSIGN(const PrivacyStatement statement, PlanStatement(job, 3, 3));
  EXPECT_DOUBLE_EQ(statement.epsilon_local, three);
  EXPECT_EQ(statement.rounds, 3u);
  job.privacy.noise_multiplier = 0;
  EXPECT_TRUE(std::isinf(PlanEpsilon(job, 1, 3).value()));
  // Noise on the delta alone promises nothing when the metrics go out bare.
  job = ExampleJob();
  job.metrics.noise_multiplier = 0;
  EXPECT_TRUE(std::isinf(PlanEpsilon(job, 1, 3).value()));
}

TEST(JobPrivacyTest, ChargeOfARoundIsThePriceOfTheAttempt) {
  const JobSpec job = ExampleJob();
  const AttemptId attempt{JobIdOf("x", Id("spiffe://a/operator/b")), 1, 2};
  ASSERT_OK_AND_ASSIGN(const LedgerCharge charge, RoundCharge(job, attempt, 3));
  EXPECT_EQ(charge.kind, ChargeKind::kDelta);
  EXPECT_EQ(charge.attempt, attempt);
  EXPECT_DOUBLE_EQ(EpsilonFor(charge.price, charge.neighbour, job.privacy.delta),
                   PlanEpsilon(job, 1, 3).value());
}

TEST(JobPrivacyTest, AStepOfDpSgdIsPricedAsOneReleaseOfGradientAndMetrics) {
  JobSpec job = ExampleRecordJob();
  const SubsampledGaussian steps = RoundSteps(job);
  EXPECT_EQ(steps.q, 0.002);
  EXPECT_EQ(steps.steps, job.training.local_steps);
  // 1/0.7² + 2/3.5² = 1/σ²
  EXPECT_NEAR(steps.sigma, 1 / std::sqrt(1 / 0.49 + 2 / 12.25), 1e-12);
  EXPECT_LT(steps.sigma, 1 / std::sqrt(1 / 0.49 + 2 / 12.25));
  job.metrics.noise_multiplier = 0;
  EXPECT_EQ(RoundSteps(job).sigma, 0);
  EXPECT_TRUE(std::isinf(PlanEpsilon(job, 1, 3).value()));
  job = ExampleRecordJob();
  job.privacy.noise_multiplier = 0;
  EXPECT_EQ(RoundSteps(job).sigma, 0);
}

TEST(JobPrivacyTest, ARoundOfRecordsIsChargedInTheirUnitByItsSteps) {
  const JobSpec job = ExampleRecordJob();
  ASSERT_OK_AND_ASSIGN(const LedgerCharge charge, RoundCharge(job, AttemptId{}, 3));
  EXPECT_EQ(charge.unit, PrivacyUnit::kRecord);
  EXPECT_EQ(charge.neighbour, Neighbour::kAddRemove);
  EXPECT_EQ(charge.price.steps(), std::vector{RoundSteps(job)});
  EXPECT_TRUE(charge.price.curve().empty());
  ASSERT_OK_AND_ASSIGN(const PrivacyStatement statement, PlanStatement(job, job.rounds, 3));
  EXPECT_EQ(statement.unit, PrivacyUnit::kRecord);
  EXPECT_DOUBLE_EQ(statement.epsilon_local, PlanEpsilon(job, job.rounds, 3).value());
  EXPECT_GT(statement.epsilon_local, PlanEpsilon(job, 1, 3).value());
  EXPECT_FALSE(statement.epsilon_distributed.has_value());
}

TEST(JobPrivacyTest, WhatHasItsNoiseFromTheTrainerIsEncodedWithoutMore) {
  const JobSpec job = ExampleRecordJob();
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, 3));
  EXPECT_EQ(plan.config().noise_stddev, 0);
  for (const MetricSpec& metric : plan.config().metrics) EXPECT_EQ(metric.noise_stddev, 0);
  EXPECT_EQ(plan.config().rounding, Rounding::kStochastic);
}

TEST(JobPrivacyTest, PlannedTokensOfUnitsAreThoseOfAnExpectedBatch) {
  JobSpec job = ExampleJob();
  EXPECT_EQ(PlannedTokens(job), 20.0 * 2 * 256);
  job = ExampleRecordJob();
  EXPECT_EQ(PlannedTokens(job), 20.0 * 200 * 256);
}

// ---- Sums over units, whose noise the sites share.

std::string SumText() { return ReadExample("job-record-shared-noise.yaml"); }
JobSpec SumJob() { return Parse(SumText()).value(); }

TEST(UnitSumJobTest, ReadsAJobWhoseSitesShareTheNoise) {
  const JobSpec job = SumJob();
  EXPECT_TRUE(IsUnitSum(job));
  EXPECT_EQ(job.training.optimizer, Optimizer::kSgd);
  EXPECT_FALSE(IsUnitSum(ExampleRecordJob()));
  EXPECT_FALSE(IsUnitSum(ExampleJob()));
  ASSERT_OK_AND_ASSIGN(const JobSpec person, Parse(With(SumText(), "unit: record", "unit: person")));
  EXPECT_EQ(person.privacy.unit, PrivacyUnit::kPerson);
  EXPECT_TRUE(IsUnitSum(person));
}

/// The line of `text` that holds `what`.
size_t LineOf(const std::string& text, std::string_view what) {
  return 1 + static_cast<size_t>(
                 std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(text.find(what)), '\n'));
}

TEST(UnitSumJobTest, WhatWouldMakeItNoSumIsRefusedWithLineAndReason) {
  const auto refused = [](std::string_view from, std::string_view to, std::string_view why) {
    const std::string text = With(SumText(), from, to);
    EXPECT_THAT(Parse(text),
                HasStatus(StatusCode::kInvalidArgument, fmt::format("job.yaml:{}:", LineOf(text, to))))
        << to;
    EXPECT_THAT(Parse(text), HasStatus(StatusCode::kInvalidArgument, why)) << to;
  };
  refused("local_steps: 1 ", "local_steps: 2 ", "training.local_steps: expected 1 with unit record");
  refused("sampling_rate: 1 ", "sampling_rate: 0.5 ", "every record is in every round's sum");
  refused("optimizer: sgd", "optimizer: adamw", "training.optimizer: expected sgd");
  refused("optimizer: sgd", "optimizer: adagrad", "expected one of: adamw, sgd");
  refused("gradient_clip: 1.0", "weight_decay: 0.1", "training.weight_decay: expected 0");
  refused("gradient_clip: 1.0", "beta2: 0.95", "is adamw's");
  refused("expected_units: 5000", "expected_units: 0.5 ", "expected at least 1");
  refused("clip: 0.02\n", "clip: 1000\n", "it bounds each weight of a site's delta");
  refused("clip: 0.02\n", "clip: 0.000000001\n", "it bounds each weight of a site's delta");
  refused("noise_multiplier: 8 ", "noise_multiplier: 0.00001 ", "0.5 integer units a share");
  refused("noise_multiplier: 8 ", "noise_multiplier: 100000 ", "privacy.noise_multiplier: with 3 sites");
  // Many units leave a metric few steps for each: then its noise must be more.
  const std::string many = With(With(SumText(), "expected_units: 5000", "expected_units: 200000"),
                                "clip: 0.02\n", "clip: 0.001\n");
  EXPECT_OK(Parse(many));
  const std::string little = With(many, "noise_multiplier: 40 ", "noise_multiplier: 0.02 ");
  for (const std::string& said :
       {fmt::format("job.yaml:{}:", LineOf(little, "noise_multiplier: 0.02")),
        std::string("metrics.noise_multiplier: metrics with 3 sites: each of 2 shares of their noise")})
    EXPECT_THAT(Parse(little), HasStatus(StatusCode::kInvalidArgument, said));
}

TEST(UnitSumJobTest, SgdIsForSumsOverUnitsAlone) {
  for (const std::string& text : {Job(), RecordJob()}) {
    EXPECT_THAT(Parse(With(text, "  batch_sequences: 2", "  optimizer: sgd\n  batch_sequences: 2")),
                HasStatus(StatusCode::kInvalidArgument, "training.optimizer: expected adamw"));
    EXPECT_OK(Parse(With(text, "  batch_sequences: 2", "  optimizer: adamw\n  batch_sequences: 2")));
  }
}

TEST(UnitSumJobTest, NoiseInTheSumOfTheHonestIsAMultipleOfOneUnitsPart) {
  const JobSpec job = SumJob();
  ASSERT_OK_AND_ASSIGN(const UnitSumSpec sum, UnitSumFor(job));
  const double d = 30 * 8 * (576 + 192);
  EXPECT_NEAR(sum.sensitivity / (50.5 * std::sqrt(d)), 1, 1e-8);
  for (const uint32_t sites : {3u, 10u}) {
    ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, sites));
    const double h = HonestSurvivorsFor(job, sites);
    EXPECT_TRUE(plan.integers());
    EXPECT_FALSE(plan.rotated());
    EXPECT_EQ(plan.sensitivity_squared(), static_cast<uint64_t>(sum.sensitivity * sum.sensitivity));
    EXPECT_NEAR(std::sqrt(h * plan.noise().value()) / sum.sensitivity, 8, 1e-4) << sites;
    for (size_t i = 0; i < kMetricCount; ++i) {
      EXPECT_EQ(plan.metric_sensitivity(i), sum.metric_units);
      EXPECT_NEAR(std::sqrt(h * plan.metric_noise(i).value()) / sum.metric_units, 40, 1e-3) << sites;
    }
    EXPECT_LE(plan.log2_overflow(), -60);
  }
  EXPECT_EQ(sum.metric_units, 838u) << "2^22 / 5000: twice the expected units of a hundred sites fit";
}

TEST(UnitSumJobTest, TheStepIsTheLearningRateOverTheExpectedUnitsAndFollowsTheSchedule) {
  const JobSpec job = SumJob();
  ASSERT_OK_AND_ASSIGN(const UnitSumSpec sum, UnitSumFor(job));
  EXPECT_DOUBLE_EQ(UnitSumStep(job, sum, 0), sum.grid / 5000);
  EXPECT_EQ(sum.largest, static_cast<uint32_t>(0.02 / (sum.grid / 5000)));
  secagg::Offer offer;
  offer.id.round = 7;
  for (const char* id : {"spiffe://a/worker/1", "spiffe://b/worker/1", "spiffe://c/worker/1"})
    offer.roster.push_back({Id(id), Digest{}});
  offer.min_survivors = 3;
  offer.assumed_colluding = 1;
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, offer));
  EXPECT_DOUBLE_EQ(plan.scale(), 1 / UnitSumStep(job, sum, 7));
  EXPECT_EQ(plan.config().largest, sum.largest) << "the same integers in every round";
  for (RoundIndex r = 0; r < job.rounds; ++r) {
    EXPECT_NEAR(StepRateOf(job, r) / LearningRateOf(job, r), 1, 1e-3) << r;
    const double shares = StepRateOf(job, r) * 65536;
    EXPECT_EQ(shares, std::round(shares)) << "no machine's cosine decides its last bits";
  }
  JobSpec longer = job;
  longer.rounds = 100000;
  EXPECT_EQ(StepRateOf(longer, 99999), 1.0 / 65536);
}

TEST(UnitSumJobTest, ARoundIsChargedForExactlyTheHonestSurvivors) {
  JobSpec job = SumJob();
  ASSERT_OK_AND_ASSIGN(const EncodingPlan plan, EncodingFor(job, 3));
  ASSERT_OK_AND_ASSIGN(const LedgerCharge charge, RoundCharge(job, AttemptId{}, 3));
  EXPECT_EQ(charge.unit, PrivacyUnit::kRecord);
  EXPECT_EQ(charge.neighbour, Neighbour::kAddRemove);
  EXPECT_TRUE(charge.price.steps().empty());
  const auto& terms = charge.price.curve().terms();
  ASSERT_EQ(terms.size(), 2u) << "the sum, and two metrics of one price";
  EXPECT_EQ(terms[0].delta2_squared, static_cast<double>(plan.sensitivity_squared()));
  EXPECT_EQ(terms[0].shares, 2u);
  EXPECT_EQ(terms[0].dimension, plan.config().elements);
  EXPECT_EQ(terms[1].count, 2u);
  // What goes into a ledger comes back from it, and is priced the same.
  CanonicalWriter out;
  WriteCharge(out, charge);
  CanonicalReader in(out.bytes());
  ASSERT_OK_AND_ASSIGN(const LedgerCharge read, ReadCharge(in));
  EXPECT_EQ(read.price.curve().terms(), terms);
  ASSERT_OK_AND_ASSIGN(const PrivacyStatement statement, PlanStatement(job, 1, 3));
  EXPECT_DOUBLE_EQ(*statement.epsilon_distributed, PlanEpsilon(job, 1, 3).value());
  EXPECT_GT(statement.epsilon_local, 1.3 * *statement.epsilon_distributed);
  // z = 8 and metrics at 40: about a Gaussian of 8/√(1 + 2/25).
  RdpCurve gaussian;
  EXPECT_OK(gaussian.Add(RdpTerm{.delta2_squared = 1 + 2.0 / 25, .delta1 = 1, .share_variance = 64}));
  EXPECT_NEAR(*statement.epsilon_distributed / EpsilonFor(gaussian, job.privacy.delta), 1, 1e-4);
  job.metrics.noise_multiplier = 0;
  EXPECT_TRUE(std::isinf(PlanEpsilon(job, 1, 3).value()));
}

TEST(UnitSumJobTest, FiguresOfASumAreItsRatioAndOfOthersAMean) {
  const JobSpec job = SumJob();
  // Three sites of half the expected units, each with full sequences and 2 nats a token.
  const std::vector<double> sums = {3.0, 1.5};
  EXPECT_DOUBLE_EQ(FiguresOf(job, sums, 3).mean_loss, 2);
  EXPECT_DOUBLE_EQ(FiguresOf(job, sums, 3).tokens, 1.5 * 5000 * 256);
  EXPECT_EQ(FiguresOf(job, std::vector<double>{30, 1}, 3).mean_loss, 8) << "its bound";
  EXPECT_EQ(FiguresOf(job, std::vector<double>{-0.1, 1}, 3).mean_loss, 0);
  EXPECT_EQ(FiguresOf(job, std::vector<double>{0.5, -0.1}, 3).tokens, 0);
  EXPECT_TRUE(std::isnan(FiguresOf(job, {}, 3).mean_loss));
  const JobSpec site = ExampleJob();
  EXPECT_DOUBLE_EQ(FiguresOf(site, std::vector<double>{6, 3}, 3).mean_loss, 2);
  EXPECT_DOUBLE_EQ(FiguresOf(site, std::vector<double>{6, 3}, 3).tokens, 3 * PlannedTokens(site));
}

}  // namespace
}  // namespace concordat::policy
