#include "policy/rules.h"

#include <algorithm>
#include <array>

namespace concordat::policy {
namespace {

constexpr auto kRules = std::to_array<Rule>({
    {RuleCode::kSubmitter, "submitters", "the submitter is not among those whose jobs this region accepts"},
    {RuleCode::kSubmitterSignature, "submitters.signature",
     "the job is not signed by an operator of a member of the charter"},
    {RuleCode::kJobMalformed, "job", "the region cannot read the job file; it may be of another version"},
    {RuleCode::kCharter, "charter", "the job runs under another charter than the one this region pins"},
    {RuleCode::kCharterFlowDelta, "charter.flows.delta",
     "the charter lets no delta go from this region to the coordinator"},
    {RuleCode::kCharterFlowMetrics, "charter.flows.metrics",
     "the charter lets no metrics go from this region to the coordinator"},
    {RuleCode::kCharterMinimumCohort, "charter.minimum_cohort",
     "the job accepts smaller cohorts than the charter does"},
    {RuleCode::kCharterMembers, "charter.members", "the job invites a jurisdiction that is no member"},
    {RuleCode::kCharterFlowEvaluation, "charter.flows.evaluation",
     "the charter lets no evaluation go from this region to the coordinator"},
    {RuleCode::kBaseModel, "base_models", "the base model is not among those that this region accepts"},
    {RuleCode::kBaseModelLicense, "base_models.license",
     "the region accepts this base model under another licence than the job states"},
    {RuleCode::kBaseModelAbsent, "base_models.file",
     "the region does not have this base model on its disk, or the file has another hash"},
    {RuleCode::kBaseModelShape, "base_models.shape",
     "the job's base_model.shape is not what the base model's file says"},
    {RuleCode::kAdapterMethod, "adapters.methods", "the region does not accept this federated method"},
    {RuleCode::kAdapterTarget, "adapters.targets",
     "the adapter changes a layer that this region does not allow"},
    {RuleCode::kAdapterRank, "adapters.max_rank", "the adapter's rank is higher than this region allows"},
    {RuleCode::kCohortMinSites, "cohort.min_sites", "the job accepts smaller cohorts than this region does"},
    {RuleCode::kCohortMinSurvivors, "cohort.min_survivors",
     "the job accepts fewer survivors of a round than this region does"},
    {RuleCode::kCohortMinHonest, "cohort.min_honest",
     "survivors less assumed colluders are fewer than this region needs"},
    {RuleCode::kCohortMaxAttempts, "cohort.max_attempts_per_round",
     "the job may try a round more often than this region allows"},
    {RuleCode::kCohortNotInvited, "cohort.jurisdictions",
     "the job does not invite this region's jurisdiction"},
    {RuleCode::kCohortMinColluding, "cohort.min_colluding",
     "the job assumes fewer colluding sites than this region does"},
    {RuleCode::kPrivacyMaxClip, "privacy.max_clip", "the clip bound is higher than this region allows"},
    {RuleCode::kPrivacyMinNoise, "privacy.min_noise_multiplier", "the noise is lower than this region needs"},
    {RuleCode::kPrivacyMaxDelta, "privacy.max_delta", "delta is higher than this region allows"},
    {RuleCode::kPrivacyNoisePlacement, "privacy.noise",
     "the region does not accept noise that is added in this place"},
    {RuleCode::kPrivacyRounding, "privacy.rounding", "the region does not accept this rounding"},
    {RuleCode::kPrivacyMetricsNoise, "privacy.min_metrics_noise_multiplier",
     "the noise on metrics is lower than this region needs"},
    {RuleCode::kPrivacyModulusBits, "privacy.modulus_bits",
     "the region does not accept words of this many bits"},
    {RuleCode::kDatasetUnit, "dataset.privacy.unit",
     "the dataset's budget counts another privacy unit than the one that what would leave is priced for"},
    {RuleCode::kDatasetBudget, "dataset.privacy.epsilon",
     "it would spend more than is left of the dataset's privacy budget"},
    {RuleCode::kDatasetDelta, "dataset.privacy.delta", "the job's delta is higher than the dataset's"},
    {RuleCode::kDatasetClassDeltas, "dataset.classification.deltas",
     "deltas of this dataset are classed as never leaving the region"},
    {RuleCode::kDatasetClassMetrics, "dataset.classification.metrics",
     "metrics of this dataset are classed as never leaving the region"},
    {RuleCode::kPairwiseKeysRequired, "secure_aggregation.pairwise_keys",
     "the region takes part only in jobs that use pairwise keys"},
    {RuleCode::kPairwiseKeysAbsent, "secure_aggregation.pairwise_keys.folder",
     "the job uses pairwise keys, and the region has none"},
    {RuleCode::kTrainingMaxRounds, "training.max_rounds", "the job has more rounds than this region allows"},
    {RuleCode::kTrainingMaxLocalSteps, "training.max_local_steps",
     "a round has more local steps than this region allows"},
    {RuleCode::kTrainingMaxSequenceTokens, "training.max_sequence_tokens",
     "sequences are longer than this region allows"},
    {RuleCode::kTrainingMaxBatchSequences, "training.max_batch_sequences",
     "batches are larger than this region allows"},
    {RuleCode::kDeadlineAdvert, "deadlines.advert", "the advert deadline is outside this region's bounds"},
    {RuleCode::kDeadlineShares, "deadlines.shares", "the shares deadline is outside this region's bounds"},
    {RuleCode::kDeadlineInput, "deadlines.input", "the input deadline is outside this region's bounds"},
    {RuleCode::kDeadlineAgreement, "deadlines.agreement",
     "the agreement deadline is outside this region's bounds"},
    {RuleCode::kDeadlineUnmask, "deadlines.unmask", "the unmask deadline is outside this region's bounds"},
    {RuleCode::kArtefactDelta, "artefacts.delta", "the region lets no delta leave"},
    {RuleCode::kArtefactMetrics, "artefacts.metrics", "the region lets no metrics leave"},
    {RuleCode::kArtefactEvaluation, "artefacts.evaluation", "the region lets no evaluation leave"},
    {RuleCode::kEvaluationRequests, "artefacts.evaluation.max_requests",
     "the region has answered as many evaluation requests of this job as it allows"},
    {RuleCode::kSandboxRequired, "sandbox",
     "the region requires a sandbox around the trainer that its kernel cannot enforce"},
    {RuleCode::kTrainerFails, "trainer",
     "the region's trainer does not start or could not do this job; its operators have the reason in their "
     "log"},
    {RuleCode::kApprovalDenied, "approval", "a person in the region has denied this job"},
    {RuleCode::kApprovalPaused, "approval.pause", "a person in the region has paused this job"},
});
static_assert(std::is_sorted(kRules.begin(), kRules.end(),
                             [](const Rule& a, const Rule& b) { return a.code < b.code; }));

}  // namespace

std::span<const Rule> AllRules() { return kRules; }

const Rule* FindRule(uint32_t code) {
  for (const Rule& rule : kRules) {
    if (static_cast<uint32_t>(rule.code) == code) return &rule;
  }
  return nullptr;
}

std::string DescribeRule(uint32_t code) {
  const Rule* rule = FindRule(code);
  if (rule == nullptr) {
    return fmt::format("region policy rule {}: not known to this version; ask the region, or update", code);
  }
  return fmt::format("region policy rule {} ({}): {}", rule->name, code, rule->sentence);
}

std::vector<RuleCode> Codes(const std::vector<Refusal>& refusals) {
  std::vector<RuleCode> codes;
  for (const Refusal& refusal : refusals) codes.push_back(refusal.code);
  std::sort(codes.begin(), codes.end());
  codes.erase(std::unique(codes.begin(), codes.end()), codes.end());
  return codes;
}

}  // namespace concordat::policy
