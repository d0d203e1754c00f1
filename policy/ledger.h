#ifndef CONCORDAT_POLICY_LEDGER_H_
#define CONCORDAT_POLICY_LEDGER_H_

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/files.h"
#include "policy/dataset_card.h"
#include "privacy/accounting/ledger_arithmetic.h"

namespace concordat::policy {

/// One line of the ledger.
struct LedgerEntry {
  uint64_t sequence = 0;  // from 0
  Instant time{};
  std::string dataset;
  LedgerCharge charge;
  double epsilon_before = 0;  // at the budget's δ, within the period; may be infinite
  double epsilon_after = 0;
  Digest previous;  // hash of the line before; LedgerGenesis for the first
  Digest hash;      // tagged hash of everything above
};

/// Hash that stands before the first entry of a dataset's ledger.
Digest LedgerGenesis(std::string_view dataset);

/// A line without its newline, and back. ParseLedgerLine is DataLoss when the line is not exactly what
/// FormatLedgerLine writes for the entry it says, or its hash is wrong.
std::string FormatLedgerLine(const LedgerEntry& entry);
StatusOr<LedgerEntry> ParseLedgerLine(std::string_view line);

/// All entries of a ledger file, its chain verified. NotFound when there is no file. DataLoss naming the
/// line. Takes no lock: for `ledger show` while a worker runs.
StatusOr<std::vector<LedgerEntry>> ReadLedger(const std::filesystem::path& path, std::string_view dataset);

/// A dataset's privacy ledger: append-only JSON lines, hash-chained, mode 0600, outlives jobs, hard stop.
///
/// Charges come before anything leaves: Charge returns once the line is on the disk. Nothing is refunded.
/// What it cannot see: whole lines cut off its end. Compare `head()` with what peers countersigned in adverts
/// and with a copy kept elsewhere. One thread.
class Ledger {
 public:
  /// Opens or creates. DataLoss, naming the line, when it was edited or its last line is incomplete;
  /// Unavailable when another process has it open; InvalidArgument when it is another dataset's.
  static StatusOr<std::unique_ptr<Ledger>> Open(const std::filesystem::path& path, std::string_view dataset,
                                                const PrivacyBudget& budget, BudgetPeriod period);

  /// Charges and fsyncs. ResourceExhausted beyond the budget, saying what is left; AlreadyExists when this
  /// attempt was charged for the same kind; after a failed write every later call fails (DataLoss): what is
  /// on the disk is not known.
  StatusOr<LedgerEntry> Charge(Instant now, const LedgerCharge& charge);

  /// Whether `attempt` has been charged for `kind`.
  bool IsCharged(ChargeKind kind, const AttemptId& attempt) const;
  /// Charges of `kind` for this job so far. For evaluations also the attempt number of the next one.
  uint32_t CountOf(ChargeKind kind, const JobId& job) const;

  /// ε spent in the period of `now`, and with `added` on top.
  double Spent(Instant now) const;
  double SpentAfter(Instant now, std::span<const LedgerCharge> added) const;

  const PrivacyBudget& budget() const { return budget_; }
  BudgetPeriod period() const { return period_; }
  const std::string& dataset() const { return dataset_; }
  const std::vector<LedgerEntry>& entries() const { return entries_; }
  /// Hash of the last entry: what adverts carry.
  Digest head() const { return entries_.empty() ? LedgerGenesis(dataset_) : entries_.back().hash; }

 private:
  Ledger() = default;
  std::vector<LedgerCharge> InPeriod(Instant now) const;

  std::filesystem::path path_;
  FileDescriptor file_;  // holds the lock
  std::string dataset_;
  PrivacyBudget budget_;
  BudgetPeriod period_ = BudgetPeriod::kNone;
  std::vector<LedgerEntry> entries_;
  bool broken_ = false;
};

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_H_
