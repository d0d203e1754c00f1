#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <thread>

#include "tests/support/temp_dir.h"

namespace concordat::testing {
namespace {

constexpr std::chrono::milliseconds kLook{10};

int MillisUntil(Deadline deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

/// Between fork and exec only calls that are safe after a fork in a process with threads.
[[noreturn]] void Become(char* const* argv, int output, int errors, const rlimit* files, int network,
                         pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(126);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (network >= 0 && ::setns(network, CLONE_NEWNET) != 0) ::_exit(125);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, 0);
  ::dup2(output, 1);
  ::dup2(errors, 2);
  ::close_range(3, ~0u, 0);
  if (files != nullptr) ::setrlimit(RLIMIT_FSIZE, files);
  ::execv(argv[0], argv);
  ::_exit(127);
}

rlimit FileLimit(std::optional<uint64_t> bytes) {
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  limit.rlim_cur = bytes ? std::min<rlim_t>(*bytes, limit.rlim_max) : limit.rlim_max;
  return limit;
}

}  // namespace

bool Await(const std::function<bool()>& holds, Deadline deadline) {
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

ChildProcess::ChildProcess(Options options) {
  const std::string file = options.error_file.empty() ? "/dev/null" : options.error_file.string();
  const FileDescriptor errors(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  FileDescriptor write_end;
  if (options.read_output) {
    int pipe[2] = {-1, -1};
    if (::pipe2(pipe, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
    output_ = FileDescriptor(pipe[0]);
    write_end = FileDescriptor(pipe[1]);
  }
  std::vector<char*> argv;
  for (std::string& word : options.argv) argv.push_back(word.data());
  argv.push_back(nullptr);
  rlimit files{};
  if (options.file_bytes) files = FileLimit(options.file_bytes);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0 || !errors.valid()) throw std::runtime_error("cannot start " + options.argv.front());
  if (pid_ == 0) {
    Become(argv.data(), options.read_output ? write_end.get() : errors.get(), errors.get(),
           options.file_bytes ? &files : nullptr, options.network, parent);
  }
}

ChildProcess::~ChildProcess() { Kill(); }

bool ChildProcess::running() {
  if (code_) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

void ChildProcess::Signal(int signal) {
  if (running()) ::kill(pid_, signal);
}

void ChildProcess::Kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  code_ = 128 + SIGKILL;
}

std::optional<int> ChildProcess::Wait(Deadline deadline) {
  Await([this] { return !running(); }, deadline);
  return code_;
}

std::optional<std::string> ChildProcess::ReadLine(Deadline deadline) {
  for (;;) {
    if (const size_t end = buffered_.find('\n'); end != std::string::npos) {
      std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    pollfd waiting{output_.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, MillisUntil(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    char buffer[4096];
    const ssize_t n = ::read(output_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::nullopt;
    buffered_.append(buffer, static_cast<size_t>(n));
  }
}

void ChildProcess::LimitFiles(std::optional<uint64_t> bytes) {
  const rlimit limit = FileLimit(bytes);
  if (::prlimit(pid_, RLIMIT_FSIZE, &limit, nullptr) != 0) throw std::runtime_error("prlimit failed");
}

Ran RunToEnd(std::vector<std::string> argv, Deadline deadline) {
  const TempDir folder;
  ChildProcess process({std::move(argv), folder / "stderr", true, {}});
  Ran ran;
  while (auto line = process.ReadLine(deadline)) ran.out += *line + "\n";
  if (const auto code = process.Wait(deadline)) ran.code = *code;
  process.Kill();
  ran.err = ReadTextFile(folder / "stderr").value_or("");
  return ran;
}

}  // namespace concordat::testing
