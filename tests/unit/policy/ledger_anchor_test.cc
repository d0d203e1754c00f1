#include <gtest/gtest.h>

#include <algorithm>

#include "policy/ledger.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

// What a ledger's anchor shows, and what an operator can do about it.
namespace concordat::policy {
namespace {

using testing::HasStatus;

constexpr double kBudget = 100;

LedgerCharge Round(uint32_t round, double z = 1) {
  LedgerCharge charge;
  charge.attempt = {crypto::Sha256(AsBytes("job")), round, 0};
  RdpTerm term;
  term.delta2_squared = 1;
  term.share_variance = z * z;
  EXPECT_OK(charge.price.Add(term));
  return charge;
}

class LedgerAnchorTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<Ledger>> Open() {
    return Ledger::Open(path_, "manuals", budget_, BudgetPeriod::kNone, anchor_);
  }
  StatusOr<LedgerFinding> Reconcile(bool write = true) {
    return Ledger::Reconcile(path_, anchor_, "manuals", budget_, BudgetPeriod::kNone, Now(), write);
  }
  /// A ledger of `rounds` charges, closed again.
  void Make(uint32_t rounds, uint32_t from = 0) {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    for (uint32_t r = from; r < from + rounds; ++r) ASSERT_OK(ledger->Charge(Now(), Round(r, 1 + 0.5 * r)));
    spent_ = ledger->Spent(Now());
  }
  std::string Text() const { return ReadTextFile(path_).value(); }
  void Write(const std::string& text) { WriteQuickly(path_, text); }
  /// Everything up to and without the line with this index.
  static std::string Lines(const std::string& text, size_t count) {
    size_t end = 0;
    for (size_t i = 0; i < count; ++i) end = text.find('\n', end) + 1;
    return text.substr(0, end);
  }

  testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "ledger.jsonl", anchor_ = dir_ / "anchor.ledger";
  PrivacyBudget budget_{PrivacyUnit::kSite, Neighbour::kZeroOut, kBudget, 1e-5};
  double spent_ = 0;
};

TEST_F(LedgerAnchorTest, FollowsEveryChargeAndCarriesTheWholeSpend) {
  Make(3);
  ASSERT_OK_AND_ASSIGN(const auto mark, ReadLedgerAnchor(anchor_, "manuals"));
  ASSERT_TRUE(mark);
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_EQ(mark->count, 3u);
  EXPECT_EQ(mark->head, ledger->head());
  EXPECT_DOUBLE_EQ(mark->epsilon, spent_);
  ASSERT_EQ(mark->totals.size(), 1u);
  EXPECT_DOUBLE_EQ(EpsilonSpent(budget_, mark->totals), spent_);
  EXPECT_EQ(std::filesystem::status(anchor_).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(LedgerAnchorTest, ALedgerOneChargeAheadOfItsAnchorIsBelievedAndAnchoredAgain) {
  Make(2);
  const std::string older = ReadTextFile(anchor_).value();
  Make(1, 2);
  WriteQuickly(anchor_, older);  // killed between the line and the anchor
  ASSERT_OK(Open());
  EXPECT_EQ((*ReadLedgerAnchor(anchor_, "manuals"))->count, 3u);
}

TEST_F(LedgerAnchorTest, FileAndAnchorPutBackTogetherLookLikeThePast) {
  Make(2);
  const std::string text = Text(), anchor = ReadTextFile(anchor_).value();
  Make(1, 2);
  Write(text);
  WriteQuickly(anchor_, anchor);
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_EQ(ledger->entries().size(), 2u) << "not defended: docs/THREATS.md";
}

TEST_F(LedgerAnchorTest, AnAnchorOfAnotherDatasetIsRefusedAndNotReconciled) {
  Make(1);
  LedgerMark mark = **ReadLedgerAnchor(anchor_, "manuals");
  mark.dataset = "letters";
  ASSERT_OK(WriteLedgerAnchor(anchor_, mark));
  EXPECT_THAT(Open(), HasStatus(StatusCode::kInvalidArgument, "'letters', not 'manuals'"));
  EXPECT_THAT(Reconcile(), HasStatus(StatusCode::kInvalidArgument, "'letters'"));
}

TEST_F(LedgerAnchorTest, AnyChangedByteOfTheAnchorIsFound) {
  Make(1);
  const std::string good = ReadTextFile(anchor_).value();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 1;
    WriteQuickly(anchor_, bad);
    EXPECT_FALSE(Open().ok()) << "byte " << i;
  }
  WriteQuickly(anchor_, good);
  EXPECT_OK(Open());
}

TEST_F(LedgerAnchorTest, NothingIsReconciledWhereNothingIsWrong) {
  Make(2);
  const std::string text = Text();
  ASSERT_OK_AND_ASSIGN(const LedgerFinding finding, Reconcile());
  EXPECT_TRUE(finding.wrong.empty());
  EXPECT_FALSE(finding.written);
  EXPECT_EQ(Text(), text);
}

TEST_F(LedgerAnchorTest, AWorkerThatRunsKeepsTheOperatorOut) {
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_THAT(Reconcile(), HasStatus(StatusCode::kUnavailable, "another process"));
}

/// What happens to the files of a ledger of four charges, of which two were copied before.
class LedgerAccidentTest : public LedgerAnchorTest, public ::testing::WithParamInterface<int> {
 public:
  enum Kind {
    kTruncated,
    kCutInALine,
    kEdited,
    kRewritten,
    kOldCopy,
    kDeleted,
    kAnchorDeleted,
    kAnchorDamaged
  };

 protected:
  void Happen() {
    const std::string text = Text();
    switch (GetParam()) {
      case kTruncated:
        return Write(Lines(text, 3));
      case kCutInALine:
        return Write(text.substr(0, text.size() - 20));
      case kEdited: {
        std::string bad = text;
        bad[bad.find("\"count\":1", Lines(text, 2).size()) + 8] = '0';
        return Write(bad);
      }
      case kRewritten: {  // one of the charges made cheaper, and every hash after it made anew
        std::filesystem::remove(path_);
        ASSERT_OK_AND_ASSIGN(const auto other, Ledger::Open(path_, "manuals", budget_, BudgetPeriod::kNone));
        for (uint32_t r = 0; r < 4; ++r)
          ASSERT_OK(other->Charge(Now(), Round(r, r == 1 ? 1000 : 1 + 0.5 * r)));
        return;
      }
      case kOldCopy:
        return Write(old_copy_);
      case kDeleted:
        std::filesystem::remove(path_);
        return;
      case kAnchorDeleted:
        std::filesystem::remove(anchor_);
        return;
      case kAnchorDamaged:
        return WriteQuickly(anchor_, "{}\n");
    }
  }
  bool AnchorIsLost() const { return GetParam() == kAnchorDeleted || GetParam() == kAnchorDamaged; }
  void MakeFour() {
    Make(2);
    old_copy_ = Text();
    Make(2, 2);
  }
  std::string old_copy_;
};

TEST_P(LedgerAccidentTest, IsFoundWhenTheLedgerIsOpened) {
  MakeFour();
  Happen();
  EXPECT_THAT(Open(), HasStatus(StatusCode::kFailedPrecondition, "concordat ledger reconcile"));
}

TEST_P(LedgerAccidentTest, IsFoundBeforeTheNextChargeWhileTheLedgerIsOpen) {
  MakeFour();
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  Happen();
  const std::string after = ReadTextFile(path_).value_or("gone");
  EXPECT_THAT(ledger->Charge(Now(), Round(9)),
              HasStatus(StatusCode::kFailedPrecondition, "concordat ledger reconcile"));
  EXPECT_EQ(ReadTextFile(path_).value_or("gone"), after) << "nothing was written into it";
  EXPECT_EQ(ledger->entries().size(), 4u);
}

TEST_P(LedgerAccidentTest, WithoutTheOperatorsYesNothingIsChanged) {
  MakeFour();
  Happen();
  const std::string text = ReadTextFile(path_).value_or("");
  ASSERT_OK_AND_ASSIGN(const LedgerFinding finding, Reconcile(false));
  EXPECT_FALSE(finding.wrong.empty());
  EXPECT_FALSE(finding.written);
  EXPECT_EQ(Text(), text);
  EXPECT_FALSE(Open().ok());
}

TEST_P(LedgerAccidentTest, ReconciledTheHigherSpendStandsAndTheLedgerGoesOn) {
  MakeFour();
  Happen();
  ASSERT_OK_AND_ASSIGN(const LedgerFinding finding, Reconcile());
  EXPECT_TRUE(finding.written);
  EXPECT_GE(finding.epsilon_after, spent_ * (1 - 1e-12));
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_GE(ledger->Spent(Now()), spent_ * (1 - 1e-12));
  // What was cut off is charged once; of another history nobody can tell where it parted from this one.
  if (GetParam() != kRewritten) {
    EXPECT_NEAR(ledger->Spent(Now()), spent_, 1e-9 * spent_);
  }
  const LedgerEntry& last = ledger->entries().back();
  EXPECT_EQ(last.charge.kind, ChargeKind::kRestored);
  EXPECT_EQ(last.charge.attempt.attempt, finding.entries) << "how many were found";
  EXPECT_EQ(last.charge.attempt.round, AnchorIsLost() ? finding.entries : 4u) << "how many were known of";
  EXPECT_OK(ledger->Charge(Now(), Round(9)));
}

TEST_P(LedgerAccidentTest, ReconciledTwiceItIsChargedOnce) {
  MakeFour();
  Happen();
  ASSERT_OK_AND_ASSIGN(const LedgerFinding first, Reconcile());
  ASSERT_OK_AND_ASSIGN(const LedgerFinding second, Reconcile());
  EXPECT_TRUE(second.wrong.empty());
  EXPECT_FALSE(second.written);
  EXPECT_DOUBLE_EQ(second.epsilon_before, first.epsilon_after);
}

std::string AccidentName(const ::testing::TestParamInfo<int>& info) {
  constexpr const char* kNames[] = {"Truncated", "CutInALine", "Edited",        "Rewritten",
                                    "OldCopy",   "Deleted",    "AnchorDeleted", "AnchorDamaged"};
  return kNames[info.param];
}
INSTANTIATE_TEST_SUITE_P(Accidents, LedgerAccidentTest, ::testing::Range(0, 8), AccidentName);

TEST_F(LedgerAnchorTest, KilledWhileItWasReconciledNothingIsForgottenTheSecondTime) {
  Make(3);
  {
    // Priced for people too, as by a card that was changed: that makes two entries.
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    LedgerCharge person = Round(5);
    person.unit = PrivacyUnit::kPerson;
    LedgerMark mark = ledger->Mark();
    AddToTotals(mark.totals, person);
    mark.count = 4;
    mark.head = crypto::Sha256(AsBytes("the fourth"));
    ASSERT_OK(WriteLedgerAnchor(anchor_, mark));
  }
  const std::string anchor = ReadTextFile(anchor_).value();
  Write("");
  ASSERT_OK(Reconcile());
  const std::string done = Text();
  ASSERT_EQ(std::count(done.begin(), done.end(), '\n'), 2);
  for (size_t lines = 0; lines <= 2; ++lines) {
    Write(Lines(done, lines));
    WriteQuickly(anchor_, anchor);  // it is written once all is there
    ASSERT_OK(Reconcile());
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    const LedgerMark mark = ledger->Mark();
    ASSERT_EQ(mark.totals.size(), 2u) << lines;
    EXPECT_EQ(mark.totals[0].price.curve().terms().size(), 3u);
    for (const LedgerCharge& total : mark.totals)
      for (const RdpTerm& term : total.price.curve().terms()) EXPECT_EQ(term.count, 1u) << "charged once";
  }
}

TEST_F(LedgerAnchorTest, AFileThatDoesNotVerifyIsKeptAsItWas) {
  Make(3);
  std::string bad = Text();
  bad[bad.find("\"count\":1", Lines(bad, 1).size()) + 8] = '0';
  Write(bad);
  ASSERT_OK_AND_ASSIGN(const LedgerFinding finding, Reconcile());
  EXPECT_EQ(finding.entries, 1u);
  EXPECT_EQ(ReadTextFile(finding.kept).value(), bad);
  EXPECT_THAT(finding.wrong.front(), ::testing::HasSubstr("line 2"));
}

TEST_F(LedgerAnchorTest, WhatIsRestoredIsChargedBeyondTheBudgetTooAndStopsHard) {
  Make(3);
  budget_.epsilon = spent_;  // all of it is spent
  Write("");
  ASSERT_OK(Reconcile());
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  EXPECT_THAT(ledger->Charge(Now(), Round(9)), HasStatus(StatusCode::kResourceExhausted, ""));
}

TEST_F(LedgerAnchorTest, AnotherFileInItsPlaceIsFoundEvenIfItReadsTheSame) {
  Make(2);
  ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
  const std::string text = Text();
  std::filesystem::remove(path_);
  Write(text);
  EXPECT_THAT(ledger->Charge(Now(), Round(9)), HasStatus(StatusCode::kFailedPrecondition, "was changed"));
}

// ---- Marks.

TEST_F(LedgerAnchorTest, AMarkOfEveryPointIsHeldByWhatFollowsAndByNothingThatWasCutBefore) {
  Make(4);
  const std::string text = Text();
  std::vector<LedgerMark> marks;
  {
    ASSERT_OK_AND_ASSIGN(const auto ledger, Open());
    marks.push_back(*ledger->MarkAt(LedgerGenesis("manuals")));
    for (const LedgerEntry& entry : ledger->entries()) marks.push_back(*ledger->MarkAt(entry.hash));
    EXPECT_FALSE(ledger->MarkAt(crypto::Sha256(AsBytes("another"))));
  }
  for (size_t lines = 0; lines <= 4; ++lines) {
    Write(Lines(text, lines));
    ASSERT_OK_AND_ASSIGN(const auto ledger, Ledger::Open(path_, "manuals", budget_, BudgetPeriod::kNone));
    for (size_t m = 0; m < marks.size(); ++m) EXPECT_EQ(ledger->Holds(marks[m]), m <= lines) << m << lines;
  }
}

TEST_F(LedgerAnchorTest, WhatWasMadeGoodIsHeldAndALaterRollbackOfItIsNot) {
  Make(4);
  const std::string text = Text();
  ASSERT_OK_AND_ASSIGN(auto ledger, Open());
  const LedgerMark known = ledger->Mark();
  ledger.reset();
  Write(Lines(text, 2));
  std::filesystem::remove(anchor_);
  const auto open = [&] { return Ledger::Open(path_, "manuals", budget_, BudgetPeriod::kNone); };
  ASSERT_OK_AND_ASSIGN(ledger, open());
  ASSERT_FALSE(ledger->Holds(known));
  ASSERT_OK(ledger->MakeGood(Now(), known));
  EXPECT_TRUE(ledger->Holds(known));
  EXPECT_NEAR(ledger->Spent(Now()), spent_, 1e-9);
  const std::string made_good = Text();
  ASSERT_OK(ledger->Charge(Now(), Round(7)));
  const LedgerMark later = ledger->Mark();
  EXPECT_TRUE(ledger->Holds(later));
  ledger.reset();
  Write(made_good);
  ASSERT_OK_AND_ASSIGN(ledger, open());
  EXPECT_TRUE(ledger->Holds(known));
  EXPECT_FALSE(ledger->Holds(later))
      << "an entry that was restored before does not stand for what came after";
}

TEST(LedgerMarkTest, IsReadBackFromItsCanonicalForm) {
  LedgerMark mark{"manuals", 7, 1, crypto::Sha256(AsBytes("head")), 1.5, {}};
  AddToTotals(mark.totals, Round(0));
  AddToTotals(mark.totals, Round(1, 2));
  AddToTotals(mark.totals, Round(2));
  LedgerCharge person = Round(3);
  person.unit = PrivacyUnit::kRecord;
  AddToTotals(mark.totals, person);
  ASSERT_EQ(mark.totals.size(), 2u);
  ASSERT_EQ(mark.totals[0].price.curve().terms().size(), 2u) << "equal prices are counted";
  CanonicalWriter out;
  WriteMark(out, mark);
  CanonicalReader in(out.bytes());
  ASSERT_OK_AND_ASSIGN(const LedgerMark back, ReadMark(in));
  ASSERT_OK(in.Finish());
  CanonicalWriter again;
  WriteMark(again, back);
  EXPECT_EQ(again.bytes(), out.bytes());
  for (size_t cut = 0; cut < out.bytes().size(); ++cut) {
    CanonicalReader part(ByteView(out.bytes()).first(cut));
    EXPECT_FALSE(ReadMark(part).ok()) << cut;
  }
}

TEST(LedgerMarkTest, WhatIsBeyondMakesUpExactlyForWhatIsMissing) {
  for (uint32_t found_rounds = 0; found_rounds <= 6; ++found_rounds) {
    std::vector<LedgerCharge> known, found;
    for (uint32_t r = 0; r < 6; ++r) AddToTotals(known, Round(r, 1 + r % 3));
    for (uint32_t r = 0; r < found_rounds; ++r) AddToTotals(found, Round(r, 1 + r % 3));
    for (const LedgerCharge& charge : Beyond(known, found)) AddToTotals(found, charge);
    EXPECT_TRUE(Beyond(known, found).empty());
    EXPECT_TRUE(Beyond(found, known).empty());
  }
}

}  // namespace
}  // namespace concordat::policy
