#ifndef CONCORDAT_POLICY_LEDGER_JSON_H_
#define CONCORDAT_POLICY_LEDGER_JSON_H_

#include "policy/json_lines.h"
#include "policy/ledger.h"
#include "privacy/accounting/price.h"

// How the ledger, its anchor and its statements write a price.
namespace concordat::policy {

nlohmann::ordered_json PriceToJson(const Price& price);
/// DataLoss or InvalidArgument when it is no price.
StatusOr<Price> PriceFromJson(const nlohmann::json& mechanisms);

/// An entry from the object of a ledger's line, its keys in any order. DataLoss unless it holds exactly what
/// FormatLedgerLine writes, with the right hash.
StatusOr<LedgerEntry> LedgerEntryFromJson(const nlohmann::json& line);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_JSON_H_
