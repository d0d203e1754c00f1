#ifndef CONCORDAT_POLICY_LEDGER_MARK_H_
#define CONCORDAT_POLICY_LEDGER_MARK_H_

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/canonical.h"
#include "privacy/accounting/ledger_arithmetic.h"

namespace concordat::policy {

/// How far a ledger has come and all that it had charged by then, remembered outside of its file: in the
/// anchor, and in the worker's journal once peers have countersigned the head. With it a ledger that was cut,
/// edited or put back from a copy is noticed, and what it has forgotten is charged again.
struct LedgerMark {
  std::string dataset;
  uint64_t count = 0;     // entries
  uint32_t restored = 0;  // of these, entries of kind kRestored
  Digest head;            // hash of the last entry; LedgerGenesis when there is none
  double epsilon = 0;     // spent after the last entry, for people
  /// Every price ever charged, added up: one of kind kRestored for each unit and neighbour relation.
  std::vector<LedgerCharge> totals;
};

/// Adds `charge`'s price to the total of its unit and neighbour relation.
void AddToTotals(std::vector<LedgerCharge>& totals, const LedgerCharge& charge);
/// What `known` holds beyond `found`, mechanism by mechanism: together with `found` it is never less than
/// either.
std::vector<LedgerCharge> Beyond(const std::vector<LedgerCharge>& known,
                                 const std::vector<LedgerCharge>& found);

/// Different prices that a mark in the canonical form may hold. A ledger of more has none: only its anchor.
inline constexpr size_t kMaxMarkTerms = 4096;
bool FitsCanonically(const LedgerMark& mark);
/// Canonical form, for the worker's journal. ReadMark is InvalidArgument on anything that WriteMark does not
/// write.
void WriteMark(CanonicalWriter& out, const LedgerMark& mark);
StatusOr<LedgerMark> ReadMark(CanonicalReader& in);

/// The anchor: one line of JSON that carries the mark and its own hash, mode 0600, replaced atomically.
/// ReadLedgerAnchor: nothing when there is no file; DataLoss when it is not what WriteLedgerAnchor writes;
/// InvalidArgument when it is another dataset's.
StatusOr<std::optional<LedgerMark>> ReadLedgerAnchor(const std::filesystem::path& path,
                                                     std::string_view dataset);
Status WriteLedgerAnchor(const std::filesystem::path& path, const LedgerMark& mark);
/// Where it lies: beside the anchor of the worker's journal.
std::filesystem::path LedgerAnchorPath(const std::filesystem::path& journal_anchor);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_MARK_H_
