#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/integration/planted_delta.h"
#include "tests/support/tiny_model.h"
#include "worker/sandbox/channel.h"
#include "worker/sandbox/lockdown.h"

// In the place of concordat-trainer, for tests only: speaks its channel and is locked down as it is, but its
// delta is known beforehand, and it holds still as long as its scratch folder has a file `gate` or, in round
// R, `gate-R`.
namespace concordat::testing {
namespace {

using sandbox::FromTrainer;

constexpr std::chrono::milliseconds kLook{10};
constexpr int kLooksPerWord = 50;

class PlantedTrainer {
 public:
  int Run() {
    for (;;) {
      auto parcel = channel_.Receive();
      if (!parcel.ok()) return 0;
      const auto message = sandbox::DecodeToTrainer(parcel->first);
      if (!message.ok() || std::holds_alternative<sandbox::Stop>(*message)) return 0;
      std::visit([this](const auto& m) { Handle(m); }, *message);
    }
  }

 private:
  void Say(const FromTrainer& message, int memory = -1) {
    (void)channel_.Send(sandbox::Encode(message), memory);
  }

  void Handle(const sandbox::Configure& configure) {
    sandbox::LockdownPaths paths;
    paths.read_only = sandbox::RuntimePaths();
    paths.read_only.push_back(configure.dataset);
    paths.read_write.push_back(configure.scratch);
    const auto state = sandbox::LockDown(paths);
    scratch_ = configure.scratch;
    split_key_ = configure.split_key;
    sandbox::Ready ready;
    ready.lockdown = state.ok() ? *state : sandbox::Ready::Lockdown::kNone;
    ready.shape = kTinyShape;
    ready.train_documents = 3;
    ready.held_out_documents = 1;
    ready.train_bytes = 100;
    Say(ready);
  }
  void Handle(const sandbox::Prepare& prepare) {
    prepare_ = prepare;
    Say(sandbox::Prepared{});
  }
  void Handle(const sandbox::Train& train) {
    const auto closed = [&] {
      return std::filesystem::exists(scratch_ / "gate") ||
             std::filesystem::exists(scratch_ / ("gate-" + std::to_string(train.round)));
    };
    for (int look = 0; closed(); ++look) {
      if (look % kLooksPerWord == 0) Say(sandbox::TrainerProgress{500, 100, 1});
      std::this_thread::sleep_for(kLook);
    }
    const auto layout = AdapterLayout::Make(prepare_.shape, prepare_.adapter);
    const auto sealed = sandbox::SealFloats(PlantedDelta(split_key_, layout->delta_elements()));
    Say(sandbox::Trained{1.5, 100, 100, 0.1, train.local_steps}, sealed->get());
  }
  void Handle(const sandbox::Evaluate&) { Say(sandbox::Evaluated{2, 0.1, 1, 100, 0.1}); }
  void Handle(const sandbox::Audit&) { Say(sandbox::Audited{}); }
  void Handle(const sandbox::Stop&) {}

  sandbox::Channel channel_{FileDescriptor(3)};
  std::filesystem::path scratch_;
  Digest split_key_;
  sandbox::Prepare prepare_;
};

}  // namespace
}  // namespace concordat::testing

int main() {
  if (::fcntl(3, F_GETFD) < 0) return 2;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  ::signal(SIGPIPE, SIG_IGN);
  return concordat::testing::PlantedTrainer().Run();
}
