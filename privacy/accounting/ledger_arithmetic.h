#ifndef CONCORDAT_PRIVACY_ACCOUNTING_LEDGER_ARITHMETIC_H_
#define CONCORDAT_PRIVACY_ACCOUNTING_LEDGER_ARITHMETIC_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "common/canonical.h"
#include "common/ids.h"
#include "privacy/accounting/privacy_statement.h"

namespace concordat {

/// What left a region and was paid for. kRestored: what a ledger had charged before it was cut, edited or put
/// back from a copy (policy/ledger.h), charged again.
enum class ChargeKind : uint8_t { kDelta = 1, kEvaluation = 2, kRestored = 3 };
std::string_view ChargeKindText(ChargeKind kind);

/// One charge against a dataset's budget, made before anything leaves. Nothing is ever refunded.
struct LedgerCharge {
  ChargeKind kind = ChargeKind::kDelta;
  PrivacyUnit unit = PrivacyUnit::kSite;
  Neighbour neighbour = Neighbour::kZeroOut;
  AttemptId attempt;
  Price price;  // what the attempt costs
};

/// Canonical bytes of a charge, for journals and receipts.
void WriteCharge(CanonicalWriter& out, const LedgerCharge& charge);
/// InvalidArgument on an unknown code or a number out of range.
StatusOr<LedgerCharge> ReadCharge(CanonicalReader& in);

/// What a dataset may spend: (ε, δ) for one unit and neighbour relation. ε may be infinite: no limit, said
/// plainly.
struct PrivacyBudget {
  PrivacyUnit unit = PrivacyUnit::kSite;
  Neighbour neighbour = Neighbour::kZeroOut;
  double epsilon = 0;
  double delta = 0;
};

/// ε at the budget's δ of everything charged: prices add, then convert, so the order of charges does not
/// matter, and one more charge lowers it by no more than the last digits in which such bounds are close.
/// Infinity when a charge is priced in another unit or neighbour relation than the budget's: such prices do
/// not compose.
double EpsilonSpent(const PrivacyBudget& budget, std::span<const LedgerCharge> charges);

/// ε after `charges` and then `added`: for a plan that shows the cost of rounds to come.
double EpsilonAfter(const PrivacyBudget& budget, std::span<const LedgerCharge> charges,
                    std::span<const LedgerCharge> added);

/// OK if `added` still fits. ResourceExhausted otherwise, naming budget, spent, and what the charge would
/// make it. InvalidArgument if its unit or neighbour relation is not the budget's, or its price is empty.
/// AlreadyExists if this attempt was charged before with the same kind: charging is once for (J, r, a).
Status CanCharge(const PrivacyBudget& budget, std::span<const LedgerCharge> charges,
                 const LedgerCharge& added);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_ACCOUNTING_LEDGER_ARITHMETIC_H_
