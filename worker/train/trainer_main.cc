#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "common/process.h"
#include "common/random.h"
#include "common/version.h"
#include "worker/sandbox/channel.h"
#include "worker/sandbox/lockdown.h"
#include "worker/train/trainer.h"

// concordat-trainer: has the data, has no network. Started by concordat-worker with one end of a socketpair
// as descriptor 3; locks itself down before it opens a record; then does what the worker asks, one thing at a
// time.
namespace concordat::train {
namespace {

using sandbox::Channel;
using sandbox::FromTrainer;
using Lockdown = sandbox::Ready::Lockdown;

constexpr int kChannelFd = 3;

void SayFailed(Channel& channel, const Status& status) {
  sandbox::Failed failed;
  failed.code = static_cast<uint8_t>(status.code());
  failed.what = std::string(Message(status)).substr(0, 1000);
  (void)channel.Send(sandbox::Encode(FromTrainer(failed)));
}

/// Locks down; Status when the kernel does less than the region demands.
StatusOr<Lockdown> Confine(const sandbox::Configure& configure) {
  sandbox::LockdownPaths paths;
  paths.read_only = sandbox::RuntimePaths();
  paths.read_only.push_back(configure.base_model);
  paths.read_only.push_back(configure.dataset);
  if (!configure.scratch.empty()) paths.read_write.push_back(configure.scratch);
  if (configure.device != "cpu") {
    paths.accelerator = true;
    for (const auto& entry : std::filesystem::directory_iterator("/dev")) {
      if (entry.path().filename().string().starts_with("nvidia")) paths.read_write.push_back(entry.path());
    }
    paths.read_only.push_back("/proc/driver/nvidia");
    paths.read_only.push_back("/sys/bus/pci");
    paths.read_only.push_back("/sys/module");
  }
  ASSIGN_OR_RETURN(const Lockdown state, sandbox::LockDown(paths));
  if (configure.sandbox_required && state != Lockdown::kFull) {
    return FailedPrecondition(
        "this kernel enforces only {} of the trainer's lockdown (Landlock and seccomp are needed); the "
        "region's policy "
        "requires it: use a newer kernel, or set sandbox: advisory in the policy, which receipts will say",
        state == Lockdown::kNone ? "nothing" : "seccomp");
  }
  return state;
}

/// The floats that came beside a message, mapped for the call.
StatusOr<std::vector<float>> FloatsOf(int fd, uint64_t expected) {
  ASSIGN_OR_RETURN(const auto mapped, sandbox::OpenSealed(fd, expected));
  std::vector<float> floats(expected);
  std::memcpy(floats.data(), mapped->view().data(), expected * sizeof(float));
  return floats;
}

class Session {
 public:
  Session(Channel& channel, const Clock& clock, RandomSource& random)
      : channel_(channel), trainer_(clock, random) {}

  Status Handle(const sandbox::Configure& configure, int) {
    ASSIGN_OR_RETURN(const Lockdown lockdown, Confine(configure));
    ASSIGN_OR_RETURN(sandbox::Ready ready, trainer_.Open(configure));
    ready.lockdown = lockdown;
    return Say(ready);
  }
  Status Handle(const sandbox::Prepare& prepare, int) {
    RETURN_IF_ERROR(trainer_.Prepare(prepare));
    std::fprintf(stderr, "concordat-trainer: %s\n", trainer_.Description().c_str());
    return Say(sandbox::Prepared{});
  }
  Status Handle(const sandbox::Train& train, int fd) {
    ASSIGN_OR_RETURN(const std::vector<float> adapter, FloatsOf(fd, trainer_.adapter_elements()));
    ASSIGN_OR_RETURN(const Trainer::Round round, trainer_.TrainRound(train, adapter, progress_));
    ASSIGN_OR_RETURN(const FileDescriptor sealed, sandbox::SealFloats(round.delta));
    return channel_.Send(sandbox::Encode(FromTrainer(round.summary)), sealed.get());
  }
  Status Handle(const sandbox::Evaluate& evaluate, int fd) {
    std::vector<float> adapter;
    if (evaluate.with_adapter) {
      ASSIGN_OR_RETURN(adapter, FloatsOf(fd, trainer_.adapter_elements()));
    }
    ASSIGN_OR_RETURN(const sandbox::Evaluated evaluated, trainer_.Evaluate(evaluate, adapter, progress_));
    return Say(evaluated);
  }
  Status Handle(const sandbox::Audit& audit, int fd) {
    ASSIGN_OR_RETURN(const std::vector<float> adapter, FloatsOf(fd, trainer_.adapter_elements()));
    ASSIGN_OR_RETURN(const sandbox::Audited audited, trainer_.Audit(audit, adapter, progress_));
    return Say(audited);
  }
  Status Handle(const sandbox::Stop&, int) {
    stopped_ = true;
    return OkStatus();
  }
  bool stopped() const { return stopped_; }

 private:
  Status Say(const FromTrainer& message) { return channel_.Send(sandbox::Encode(message)); }

  Channel& channel_;
  Trainer trainer_;
  bool stopped_ = false;
  Trainer::OnProgress progress_ = [this](const sandbox::TrainerProgress& p) { (void)Say(p); };
};

int Run() {
  if (::fcntl(kChannelFd, F_GETFD) < 0) {
    std::fprintf(stderr,
                 "concordat-trainer is started by concordat-worker, which gives it descriptor 3; it does "
                 "nothing alone\n");
    return 2;
  }
  Channel channel{FileDescriptor(kChannelFd)};
  if (const Status status = HardenProcess(); !status.ok()) {
    SayFailed(channel, status);
    return 1;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  ::signal(SIGPIPE, SIG_IGN);
  const SystemClock clock;
  OsRandom random;
  Session session(channel, clock, random);
  bool configured = false;
  while (!session.stopped()) {
    auto parcel = channel.Receive();
    if (!parcel.ok()) return 0;  // the worker is gone
    const auto message = sandbox::DecodeToTrainer(parcel->first);
    Status status = message.status();
    if (status.ok()) {
      // Whatever comes first must be the configuration: nothing is opened before the lockdown.
      const bool is_configure = std::holds_alternative<sandbox::Configure>(*message);
      const bool is_stop = std::holds_alternative<sandbox::Stop>(*message);
      if (is_configure == configured && !is_stop) {
        status = FailedPrecondition(
            "{}", configured ? "configured twice" : "a command came before the configuration");
      } else {
        configured = true;
        status = std::visit([&](const auto& m) { return session.Handle(m, parcel->second.get()); }, *message);
        // A trainer that could not lock down or open its data is of no use, and half confined.
        if (!status.ok() && is_configure) {
          SayFailed(channel, status);
          return 1;
        }
      }
    }
    if (!status.ok()) SayFailed(channel, status);
  }
  return 0;
}

}  // namespace
}  // namespace concordat::train

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--version") {
    std::printf("concordat-trainer %s\n", std::string(concordat::kVersion).c_str());
    return 0;
  }
  return concordat::train::Run();
}
