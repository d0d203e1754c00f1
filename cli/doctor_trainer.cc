#include "cli/doctor_trainer.h"

#include <stdlib.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "cli/context.h"
#include "worker/rpc/trainer_process.h"

namespace concordat::cli {
namespace {

using worker::TrainerEvent;

/// A folder that goes with its owner.
class Scratch {
 public:
  Status Make() {
    std::error_code error;
    std::string name = (std::filesystem::temp_directory_path(error) / "concordat-doctor-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) return ErrnoStatus(errno, "cannot make", name);
    path_ = name;
    return OkStatus();
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Asks one thing after the other of a trainer that answers from other threads.
class Interview {
 public:
  Interview(const std::filesystem::path& binary, const std::filesystem::path& scratch, Millis patience)
      : patience_(patience),
        process_(
            binary, scratch, [this](TrainerEvent event) { Post(std::move(event)); },
            [this](std::string line) { Note(std::move(line)); }) {}

  Status Start() { return process_.Start(); }

  /// Its answer. Failed comes as the status it carries.
  StatusOr<sandbox::FromTrainer> Ask(const sandbox::ToTrainer& question) {
    // A trainer that is gone already has said why, or its last line does.
    (void)process_.Tell({question, nullptr});
    std::unique_lock lock(mutex_);
    const bool came = changed_.wait_for(lock, patience_, [this] { return !events_.empty(); });
    if (!came)
      return MakeStatus(StatusCode::kDeadlineExceeded,
                        fmt::format("it gave no answer within {} s", patience_.count() / 1000));
    TrainerEvent event = std::move(events_.front());
    events_.pop_front();
    if (const auto* gone = std::get_if<worker::TrainerGone>(&event)) {
      return FailedPrecondition("{}{}", gone->why, last_line_.empty() ? "" : ": " + last_line_);
    }
    auto& said = std::get<worker::TrainerSaid>(event);
    if (const auto* failed = std::get_if<sandbox::Failed>(&said.message)) {
      return FailedPrecondition("{}", failed->what);
    }
    return std::move(said.message);
  }

 private:
  void Post(TrainerEvent event) {
    // What it wrote last may be read after the end is known: one line more costs a moment, no more.
    std::unique_lock lock(mutex_);
    if (std::holds_alternative<worker::TrainerGone>(event) && last_line_.empty()) {
      changed_.wait_for(lock, Millis(500), [this] { return !last_line_.empty(); });
    }
    events_.push_back(std::move(event));
    changed_.notify_all();
  }
  void Note(std::string line) {
    const std::lock_guard lock(mutex_);
    last_line_ = Printable(line);
    changed_.notify_all();
  }

  const Millis patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TrainerEvent> events_;
  std::string last_line_;
  worker::TrainerProcess process_;  // last: its threads use all of the above
};

}  // namespace

StatusOr<TrainerTrial> TryTrainer(const std::filesystem::path& binary, sandbox::Configure configure,
                                  Millis patience) {
  Scratch scratch;
  RETURN_IF_ERROR(scratch.Make());
  configure.scratch = scratch.path().string();
  Interview interview(binary, scratch.path(), patience);
  RETURN_IF_ERROR(interview.Start());
  ASSIGN_OR_RETURN(const sandbox::FromTrainer first, interview.Ask(configure));
  const auto* ready = std::get_if<sandbox::Ready>(&first);
  if (ready == nullptr) return FailedPrecondition("it gave another answer than that it is ready");
  TrainerTrial trial;
  trial.ready = *ready;
  // The smallest adapter there is: what counts is that the model gets to its device.
  sandbox::Prepare prepare;
  prepare.shape = ready->shape;
  prepare.adapter.rank = 1;
  prepare.adapter.alpha = 1;
  prepare.adapter.targets = {LoraTarget::kQ};
  prepare.sequence_tokens = 32;
  trial.prepared = interview.Ask(prepare).status();
  return trial;
}

}  // namespace concordat::cli
