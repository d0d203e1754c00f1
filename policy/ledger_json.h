#ifndef CONCORDAT_POLICY_LEDGER_JSON_H_
#define CONCORDAT_POLICY_LEDGER_JSON_H_

#include "policy/json_lines.h"
#include "privacy/accounting/price.h"

// How the ledger and its anchor write a price.
namespace concordat::policy {

nlohmann::ordered_json PriceToJson(const Price& price);
/// DataLoss or InvalidArgument when it is no price.
StatusOr<Price> PriceFromJson(const nlohmann::json& mechanisms);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_JSON_H_
