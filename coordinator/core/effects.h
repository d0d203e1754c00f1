#ifndef CONCORDAT_COORDINATOR_CORE_EFFECTS_H_
#define CONCORDAT_COORDINATOR_CORE_EFFECTS_H_

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/records.h"
#include "privacy/secagg/coordinator_round.h"

// What goes into the coordinator's core and what comes out of it, as checked domain structs.
namespace concordat::coordinator {

/// A connected worker whose chain was verified against its jurisdiction's root.
struct WorkerInfo {
  SpiffeId id;
  Digest key_hash;
  std::string chain;  // PEM, leaf first
};

// ---- Events of a worker, besides secagg's messages.

/// Numbers are JobAnswer.Verdict.
enum class Verdict : uint8_t {
  kNone = 0,
  kEligible = 1,
  kRefused = 2,
  kWaitsForApproval = 3,
  kWithdrawn = 4,
  kPaused = 5
};
struct JobAnswer {
  JobId job;
  Verdict verdict = Verdict::kNone;
  std::vector<uint32_t> rules;  // policy::RuleCode values
  uint64_t bytes_per_round = 0;
  double epsilon_before = 0;
  double epsilon_after = 0;
  double epsilon_budget = 0;
};
/// How far a region is; `phase` is Progress.Phase.
struct WorkerProgress {
  AttemptId id;
  uint32_t phase = 0;
  uint32_t permille = 0;
};
struct Dropout {
  AttemptId id;
  uint32_t code = 0;     // Dropout.Code
  uint32_t refusal = 0;  // secagg::RefusalCode
};
struct ResultAck {
  AttemptId id;
  Digest new_adapter;
};
/// A region's released or withheld evaluation; `state` is EvaluationCell.State, 0 when it never came.
struct EvaluationCell {
  Digest request;
  uint32_t state = 0;
  std::vector<int64_t> values;
  uint32_t rule = 0;
  double epsilon_charged = 0;
};
using WorkerEvent =
    std::variant<JobAnswer, WorkerProgress, secagg::Signed<secagg::Advert>, secagg::Signed<secagg::Shares>,
                 secagg::Signed<secagg::Complaint>, secagg::Signed<secagg::Agreement>,
                 secagg::Signed<secagg::Unmask>, ResultAck, Dropout, EvaluationCell>;

// ---- Messages to workers, besides secagg's.

struct JobNotice {
  std::shared_ptr<const policy::SignedJob> job;
  bool plan_only = false;
  uint32_t rounds_done = 0;
};
struct AttemptAborted {
  AttemptId id;
  AbortReason reason{};
};
struct JobEnded {
  JobId job;
  JobPhase phase{};
  Digest final_adapter;
};
struct EvaluationRequest {
  Digest request;
  JobId job;
  std::vector<Digest> adapters;  // zero: the bare base model
  uint32_t max_documents = 0;
  uint32_t round = 0;
};
using ToWorkerMessage = std::variant<JobNotice, std::shared_ptr<const secagg::CoordinatorMessage>,
                                     AttemptAborted, JobEnded, EvaluationRequest>;
struct ToWorker {
  SpiffeId to;
  ToWorkerMessage message;
};

// ---- Work with uploads and sums.

/// One upload of an attempt that is, or is no longer, accepted.
struct UploadSlot {
  AttemptId id;
  SpiffeId worker;
  uint64_t bytes = 0;
  Digest sha256;                       // of an accepted one: what it must be
  uint32_t modulus_bits = kPlainBits;  // b of its words
};
/// An attempt that begins, for the count of its traffic.
struct AttemptBegan {
  AttemptId id;
  std::vector<SpiffeId> roster;
};
/// All uploads of `id` are added: take the masks off, decode, make the next adapter, answer with SumFinished
/// or SumFailed. Holds rebuilt secrets; drop it once used.
struct SumOrder {
  AttemptId id;
  secagg::UnmaskWork work;
  std::shared_ptr<const policy::JobSpec> spec;
  secagg::Offer offer;  // of the attempt: the encoding follows from it
  Digest parent;        // the adapter that the round started from
};
struct SumFinished {
  AttemptId id;
  Digest sum_sha256;
  Digest adapter;                   // new blob, stored
  std::vector<double> metric_sums;  // in the order of policy::Metric
  uint64_t bytes_up = 0;            // of the attempt, all workers
  uint64_t bytes_down = 0;
};

// ---- Answers to operators.

struct RegionPlan {
  std::string worker;  // SPIFFE ID; the jurisdiction's trust domain when no worker of it is known
  bool connected = false;
  JobAnswer answer;  // verdict kNone: no answer in time
};
struct PlanOutcome {
  Digest request;
  JobId job;
  std::vector<RegionPlan> regions;
  bool can_start = false;
};
struct EvaluationOutcome {
  struct Row {
    SpiffeId worker;
    EvaluationCell cell;
  };
  Digest request;
  std::vector<Row> rows;
};

/// What the shell does after an event, in this order:
///   1. persist  all of `persist` in one transaction. While that fails, nothing below happens and no further
///               event is given to the core: the coordinator pauses rather than run ahead of its journal.
///   2. uploads  begin an attempt's traffic count (`began`), open slots, add accepted uploads to the
///               attempt's running sum (their files stay until the attempt is dropped, for a restart), close
///               slots (delete the spool unread), drop attempts with spools and sum
///   3. send     `send`, in order
///   4. sum      start the orders
///   5. deadline call OnTimer then; empty: nothing is due
///   6. publish  changed jobs, plans, evaluations, notes (lines for the log, without content)
struct CoreEffects {
  std::vector<JournalRecord> persist;
  std::vector<AttemptBegan> began;
  std::vector<UploadSlot> open_uploads;
  std::vector<UploadSlot> accept_uploads;
  std::vector<AttemptId> close_uploads;  // of all sites that were not accepted
  std::vector<AttemptId> drop_attempts;
  std::vector<ToWorker> send;
  std::vector<SumOrder> sums;
  std::optional<Instant> deadline;
  std::set<JobId> changed;
  std::vector<PlanOutcome> plans;
  std::vector<EvaluationOutcome> evaluations;
  std::vector<std::string> notes;
};

// ---- What watchers see.

struct RegionView {
  std::string worker;
  bool connected = false;
  JobAnswer answer;
  uint32_t phase = 0;
  uint32_t permille = 0;
  DropReason dropped = DropReason::kNone;
};
struct JobView {
  JobId id;
  std::string name;
  JobPhase phase = JobPhase::kWaiting;
  uint32_t rounds_total = 0;
  uint32_t attempt = 0;
  uint32_t step = 0;  // 0..9 of the open attempt
  std::vector<RegionView> regions;
  Digest adapter;
  std::vector<RoundRecord> rounds;
  Millis eta{0};  // 0: not known
  AbortReason failure = AbortReason::kNone;
  std::string text;  // why it failed, or what it waits for
  SpiffeId submitter;
  Instant submitted;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_CORE_EFFECTS_H_
