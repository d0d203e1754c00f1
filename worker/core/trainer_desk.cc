#include "worker/core/trainer_desk.h"

#include <algorithm>
#include <utility>

#include "policy/job_privacy.h"

namespace concordat::worker {
namespace {

const JobId& JobOf(const TrainerTask& task) {
  return std::visit([](const auto& t) -> const JobId& { return t.job; }, task);
}
bool IsAny(const TrainerTask&) { return true; }
bool IsTraining(const TrainerTask& task) { return std::holds_alternative<TrainTask>(task); }

void Log(TrainerDesk::Out& out, LogLine::Level level, std::string text) {
  out.log.push_back({level, std::move(text)});
}

}  // namespace

// In a sum over units a region without any takes part like the others: staying away would say so.
sandbox::Prepare PrepareFor(const policy::JobSpec& spec) {
  return {spec.base_model.shape, spec.adapter, spec.training.sequence_tokens, policy::IsPerUnit(spec)};
}

void TrainerDesk::Start(Instant now, Out& out) {
  state_ = State::kStarting;
  prepared_.reset();
  progress_ = {};
  deadline_ = now + options_.start_timeout;
  out.commands.push_back(StartTrainer{});
  out.commands.push_back(TellTrainer{options_.configure, nullptr});
}

void TrainerDesk::Register(const JobId& job, sandbox::Prepare prepare, Instant now, Out& out) {
  prepares_[job] = std::move(prepare);
  if (state_ == State::kOff) Start(now, out);
  if (state_ == State::kIdle) Next(now, out);
}

void TrainerDesk::Drop(bool (*unwanted)(const TrainerTask&), const JobId& job, Instant now, Out& out) {
  const bool hits_running =
      state_ == State::kBusy && JobOf(queue_.front()) == job && unwanted(queue_.front());
  std::erase_if(queue_, [&](const TrainerTask& t) { return JobOf(t) == job && unwanted(t); });
  tries_ = 0;
  if (!hits_running) return;
  // The channel has no way to interrupt a task: a fresh process is the interruption.
  out.commands.push_back(StopTrainer{});
  state_ = State::kOff;
  deadline_.reset();
  prepared_.reset();
  progress_ = {};
  if (!queue_.empty() || !prepares_.empty()) Start(now, out);
}

void TrainerDesk::Cancel(const JobId& job, Instant now, Out& out) {
  prepares_.erase(job);
  Drop(IsAny, job, now, out);
}

void TrainerDesk::CancelTraining(const JobId& job, Instant now, Out& out) { Drop(IsTraining, job, now, out); }

bool TrainerDesk::HasTraining(const JobId& job, RoundIndex round, const Digest& adapter) const {
  return std::ranges::any_of(queue_, [&](const TrainerTask& task) {
    const auto* train = std::get_if<TrainTask>(&task);
    return train != nullptr && train->job == job && train->round == round && train->adapter == adapter;
  });
}

void TrainerDesk::Enqueue(TrainerTask task, Instant now, Out& out) {
  if (state_ == State::kBarred) {
    out.outcomes.push_back({std::move(task), PermissionDenied("the trainer is not locked down")});
    return;
  }
  queue_.push_back(std::move(task));
  if (state_ == State::kOff) Start(now, out);
  if (state_ == State::kIdle) Next(now, out);
}

void TrainerDesk::Next(Instant now, Out& out) {
  // A registered job is prepared ahead of its first task, when nothing else waits.
  if (queue_.empty() && (prepared_ || prepares_.empty())) {
    deadline_.reset();
    return;
  }
  const JobId job = queue_.empty() ? prepares_.begin()->first : JobOf(queue_.front());
  if (prepared_ != job) {
    const auto prepare = prepares_.find(job);
    if (prepare == prepares_.end())
      return Finish(Internal("a task of a job that was never registered"), now, out);
    state_ = State::kPreparing;
    prepared_ = job;
    deadline_ = now + options_.prepare_timeout;
    out.commands.push_back(TellTrainer{prepare->second, nullptr});
    return;
  }
  if (queue_.empty()) return;
  state_ = State::kBusy;
  progress_ = {};
  deadline_ = now + options_.silence_timeout;
  if (const auto* train = std::get_if<TrainTask>(&queue_.front())) {
    out.commands.push_back(TellTrainer{train->parameters, train->weights});
  } else {
    const auto& evaluate = std::get<EvaluateTask>(queue_.front());
    out.commands.push_back(
        TellTrainer{sandbox::Evaluate{evaluate.weights != nullptr, evaluate.max_documents, evaluate.bounds},
                    evaluate.weights});
  }
}

void TrainerDesk::Finish(StatusOr<TrainerSaid> answer, Instant now, Out& out) {
  out.outcomes.push_back({std::move(queue_.front()), std::move(answer)});
  queue_.pop_front();
  tries_ = 0;
  state_ = State::kIdle;
  Next(now, out);
}

void TrainerDesk::FailAll(const Status& status, Out& out) {
  for (TrainerTask& task : queue_) out.outcomes.push_back({std::move(task), status});
  queue_.clear();
  tries_ = 0;
}

void TrainerDesk::Back(std::string_view why, Instant now, Out& out) {
  const bool starting = state_ == State::kStarting;
  Log(out, LogLine::Level::kWarning, fmt::format("trainer: {}", why));
  prepared_.reset();
  progress_ = {};
  if (starting && ++failed_starts_ >= options_.tries) {
    FailAll(Unavailable("the trainer does not start: {}", why), out);
    if (!std::exchange(down_, true))
      Log(out, LogLine::Level::kError, "trainer: it does not start: its jobs are refused until it does");
    backoff_ = options_.longest_backoff;
    state_ = State::kBackoff;
    deadline_ = now + backoff_;
    return;
  }
  if (state_ == State::kBusy && ++tries_ >= options_.tries) {
    out.outcomes.push_back(
        {std::move(queue_.front()), Unavailable("the trainer died {} times over it", tries_)});
    queue_.pop_front();
    tries_ = 0;
  }
  backoff_ = std::clamp(backoff_ * 2, options_.first_backoff, options_.longest_backoff);
  state_ = State::kBackoff;
  deadline_ = now + backoff_;
}

void TrainerDesk::OnReady(const sandbox::Ready& ready, Instant now, Out& out) {
  ready_ = ready;
  failed_starts_ = 0;
  if (std::exchange(down_, false)) {
    backoff_ = Millis(0);
    Log(out, LogLine::Level::kInfo, "trainer: it starts again");
  }
  if (options_.configure.sandbox_required && ready.lockdown != sandbox::Ready::Lockdown::kFull) {
    Log(out, LogLine::Level::kError,
        "trainer: this kernel does not lock it down as the policy demands (sandbox: required)");
    out.commands.push_back(StopTrainer{});
    state_ = State::kBarred;
    deadline_.reset();
    FailAll(PermissionDenied("the trainer is not locked down"), out);
    return;
  }
  Log(out, LogLine::Level::kInfo,
      fmt::format("trainer: ready, {} documents to train on, {} held out, {} bytes", ready.train_documents,
                  ready.held_out_documents, ready.train_bytes));
  state_ = State::kIdle;
  Next(now, out);
}

void TrainerDesk::OnFailed(const sandbox::Failed& failed, Instant now, Out& out) {
  const Status status = Unavailable("the trainer refused: {} (code {})", failed.what, failed.code);
  switch (state_) {
    case State::kStarting:
      out.commands.push_back(StopTrainer{});
      // What is malformed stays so until somebody mends it: no bad luck to be tried again for a job's time.
      if (failed.code == static_cast<uint8_t>(StatusCode::kInvalidArgument)) failed_starts_ = options_.tries;
      Back(failed.what, now, out);
      return;
    case State::kPreparing: {
      Log(out, LogLine::Level::kError, fmt::format("trainer: cannot prepare: {}", failed.what));
      const JobId job = *prepared_;
      out.unprepared.push_back(job);
      prepared_.reset();
      prepares_.erase(job);
      for (auto it = queue_.begin(); it != queue_.end();) {
        if (JobOf(*it) != job) {
          ++it;
          continue;
        }
        out.outcomes.push_back({std::move(*it), status});
        it = queue_.erase(it);
      }
      state_ = State::kIdle;
      Next(now, out);
      return;
    }
    case State::kBusy:
      Finish(status, now, out);
      return;
    default:
      Log(out, LogLine::Level::kWarning,
          fmt::format("trainer: a failure that nobody waits for: {}", failed.what));
  }
}

void TrainerDesk::OnSaid(const TrainerSaid& said, Instant now, Out& out) {
  if (const auto* ready = std::get_if<sandbox::Ready>(&said.message); ready && state_ == State::kStarting)
    return OnReady(*ready, now, out);
  if (const auto* failed = std::get_if<sandbox::Failed>(&said.message)) return OnFailed(*failed, now, out);
  if (std::holds_alternative<sandbox::Prepared>(said.message) && state_ == State::kPreparing) {
    state_ = State::kIdle;
    return Next(now, out);
  }
  if (const auto* progress = std::get_if<sandbox::TrainerProgress>(&said.message)) {
    if (state_ == State::kBusy) {
      progress_ = *progress;
      deadline_ = now + options_.silence_timeout;
    }
    return;
  }
  const bool answers =
      state_ == State::kBusy &&
      (IsTraining(queue_.front()) ? std::holds_alternative<sandbox::Trained>(said.message)
                                  : std::holds_alternative<sandbox::Evaluated>(said.message));
  if (answers) {
    backoff_ = Millis(0);
    return Finish(said, now, out);
  }
  out.commands.push_back(StopTrainer{});
  Back("it said something out of turn", now, out);
}

void TrainerDesk::On(const TrainerEvent& event, Instant now, Out& out) {
  if (const auto* said = std::get_if<TrainerSaid>(&event)) {
    if (state_ == State::kOff || state_ == State::kBackoff || state_ == State::kBarred) return;
    return OnSaid(*said, now, out);
  }
  if (state_ == State::kOff || state_ == State::kBackoff || state_ == State::kBarred) return;
  Back(std::get<TrainerGone>(event).why, now, out);
}

void TrainerDesk::OnTimer(Instant now, Out& out) {
  if (!deadline_ || now < *deadline_) return;
  if (state_ == State::kBackoff) {
    if (queue_.empty() && prepares_.empty()) {
      state_ = State::kOff;
      down_ = false;
      deadline_.reset();
      return;
    }
    return Start(now, out);
  }
  out.commands.push_back(StopTrainer{});
  Back("it made no progress in time", now, out);
}

void TrainerDesk::Rest(Out& out) {
  if (!queue_.empty() || state_ == State::kOff || state_ == State::kBarred) return;
  if (state_ != State::kBackoff) out.commands.push_back(StopTrainer{});
  state_ = State::kOff;
  down_ = false;  // the next job finds out
  failed_starts_ = 0;
  deadline_.reset();
  prepared_.reset();
}

}  // namespace concordat::worker
