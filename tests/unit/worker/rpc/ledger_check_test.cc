#include "worker/rpc/ledger_check.h"

#include <gtest/gtest.h>

#include "privacy/crypto/hash.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using concordat::testing::TempDir;

/// A ledger of four charges whose head was countersigned after each of them.
class LedgerCheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto ledger = Open();
    for (uint32_t round = 0; round < 4; ++round) {
      if (round == 2) copy_ = ReadFile(path_).value();
      LedgerCharge charge;
      charge.attempt = {crypto::Sha256(AsBytes("job")), round, 0};
      ASSERT_OK(charge.price.Add({1, 1, 1.0 + round, 1, 1, 1}));
      ASSERT_OK(ledger->Charge(now_, charge));
      LedgerWitness said{charge.attempt, {}, {{SiteIndex{1}, {}}, {SiteIndex{2}, {}}}, ledger->Mark()};
      journal_.push_back(AttemptEntered{charge.attempt});
      journal_.push_back(said);
    }
    spent_ = ledger->Spent(now_);
  }
  std::unique_ptr<policy::Ledger> Open(const char* dataset = "manuals", const char* file = "ledger.jsonl") {
    auto ledger =
        policy::Ledger::Open(dir_ / file, dataset, {PrivacyUnit::kSite, Neighbour::kZeroOut, 100, 1e-5},
                             policy::BudgetPeriod::kNone, dir_ / (std::string(file) + ".anchor"));
    EXPECT_OK(ledger);
    return std::move(ledger).value();
  }
  /// File and anchor are put back together, as they were after two charges.
  void PutBack() {
    std::filesystem::remove(dir_ / "ledger.jsonl.anchor");
    ASSERT_OK(WriteFileAtomically(path_, ByteView(copy_), 0600));
    ASSERT_OK(policy::Ledger::Reconcile(path_, dir_ / "ledger.jsonl.anchor", "manuals",
                                        {PrivacyUnit::kSite, Neighbour::kZeroOut, 100, 1e-5},
                                        policy::BudgetPeriod::kNone, now_, true));
  }

  TempDir dir_;
  std::filesystem::path path_ = dir_ / "ledger.jsonl";
  Instant now_{Millis(1'790'000'000'000)};
  std::vector<Record> journal_;
  Bytes copy_;
  double spent_ = 0;
};

TEST_F(LedgerCheckTest, ALedgerThatGoesOnFromWhatPeersSignedIsTaken) {
  auto ledger = Open();
  ASSERT_OK_AND_ASSIGN(const size_t restored, CheckLedger(journal_, *ledger, false, now_));
  EXPECT_EQ(restored, 0u);
  EXPECT_EQ(ledger->entries().size(), 4u);
  EXPECT_OK(CheckLedger({}, *Open("letters", "letters.jsonl"), false, now_)) << "nothing was signed yet";
}

TEST_F(LedgerCheckTest, FileAndAnchorPutBackTogetherAreSeenByTheJournal) {
  PutBack();
  auto ledger = Open();
  EXPECT_THAT(CheckLedger(journal_, *ledger, false, now_),
              HasStatus(StatusCode::kFailedPrecondition, "--accept-rollback"));
  EXPECT_LT(ledger->Spent(now_), spent_);
}

TEST_F(LedgerCheckTest, AcceptedItChargesAgainWhatWasForgottenAndOnlyOnce) {
  PutBack();
  auto ledger = Open();
  ASSERT_OK_AND_ASSIGN(const size_t restored, CheckLedger(journal_, *ledger, true, now_));
  EXPECT_EQ(restored, 1u);
  EXPECT_NEAR(ledger->Spent(now_), spent_, 1e-9);
  ASSERT_OK_AND_ASSIGN(const size_t again, CheckLedger(journal_, *ledger, true, now_));
  EXPECT_EQ(again, 0u);
  EXPECT_OK(CheckLedger(journal_, *ledger, false, now_)) << "the next start needs no word any more";
  ledger.reset();
  EXPECT_OK(CheckLedger(journal_, *Open(), false, now_));
}

TEST_F(LedgerCheckTest, AnotherDatasetsSignaturesSayNothing) {
  EXPECT_OK(CheckLedger(journal_, *Open("letters", "letters.jsonl"), false, now_));
}

}  // namespace
}  // namespace concordat::worker
