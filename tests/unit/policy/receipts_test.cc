#include "policy/receipts.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/temp_dir.h"
#include "tests/unit/policy/policy_fixture.h"

namespace concordat::policy {
namespace {

using testing::HasStatus;

class ReceiptsTest : public ::testing::Test {
 protected:
  Receipt Make(uint32_t round) {
    Receipt r;
    r.time = Now();
    r.worker = worker_;
    r.attempt = {crypto::Sha256(AsBytes("job")), round, 1};
    r.kind = ArtefactKind::kDelta;
    r.bytes = 4000 + round;
    r.sha256 = crypto::Sha256(AsBytes("vector"));
    r.rule = RuleCode::kArtefactDelta;
    r.basis = LegalBasis::kStandardClauses;
    r.from = "de.example";
    r.to = "neutral.example";
    r.epsilon_charged = 1.25;
    r.sandbox = SandboxState::kEnforced;
    return r;
  }
  void AppendThree() {
    ASSERT_OK_AND_ASSIGN(const auto book, ReceiptBook::Open(path_));
    for (uint32_t round = 0; round < 3; ++round) ASSERT_OK(book->Append(Make(round), key_));
    EXPECT_EQ(book->bytes_left(), 12003u);
  }

  World world_;
  SpiffeId worker_ = Id("spiffe://de.example/worker/site");
  crypto::SigningKey key_ = crypto::SigningKey::Generate(world_.random);
  testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "receipts.jsonl";
};

TEST_F(ReceiptsTest, BookReadsBackAndVerifiesWithTheWorkersCertificate) {
  AppendThree();
  ASSERT_OK_AND_ASSIGN(const auto receipts, ReadReceipts(path_));
  ASSERT_EQ(receipts.size(), 3u);
  EXPECT_OK(VerifyReceipts(receipts, world_.Leaf(worker_, key_)));
  EXPECT_EQ(receipts[2].body.previous, ReceiptHash(receipts[1].body));
  EXPECT_EQ(receipts[1].body.bytes, 4001u);
  const auto other = crypto::SigningKey::Generate(world_.random);
  EXPECT_THAT(VerifyReceipts(receipts, world_.Leaf(worker_, other)),
              HasStatus(StatusCode::kPermissionDenied, "receipt 1"));
  EXPECT_THAT(VerifyReceipts(receipts, world_.Leaf(Id("spiffe://de.example/worker/b"), key_)),
              HasStatus(StatusCode::kPermissionDenied, "it is of"));
}

TEST_F(ReceiptsTest, ReopenedBookGoesOnWhereItWas) {
  AppendThree();
  ASSERT_OK_AND_ASSIGN(const auto book, ReceiptBook::Open(path_));
  ASSERT_OK_AND_ASSIGN(const SignedReceipt next, book->Append(Make(3), key_));
  EXPECT_EQ(next.body.sequence, 3u);
  EXPECT_EQ(book->receipts().size(), 4u);
  EXPECT_THAT(ReceiptBook::Open(path_), HasStatus(StatusCode::kUnavailable, "another process"));
}

TEST_F(ReceiptsTest, EveryFieldIsUnderTheSignature) {
  const SignedReceipt good{Make(0), key_.Sign(Receipt::kDomain, Canonical(Make(0)))};
  const auto key = key_.Public();
  ASSERT_OK(VerifyReceipt(good, key));
  const std::vector<std::function<void(Receipt&)>> changes = {
      [](Receipt& r) { r.sequence = 1; },
      [](Receipt& r) { r.time += Millis(1); },
      [](Receipt& r) { r.worker = Id("spiffe://de.example/worker/x"); },
      [](Receipt& r) { r.attempt.job.bytes[0] ^= 1; },
      [](Receipt& r) { r.attempt.round += 1; },
      [](Receipt& r) { r.attempt.attempt += 1; },
      [](Receipt& r) { r.kind = ArtefactKind::kEvaluation; },
      [](Receipt& r) { r.bytes += 1; },
      [](Receipt& r) { r.sha256.bytes[31] ^= 1; },
      [](Receipt& r) { r.rule = RuleCode::kArtefactMetrics; },
      [](Receipt& r) { r.basis = LegalBasis::kStatute; },
      [](Receipt& r) { r.from = "fr.example"; },
      [](Receipt& r) { r.to = "fr.example"; },
      [](Receipt& r) { r.epsilon_charged = 0; },
      [](Receipt& r) { r.sandbox = SandboxState::kNone; },
      [](Receipt& r) { r.charter.bytes[0] ^= 1; },
      [](Receipt& r) { r.ledger_head.bytes[0] ^= 1; },
      [](Receipt& r) { r.previous.bytes[0] ^= 1; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SignedReceipt changed = good;
    changes[i](changed.body);
    EXPECT_EQ(VerifyReceipt(changed, key).code(), StatusCode::kPermissionDenied) << "change " << i;
  }
}

TEST_F(ReceiptsTest, AnyChangedByteOfTheBookIsFound) {
  AppendThree();
  const std::string text = ReadTextFile(path_).value();
  const std::string certificate = world_.Leaf(worker_, key_);
  for (size_t i = 0; i < text.size(); i += 11) {
    if (text[i] == '\n') continue;
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    WriteQuickly(path_, changed);
    const auto receipts = ReadReceipts(path_);
    if (receipts.ok()) {
      EXPECT_FALSE(VerifyReceipts(*receipts, certificate).ok()) << "byte " << i;
    } else {
      EXPECT_THAT(receipts, HasStatus(StatusCode::kDataLoss, "line ")) << "byte " << i;
    }
  }
}

TEST_F(ReceiptsTest, RemovedAndIncompleteLinesAreFound) {
  AppendThree();
  const std::string text = ReadTextFile(path_).value();
  ASSERT_OK(WriteFileAtomically(path_, text.substr(text.find('\n') + 1), 0600));
  EXPECT_THAT(ReadReceipts(path_), HasStatus(StatusCode::kDataLoss, "line 1"));
  ASSERT_OK(WriteFileAtomically(path_, text.substr(0, text.size() - 1), 0600));
  EXPECT_THAT(ReceiptBook::Open(path_), HasStatus(StatusCode::kDataLoss, "line 3 is incomplete"));
}

TEST_F(ReceiptsTest, LineRoundTripsForEveryKindAndAnInfinitePrice) {
  for (ArtefactKind kind :
       {ArtefactKind::kDelta, ArtefactKind::kMetrics, ArtefactKind::kEvaluation, ArtefactKind::kAdapter}) {
    SignedReceipt receipt{Make(0), {}};
    receipt.body.kind = kind;
    receipt.body.epsilon_charged = std::numeric_limits<double>::infinity();
    ASSERT_OK_AND_ASSIGN(const SignedReceipt read, ParseReceiptLine(FormatReceiptLine(receipt)));
    EXPECT_EQ(Canonical(read.body), Canonical(receipt.body));
  }
  EXPECT_THAT(ParseReceiptLine("{}"), HasStatus(StatusCode::kDataLoss, "missing"));
  EXPECT_THAT(ParseReceiptLine("[]"), HasStatus(StatusCode::kDataLoss, "missing"));
  EXPECT_THAT(ParseReceiptLine("nonsense"), HasStatus(StatusCode::kDataLoss, ""));
}

}  // namespace
}  // namespace concordat::policy
