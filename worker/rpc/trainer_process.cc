#include "worker/rpc/trainer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace concordat::worker {
namespace {

constexpr int kChannelFd = 3;
/// Closed one by one on a kernel without close_range (before 5.9), where the rest is close-on-exec anyway.
constexpr int kMostDescriptors = 65536;
constexpr int kSendTimeoutSeconds = 10;
constexpr off_t kMaxDeltaBytes = off_t{1} << 33;
constexpr size_t kMaxLine = 2000;
/// For one that is about to end by itself, and for one that was killed but hangs in a driver.
constexpr std::chrono::milliseconds kPolite{1'000}, kKilled{10'000};
constexpr std::chrono::milliseconds kLook{20};
/// What is still read of its standard error once it was stopped: what a pipe holds.
constexpr size_t kLastBytes = 1 << 16;

/// Between fork and exec only calls that are safe after a fork in a process with threads.
[[noreturn]] void BecomeTrainer(const char* binary, char* const* argv, char* const* envp, int channel,
                                int errors, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(126);  // the worker died before it could be tied to it
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDONLY);
  // Moved out of the way first: either may be one of the numbers that are about to be overwritten.
  const int safe_channel = ::fcntl(channel, F_DUPFD, 10);
  const int safe_errors = ::fcntl(errors, F_DUPFD, 10);
  if (null < 0 || safe_channel < 0 || safe_errors < 0) ::_exit(126);
  ::dup2(null, 0);
  ::dup2(safe_errors, 1);
  ::dup2(safe_errors, 2);
  ::dup2(safe_channel, kChannelFd);
  // The trainer gets these four descriptors and no other.
  if (::close_range(kChannelFd + 1, ~0u, 0) != 0) {
    for (int fd = kChannelFd + 1; fd < kMostDescriptors; ++fd) ::close(fd);
  }
  ::execve(binary, argv, envp);
  ::_exit(127);
}

std::vector<std::string> Environment(const std::filesystem::path& scratch) {
  std::vector<std::string> out = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + scratch.string(),
                                  "TMPDIR=" + scratch.string(), "CUDA_CACHE_PATH=" + scratch.string()};
  // Threads that wait for work sleep: on a host with anything else to do, spinning ones take the core that
  // the thread they wait for needs (measured: a tenth of the speed).
  out.push_back("OMP_WAIT_POLICY=PASSIVE");
  // Which accelerators this process may see is the machine's matter, not the job's.
  if (const char* devices = std::getenv("CUDA_VISIBLE_DEVICES"); devices != nullptr)
    out.push_back(std::string("CUDA_VISIBLE_DEVICES=") + devices);
  return out;
}

StatusOr<Floats> TakeFloats(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || info.st_size % sizeof(float) != 0 || info.st_size > kMaxDeltaBytes)
    return InvalidArgument("memory of an impossible size");
  const uint64_t count = static_cast<uint64_t>(info.st_size) / sizeof(float);
  ASSIGN_OR_RETURN(const auto map, sandbox::OpenSealed(fd, count));
  std::vector<float> values(count);
  std::memcpy(values.data(), map->view().data(), map->view().size());
  return SecretFloats(std::move(values));
}

}  // namespace

Floats SecretFloats(std::vector<float> values) {
  auto* owned = new std::vector<float>(std::move(values));
  return Floats(owned, [owned](const std::vector<float>*) {
    Wipe({reinterpret_cast<uint8_t*>(owned->data()), owned->size() * sizeof(float)});
    delete owned;
  });
}

TrainerProcess::TrainerProcess(std::filesystem::path binary, std::filesystem::path scratch, OnEvent on_event,
                               OnLine on_line)
    : binary_(std::move(binary)),
      scratch_(std::move(scratch)),
      on_event_(std::move(on_event)),
      on_line_(std::move(on_line)) {}

TrainerProcess::~TrainerProcess() { Stop(); }

