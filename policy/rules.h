#ifndef CONCORDAT_POLICY_RULES_H_
#define CONCORDAT_POLICY_RULES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace concordat::policy {

/// One number for each rule of a region. Numbers travel on the wire and stand in receipts: never reuse one.
/// A region answers with codes only, so that no text of its choosing crosses a border; whoever shows them
/// turns them into words with RuleFor.
enum class RuleCode : uint16_t {
  kNone = 0,
  kSubmitter = 101,
  kSubmitterSignature = 102,
  kJobMalformed = 103,
  kCharter = 111,
  kCharterFlowDelta = 112,
  kCharterFlowMetrics = 113,
  kCharterMinimumCohort = 114,
  kCharterMembers = 115,
  kCharterFlowEvaluation = 116,
  kBaseModel = 201,
  kBaseModelLicense = 202,
  kBaseModelAbsent = 203,
  kBaseModelShape = 204,
  kAdapterMethod = 301,
  kAdapterTarget = 302,
  kAdapterRank = 303,
  kCohortMinSites = 401,
  kCohortMinSurvivors = 402,
  kCohortMinHonest = 403,
  kCohortMaxAttempts = 404,
  kCohortNotInvited = 405,
  kCohortMinColluding = 406,
  kPrivacyMaxClip = 501,
  kPrivacyMinNoise = 502,
  kPrivacyMaxDelta = 503,
  kPrivacyNoisePlacement = 504,
  kPrivacyRounding = 505,
  kPrivacyMetricsNoise = 506,
  kPrivacyModulusBits = 507,
  kDatasetUnit = 511,
  kDatasetBudget = 512,
  kDatasetDelta = 513,
  kDatasetClassDeltas = 521,
  kDatasetClassMetrics = 522,
  kPairwiseKeysRequired = 541,
  kPairwiseKeysAbsent = 542,
  kTrainingMaxRounds = 601,
  kTrainingMaxLocalSteps = 602,
  kTrainingMaxSequenceTokens = 603,
  kTrainingMaxBatchSequences = 604,
  kDeadlineAdvert = 701,
  kDeadlineShares = 702,
  kDeadlineInput = 703,
  kDeadlineAgreement = 704,
  kDeadlineUnmask = 705,
  kArtefactDelta = 801,
  kArtefactMetrics = 802,
  kArtefactEvaluation = 803,
  kEvaluationRequests = 804,
  kSandboxRequired = 901,
  kTrainerFails = 902,
  kApprovalDenied = 911,
  kApprovalPaused = 912,
};

struct Rule {
  RuleCode code{};
  std::string_view name;      // "cohort.min_sites": the key of the region policy where there is one
  std::string_view sentence;  // what a refusal under it means, for the researcher
};

/// Every rule, by ascending code.
std::span<const Rule> AllRules();
/// The rule with this number; nullptr for a number that this version does not know.
const Rule* FindRule(uint32_t code);
/// "region policy rule cohort.min_sites (401): the job accepts smaller cohorts than this region does"; a
/// plain sentence with the number for an unknown one.
std::string DescribeRule(uint32_t code);

/// One refusal. `detail` has the two numbers that did not meet; it stays in the region.
struct Refusal {
  RuleCode code{};
  std::string detail;
};
/// The codes alone, ascending, without repeats: what crosses.
std::vector<RuleCode> Codes(const std::vector<Refusal>& refusals);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_RULES_H_
