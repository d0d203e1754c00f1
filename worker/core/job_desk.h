#ifndef CONCORDAT_WORKER_CORE_JOB_DESK_H_
#define CONCORDAT_WORKER_CORE_JOB_DESK_H_

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "aggregation/adapter_blob.h"
#include "policy/plan.h"
#include "policy/signed_job.h"
#include "worker/core/effects.h"
#include "worker/core/trainer_desk.h"

namespace concordat::worker {

/// What the operator and this worker's own checks have said about a job; restored from the journal.
struct JobStanding {
  bool approved = false;
  bool denied = false;
  bool paused = false;
  bool withdrawn = false;  // final
  bool halted = false;     // a result did not recompute; final
  void Apply(Decision decision);
};

/// An adapter with its name. `blob` is shared so that its weights can travel to the trainer without a copy.
struct KnownAdapter {
  Digest hash;
  std::shared_ptr<const AdapterBlob> blob;
  Floats weights() const { return {blob, &blob->weights}; }
};

/// What the trainer made of one round: serves every attempt of that round that starts from the same adapter.
/// Each attempt takes fresh rounding, fresh noise and a fresh charge.
struct RoundDelta {
  RoundIndex round = 0;
  Digest adapter;
  Floats delta;
  std::vector<double> metrics;
};

/// A job that this worker knows.
struct Job {
  policy::VerifiedJob facts;  // what its signed file says, and who signed it
  AdapterLayout layout;
  bool run = false;  // asked to take part, not only for a plan
  bool ended = false;
  bool heard = false;  // named as one that runs since the worker last connected
  uint32_t rounds_done = 0;
  policy::RegionAnswer answer;
  bool base_model_absent = false;
  bool base_model_differs = false;  // the job states another shape than the file has
  bool pairwise_absent = false;     // the job uses pairwise keys, and this region has none
  bool trainer_failed = false;  // it could not do this job: until a restart, or until the operator says so
  JobStanding standing;

  std::optional<KnownAdapter> adapter;  // the newest that was verified
  std::map<RoundIndex, Digest> chain;   // what the adapter of a round must be, where this worker knows it
  std::optional<RoundDelta> delta;
  std::map<Digest, EvaluationCell> cells;  // answered evaluation requests, to repeat
  uint32_t failed_evaluations = 0;         // of this process: they count against the policy's max_requests

  const JobId& id() const { return facts.id; }
};

/// The verdict that follows from answer and standing, with the rules that go with it.
JobAnswer AnswerOf(const Job& job, TrainerHealth trainer);

/// Makes the adapter of round 0 and takes it as the newest if there is none. InvalidArgument as FirstAdapter.
/// DataLoss when the journal knows another one.
Status MakeFirstAdapter(Job& job);

/// Takes `blob` as the newest verified adapter and notes it in the chain.
void TakeAdapter(Job& job, const Digest& hash, std::shared_ptr<const AdapterBlob> blob);

/// Recomputes what round `round` made: reads the published sum, averages over `sites` survivors and
/// steps from `job.adapter`. \param sum little-endian u32 words, as published. FailedPrecondition when the
/// job's newest adapter is not the one that round started from.
StatusOr<KnownAdapter> AdapterFromSum(const Job& job, const EncodingPlan& plan, RoundIndex round,
                                      ByteView sum, size_t sites);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_JOB_DESK_H_
