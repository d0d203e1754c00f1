#include "policy/ledger.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <limits>

#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

class LedgerTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<Ledger>> Open(double epsilon = 100, BudgetPeriod period = BudgetPeriod::kNone,
                                         std::string_view dataset = "manuals") {
    return Ledger::Open(path_, dataset, {PrivacyUnit::kSite, Neighbour::kZeroOut, epsilon, 1e-5}, period);
  }
  /// One Gaussian with noise multiplier `z`.
  static LedgerCharge Charge(uint32_t round, double z = 1, ChargeKind kind = ChargeKind::kDelta) {
    LedgerCharge charge;
    charge.kind = kind;
    charge.attempt = {crypto::Sha256(AsBytes("job")), round, 0};
    RdpTerm term;
    term.delta2_squared = 1;
    term.delta1 = 1;
    term.share_variance = z * z;
    EXPECT_OK(charge.price.Add(term));
    return charge;
  }
  std::string Text() const { return ReadTextFile(path_).value(); }
  void Write(const std::string& text) { WriteQuickly(path_, text); }

  testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "ledger.jsonl";
};

TEST_F(LedgerTest, ReopenedLedgerIsInTheSameState) {
  double spent = 0;
  Digest head;
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    EXPECT_EQ(ledger->head(), LedgerGenesis("manuals"));
    EXPECT_EQ(ledger->Spent(Now()), 0);
    for (uint32_t round = 0; round < 3; ++round) {
      ASSERT_OK_AND_ASSIGN(const LedgerEntry entry, ledger->Charge(Now(), Charge(round)));
      EXPECT_EQ(entry.epsilon_before, spent);
      EXPECT_GT(entry.epsilon_after, entry.epsilon_before);
      spent = entry.epsilon_after;
      EXPECT_EQ(ledger->head(), entry.hash);
    }
    head = ledger->head();
  }
  ASSERT_OK_AND_ASSIGN(const auto again, Open());
  EXPECT_EQ(again->head(), head);
  EXPECT_EQ(again->Spent(Now()), spent);
  EXPECT_EQ(again->entries().size(), 3u);
  EXPECT_TRUE(again->IsCharged(ChargeKind::kDelta, Charge(2).attempt));
  EXPECT_FALSE(again->IsCharged(ChargeKind::kEvaluation, Charge(2).attempt));
  EXPECT_EQ(again->CountOf(ChargeKind::kDelta, Charge(0).attempt.job), 3u);
  ASSERT_OK_AND_ASSIGN(const auto read, ReadLedger(path_, "manuals"));
  EXPECT_EQ(read.back().hash, head);
}

TEST_F(LedgerTest, SampledStepsOfRecordsStandInItAsTheyWereCharged) {
  const PrivacyBudget budget{PrivacyUnit::kRecord, Neighbour::kAddRemove, 4, 1e-5};
  const auto open = [&] { return Ledger::Open(path_, "manuals", budget, BudgetPeriod::kNone); };
  LedgerCharge charge = Charge(0);
  charge.unit = PrivacyUnit::kRecord;
  charge.neighbour = Neighbour::kAddRemove;
  charge.price = Price();
  ASSERT_OK(charge.price.Add(SubsampledGaussian{.04, 1.5, 225}));
  double spent = 0;
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, open());
    Status status;
    for (; status.ok(); ++charge.attempt.round) {
      const auto entry = ledger->Charge(Now(), charge);
      status = entry.status();
      if (entry.ok()) spent = entry->epsilon_after;
    }
    EXPECT_THAT(status, HasStatus(StatusCode::kResourceExhausted, "manuals"));
    EXPECT_GT(ledger->entries().size(), 1u);
  }
  EXPECT_GT(spent, 2);
  EXPECT_LE(spent, 4);
  EXPECT_NE(Text().find(R"({"sampling_rate":0.04,"noise_multiplier":1.5,"steps":225})"), std::string::npos);
  ASSERT_OK_AND_ASSIGN(const auto again, open());
  EXPECT_EQ(again->Spent(Now()), spent);
  EXPECT_EQ(again->entries().front().charge.price.steps(), charge.price.steps());
}

TEST_F(LedgerTest, FileIsTheOwnersOnly) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(LedgerTest, StopsHardAtTheBudgetSayingWhatIsLeftAndChargesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open(8));
  ASSERT_OK(ledger->Charge(Now(), Charge(0)));
  const double spent = ledger->Spent(Now());
  const std::string before = Text();
  EXPECT_THAT(ledger->Charge(Now(), Charge(1, 0.2)), HasStatus(StatusCode::kResourceExhausted, "manuals"));
  EXPECT_EQ(Text(), before);
  EXPECT_EQ(ledger->Spent(Now()), spent);
  EXPECT_OK(ledger->Charge(Now(), Charge(1, 5))) << "a cheaper one still fits";
}

TEST_F(LedgerTest, AnAttemptIsChargedOnceForEachKind) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  ASSERT_OK(ledger->Charge(Now(), Charge(0)));
  EXPECT_THAT(ledger->Charge(Now(), Charge(0)), HasStatus(StatusCode::kAlreadyExists, "round 0"));
  EXPECT_OK(ledger->Charge(Now(), Charge(0, 1, ChargeKind::kEvaluation)));
}

