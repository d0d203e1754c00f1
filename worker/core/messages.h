#ifndef CONCORDAT_WORKER_CORE_MESSAGES_H_
#define CONCORDAT_WORKER_CORE_MESSAGES_H_

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "policy/job.h"
#include "policy/rules.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/refusal.h"

// What a worker and its coordinator say to each other besides the twelve messages of an attempt, as checked
// domain structs: the twins of proto/concordat/v1/federation.proto. Numbers are the wire's.
namespace concordat::worker {

enum class Verdict : uint8_t {
  kEligible = 1,
  kRefused = 2,
  kWaitsForApproval = 3,
  kWithdrawn = 4,
  kPaused = 5
};

/// What this region would do with a job, and its price. Codes and counters only.
struct JobAnswer {
  JobId job;
  Verdict verdict{};
  std::vector<policy::RuleCode> rules;
  uint64_t bytes_per_round = 0;
  double epsilon_before = 0;
  double epsilon_after = 0;
  double epsilon_budget = 0;
};

enum class Phase : uint8_t {
  kIdle = 1,
  kLoading = 2,
  kTraining = 3,
  kMasking = 4,
  kUploading = 5,
  kWaiting = 6,
  kEvaluating = 7,
};
std::string_view PhaseName(Phase phase);

struct Progress {
  AttemptId id;
  Phase phase = Phase::kIdle;
  uint32_t permille = 0;
};

/// Why this worker leaves an attempt. kShuttingDown: it went down since it entered, and cannot go on with it.
enum class DropoutCode : uint8_t {
  kTrainerFailed = 1,
  kPolicyRefused = 2,
  kBudgetSpent = 3,
  kProtocolViolation = 4,
  kStorageFull = 5,
  kWithdrawn = 6,
  kResultMismatch = 7,
  kShuttingDown = 8,
  kPaused = 9,
  kDenied = 10,
};
std::string_view DropoutName(DropoutCode code);

struct Dropout {
  AttemptId id;
  DropoutCode code{};
  secagg::RefusalCode refusal = secagg::RefusalCode::kNone;
};

struct ResultAck {
  AttemptId id;
  Digest new_adapter;
};

enum class CellState : uint8_t { kReleased = 1, kWithheld = 2, kFailed = 3 };

/// A region's answer to an evaluation request.
struct EvaluationCell {
  Digest request;
  CellState state{};
  /// For each model of the request, in its order: mean bits per byte, then its standard error, in millionths,
  /// after clipping and noise (so either may be negative). Empty unless released.
  std::vector<int64_t> values;
  policy::RuleCode rule = policy::RuleCode::kNone;
  double epsilon_charged = 0;
};
/// Units of EvaluationCell::values for each bit per byte.
inline constexpr double kCellUnits = 1e6;

struct Pong {
  uint64_t sequence = 0;
};

using ToCoordinator = std::variant<JobAnswer, Progress, secagg::Signed<secagg::Advert>,
                                   secagg::Signed<secagg::Shares>, secagg::Signed<secagg::Complaint>,
                                   secagg::Signed<secagg::InputHeader>, secagg::Signed<secagg::Agreement>,
                                   secagg::Signed<secagg::Unmask>, ResultAck, Dropout, EvaluationCell, Pong>;

struct JobNotice {
  policy::SignedJob job;
  bool run = false;  // false: a plan, answer and do not join
  uint32_t rounds_done = 0;
};

struct JobEnded {
  enum class State : uint8_t { kDone = 1, kCancelled = 2, kFailed = 3 };
  JobId job;
  State state{};
  Digest final_adapter;
};

struct AttemptAborted {
  AttemptId id;
  uint32_t reason = 0;
};

struct EvaluationRequest {
  Digest request;
  JobId job;
  std::vector<Digest> adapters;  // the zero hash is the bare base model
  uint32_t max_documents = 0;
  uint32_t round = 0;
};
inline constexpr size_t kMaxModelsInRequest = 64;

struct Ping {
  uint64_t sequence = 0;
};

using FromCoordinator = std::variant<JobNotice, secagg::Signed<secagg::Offer>, secagg::Signed<secagg::Keys>,
                                     secagg::Signed<secagg::Delivery>, secagg::Signed<secagg::Survivors>,
                                     secagg::Signed<secagg::AgreementBundle>, secagg::Signed<secagg::Result>,
                                     AttemptAborted, JobEnded, EvaluationRequest, Ping>;

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_MESSAGES_H_
