#ifndef CONCORDAT_POLICY_RECEIPTS_H_
#define CONCORDAT_POLICY_RECEIPTS_H_

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/files.h"
#include "common/ids.h"
#include "policy/charter.h"
#include "policy/rules.h"
#include "privacy/crypto/signature.h"

namespace concordat::policy {

/// What the kernel enforced on the trainer that made the artefact.
enum class SandboxState : uint8_t { kEnforced = 1, kAdvisory = 2, kNone = 3 };
std::string_view SandboxStateName(SandboxState state);

/// One artefact that left a region. The evidence that it keeps.
struct Receipt {
  static constexpr std::string_view kDomain = "concordat/v1/receipt";
  uint64_t sequence = 0;  // from 0, in one book
  Instant time{};
  SpiffeId worker;
  AttemptId attempt;  // round and attempt 0 where the kind has none
  ArtefactKind kind{};
  uint64_t bytes = 0;
  Digest sha256;                    // of what left, as it left
  RuleCode rule = RuleCode::kNone;  // rule of the region policy that allowed it
  LegalBasis basis{};               // of the charter's flow
  std::string from, to;             // jurisdictions
  double epsilon_charged = 0;       // ε after minus ε before; may be infinite
  SandboxState sandbox = SandboxState::kNone;
  Digest charter;
  Digest ledger_head;  // after the charge
  Digest previous;     // hash of the receipt before in the same book; zero for the first
};

struct SignedReceipt {
  Receipt body;
  crypto::Signature signature{};
};

Bytes Canonical(const Receipt& receipt);
/// Tagged hash of the canonical body; `previous` of the next.
Digest ReceiptHash(const Receipt& receipt);

/// A line of a book without its newline, and back. DataLoss unless the line is exactly what FormatReceiptLine
/// writes for what it says.
std::string FormatReceiptLine(const SignedReceipt& receipt);
StatusOr<SignedReceipt> ParseReceiptLine(std::string_view line);

/// PermissionDenied unless the receipt carries the signature of `key`.
Status VerifyReceipt(const SignedReceipt& receipt, const crypto::VerifyKey& key);

/// Reads a book: JSON lines, chain and numbering verified, signatures not. DataLoss naming the line.
StatusOr<std::vector<SignedReceipt>> ReadReceipts(const std::filesystem::path& path);
/// Verifies every receipt with the key of the worker's certificate, and that they name that worker. The
/// certificate's chain is the caller's matter. PermissionDenied naming the receipt.
Status VerifyReceipts(const std::vector<SignedReceipt>& receipts, std::string_view worker_certificate_pem);

/// Appends receipts to a file of mode 0600. One thread; one process (locked).
class ReceiptBook {
 public:
  static StatusOr<std::unique_ptr<ReceiptBook>> Open(const std::filesystem::path& path);
  /// Fills sequence and previous, signs, writes, fsyncs.
  StatusOr<SignedReceipt> Append(Receipt receipt, const crypto::SigningKey& key);
  const std::vector<SignedReceipt>& receipts() const { return receipts_; }
  /// Bytes of everything that left so far.
  uint64_t bytes_left() const;

 private:
  ReceiptBook() = default;
  std::filesystem::path path_;
  FileDescriptor file_;
  std::vector<SignedReceipt> receipts_;
  bool broken_ = false;
};

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_RECEIPTS_H_
