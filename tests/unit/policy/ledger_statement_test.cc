#include "policy/ledger_statement.h"

#include <gtest/gtest.h>

#include <functional>

#include "aggregation/strict_json.h"
#include "policy/ledger_json.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

const JobId kJob = crypto::Sha256(AsBytes("job")), kOther = crypto::Sha256(AsBytes("other"));

LedgerCharge Of(const JobId& job, uint32_t round, ChargeKind kind = ChargeKind::kDelta) {
  LedgerCharge charge;
  charge.kind = kind;
  charge.attempt = {job, round, 0};
  RdpTerm term;
  term.delta2_squared = 1;
  term.delta1 = 1;
  term.share_variance = 4;
  EXPECT_OK(charge.price.Add(term));
  return charge;
}

/// A ledger of another job's charge, two rounds of `kJob`'s, one more of the other's and an evaluation.
class LedgerStatementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    charter_ = ParseSignedCharter(world_.SignedFile(), "charter.yaml").value();
    ledger_ = Ledger::Open(dir_ / "ledger.jsonl", "manuals",
                           {PrivacyUnit::kSite, Neighbour::kZeroOut, 1000, 1e-5}, BudgetPeriod::kNone)
                  .value();
    for (const LedgerCharge& charge :
         {Of(kOther, 0), Of(kJob, 0), Of(kOther, 1), Of(kJob, 1), Of(kJob, 2, ChargeKind::kEvaluation)})
      ASSERT_OK(ledger_->Charge(Now(), charge));
  }
  LedgerStatement Body() {
    LedgerStatement body;
    body.charter = charter_.hash;
    body.worker = worker_;
    body.job = kJob;
    body.dataset = "manuals";
    body.delta = 1e-5;
    body.issued = Now();
    body.rows = StatementRows(ledger_->entries(), kJob).value();
    body.head = body.rows.back().hash;
    return body;
  }
  SignedLedgerStatement Sign(LedgerStatement body) {
    return SignLedgerStatement(std::move(body), key_, world_.Leaf(worker_, key_));
  }
  SignedLedgerStatement Good() { return Sign(Body()); }
  Status Verify(const SignedLedgerStatement& statement) { return VerifyLedgerStatement(statement, charter_); }
  static StatusOr<SignedLedgerStatement> Reread(const nlohmann::ordered_json& json) {
    ASSIGN_OR_RETURN(const nlohmann::json read, ParseStrictJson(json.dump(2), "statement"));
    return ReadLedgerStatement(read);
  }

  World world_;
  SignedCharter charter_;
  SpiffeId worker_ = Id("spiffe://de.example/worker/site");
  crypto::SigningKey key_ = crypto::SigningKey::Generate(world_.random);
  testing::TempDir dir_;
  std::unique_ptr<Ledger> ledger_;
};

TEST_F(LedgerStatementTest, ReadsBackAsItWasWrittenAndVerifiesAgainstTheCharter) {
  const SignedLedgerStatement good = Good();
  ASSERT_EQ(good.body.rows.size(), 4u);
  EXPECT_EQ(good.body.rows.front().sequence, 1u);
  EXPECT_EQ(good.body.head, ledger_->head());
  ASSERT_OK_AND_ASSIGN(const SignedLedgerStatement read, Reread(ToJson(good)));
  EXPECT_OK(Verify(read));
  EXPECT_OK(VerifyLedgerStatement(read));
  EXPECT_EQ(Canonical(read.body), Canonical(good.body));
  EXPECT_EQ(ToJson(read), ToJson(good));
}

TEST_F(LedgerStatementTest, RowsBeginWithTheJobsFirstOrWithOneThatWasRestored) {
  ASSERT_OK_AND_ASSIGN(const auto of_other, StatementRows(ledger_->entries(), kOther));
  EXPECT_EQ(of_other.size(), 5u);
  EXPECT_THAT(StatementRows(ledger_->entries(), Digest{}), HasStatus(StatusCode::kNotFound, "no charge"));
  // What a ledger forgot may have been this job's.
  LedgerMark mark = ledger_->Mark();
  mark.count += 1;
  mark.head = kOther;
  AddToTotals(mark.totals, Of(kJob, 3));
  ASSERT_OK(ledger_->MakeGood(Now(), mark));
  ASSERT_OK_AND_ASSIGN(const auto lost, StatementRows(ledger_->entries(), Digest{}));
  EXPECT_EQ(lost.front().charge.kind, ChargeKind::kRestored);
}

