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
#include "policy/ledger_mark.h"
#include "privacy/accounting/ledger_arithmetic.h"
#include "privacy/crypto/hash.h"

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

/// ε that `entries` have spent in the period of `now`, at the δ of `budget` as it is today: a row's own
/// figures are at that of its day.
double SpentBy(std::span<const LedgerEntry> entries, const PrivacyBudget& budget, BudgetPeriod period,
               Instant now);

/// The unit of a charge that counts in the period of `now` and is not of the budget's unit: then everything
/// counts as spent. None: all are.
std::optional<PrivacyUnit> OtherUnitIn(std::span<const LedgerEntry> entries, const PrivacyBudget& budget,
                                       BudgetPeriod period, Instant now);

/// What `Reconcile` found, and what it did about it.
struct LedgerFinding {
  std::vector<std::string> wrong;  // empty: nothing is
  uint64_t entries = 0;            // that verify, from the first on
  bool anchored = false;           // there is an anchor that can be read: else nothing below is known
  uint64_t entries_known = 0;      // the anchor's
  double epsilon_before = 0;       // spent, by those entries
  double epsilon_known = 0;        // by the anchor, at its last charge
  bool written = false;
  double epsilon_after = 0;    // spent, once it was written
  std::filesystem::path kept;  // copy of a file that did not verify to its end
};

/// A dataset's privacy ledger: append-only JSON lines, hash-chained, mode 0600, outlives jobs, hard stop.
///
/// Charges come before anything leaves: Charge returns once the line is on the disk. Nothing is refunded.
/// With an anchor (ledger_mark.h) a file that was cut, edited, deleted or put back from a copy is noticed
/// when it is opened and before each charge; then nothing is charged until `Reconcile`. What it cannot see:
/// file and anchor put back together; the worker's journal and its peers' signatures show that (Holds). One
/// thread.
///
/// An entry of kind kRestored charges again what was forgotten. Its attempt says what it stands for: `job` is
/// the head of the ledger that was known of, `round` the number of its entries, `attempt` how many were
/// found.
class Ledger {
 public:
  /// Opens or creates. DataLoss, naming the line, when it was edited or its last line is incomplete;
  /// Unavailable when another process has it open; InvalidArgument when it is another dataset's.
  /// \param anchor on another path, best on another disk; empty: none. With one FailedPrecondition, saying
  /// what
  ///     to do, when the file does not verify, is older than its anchor or another history, or has entries
  ///     and no anchor.
  static StatusOr<std::unique_ptr<Ledger>> Open(const std::filesystem::path& path, std::string_view dataset,
                                                const PrivacyBudget& budget, BudgetPeriod period,
                                                const std::filesystem::path& anchor = {});

  /// Charges and fsyncs. ResourceExhausted beyond the budget, saying what is left; AlreadyExists when this
  /// attempt was charged for the same kind; after a failed write every later call fails (DataLoss): what is
  /// on the disk is not known. FailedPrecondition when file or anchor were touched since they were opened.
  StatusOr<LedgerEntry> Charge(Instant now, const LedgerCharge& charge);

  /// All entries, and those up to the one with this hash (none: there is no such entry).
  LedgerMark Mark() const;
  std::optional<LedgerMark> MarkAt(const Digest& head) const;
  /// Whether `mark`, made from this ledger some time ago, is part of it, or an entry stands for it that was
  /// restored since.
  bool Holds(const LedgerMark& mark) const;
  /// Appends entries of kind kRestored that charge what `mark` knows beyond what is here, whatever the budget
  /// says; one without a price when that is nothing. Holds(mark) from then on.
  StatusOr<std::vector<LedgerEntry>> MakeGood(Instant now, const LedgerMark& mark);
  /// For a ledger that Open refuses: says what is wrong; with `write` it keeps what verifies, charges what
  /// the anchor knows beyond that, and anchors the result. The higher spend stands, mechanism by mechanism.
  /// Unavailable while a worker has it open; InvalidArgument when it is another dataset's.
  static StatusOr<LedgerFinding> Reconcile(const std::filesystem::path& path,
                                           const std::filesystem::path& anchor, std::string_view dataset,
                                           const PrivacyBudget& budget, BudgetPeriod period, Instant now,
                                           bool write);

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
  Ledger(std::filesystem::path path, std::string_view dataset, const PrivacyBudget& budget,
         BudgetPeriod period, std::filesystem::path anchor)
      : path_(std::move(path)),
        anchor_(std::move(anchor)),
        dataset_(dataset),
        budget_(budget),
        period_(period) {}
  std::vector<LedgerCharge> InPeriod(Instant now) const;
  void Take(LedgerEntry entry);
  StatusOr<LedgerEntry> Append(Instant now, const LedgerCharge& charge);
  Status Anchor() const;
  Status Suspicious(std::string_view what) const;
  StatusOr<std::optional<LedgerMark>> ReadAnchor() const;
  Status CheckUntouched() const;
  bool HasHead(const LedgerMark& mark) const;
  size_t Unrestored(const LedgerMark& mark) const;

  std::filesystem::path path_, anchor_;
  FileDescriptor file_;  // holds the lock
  std::string dataset_;
  PrivacyBudget budget_;
  BudgetPeriod period_ = BudgetPeriod::kNone;
  std::vector<LedgerEntry> entries_;
  std::vector<LedgerCharge> totals_;  // of entries_
  uint32_t restored_ = 0;             // of entries_
  crypto::Sha256Stream hash_;         // of the file
  bool broken_ = false;
};

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_H_
