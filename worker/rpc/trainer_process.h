#ifndef CONCORDAT_WORKER_RPC_TRAINER_PROCESS_H_
#define CONCORDAT_WORKER_RPC_TRAINER_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "worker/core/effects.h"
#include "worker/sandbox/channel.h"

namespace concordat::worker {

/// concordat-trainer as a child: one end of a socketpair as descriptor 3, nothing else inherited, an
/// environment of our own, its own process group, killed when this process dies. Start, Tell and Stop belong
/// to one thread, which must live as long as the process (the kernel ties the child's death to it).
class TrainerProcess {
 public:
  using OnEvent = std::function<void(TrainerEvent)>;
  using OnLine = std::function<void(std::string)>;

  /// \param scratch the only folder it may write; its HOME and TMPDIR
  /// \param on_event called on a reader thread; after Stop no more
  /// \param on_line a line of its standard error, printable
  TrainerProcess(std::filesystem::path binary, std::filesystem::path scratch, OnEvent on_event,
                 OnLine on_line);
  ~TrainerProcess();
  TrainerProcess(const TrainerProcess&) = delete;
  TrainerProcess& operator=(const TrainerProcess&) = delete;

  /// NotFound when there is no such program.
  Status Start();
  /// Unavailable when it is gone or does not read.
  Status Tell(const TellTrainer& tell);
  /// Kills it, wherever it has moved itself (its group, and itself by pidfd), and waits for its end: some ten
  /// seconds at most, also when something that it started still holds its descriptors.
  void Stop();
  pid_t pid() const { return pid_; }

 private:
  void Read();
  void ReadLines(int pipe);
  std::string WaitForEnd(bool polite);
  void Kill();
  std::optional<int> Reap(std::chrono::milliseconds patience);

  std::filesystem::path binary_;
  std::filesystem::path scratch_;
  OnEvent on_event_;
  OnLine on_line_;
  pid_t pid_ = -1;
  FileDescriptor pidfd_;  // invalid on a kernel without (before 5.3)
  std::mutex end_;        // nothing is sent to a number that has been given back
  bool reaped_ = true;    // guarded by end_
  std::unique_ptr<sandbox::Channel> channel_;
  FileDescriptor lines_;
  FileDescriptor enough_;  // an eventfd: no more lines
  std::thread reader_;
  std::thread line_reader_;
};

/// Floats that are wiped when the last owner lets go.
Floats SecretFloats(std::vector<float> values);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_TRAINER_PROCESS_H_
