#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/ledger.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

// A process that is killed before any one of its system calls, among them every write, sync and rename.
namespace concordat::policy {
namespace {

constexpr int kKills = 1'000;
constexpr int kChargesOfOneLife = 3;
constexpr uint32_t kFinished = 0, kRefused = 3;

LedgerCharge Round(uint32_t round) {
  LedgerCharge charge;
  charge.unit = PrivacyUnit::kRecord;
  charge.neighbour = Neighbour::kAddRemove;
  charge.attempt = {Digest{}, round, 0};
  RdpTerm term;
  term.delta2_squared = 1;
  term.share_variance = 100;
  (void)charge.price.Add(term);
  return charge;
}

class LedgerKillTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<Ledger>> Open() const {
    return Ledger::Open(path_, "manuals", budget_, BudgetPeriod::kNone, anchor_);
  }
  /// What a worker does: opens, charges, and only then lets anything leave, which `out` stands for.
  [[noreturn]] void Live(uint32_t round, int out) const {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    const auto ledger = Open();
    if (!ledger.ok()) ::_exit(kRefused);
    for (int i = 0; i < kChargesOfOneLife; ++i, ++round) {
      if (!(*ledger)->Charge(Now(), Round(round)).ok()) ::_exit(kRefused);
      (void)!::write(out, &round, sizeof round);
    }
    ::_exit(kFinished);
  }
  /// Lets a life go on to its `calls`-th system call and kills it there. Whether it was still alive.
  static bool KillAt(pid_t pid, int calls) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSTOPPED(status));
    ::ptrace(PTRACE_SETOPTIONS, pid, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
    // Each call stops twice: before it, and after.
    for (int i = 0; i < 2 * calls - 1; ++i) {
      ::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
      EXPECT_EQ(::waitpid(pid, &status, 0), pid);
      if (WIFEXITED(status)) {
        EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(kFinished)) << "a life was refused its ledger";
        return false;
      }
    }
    ::kill(pid, SIGKILL);
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return true;
  }

  testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "ledger.jsonl", anchor_ = dir_ / "anchor.ledger";
  PrivacyBudget budget_{PrivacyUnit::kRecord, Neighbour::kAddRemove, 1e6, 1e-5};
};

TEST_F(LedgerKillTest, KilledBeforeAnyCallItNeverForgetsWhatLeftNorChargesLess) {
  int kills = 0, calls = 1;
  size_t lives = 0;
  double spent = 0;
  std::vector<LedgerCharge> left;
  for (uint32_t round = 0; kills < kKills; round += kChargesOfOneLife) {
    int out[2];
    ASSERT_EQ(::pipe(out), 0);
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) Live(round, out[1]);
    ::close(out[1]);
    const bool killed = KillAt(pid, calls);
    // A life that came to its end shows that every one of its calls has had its turn.
    calls = killed ? calls + 1 : 1;
    kills += killed;
    ++lives;
    for (uint32_t gone = 0; ::read(out[0], &gone, sizeof gone) == sizeof gone;) left.push_back(Round(gone));
    ::close(out[0]);

    const auto ledger = Open();
    ASSERT_OK(ledger) << "after call " << calls - 1;
    for (const LedgerCharge& charge : left)
      ASSERT_TRUE((*ledger)->IsCharged(ChargeKind::kDelta, charge.attempt)) << charge.attempt.round;
    ASSERT_LE((*ledger)->entries().size(), left.size() + lives) << "at most one that had not left";
    const double now = (*ledger)->Spent(Now());
    ASSERT_GE(now, spent) << "budget came back";
    ASSERT_GE(now, EpsilonSpent(budget_, left));
    spent = now;
    if (killed || left.size() < 200) continue;
    // A young ledger again: its first charges are made in other ways than later ones.
    std::filesystem::remove(path_);
    std::filesystem::remove(anchor_);
    left.clear();
    lives = 0;
    spent = 0;
  }
}

// Two jobs of one worker, whose rounds come in any order: the last of the budget is spent once.
TEST_F(LedgerKillTest, TwoJobsThatRaceForTheLastOfABudgetSpendItOnce) {
  const std::vector one{Round(0)}, two{Round(0), Round(1)};
  budget_.epsilon = (EpsilonSpent(budget_, one) + EpsilonSpent(budget_, two)) / 2;
  auto ledger = Open();
  ASSERT_OK(ledger);
  LedgerCharge first = Round(0), second = Round(0);
  first.attempt.job = crypto::Sha256(AsBytes("first"));
  second.attempt.job = crypto::Sha256(AsBytes("second"));
  // Both were told that it fits.
  EXPECT_LE((*ledger)->SpentAfter(Now(), std::span(&first, 1)), budget_.epsilon);
  EXPECT_LE((*ledger)->SpentAfter(Now(), std::span(&second, 1)), budget_.epsilon);
  EXPECT_OK((*ledger)->Charge(Now(), second));
  EXPECT_THAT((*ledger)->Charge(Now(), first), testing::HasStatus(StatusCode::kResourceExhausted, "left"));
  EXPECT_LE((*ledger)->Spent(Now()), budget_.epsilon);
}

}  // namespace
}  // namespace concordat::policy
