#ifndef CONCORDAT_COORDINATOR_CORE_COORDINATOR_CORE_H_
#define CONCORDAT_COORDINATOR_CORE_COORDINATOR_CORE_H_

#include <map>
#include <memory>
#include <vector>

#include "coordinator/core/job_machine.h"

namespace concordat::coordinator {

/// Bounds of what one coordinator takes on.
struct CoreLimits {
  uint32_t max_jobs = 16;      // waiting or running at once; each member may submit its equal share
  uint32_t max_workers = 100;  // connected at once; each member has an equal share
  uint64_t max_vector_elements = uint64_t{1} << 31;
  uint32_t max_questions = 64;  // plans and evaluations that wait for regions
};

/// Everything a coordinator decides: all jobs, who is connected, plans and evaluations.
///
/// A worker takes part in one open attempt at a time. Jobs whose workers are busy wait; the one that was
/// served longest ago comes first, and keeps its workers from being taken by others meanwhile.
///
/// One event in, one CoreEffects out (order of effects: there). A refused event returns a status and changes
/// nothing. No clock, lock, file or log; not thread-safe.
class CoordinatorCore {
 public:
  CoordinatorCore(CoreContext context, CoreLimits limits);

  /// Takes a stored job back at start, before any other event; an attempt that was open goes on.
  /// InvalidArgument when spec and record differ.
  StatusOr<CoreEffects> Restore(StoredJob stored, policy::JobSpec spec, Instant now);

  /// ResourceExhausted when too many are connected, or too many of its jurisdiction: nobody can take the
  /// others' places. A worker that is connected already is replaced.
  StatusOr<CoreEffects> OnWorkerConnected(const WorkerInfo& worker, Instant now);
  CoreEffects OnWorkerLost(const SpiffeId& worker, Instant now);
  StatusOr<CoreEffects> OnWorkerEvent(const SpiffeId& worker, const WorkerEvent& event, Instant now);
  /// A signed header came and the whole upload is stored, with this length and digest. After a refusal the
  /// shell deletes the upload; `refused`, when given, then holds what follows for the attempt.
  StatusOr<CoreEffects> OnUploaded(const SpiffeId& worker, uint64_t elements, const Digest& sha256,
                                   const secagg::Signed<secagg::InputHeader>& header, Instant now,
                                   CoreEffects* refused);
  StatusOr<CoreEffects> OnSumFinished(const SumFinished& sum, Instant now);
  StatusOr<CoreEffects> OnSumFailed(const AttemptId& id, Instant now);

  /// A verified job. AlreadyExists when it is registered: nothing changes. PermissionDenied: another charter;
  /// InvalidArgument: no cohort of the charter's members could ever run it; ResourceExhausted: too many jobs,
  /// or too long a vector.
  StatusOr<CoreEffects> OnSubmit(JobRecord record, policy::JobSpec spec, Instant now);
  /// What OnSubmit checks, without a record.
  Status CheckSpec(const policy::JobSpec& spec) const;
  /// ResourceExhausted when too many jobs are waiting or running, or too many of `jurisdiction`'s.
  Status CheckRoom(const std::string& jurisdiction) const;
  /// Whether operators and workers of `jurisdiction` may read this adapter or published sum: NotFound when no
  /// job has it, PermissionDenied when none that has it invites or was submitted by the jurisdiction.
  Status CheckReader(const Digest& blob, const std::string& jurisdiction) const;
  Status CheckReader(const JobMachine& job, const std::string& jurisdiction) const;
  /// Only the submitter, or an operator of its jurisdiction: else PermissionDenied. NotFound,
  /// FailedPrecondition when it has ended.
  StatusOr<CoreEffects> OnCancel(const JobId& job, const SpiffeId& caller, Instant now);
  /// Asks the connected workers of the job's invited jurisdictions; the outcome comes when all have answered
  /// or at `until`. `request` names the question.
  StatusOr<CoreEffects> OnPlan(const Digest& request, const policy::SignedJob& signed_job, const JobId& job,
                               const policy::JobSpec& spec, Instant until, Instant now);
  StatusOr<CoreEffects> OnEvaluate(const EvaluationRequest& request, Instant until, Instant now);
  /// Call at `deadline` of the last effects, or at any time.
  CoreEffects OnTimer(Instant now);

  StatusOr<JobView> View(const JobId& job, Instant now) const;
  /// In the order of registration.
  std::vector<JobId> Jobs() const;
  StatusOr<const JobMachine*> Job(const JobId& job) const;
  std::vector<SpiffeId> Connected() const;

 private:
  struct Question {
    JobId job;
    bool is_plan = false;
    Instant until;
    std::vector<std::string> invited;
    uint32_t minimum = 0;
    std::map<SpiffeId, JobAnswer> answers;
    std::map<SpiffeId, EvaluationCell> cells;
    std::set<SpiffeId> awaited;
  };

  StatusOr<JobMachine*> Find(const JobId& job);
  Status Dispatch(const SpiffeId& worker, const WorkerEvent& event, Instant now, CoreEffects* fx);
  Status OnAnswer(const SpiffeId& worker, const JobAnswer& answer, Instant now, CoreEffects* fx);
  Status OnCell(const SpiffeId& worker, const EvaluationCell& cell);
  void Close(const Digest& request, const Question& question, CoreEffects* fx) const;
  void CloseQuestions(Instant now, CoreEffects* fx);
  void Schedule(Instant now, CoreEffects* fx);
  CoreEffects Settle(CoreEffects fx, Instant now);
  size_t ShareOf(uint32_t all) const;

  std::shared_ptr<const CoreContext> context_;  // jobs point at it
  CoreLimits limits_;
  std::map<JobId, std::unique_ptr<JobMachine>> jobs_;
  std::vector<JobId> order_;                  // of registration
  std::set<std::pair<Digest, JobId>> blobs_;  // adapters and sums, and whose they are
  std::map<JobId, uint64_t> served_;          // when a job last began an attempt, as a counter
  uint64_t service_counter_ = 0;
  std::map<SpiffeId, WorkerInfo> workers_;
  std::map<Digest, Question> questions_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_CORE_COORDINATOR_CORE_H_
