#ifndef CONCORDAT_CLI_TRAINER_INTERVIEW_H_
#define CONCORDAT_CLI_TRAINER_INTERVIEW_H_

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>

#include "common/clock.h"
#include "policy/node_config.h"
#include "worker/rpc/trainer_process.h"

namespace concordat::cli {

/// The trainer that this worker would start: the one that its file names, else the one beside this program.
std::filesystem::path TrainerOf(const policy::WorkerConfig& config);

/// A folder of one's own under the machine's temporary one, of mode 0700; goes with its owner.
class ScratchFolder {
 public:
  Status Make();
  ~ScratchFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A trainer of the command's own, started and confined as the worker's is, that is asked one thing after the
/// other. Ended with its owner. One thread.
class TrainerInterview {
 public:
  /// Called for each sign of progress during a question, on the asking thread.
  using OnProgress = std::function<void(const sandbox::TrainerProgress&)>;

  /// \param scratch what it may write; \param patience between two signs of life
  TrainerInterview(const std::filesystem::path& binary, const std::filesystem::path& scratch, Millis patience,
                   OnProgress on_progress = {});

  /// NotFound when there is no such program.
  Status Start() { return process_.Start(); }
  /// Its answer. \param weights go beside the question, may be null. DeadlineExceeded when it is silent for
  /// longer than `patience`; InvalidArgument with what it said of malformed input, such as a record's;
  /// FailedPrecondition with what it said of any other failure, or with the last line that it wrote before it
  /// ended: a missing or unreadable library shows there alone.
  StatusOr<sandbox::FromTrainer> Ask(const sandbox::ToTrainer& question,
                                     const worker::Floats& weights = nullptr);
  /// The same, when only an answer of this kind will do. FailedPrecondition: it gave another.
  template <typename Answer>
  StatusOr<Answer> AskFor(const sandbox::ToTrainer& question, const worker::Floats& weights = nullptr) {
    ASSIGN_OR_RETURN(sandbox::FromTrainer said, Ask(question, weights));
    if (auto* answer = std::get_if<Answer>(&said)) return std::move(*answer);
    return FailedPrecondition("it gave another answer than it was asked for");
  }

 private:
  void Post(worker::TrainerEvent event);
  void Note(std::string line);

  const Millis patience_;
  const OnProgress on_progress_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<worker::TrainerEvent> events_;
  std::string last_line_;
  worker::TrainerProcess process_;  // last: its threads use all of the above
};

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_TRAINER_INTERVIEW_H_