TEST_F(LedgerStatementTest, EveryFieldIsUnderTheSignature) {
  const SignedLedgerStatement good = Good();
  const std::vector<std::function<void(LedgerStatement&)>> changes = {
      [](LedgerStatement& s) { s.charter.bytes[0] ^= 1; },
      [](LedgerStatement& s) { s.job = kOther; },
      [](LedgerStatement& s) { s.dataset = "novels"; },
      [](LedgerStatement& s) { s.unit = PrivacyUnit::kRecord; },
      [](LedgerStatement& s) { s.neighbour = Neighbour::kAddRemove; },
      [](LedgerStatement& s) { s.delta = 1e-4; },
      [](LedgerStatement& s) { s.period = BudgetPeriod::kYearly; },
      [](LedgerStatement& s) { s.issued += Millis(1); },
      [](LedgerStatement& s) { s.head.bytes[31] ^= 1; },
      [](LedgerStatement& s) { s.rows.pop_back(); },
      [](LedgerStatement& s) { s.rows[1].hash.bytes[0] ^= 1; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SignedLedgerStatement changed = good;
    changes[i](changed.body);
    EXPECT_THAT(VerifyLedgerStatement(changed), HasStatus(StatusCode::kPermissionDenied, "not as"))
        << "change " << i;
  }
}

TEST_F(LedgerStatementTest, AChangedRowIsNamed) {
  const SignedLedgerStatement good = Good();
  const std::vector<std::function<void(nlohmann::ordered_json&)>> changes = {
      [](auto& row) { row["epsilon_after"] = 0.1; },
      [](auto& row) { row["epsilon_before"] = 0.1; },
      [](auto& row) { row["mechanisms"][0]["share_variance"] = 4000.0; },
      [](auto& row) { row["round"] = 9; },
      [](auto& row) { row["kind"] = "evaluation"; },
      [](auto& row) { row["time"] = "2026-11-22T08:00:00.000Z"; },
      [](auto& row) { row["previous"] = kJob.hex(); },
      [](auto& row) { row["hash"] = kJob.hex(); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    auto json = ToJson(good);
    changes[i](json["rows"][1]);
    EXPECT_THAT(Reread(json), HasStatus(StatusCode::kDataLoss, "row 2: its hash is wrong")) << "change " << i;
  }
  auto more = ToJson(good);
  more["rows"][1]["note"] = "trust me";
  EXPECT_THAT(Reread(more), HasStatus(StatusCode::kDataLoss, "row 2"));
}

TEST_F(LedgerStatementTest, RowsThatDoNotFollowEachOtherAreRefusedThoughTheRegionSignedThem) {
  LedgerStatement cut = Body();
  cut.rows.erase(cut.rows.begin() + 1);
  EXPECT_THAT(Verify(Sign(cut)),
              HasStatus(StatusCode::kDataLoss, "row 2: it does not follow the row before"));
  LedgerStatement swapped = Body();
  std::swap(swapped.rows[1], swapped.rows[2]);
  EXPECT_THAT(Verify(Sign(swapped)), HasStatus(StatusCode::kDataLoss, "row 2"));
  LedgerStatement false_head = Body();
  false_head.head = kJob;
  EXPECT_THAT(Verify(Sign(false_head)), HasStatus(StatusCode::kDataLoss, "its head"));
  LedgerStatement short_of_head = Body();
  short_of_head.rows.pop_back();
  EXPECT_THAT(Verify(Sign(short_of_head)), HasStatus(StatusCode::kDataLoss, "its head"));
  LedgerStatement other_dataset = Body();
  other_dataset.dataset = "novels";
  EXPECT_THAT(Verify(Sign(other_dataset)), HasStatus(StatusCode::kDataLoss, "of dataset 'manuals'"));
  // A first row that says it begins the ledger has the ledger's beginning before it.
  LedgerStatement later = Body();
  later.rows.front().sequence = 0;
  EXPECT_THAT(Verify(Sign(later)), HasStatus(StatusCode::kDataLoss, "the ledger's beginning"));
  LedgerStatement empty = Body();
  empty.rows.clear();
  EXPECT_THAT(Verify(Sign(empty)), HasStatus(StatusCode::kDataLoss, "no row"));
}

TEST_F(LedgerStatementTest, OnlyAMembersWorkerSpeaksForItself) {
  // Another worker of the region, with a key of its own.
  const SpiffeId second = Id("spiffe://de.example/worker/second");
  EXPECT_THAT(Verify(SignLedgerStatement(Body(), key_, world_.Leaf(second, key_))),
              HasStatus(StatusCode::kPermissionDenied, "speaks for spiffe://de.example/worker/site"));
  // Another region.
  const SpiffeId french = Id("spiffe://fr.example/worker/site");
  EXPECT_THAT(Verify(SignLedgerStatement(Body(), key_, world_.Leaf(french, key_))),
              HasStatus(StatusCode::kPermissionDenied, "speaks for"));
  // The region's operator.
  LedgerStatement by_operator = Body();
  by_operator.worker = Id("spiffe://de.example/operator/admin");
  EXPECT_THAT(Verify(SignLedgerStatement(by_operator, key_, world_.Leaf(by_operator.worker, key_))),
              HasStatus(StatusCode::kPermissionDenied, "expected a worker"));
  // Somebody with a root that is none of the charter's, of a member's name and of nobody's.
  // (In another order than here: worlds draw the same keys.)
  World foreign({"it.example", "de.example", "pt.example"});
  EXPECT_THAT(Verify(SignLedgerStatement(Body(), key_, foreign.Leaf(worker_, key_))),
              HasStatus(StatusCode::kPermissionDenied, "its signer"));
  LedgerStatement italian = Body();
  italian.worker = Id("spiffe://it.example/worker/site");
  EXPECT_THAT(Verify(SignLedgerStatement(italian, key_, foreign.Leaf(italian.worker, key_))),
              HasStatus(StatusCode::kPermissionDenied, "its signer"));
  // Right certificate, another key's signature.
  const auto other = crypto::SigningKey::Generate(world_.random);
  EXPECT_THAT(Verify(SignLedgerStatement(Body(), other, world_.Leaf(worker_, key_))),
              HasStatus(StatusCode::kPermissionDenied, "not as"));
}

TEST_F(LedgerStatementTest, TheCertificateMustHaveBeenGoodWhenItWasIssued) {
  LedgerStatement late = Body();
  late.issued = Now() + std::chrono::days(91);
  EXPECT_THAT(Verify(Sign(late)), HasStatus(StatusCode::kPermissionDenied, "its signer"));
  EXPECT_OK(VerifyLedgerStatement(Sign(late))) << "by itself it does not know";
}

TEST_F(LedgerStatementTest, AStatementUnderAnotherCharterIsRefused) {
  LedgerStatement other = Body();
  other.charter = kOther;
  EXPECT_THAT(Verify(Sign(other)), HasStatus(StatusCode::kPermissionDenied, "under charter"));
}

TEST_F(LedgerStatementTest, WhatIsNoStatementDoesNotRead) {
  const auto good = ToJson(Good());
  for (const auto& [key, value] : good.items()) {
    auto without = good;
    without.erase(key);
    EXPECT_THAT(Reread(without), HasStatus(StatusCode::kInvalidArgument, "")) << key;
    auto wrong = good;
    wrong[key] = nlohmann::ordered_json::array();
    EXPECT_THAT(Reread(wrong), HasStatus(StatusCode::kInvalidArgument, "")) << key;
  }
  auto more = good;
  more["note"] = "trust me";
  EXPECT_THAT(Reread(more), HasStatus(StatusCode::kInvalidArgument, "what none is written with"));
  for (double delta : {-1e-9, 1.0, 2.0}) {
    auto wrong = good;
    wrong["delta"] = delta;
    EXPECT_THAT(Reread(wrong), HasStatus(StatusCode::kInvalidArgument, "delta"));
  }
  auto period = good;
  period["period"] = "weekly";
  EXPECT_THAT(Reread(period), HasStatus(StatusCode::kInvalidArgument, "period"));
  for (const nlohmann::ordered_json& nothing : {nlohmann::ordered_json::array(), nlohmann::ordered_json(7)})
    EXPECT_THAT(Reread(nothing), HasStatus(StatusCode::kInvalidArgument, "no ledger statement"));
}

TEST_F(LedgerStatementTest, NoChangedByteChangesWhatIsBelieved) {
  const SignedLedgerStatement good = Good();
  const std::string text = ToJson(good).dump(1);
  for (size_t i = 0; i < text.size(); i += 7) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    const auto json = ParseStrictJson(changed, "statement");
    if (!json.ok()) continue;
    const auto read = ReadLedgerStatement(*json);
    if (!read.ok() || !Verify(*read).ok()) continue;
    // The certificate's encoding has bits that mean nothing.
    EXPECT_EQ(Canonical(read->body), Canonical(good.body)) << "byte " << i;
  }
}

TEST_F(LedgerStatementTest, MoreSharesThanSitesAreNotPriced) {
  LedgerCharge charge = Of(kJob, 5);
  charge.price = Price();
  RdpTerm term;
  term.delta2_squared = 1;
  term.share_variance = 4;
  term.shares = 1000;
  ASSERT_OK(charge.price.Add(term));
  ASSERT_OK(ledger_->Charge(Now(), charge));
  EXPECT_THAT(Reread(ToJson(Good())), HasStatus(StatusCode::kInvalidArgument, "1000 shares"));
}

TEST_F(LedgerStatementTest, ANewerStatementGoesOnFromTheOlderOne) {
  const LedgerStatement older = Body();
  EXPECT_OK(CheckFollows(older, older));
  ASSERT_OK(ledger_->Charge(Now(), Of(kJob, 3)));
  const LedgerStatement newer = Body();
  EXPECT_OK(CheckFollows(older, newer));
  EXPECT_THAT(CheckFollows(newer, older), HasStatus(StatusCode::kAlreadyExists, "it ends at row 5"));
  LedgerStatement rewritten = newer;
  rewritten.rows.erase(rewritten.rows.end() - 2);
  rewritten.rows.back().hash = rewritten.head = kOther;
  EXPECT_THAT(CheckFollows(older, rewritten), HasStatus(StatusCode::kDataLoss, "another history"));
}

// The line that experiments/reference/accountant/ledger_test.py hashes with code of its own.
TEST_F(LedgerStatementTest, TheReferencesRowHashIsThisOne) {
  const auto line = ParseLedgerLine(
      R"({"sequence":0,"time":"2026-11-22T07:12:54.123Z","dataset":"manuals","kind":"delta",)"
      R"("job":"1111111111111111111111111111111111111111111111111111111111111111","round":1,"attempt":2,)"
      R"("unit":"record","neighbour":"add_remove","mechanisms":[{"delta2_squared":1.0,"delta1":1.0,)"
      R"("share_variance":4.0,"shares":4,"dimension":8,"count":1},{"sampling_rate":0.04,)"
      R"("noise_multiplier":1.5,"steps":225}],"epsilon_before":0.0,"epsilon_after":"infinity",)"
      R"("previous":"dc06ed53bdc9be69e8c1b7783a5c922c090212fd1e9e788643df8f4721fa3813",)"
      R"("hash":"52ad4b7ab0ade101c11e1a9bc91519a947de93662df7c092701dd38217041438"})");
  ASSERT_OK(line);
  EXPECT_EQ(line->previous, LedgerGenesis("manuals"));
}

}  // namespace
}  // namespace concordat::policy
