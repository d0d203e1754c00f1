#include "cli/trainer_interview.h"

#include <stdlib.h>

#include "cli/context.h"

namespace concordat::cli {

using worker::TrainerEvent;

std::filesystem::path TrainerOf(const policy::WorkerConfig& config) {
  if (!config.trainer.empty()) return config.trainer;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path() / "concordat-trainer";
}

Status ScratchFolder::Make() {
  std::error_code error;
  std::string name = (std::filesystem::temp_directory_path(error) / "concordat-trainer-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return ErrnoStatus(errno, "cannot make", name);
  path_ = name;
  return OkStatus();
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

TrainerInterview::TrainerInterview(const std::filesystem::path& binary, const std::filesystem::path& scratch,
                                   Millis patience, OnProgress on_progress)
    : patience_(patience),
      on_progress_(std::move(on_progress)),
      process_(
          binary, scratch, [this](TrainerEvent event) { Post(std::move(event)); },
          [this](std::string line) { Note(std::move(line)); }) {}

StatusOr<sandbox::FromTrainer> TrainerInterview::Ask(const sandbox::ToTrainer& question,
                                                     const worker::Floats& weights) {
  // A trainer that is gone already has said why, or its last line does.
  (void)process_.Tell({question, weights});
  for (;;) {
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
    lock.unlock();
    auto& said = std::get<worker::TrainerSaid>(event);
    if (const auto* progress = std::get_if<sandbox::TrainerProgress>(&said.message)) {
      if (on_progress_) on_progress_(*progress);
      continue;
    }
    if (const auto* failed = std::get_if<sandbox::Failed>(&said.message)) {
      const bool input = failed->code == static_cast<uint8_t>(StatusCode::kInvalidArgument);
      return MakeStatus(input ? StatusCode::kInvalidArgument : StatusCode::kFailedPrecondition, failed->what);
    }
    return std::move(said.message);
  }
}

void TrainerInterview::Post(TrainerEvent event) {
  // What it wrote last may be read after the end is known: one line more costs a moment, no more.
  std::unique_lock lock(mutex_);
  if (std::holds_alternative<worker::TrainerGone>(event) && last_line_.empty()) {
    changed_.wait_for(lock, Millis(500), [this] { return !last_line_.empty(); });
  }
  events_.push_back(std::move(event));
  changed_.notify_all();
}

void TrainerInterview::Note(std::string line) {
  const std::lock_guard lock(mutex_);
  last_line_ = Printable(line);
  changed_.notify_all();
}

}  // namespace concordat::cli
