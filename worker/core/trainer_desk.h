#ifndef CONCORDAT_WORKER_CORE_TRAINER_DESK_H_
#define CONCORDAT_WORKER_CORE_TRAINER_DESK_H_

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "policy/job.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// Train one round of a job. Its delta serves every attempt of that round.
struct TrainTask {
  JobId job;
  RoundIndex round = 0;
  Digest adapter;  // what `weights` are
  sandbox::Train parameters;
  Floats weights;
};
/// A unit that is clipped in the trainer, in the channel's words. \pre not a site
inline sandbox::UnitPrivacy::Unit TrainerUnit(PrivacyUnit unit) {
  return unit == PrivacyUnit::kPerson ? sandbox::UnitPrivacy::Unit::kPerson
                                      : sandbox::UnitPrivacy::Unit::kRecord;
}

/// What the trainer is to make ready for a job.
sandbox::Prepare PrepareFor(const policy::JobSpec& spec);

/// Evaluate model `index` of a request.
struct EvaluateTask {
  Digest request;
  JobId job;
  size_t index = 0;
  uint32_t max_documents = 0;
  Floats weights;  // null: the bare base model
  std::optional<sandbox::UnitBounds> bounds = std::nullopt;
};
using TrainerTask = std::variant<TrainTask, EvaluateTask>;

struct TaskOutcome {
  TrainerTask task;
  StatusOr<TrainerSaid> answer;  // Trained or Evaluated
};

struct DeskOptions {
  sandbox::Configure configure;
  Millis start_timeout{600'000};    // model and data are read
  Millis prepare_timeout{300'000};  // buffers are made
  Millis silence_timeout{600'000};  // between two signs of progress
  Millis first_backoff{1'000};
  Millis longest_backoff{60'000};
  uint32_t tries = 3;  // of a task whose trainer dies, and of a start
};

/// Whether jobs may count on the trainer. kDown: it did not start, `tries` times in a row; it is tried again
/// from time to time and kWorks once it has said that it is ready.
enum class TrainerHealth : uint8_t { kWorks, kDown, kBarred };

/// Who works with the trainer: one process, one task at a time, first come first served.
///
///   kOff ─task→ kStarting ─Ready→ kIdle ─Prepare→ kPreparing ─Prepared→ kIdle ─task→ kBusy ─answer→ kIdle
///   any ─gone, silent too long→ kBackoff ─time→ kStarting          any ─lockdown too weak→ kBarred
///
/// A task whose trainer dies is tried again, `tries` times in all; a task that the trainer itself refuses
/// fails at once. A trainer that the kernel did not lock down as the policy demands is ended and never given
/// a task. Pure: commands and outcomes go to the caller; not thread-safe.
class TrainerDesk {
 public:
  enum class State : uint8_t { kOff, kStarting, kIdle, kPreparing, kBusy, kBackoff, kBarred };
  struct Out {
    std::vector<Command> commands;
    std::vector<TaskOutcome> outcomes;
    std::vector<JobId> unprepared;  // the trainer cannot prepare them
    std::vector<LogLine> log;
  };

  explicit TrainerDesk(DeskOptions options) : options_(std::move(options)) {}

  /// What `job` needs before its first task; starts the trainer so that it is warm in time.
  void Register(const JobId& job, sandbox::Prepare prepare, Instant now, Out& out);
  /// Forgets a job: its queued tasks vanish without an outcome, a running one ends with its process.
  void Cancel(const JobId& job, Instant now, Out& out);
  /// Only the training tasks of a job, for a round that is over.
  void CancelTraining(const JobId& job, Instant now, Out& out);
  void Enqueue(TrainerTask task, Instant now, Out& out);
  void On(const TrainerEvent& event, Instant now, Out& out);
  void OnTimer(Instant now, Out& out);
  /// Ends the process if nobody needs it.
  void Rest(Out& out);

  State state() const { return state_; }
  TrainerHealth health() const {
    if (state_ == State::kBarred) return TrainerHealth::kBarred;
    return down_ ? TrainerHealth::kDown : TrainerHealth::kWorks;
  }
  std::optional<Instant> deadline() const { return deadline_; }
  /// What the trainer last said about itself; nullopt before it was ready.
  const std::optional<sandbox::Ready>& ready() const { return ready_; }
  const sandbox::TrainerProgress& progress() const { return progress_; }
  /// The task that runs now; nullptr when none does.
  const TrainerTask* running() const { return state_ == State::kBusy ? &queue_.front() : nullptr; }
  bool HasTraining(const JobId& job, RoundIndex round, const Digest& adapter) const;

 private:
  void Start(Instant now, Out& out);
  void Next(Instant now, Out& out);
  void Back(std::string_view why, Instant now, Out& out);
  void FailAll(const Status& status, Out& out);
  void Drop(bool (*unwanted)(const TrainerTask&), const JobId& job, Instant now, Out& out);
  void OnSaid(const TrainerSaid& said, Instant now, Out& out);
  void OnReady(const sandbox::Ready& ready, Instant now, Out& out);
  void OnFailed(const sandbox::Failed& failed, Instant now, Out& out);
  void Finish(StatusOr<TrainerSaid> answer, Instant now, Out& out);

  DeskOptions options_;
  State state_ = State::kOff;
  std::optional<Instant> deadline_;
  std::deque<TrainerTask> queue_;  // the front one runs when kBusy
  std::map<JobId, sandbox::Prepare> prepares_;
  std::optional<JobId> prepared_;
  std::optional<sandbox::Ready> ready_;
  sandbox::TrainerProgress progress_;
  uint32_t failed_starts_ = 0;
  bool down_ = false;
  uint32_t tries_ = 0;  // of the front task
  Millis backoff_{0};
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_CORE_TRAINER_DESK_H_