Status TrainerProcess::Start() {
  Stop();
  if (::access(binary_.c_str(), X_OK) != 0) return ErrnoStatus(errno, "cannot run", binary_);
  int pair[2] = {-1, -1}, pipe[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return ErrnoStatus(errno, "cannot make", "a socketpair");
  FileDescriptor ours(pair[0]), theirs(pair[1]);
  if (::pipe2(pipe, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make", "a pipe");
  FileDescriptor lines(pipe[0]), errors(pipe[1]);
  FileDescriptor enough(::eventfd(0, EFD_CLOEXEC));
  if (!enough.valid()) return ErrnoStatus(errno, "cannot make", "an eventfd");
  const timeval patience{kSendTimeoutSeconds, 0};
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);

  std::vector<std::string> environment = Environment(scratch_);
  std::vector<char*> envp;
  for (std::string& entry : environment) envp.push_back(entry.data());
  envp.push_back(nullptr);
  std::string name = binary_.string();
  char* argv[] = {name.data(), nullptr};
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return ErrnoStatus(errno, "cannot start", binary_);
  if (child == 0) BecomeTrainer(name.c_str(), argv, envp.data(), theirs.get(), errors.get(), parent);
  ::setpgid(child, child);
  pid_ = child;
  pidfd_ = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  {
    const std::lock_guard lock(end_);
    reaped_ = false;
  }
  channel_ = std::make_unique<sandbox::Channel>(std::move(ours));
  lines_ = std::move(lines);
  enough_ = std::move(enough);
  reader_ = std::thread([this] { Read(); });
  line_reader_ = std::thread([this] { ReadLines(lines_.get()); });
  return OkStatus();
}

Status TrainerProcess::Tell(const TellTrainer& tell) {
  if (!channel_) return Unavailable("the trainer does not run");
  if (!tell.weights) return channel_->Send(sandbox::Encode(tell.message));
  ASSIGN_OR_RETURN(const FileDescriptor memory, sandbox::SealFloats(*tell.weights));
  return channel_->Send(sandbox::Encode(tell.message), memory.get());
}

void TrainerProcess::Stop() {
  Kill();
  // Not left to its end: whatever it has started may hold its ends of both open.
  if (channel_) ::shutdown(channel_->fd(), SHUT_RDWR);
  if (reader_.joinable()) reader_.join();
  if (enough_.valid()) (void)::eventfd_write(enough_.get(), 1);
  if (line_reader_.joinable()) line_reader_.join();
  channel_.reset();
  lines_ = FileDescriptor();
  enough_ = FileDescriptor();
  pidfd_ = FileDescriptor();
  pid_ = -1;
}

/// Its group, for what it has started, and itself, for it may have left its group.
void TrainerProcess::Kill() {
  const std::lock_guard lock(end_);
  if (reaped_) return;
  ::kill(-pid_, SIGKILL);
  if (!pidfd_.valid() || ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) != 0)
    ::kill(pid_, SIGKILL);  // still its number: it has not been reaped
}

/// Its wait status once it has ended; none when it has not within `patience`.
std::optional<int> TrainerProcess::Reap(std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    siginfo_t info{};
    // Left as a zombie until the lock is held: its number must not go to another process before.
    const int got = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    if ((got == 0 && info.si_pid == pid_) || (got != 0 && errno != EINTR)) break;
    if (std::chrono::steady_clock::now() >= until) return std::nullopt;
    pollfd end{pidfd_.get(), POLLIN, 0};
    if (!pidfd_.valid() || ::poll(&end, 1, static_cast<int>(kLook.count())) < 0)
      std::this_thread::sleep_for(kLook);
  }
  const std::lock_guard lock(end_);
  ::kill(-pid_, SIGKILL);  // what it has left behind
  int status = 0;
  ::waitpid(pid_, &status, WNOHANG);
  reaped_ = true;
  return status;
}

std::string TrainerProcess::WaitForEnd(bool polite) {
  // One that is about to end by itself may say how; one that broke the channel's rules gets no more time.
  std::optional<int> status = Reap(polite ? kPolite : std::chrono::milliseconds(0));
  if (!status) {
    Kill();
    status = Reap(kKilled);
  }
  if (!status) return "it was killed and does not end";
  if (WIFEXITED(*status)) return fmt::format("it ended with code {}", WEXITSTATUS(*status));
  if (WIFSIGNALED(*status)) return fmt::format("it was ended by signal {}", WTERMSIG(*status));
  return "it ended";
}

void TrainerProcess::Read() {
  std::string why;
  for (;;) {
    auto received = channel_->Receive();
    if (!received.ok()) {
      if (received.status().code() == StatusCode::kInvalidArgument) why = Message(received.status());
      break;
    }
    auto message = sandbox::DecodeFromTrainer(received->first);
    if (!message.ok()) {
      why = Message(message.status());
      break;
    }
    TrainerSaid said{*std::move(message), nullptr};
    if (received->second.valid()) {
      auto floats = TakeFloats(received->second.get());
      if (!floats.ok()) {
        why = Message(floats.status());
        break;
      }
      said.weights = *std::move(floats);
    }
    on_event_(std::move(said));
  }
  const std::string end = WaitForEnd(why.empty());
  on_event_(TrainerGone{why.empty() ? end : why + "; " + end});
}

void TrainerProcess::ReadLines(int pipe) {
  std::string line;
  char buffer[4096];
  size_t left = kLastBytes;
  bool last = false;
  while (left > 0) {
    pollfd ready[2] = {{pipe, POLLIN, 0}, {enough_.get(), POLLIN, 0}};
    if (::poll(ready, last ? 1 : 2, last ? 0 : -1) < 0 && errno != EINTR) break;
    last = last || ready[1].revents != 0;
    if (ready[0].revents == 0) {
      if (last) break;
      continue;
    }
    const ssize_t n = ::read(pipe, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (last) left -= std::min(left, static_cast<size_t>(n));
    for (ssize_t i = 0; i < n; ++i) {
      const char c = buffer[i];
      if (c == '\n') {
        on_line_(std::exchange(line, {}));
      } else if (line.size() < kMaxLine) {
        line.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c);
      }
    }
  }
  if (!line.empty()) on_line_(std::move(line));
}

}  // namespace concordat::worker