TEST_F(LedgerTest, NoiseOffNeedsAnUnlimitedBudgetAndIsSaidPlainly) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open(1e18));
    EXPECT_THAT(ledger->Charge(Now(), Charge(0, 0)), HasStatus(StatusCode::kResourceExhausted, ""));
  }
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open(std::numeric_limits<double>::infinity()));
    ASSERT_OK_AND_ASSIGN(const LedgerEntry entry, ledger->Charge(Now(), Charge(0, 0)));
    EXPECT_TRUE(std::isinf(entry.epsilon_after));
    EXPECT_OK(ledger->Charge(Now(), Charge(1, 0)));
  }
  EXPECT_NE(Text().find("\"epsilon_after\":\"infinity\""), std::string::npos);
  ASSERT_OK_AND_ASSIGN(const auto again, Open(std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(std::isinf(again->Spent(Now())));
}

TEST_F(LedgerTest, AYearlyBudgetBeginsAnewAndAClockSetBackFreesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open(100, BudgetPeriod::kYearly));
  ASSERT_OK(ledger->Charge(At("2026-12-31T23:59:59.999Z"), Charge(0)));
  EXPECT_GT(ledger->Spent(At("2026-12-31T23:59:59.999Z")), 0);
  EXPECT_EQ(ledger->Spent(At("2027-01-01T00:00:00.000Z")), 0);
  EXPECT_GT(ledger->Spent(At("2025-06-01T00:00:00.000Z")), 0);
  EXPECT_THAT(ledger->Charge(At("2027-01-01T00:00:00.000Z"), Charge(0)),
              HasStatus(StatusCode::kAlreadyExists, ""));
}

TEST_F(LedgerTest, ASecondProcessIsKeptOut) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_THAT(Open(), HasStatus(StatusCode::kUnavailable, "another process"));
  EXPECT_OK(ReadLedger(path_, "manuals")) << "reading needs no lock";
}

TEST_F(LedgerTest, AnotherDatasetsLedgerIsRefused) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    ASSERT_OK(ledger->Charge(Now(), Charge(0)));
  }
  EXPECT_THAT(Open(100, BudgetPeriod::kNone, "other"),
              HasStatus(StatusCode::kInvalidArgument, "'manuals', not 'other'"));
}

TEST_F(LedgerTest, AnyChangedByteIsFoundAndItsLineNamed) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    for (uint32_t round = 0; round < 3; ++round) ASSERT_OK(ledger->Charge(Now(), Charge(round)));
  }
  const std::string text = Text();
  size_t line = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++line;
      continue;
    }
    if (i % 5 != 0) continue;  // each kind of field is met; every byte would take seconds
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    Write(changed);
    const Status status = Open().status();
    // The dataset's name is looked at before the chain; every other change is lost data.
    ASSERT_FALSE(status.ok()) << "byte " << i;
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << "byte " << i << ": " << status.ToString();
    EXPECT_NE(std::string(Message(status)).find(fmt::format("line {}", line)), std::string::npos)
        << "byte " << i << ": " << status.ToString();
  }
  Write(text);
  EXPECT_OK(Open());
}

TEST_F(LedgerTest, RemovedSwappedAndRepeatedLinesAreFound) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    for (uint32_t round = 0; round < 3; ++round) ASSERT_OK(ledger->Charge(Now(), Charge(round)));
  }
  const std::string text = Text();
  const size_t a = text.find('\n') + 1, b = text.find('\n', a) + 1;
  const std::string first = text.substr(0, a), second = text.substr(a, b - a), third = text.substr(b);
  for (const std::string& wrong :
       {second + third, first + third, second + first + third, first + first + second,
        first + "\n" + second + third, first + " " + second + third, "\n" + text}) {
    Write(wrong);
    EXPECT_THAT(Open(), HasStatus(StatusCode::kDataLoss, "line "));
  }
}

TEST_F(LedgerTest, AnIncompleteLastLineIsRefusedSayingWhatToDo) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    for (uint32_t round = 0; round < 2; ++round) ASSERT_OK(ledger->Charge(Now(), Charge(round)));
  }
  const std::string text = Text();
  const size_t first = text.find('\n') + 1;
  for (size_t size = first + 1; size < text.size(); size += size + 20 < text.size() ? 13 : 1) {
    Write(text.substr(0, size));
    ASSERT_THAT(Open(), HasStatus(StatusCode::kDataLoss, "line 2 is incomplete"));
  }
  Write(text.substr(0, first));
  EXPECT_OK(Open()) << "without the incomplete line it opens again";
}

TEST_F(LedgerTest, AFullDiskChargesNothing) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  std::filesystem::create_symlink("/dev/full", path_);
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_THAT(ledger->Charge(Now(), Charge(0)), HasStatus(StatusCode::kResourceExhausted, ""));
  EXPECT_THAT(ledger->Charge(Now(), Charge(1)), HasStatus(StatusCode::kResourceExhausted, ""));
  EXPECT_TRUE(ledger->entries().empty());
}

TEST_F(LedgerTest, ALineThatDoesNotFitOnTheDiskLeavesNoHalfOfItself) {
  ASSERT_OK_AND_ASSIGN(auto ledger, Open());
  ASSERT_OK(ledger->Charge(Now(), Charge(0)));
  const std::string before = Text();
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit tight{before.size() + 10, old.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto full = ledger->Charge(Now(), Charge(1));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_THAT(full, HasStatus(StatusCode::kResourceExhausted, ""));
  EXPECT_EQ(Text(), before);
  EXPECT_OK(ledger->Charge(Now(), Charge(1))) << "it goes on where it was";
  ledger.reset();
  ASSERT_OK_AND_ASSIGN(ledger, Open());
  EXPECT_EQ(ledger->entries().size(), 2u);
}

TEST_F(LedgerTest, PlannedChargesCostWhatTheyWouldAndChangeNothing) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  const LedgerCharge charge = Charge(0);
  const double planned = ledger->SpentAfter(Now(), std::span(&charge, 1));
  EXPECT_EQ(ledger->Spent(Now()), 0);
  ASSERT_OK(ledger->Charge(Now(), charge));
  EXPECT_EQ(ledger->Spent(Now()), planned);
}

}  // namespace
}  // namespace concordat::policy
