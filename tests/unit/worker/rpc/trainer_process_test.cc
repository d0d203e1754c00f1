#include "worker/rpc/trainer_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "common/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

/// Collects what a process says; waits for it without a clock of its own.
class Listener {
 public:
  void Hear(TrainerEvent event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    heard_.notify_all();
  }
  TrainerEvent Wait(size_t index) {
    std::unique_lock lock(mutex_);
    heard_.wait(lock, [&] { return events_.size() > index; });
    return events_[index];
  }
  void Line(std::string line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable heard_;
  std::vector<TrainerEvent> events_;
  std::vector<std::string> lines_;
};

class TrainerProcessTest : public ::testing::Test {
 protected:
  /// A stand-in for the trainer: a script with the channel as descriptor 3.
  std::unique_ptr<TrainerProcess> Script(const std::string& body) {
    const auto path = folder_ / "trainer";
    EXPECT_OK(WriteFileAtomically(path, "#!/bin/bash\n" + body + "\n", 0700));
    return std::make_unique<TrainerProcess>(
        path, folder_.path(), [this](TrainerEvent e) { listener_.Hear(std::move(e)); },
        [this](std::string line) { listener_.Line(std::move(line)); });
  }
  TempDir folder_;
  Listener listener_;
};

TEST_F(TrainerProcessTest, PassesOnWhatItSaysAndHowItEnds) {
  auto process = Script("printf '\\202' >&3; exit 7");
  ASSERT_OK(process->Start());
  const TrainerEvent first = listener_.Wait(0);
  ASSERT_TRUE(std::holds_alternative<TrainerSaid>(first));
  EXPECT_TRUE(std::holds_alternative<sandbox::Prepared>(std::get<TrainerSaid>(first).message));
  const TrainerEvent second = listener_.Wait(1);
  ASSERT_TRUE(std::holds_alternative<TrainerGone>(second));
  EXPECT_EQ(std::get<TrainerGone>(second).why, "it ended with code 7");
}

TEST_F(TrainerProcessTest, InheritsNeitherDescriptorsNorEnvironment) {
  ::setenv("CONCORDAT_TEST_SECRET", "hunter2", 1);
  const int leaked = ::open("/dev/null", O_RDONLY);  // without close-on-exec, as a library might
  ASSERT_GE(leaked, 0);
  auto process = Script("env > $HOME/env; ls /proc/$$/fd > $HOME/fds; printf '\\202' >&3");
  ASSERT_OK(process->Start());
  listener_.Wait(0);
  ::close(leaked);
  ::unsetenv("CONCORDAT_TEST_SECRET");
  ASSERT_OK_AND_ASSIGN(const std::string environment, ReadTextFile(folder_ / "env"));
  EXPECT_EQ(environment.find("hunter2"), std::string::npos);
  EXPECT_NE(environment.find("HOME=" + folder_.path().string()), std::string::npos);
  ASSERT_OK_AND_ASSIGN(const std::string fds, ReadTextFile(folder_ / "fds"));
  // 255 is the script's own hold on its file.
  EXPECT_EQ(fds, "0\n1\n2\n255\n3\n");
}

TEST_F(TrainerProcessTest, HearsWhatTheWorkerSays) {
  // The one-byte message Stop (kind 5) comes as one read of the script.
  auto process = Script("IFS= read -r -N1 -u 3 c; [ \"$c\" = $'\\005' ] && printf '\\202' >&3; exit 0");
  ASSERT_OK(process->Start());
  ASSERT_OK(process->Tell({sandbox::Stop{}, nullptr}));
  EXPECT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(0)));
}

TEST_F(TrainerProcessTest, OneThatBreaksTheChannelsRulesIsEnded) {
  auto process = Script("printf 'garbage' >&3; sleep 1000");
  ASSERT_OK(process->Start());
  const TrainerEvent event = listener_.Wait(0);
  ASSERT_TRUE(std::holds_alternative<TrainerGone>(event));
  EXPECT_NE(std::get<TrainerGone>(event).why.find("malformed"), std::string::npos);
  EXPECT_NE(std::get<TrainerGone>(event).why.find("signal 9"), std::string::npos);
}

