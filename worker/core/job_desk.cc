#include "worker/core/job_desk.h"

#include "aggregation/adapter_steps.h"
#include "privacy/mechanism/encoder.h"

namespace concordat::worker {

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      return "idle";
    case Phase::kLoading:
      return "loading";
    case Phase::kTraining:
      return "training";
    case Phase::kMasking:
      return "masking";
    case Phase::kUploading:
      return "uploading";
    case Phase::kWaiting:
      return "waiting";
    case Phase::kEvaluating:
      return "evaluating";
  }
  return "unknown";
}

std::string_view DropoutName(DropoutCode code) {
  switch (code) {
    case DropoutCode::kTrainerFailed:
      return "the trainer failed";
    case DropoutCode::kPolicyRefused:
      return "the region's policy refuses";
    case DropoutCode::kBudgetSpent:
      return "the privacy budget is spent";
    case DropoutCode::kProtocolViolation:
      return "the coordinator broke the protocol";
    case DropoutCode::kStorageFull:
      return "the region's disk is full";
    case DropoutCode::kWithdrawn:
      return "the region withdrew";
    case DropoutCode::kResultMismatch:
      return "the result does not recompute";
    case DropoutCode::kShuttingDown:
      return "the worker went down";
    case DropoutCode::kPaused:
      return "the region's operator paused the job";
    case DropoutCode::kDenied:
      return "the region's operator denied the job";
  }
  return "unknown";
}

std::string_view DecisionName(Decision decision) {
  switch (decision) {
    case Decision::kNone:
      return "none";
    case Decision::kApprove:
      return "approve";
    case Decision::kDeny:
      return "deny";
    case Decision::kPause:
      return "pause";
    case Decision::kWithdraw:
      return "withdraw";
    case Decision::kResume:
      return "resume";
  }
  return "unknown";
}

void JobStanding::Apply(Decision decision) {
  switch (decision) {
    case Decision::kNone:
      break;
    case Decision::kApprove:
      approved = true;
      denied = false;
      break;
    case Decision::kDeny:
      approved = false;
      denied = true;
      break;
    case Decision::kPause:
      paused = true;
      break;
    case Decision::kResume:
      paused = false;
      break;
    case Decision::kWithdraw:
      withdrawn = true;
      break;
  }
}

JobAnswer AnswerOf(const Job& job, TrainerHealth trainer) {
  JobAnswer answer;
  answer.job = job.id();
  answer.bytes_per_round = job.answer.bytes_per_round;
  answer.epsilon_before = job.answer.epsilon_before;
  answer.epsilon_after = job.answer.epsilon_after;
  answer.epsilon_budget = job.answer.epsilon_budget;
  answer.rules = policy::Codes(job.answer.refusals);
  if (job.base_model_absent) answer.rules.push_back(policy::RuleCode::kBaseModelAbsent);
  if (job.base_model_differs) answer.rules.push_back(policy::RuleCode::kBaseModelShape);
  if (job.pairwise_absent) answer.rules.push_back(policy::RuleCode::kPairwiseKeysAbsent);
  if (trainer == TrainerHealth::kBarred) answer.rules.push_back(policy::RuleCode::kSandboxRequired);
  if (trainer == TrainerHealth::kDown || job.trainer_failed)
    answer.rules.push_back(policy::RuleCode::kTrainerFails);
  if (job.standing.denied || job.standing.halted) answer.rules.push_back(policy::RuleCode::kApprovalDenied);
  if (job.standing.withdrawn) {
    answer.verdict = Verdict::kWithdrawn;
  } else if (!answer.rules.empty()) {
    answer.verdict = Verdict::kRefused;
  } else if (job.answer.needs_approval && !job.standing.approved) {
    answer.verdict = Verdict::kWaitsForApproval;
  } else if (job.standing.paused) {
    answer.verdict = Verdict::kPaused;
  } else {
    answer.verdict = Verdict::kEligible;
  }
  return answer;
}

void TakeAdapter(Job& job, const Digest& hash, std::shared_ptr<const AdapterBlob> blob) {
  job.chain[blob->round] = hash;
  job.adapter = KnownAdapter{hash, std::move(blob)};
}

Status MakeFirstAdapter(Job& job) {
  ASSIGN_OR_RETURN(AdapterBlob blob, FirstAdapter(job.layout, job.id(), job.facts.spec.seed));
  const Digest hash = AdapterHash(EncodeAdapterBlob(blob));
  const auto known = job.chain.find(0);
  if (known != job.chain.end() && known->second != hash)
    return DataLoss("the journal knows another first adapter of job {}", job.id().brief());
  if (!job.adapter) TakeAdapter(job, hash, std::make_shared<const AdapterBlob>(std::move(blob)));
  return OkStatus();
}

StatusOr<KnownAdapter> AdapterFromSum(const Job& job, const EncodingPlan& plan, RoundIndex round,
                                      ByteView sum, size_t sites) {
  if (!job.adapter || job.adapter->blob->round != round)
    return FailedPrecondition("the adapter that round {} started from is not at hand", round);
  if (sum.size() != plan.vector_bytes())
    return InvalidArgument("expected a sum of {} words of {} bits, got {} bytes", plan.total_elements(),
                           plan.config().modulus_bits, sum.size());
  std::vector<uint32_t> words(plan.total_elements());
  UnpackWords(sum, plan.config().modulus_bits, words);
  ASSIGN_OR_RETURN(const DecodedSum decoded, Decode(plan, words, sites));
  ASSIGN_OR_RETURN(AdapterBlob blob, NextAdapter(job.layout, *job.adapter->blob, job.adapter->hash,
                                                 decoded.mean_delta, job.facts.spec.server.learning_rate));
  const Digest hash = AdapterHash(EncodeAdapterBlob(blob));
  return KnownAdapter{hash, std::make_shared<const AdapterBlob>(std::move(blob))};
}

}  // namespace concordat::worker
