#ifndef CONCORDAT_COORDINATOR_CORE_RECORDS_H_
#define CONCORDAT_COORDINATOR_CORE_RECORDS_H_

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "coordinator/core/reasons.h"
#include "policy/job.h"

// What the coordinator must not forget, as plain structs: the core makes them, the journal keeps them, a
// restart hands them back.
namespace concordat::coordinator {

/// Where a job stands. The numbers are JobState.State and are journaled.
///
///   kWaiting ⇄ kRunning → kDone      both → kCancelled, kFailed
enum class JobPhase : uint8_t { kWaiting = 1, kRunning = 2, kDone = 3, kCancelled = 4, kFailed = 5 };
constexpr bool HasEnded(JobPhase phase) { return phase >= JobPhase::kDone; }
std::string_view JobPhaseName(JobPhase phase);

/// "de/site, fr/site", or "none".
std::string BriefList(const std::vector<SpiffeId>& workers);

/// A job as it was registered.
struct JobRecord {
  JobId id;
  policy::SignedJob signed_job;
  SpiffeId submitter;
  Digest initial_adapter;  // blob of round 0
  Instant submitted;
};

/// A job's phase changed. kRunning is not journaled: after a restart a live job waits.
struct JobPhaseRecord {
  JobId id;
  JobPhase phase = JobPhase::kWaiting;
  AbortReason failure = AbortReason::kNone;
  std::string failure_text;
};

/// Written before the offer of this attempt is sent, so that its number is never used again.
struct AttemptRecord {
  AttemptId id;
  Instant offered;
};

/// One record of an attempt's log (privacy/secagg/coordinator_log.h), written before what follows from it.
/// The log gives the attempt back after a restart.
struct AttemptLogRecord {
  AttemptId id;
  Bytes record;
};

/// The attempt is over: its log goes.
struct AttemptClosedRecord {
  AttemptId id;
};

/// What the end of an attempt says about one of its sites. The numbers are journaled.
enum class Blame : uint8_t {
  kExcluded = 1,  // accused: sits out the later attempts of this round
  kAccuser = 2,   // complained; its jurisdiction is remembered for the whole job
  kLeftOut = 3,   // all sites of its jurisdiction sit out the rest of the job: convicted, or after complaints
  // The attempt ended because it was silent, and others had paid for it by then: it sits out the later
  // attempts of this round, and its jurisdiction's silences are counted (JobMachine).
  kSilent = 4,  // after its own upload
  kLate = 5,    // before its own upload was there
};

/// Written together with the end of the attempt that it follows from: who is left out of the next roster
/// must not depend on when the coordinator was restarted.
struct BlameRecord {
  AttemptId id;
  SpiffeId worker;
  Blame blame{};
};

/// U3 of an attempt, written ahead of step 6.
struct SurvivorsRecord {
  AttemptId id;
  std::vector<SpiffeId> survivors;
};

/// A finished round. `adapter` is the blob of round + 1, `parent` the blob it was made from.
struct RoundRecord {
  AttemptId id;
  std::vector<SpiffeId> survivors;  // sorted
  std::vector<SpiffeId> missing;    // known to the job, not in the sum; sorted
  Digest adapter;
  Digest parent;
  Digest sum_sha256;
  double mean_loss = 0;  // nats per token, the cohort's; NaN when not measured
  double tokens = 0;     // trained on, all survivors, from the masked metrics
  double epsilon_local = 0;
  double epsilon_distributed = 0;
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  Instant started;
  Instant ended;
};

using JournalRecord = std::variant<JobRecord, JobPhaseRecord, AttemptRecord, AttemptLogRecord,
                                   AttemptClosedRecord, SurvivorsRecord, RoundRecord, BlameRecord>;

/// Everything journaled of one job.
struct StoredJob {
  JobRecord job;
  JobPhaseRecord phase;
  std::vector<RoundRecord> rounds;        // by round, without gaps
  std::optional<AttemptId> last_attempt;  // the greatest offered
  std::vector<Bytes> log;                 // of last_attempt, in order; empty when that is over
  std::vector<BlameRecord> blames;        // of all rounds, in order
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_CORE_RECORDS_H_