TEST_F(TrainerProcessTest, StopEndsItAndItsChildren) {
  auto process = Script("sleep 1000 & echo $! > $HOME/child; printf '\\202' >&3; wait");
  ASSERT_OK(process->Start());
  listener_.Wait(0);
  ASSERT_OK_AND_ASSIGN(const std::string child, ReadTextFile(folder_ / "child"));
  const pid_t pid = process->pid();
  process->Stop();
  EXPECT_EQ(::kill(pid, 0), -1);
  // Its child was killed with the group; until something reaps it, it may linger as a zombie.
  const auto stat = ReadTextFile("/proc/" + child.substr(0, child.find('\n')) + "/stat");
  EXPECT_TRUE(!stat.ok() || stat->find(") Z ") != std::string::npos ||
              stat->find(") X ") != std::string::npos || stat->find("(sleep)") == std::string::npos)
      << *stat;
}

/// A trainer that has been taken over, and moved itself into its worker's group.
constexpr char kLeavesItsGroup[] =
    "exec perl -e 'setpgrp(0, getpgrp(getppid)); open(C, \">&=3\"); syswrite(C, \"\\x82\"); "
    "syswrite(C, $ARGV[0]) if @ARGV; sleep 1000'";

/// In a process namespace whose first process has its group outside there is no group to move into: one is
/// made.
void HaveAGroup() {
  if (::getpgrp() == 0) {
    ASSERT_EQ(::setpgid(0, 0), 0);
  }
}

TEST_F(TrainerProcessTest, StopEndsOneThatHasLeftItsGroup) {
  HaveAGroup();
  auto process = Script(kLeavesItsGroup);
  ASSERT_OK(process->Start());
  ASSERT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(0)));
  const pid_t pid = process->pid();
  ASSERT_EQ(::getpgid(pid), ::getpgrp());
  process->Stop();
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(std::get<TrainerGone>(listener_.Wait(1)).why, "it was ended by signal 9");
}

TEST_F(TrainerProcessTest, OneThatHasLeftItsGroupAndBreaksTheChannelsRulesIsEnded) {
  HaveAGroup();
  auto process = Script(std::string(kLeavesItsGroup) + " garbage");
  ASSERT_OK(process->Start());
  ASSERT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(0)));
  const TrainerEvent event = listener_.Wait(1);
  ASSERT_TRUE(std::holds_alternative<TrainerGone>(event));
  EXPECT_NE(std::get<TrainerGone>(event).why.find("signal 9"), std::string::npos);
}

TEST_F(TrainerProcessTest, StopDoesNotWaitForWhatHoldsItsDescriptorsElsewhere) {
  auto process = Script("setsid sleep 1000 & echo $! > $HOME/child; printf '\\202' >&3; wait");
  ASSERT_OK(process->Start());
  ASSERT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(0)));
  ASSERT_OK_AND_ASSIGN(const std::string child, ReadTextFile(folder_ / "child"));
  const pid_t escaped = std::atoi(child.c_str());
  ASSERT_GT(escaped, 1);
  while (::getsid(escaped) == ::getsid(0)) std::this_thread::yield();  // until it has left
  process->Stop();
  EXPECT_EQ(::kill(escaped, 0), 0) << "this test needs it to outlive Stop";
  ::kill(escaped, SIGKILL);
  EXPECT_TRUE(std::holds_alternative<TrainerGone>(listener_.Wait(1)));
}

TEST_F(TrainerProcessTest, ItsErrorsComeLineByLineWithoutControlCharacters) {
  auto process = Script("printf 'one\\n\\033[2Jtwo' >&2; exit 0");
  ASSERT_OK(process->Start());
  listener_.Wait(0);
  process->Stop();
  EXPECT_EQ(listener_.lines(), (std::vector<std::string>{"one", " [2Jtwo"}));
}

TEST_F(TrainerProcessTest, AProgramThatIsNotThereIsSaid) {
  TrainerProcess process(
      folder_ / "nothing", folder_.path(), [](TrainerEvent) {}, [](std::string) {});
  EXPECT_THAT(process.Start(), HasStatus(StatusCode::kNotFound, "nothing"));
  EXPECT_THAT(process.Tell({sandbox::Stop{}, nullptr}), HasStatus(StatusCode::kUnavailable, "does not run"));
}

TEST_F(TrainerProcessTest, ItCanBeStartedAgain) {
  auto process = Script("printf '\\202' >&3; sleep 1000");
  ASSERT_OK(process->Start());
  EXPECT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(0)));
  process->Stop();
  EXPECT_TRUE(std::holds_alternative<TrainerGone>(listener_.Wait(1)));
  ASSERT_OK(process->Start());
  EXPECT_TRUE(std::holds_alternative<TrainerSaid>(listener_.Wait(2)));
}

}  // namespace
}  // namespace concordat::worker
