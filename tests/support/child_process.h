#ifndef CONCORDAT_TESTS_SUPPORT_CHILD_PROCESS_H_
#define CONCORDAT_TESTS_SUPPORT_CHILD_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/files.h"

namespace concordat::testing {

using Deadline = std::chrono::steady_clock::time_point;
/// Machines are shared and slow at times: a deadline only keeps a broken test from hanging.
inline Deadline After(std::chrono::seconds time) { return std::chrono::steady_clock::now() + time; }
inline constexpr std::chrono::seconds kPatience{120};

/// Looks again and again until `holds` says true; false once `deadline` has passed.
bool Await(const std::function<bool()>& holds, Deadline deadline = After(kPatience));

/// A real process, ended and reaped with the object, and with the test process however that ends. One thread.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> argv;       // the program's path first
    std::filesystem::path error_file;    // standard error is appended to it; empty: thrown away
    bool read_output = false;            // standard output comes through ReadLine, else goes to error_file
    std::optional<uint64_t> file_bytes;  // soft limit on the size of a file, as if the disk were that small
    int network = -1;                    // of the network to run in (relay/link.h); -1: the caller's
  };
  /// Throws std::runtime_error when it cannot be started.
  explicit ChildProcess(Options options);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  /// Whether it still runs; reaps it when it does not.
  bool running();
  /// Sends a signal; nothing when it has ended.
  void Signal(int signal);
  /// SIGKILL, and waits for its end.
  void Kill();
  /// Its exit code once it has ended, 128 + signal when by a signal; nothing when it still runs at
  /// `deadline`.
  std::optional<int> Wait(Deadline deadline = After(kPatience));
  /// The next line of standard output, without its end; nothing at its end or at `deadline`.
  std::optional<std::string> ReadLine(Deadline deadline = After(kPatience));
  /// Changes the limit of Options::file_bytes while it runs; nothing lifts it.
  void LimitFiles(std::optional<uint64_t> bytes);

 private:
  pid_t pid_ = -1;
  std::optional<int> code_;
  FileDescriptor output_;
  std::string buffered_;
};

/// A program that ran to its end.
struct Ran {
  int code = -1;  // -1: it was killed at the deadline
  std::string out, err;
};
Ran RunToEnd(std::vector<std::string> argv, Deadline deadline = After(kPatience));

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_CHILD_PROCESS_H_
