#include <algorithm>
#include <cmath>

#include "policy/job_privacy.h"
#include "policy/region_policy.h"

// What a region's policy, dataset card and charter forbid.
namespace concordat::policy {
namespace {

/// Collects refusals; one call for each rule.
class Verdict {
 public:
  template <typename... Args>
  void Require(bool allowed, RuleCode code, fmt::format_string<Args...> detail, Args&&... args) {
    if (!allowed) refusals_.push_back({code, fmt::format(detail, std::forward<Args>(args)...)});
  }
  std::vector<Refusal> Take() { return std::move(refusals_); }

 private:
  std::vector<Refusal> refusals_;
};

template <typename List, typename T>
bool Contains(const List& list, const T& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

void CheckCharter(const PolicyQuestion& q, Verdict* verdict) {
  const std::string& here = q.worker.jurisdiction();
  const std::string& there = q.charter.coordinator.id.jurisdiction();
  verdict->Require(q.job.charter == q.charter_hash, RuleCode::kCharter, "job: {}, pinned: {}",
                   q.job.charter.brief(), q.charter_hash.brief());
  verdict->Require(q.charter.Flow(ArtefactKind::kDelta, here, there) != nullptr, RuleCode::kCharterFlowDelta,
                   "no flow delta from {} to {}", here, there);
  verdict->Require(q.charter.Flow(ArtefactKind::kMetrics, here, there) != nullptr,
                   RuleCode::kCharterFlowMetrics, "no flow metrics from {} to {}", here, there);
  verdict->Require(q.job.cohort.minimum >= q.charter.minimum_cohort, RuleCode::kCharterMinimumCohort,
                   "job: {}, charter: at least {}", q.job.cohort.minimum, q.charter.minimum_cohort);
  for (const std::string& name : q.job.cohort.jurisdictions) {
    verdict->Require(q.charter.Member(name) != nullptr, RuleCode::kCharterMembers, "'{}' is no member", name);
  }
}

void CheckWho(const PolicyQuestion& q, Verdict* verdict) {
  const bool known = std::any_of(q.policy.submitters.begin(), q.policy.submitters.end(),
                                 [&](const SubmitterPattern& p) { return p.Matches(q.submitter); });
  verdict->Require(known, RuleCode::kSubmitter, "{} is not listed", q.submitter.ToString());
  const auto& invited = q.job.cohort.jurisdictions;
  verdict->Require(invited.empty() || Contains(invited, q.worker.jurisdiction()), RuleCode::kCohortNotInvited,
                   "'{}' is not among the invited", q.worker.jurisdiction());
}

void CheckModel(const PolicyQuestion& q, Verdict* verdict) {
  const auto& models = q.policy.base_models;
  const auto model = std::find_if(models.begin(), models.end(), [&](const RegionPolicy::BaseModel& m) {
    return m.sha256 == q.job.base_model.sha256;
  });
  verdict->Require(model != models.end(), RuleCode::kBaseModel, "{} is not listed",
                   q.job.base_model.sha256.brief());
  if (model != models.end()) {
    verdict->Require(model->license == q.job.base_model.license, RuleCode::kBaseModelLicense,
                     "job: {}, policy: {}", q.job.base_model.license, model->license);
  }
  const auto& adapters = q.policy.adapters;
  verdict->Require(Contains(adapters.methods, q.job.adapter.method), RuleCode::kAdapterMethod,
                   "{} is not listed", LoraMethodName(q.job.adapter.method));
  for (LoraTarget target : q.job.adapter.targets) {
    verdict->Require(Contains(adapters.targets, target), RuleCode::kAdapterTarget, "{} is not listed",
                     LoraTargetName(target));
  }
  verdict->Require(q.job.adapter.rank <= adapters.max_rank, RuleCode::kAdapterRank, "job: {}, at most {}",
                   q.job.adapter.rank, adapters.max_rank);
}

void CheckCohort(const PolicyQuestion& q, Verdict* verdict) {
  const auto& job = q.job.cohort;
  const auto& policy = q.policy.cohort;
  verdict->Require(job.minimum >= policy.min_sites, RuleCode::kCohortMinSites, "job: {}, at least {}",
                   job.minimum, policy.min_sites);
  // Sites of one jurisdiction count as one, so too few invited jurisdictions can never be enough.
  verdict->Require(job.jurisdictions.empty() || job.jurisdictions.size() >= policy.min_sites,
                   RuleCode::kCohortMinSites, "{} jurisdictions invited, at least {}",
                   job.jurisdictions.size(), policy.min_sites);
  verdict->Require(job.min_survivors >= policy.min_survivors, RuleCode::kCohortMinSurvivors,
                   "job: {}, at least {}", job.min_survivors, policy.min_survivors);
  verdict->Require(job.min_survivors >= policy.min_honest + job.assumed_colluding, RuleCode::kCohortMinHonest,
                   "job: {} survivors less {} colluding, at least {}", job.min_survivors,
                   job.assumed_colluding, policy.min_honest);
  verdict->Require(job.assumed_colluding >= policy.min_colluding, RuleCode::kCohortMinColluding,
                   "job: {}, at least {}", job.assumed_colluding, policy.min_colluding);
  verdict->Require(job.attempts_per_round <= policy.max_attempts_per_round, RuleCode::kCohortMaxAttempts,
                   "job: {}, at most {}", job.attempts_per_round, policy.max_attempts_per_round);
}

void CheckPrivacy(const PolicyQuestion& q, Verdict* verdict) {
  const auto& job = q.job.privacy;
  const auto& policy = q.policy.privacy;
  verdict->Require(job.clip <= policy.max_clip, RuleCode::kPrivacyMaxClip, "job: {}, at most {}", job.clip,
                   policy.max_clip);
  verdict->Require(job.noise_multiplier >= policy.min_noise_multiplier, RuleCode::kPrivacyMinNoise,
                   "job: {}, at least {}", job.noise_multiplier, policy.min_noise_multiplier);
  verdict->Require(q.job.metrics.noise_multiplier >= policy.min_metrics_noise_multiplier,
                   RuleCode::kPrivacyMetricsNoise, "job: {}, at least {}", q.job.metrics.noise_multiplier,
                   policy.min_metrics_noise_multiplier);
  verdict->Require(job.delta <= policy.max_delta, RuleCode::kPrivacyMaxDelta, "job: {}, at most {}",
                   job.delta, policy.max_delta);
  verdict->Require(Contains(policy.noise, job.noise), RuleCode::kPrivacyNoisePlacement, "{} is not listed",
                   job.noise == NoisePlacement::kLocal ? "local" : "distributed");
  verdict->Require(Contains(policy.rounding, job.rounding), RuleCode::kPrivacyRounding, "{} is not listed",
                   job.rounding == RoundingMode::kNearest ? "nearest" : "stochastic");
  verdict->Require(
      !q.policy.secure_aggregation.pairwise_keys_required || q.job.secure_aggregation.pairwise_keys,
      RuleCode::kPairwiseKeysRequired, "job: none, policy: required");
  verdict->Require(Contains(policy.modulus_bits, q.job.privacy.modulus_bits), RuleCode::kPrivacyModulusBits,
                   "{} is not listed", q.job.privacy.modulus_bits);
}

/// The budget, by the rule that says what to change: a job of another unit, or without noise, fits no budget
/// however much is left of it.
void CheckBudget(const PolicyQuestion& q, Verdict* verdict) {
  const bool same_unit = q.card.privacy.unit == q.job.privacy.unit;
  verdict->Require(same_unit, RuleCode::kDatasetUnit, "dataset: {}, job: {}",
                   PrivacyUnitText(q.card.privacy.unit), PrivacyUnitText(q.job.privacy.unit));
  if (!same_unit || q.ledger.after_job <= q.ledger.budget) return;
  const bool quiet = q.job.privacy.noise_multiplier == 0, quiet_metrics = q.job.metrics.noise_multiplier == 0;
  static constexpr std::string_view kNoNoise = "job: 0, which only an unlimited budget pays for";
  // CheckPrivacy may have said the same for the policy.
  verdict->Require(!quiet || q.policy.privacy.min_noise_multiplier > 0, RuleCode::kPrivacyMinNoise, "{}",
                   kNoNoise);
  verdict->Require(!quiet_metrics || q.policy.privacy.min_metrics_noise_multiplier > 0,
                   RuleCode::kPrivacyMetricsNoise, "{}", kNoNoise);
  verdict->Require(quiet || quiet_metrics, RuleCode::kDatasetBudget,
                   "spent {:.6g}, after the job {:.6g}, budget {:.6g}", q.ledger.spent, q.ledger.after_job,
                   q.ledger.budget);
}

void CheckDataset(const PolicyQuestion& q, Verdict* verdict) {
  const auto& card = q.card;
  CheckBudget(q, verdict);
  verdict->Require(q.job.privacy.delta <= card.privacy.delta, RuleCode::kDatasetDelta, "job: {}, dataset: {}",
                   q.job.privacy.delta, card.privacy.delta);
  verdict->Require(card.classification.deltas != DataClass::kSecret, RuleCode::kDatasetClassDeltas,
                   "deltas are secret");
  verdict->Require(card.classification.metrics != DataClass::kSecret, RuleCode::kDatasetClassMetrics,
                   "metrics are secret");
}

void CheckTraining(const PolicyQuestion& q, Verdict* verdict) {
  const auto most = [&](uint32_t job, uint32_t policy, RuleCode code) {
    verdict->Require(job <= policy, code, "job: {}, at most {}", job, policy);
  };
  most(q.job.rounds, q.policy.training.max_rounds, RuleCode::kTrainingMaxRounds);
  most(q.job.training.local_steps, q.policy.training.max_local_steps, RuleCode::kTrainingMaxLocalSteps);
  most(q.job.training.sequence_tokens, q.policy.training.max_sequence_tokens,
       RuleCode::kTrainingMaxSequenceTokens);
  most(q.job.training.batch_sequences, q.policy.training.max_batch_sequences,
       RuleCode::kTrainingMaxBatchSequences);
}

void CheckDeadlines(const PolicyQuestion& q, Verdict* verdict) {
  const auto within = [&](uint32_t secagg::Deadlines::*field, RuleCode code) {
    const uint32_t value = q.job.deadlines.*field;
    const uint32_t low = q.policy.deadlines.minimum.*field, high = q.policy.deadlines.maximum.*field;
    verdict->Require(value >= low && value <= high, code, "job: {} ms, from {} ms to {} ms", value, low,
                     high);
  };
  within(&secagg::Deadlines::advert_ms, RuleCode::kDeadlineAdvert);
  within(&secagg::Deadlines::shares_ms, RuleCode::kDeadlineShares);
  within(&secagg::Deadlines::input_ms, RuleCode::kDeadlineInput);
  within(&secagg::Deadlines::agreement_ms, RuleCode::kDeadlineAgreement);
  within(&secagg::Deadlines::unmask_ms, RuleCode::kDeadlineUnmask);
}

}  // namespace

std::vector<Refusal> Evaluate(const PolicyQuestion& question) {
  Verdict verdict;
  CheckCharter(question, &verdict);
  CheckWho(question, &verdict);
  CheckModel(question, &verdict);
  CheckCohort(question, &verdict);
  CheckPrivacy(question, &verdict);
  CheckDataset(question, &verdict);
  CheckTraining(question, &verdict);
  CheckDeadlines(question, &verdict);
  verdict.Require(question.policy.artefacts.delta, RuleCode::kArtefactDelta, "delta: deny");
  verdict.Require(question.policy.artefacts.metrics, RuleCode::kArtefactMetrics, "metrics: deny");
  return verdict.Take();
}

std::vector<Refusal> EvaluateRelease(const PolicyQuestion& q, uint32_t requests_before) {
  const auto& evaluation = q.policy.artefacts.evaluation;
  const std::string& here = q.worker.jurisdiction();
  const std::string& there = q.charter.coordinator.id.jurisdiction();
  Verdict verdict;
  CheckWho(q, &verdict);
  verdict.Require(q.job.charter == q.charter_hash, RuleCode::kCharter, "job: {}, pinned: {}",
                  q.job.charter.brief(), q.charter_hash.brief());
  verdict.Require(q.charter.Flow(ArtefactKind::kEvaluation, here, there) != nullptr,
                  RuleCode::kCharterFlowEvaluation, "no flow evaluation from {} to {}", here, there);
  verdict.Require(evaluation.release, RuleCode::kArtefactEvaluation, "evaluation.release: deny");
  verdict.Require(q.card.privacy.unit == PrivacyUnit::kSite || evaluation.unit_noise_multiplier > 0,
                  RuleCode::kDatasetUnit, "dataset: {}, and evaluation.unit_noise_multiplier is not set",
                  PrivacyUnitText(q.card.privacy.unit));
  verdict.Require(q.card.classification.metrics != DataClass::kSecret, RuleCode::kDatasetClassMetrics,
                  "metrics are secret");
  if (evaluation.release) {
    verdict.Require(requests_before < evaluation.max_requests, RuleCode::kEvaluationRequests,
                    "{} answered, at most {}", requests_before, evaluation.max_requests);
  }
  if (q.ledger.after_job <= q.ledger.budget) return verdict.Take();
  // Without noise it fits no budget, however much is left.
  const bool quiet = q.card.privacy.unit == PrivacyUnit::kSite && evaluation.noise_stddev == 0;
  verdict.Require(!quiet, RuleCode::kArtefactEvaluation,
                  "evaluation.noise_stddev: 0, which only an unlimited budget pays for");
  verdict.Require(quiet, RuleCode::kDatasetBudget, "spent {:.6g}, after the request {:.6g}, budget {:.6g}",
                  q.ledger.spent, q.ledger.after_job, q.ledger.budget);
  return verdict.Take();
}

int64_t EvaluationClip(const RegionPolicy::Artefacts::Evaluation& evaluation, double bits_per_byte) {
  // Not a number means that nothing was measured: the bound says the least.
  if (std::isnan(bits_per_byte)) bits_per_byte = evaluation.bound_bits_per_byte;
  const double clipped = std::clamp(bits_per_byte, 0.0, evaluation.bound_bits_per_byte);
  return std::llround(clipped * kEvaluationUnits);
}

StatusOr<NoiseVariance> EvaluationVariance(const RegionPolicy::Artefacts::Evaluation& evaluation) {
  return NoiseVariance::FromStddev(evaluation.noise_stddev * kEvaluationUnits);
}

SubsampledGaussian UnitEvaluationPrice(const RegionPolicy::Artefacts::Evaluation& evaluation,
                                       uint32_t models) {
  // A little less noise than there is: rounding of the square root.
  constexpr double kRoundedDown = 1 - 0x1p-48;
  return {1, kRoundedDown * evaluation.unit_noise_multiplier / std::sqrt(models + 1.0), 1};
}

double UnitEvaluationBits(const RegionPolicy::Artefacts::Evaluation& evaluation) {
  return std::floor(evaluation.bound_bits_per_byte * evaluation.unit_bytes * kUnitBitUnits);
}

StatusOr<RdpCurve> EvaluationCurve(const RegionPolicy::Artefacts::Evaluation& evaluation, uint32_t cells) {
  ASSIGN_OR_RETURN(const NoiseVariance variance, EvaluationVariance(evaluation));
  const auto sensitivity = static_cast<double>(EvaluationClip(evaluation, evaluation.bound_bits_per_byte));
  RdpTerm term;
  term.delta2_squared = sensitivity * sensitivity;
  term.delta1 = sensitivity;
  term.share_variance = variance.value();
  term.count = cells;
  RdpCurve curve;
  if (cells > 0) RETURN_IF_ERROR(curve.Add(term));
  return curve;
}

}  // namespace concordat::policy
