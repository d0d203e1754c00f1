#ifndef CONCORDAT_POLICY_LEDGER_JSON_H_
#define CONCORDAT_POLICY_LEDGER_JSON_H_

#include "policy/json_lines.h"
#include "privacy/accounting/rdp.h"

// How the ledger and its anchor write a price.
namespace concordat::policy {

nlohmann::ordered_json TermsToJson(const RdpCurve& curve);
/// DataLoss or InvalidArgument when it is no price.
StatusOr<RdpCurve> TermsFromJson(const nlohmann::json& terms);

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_LEDGER_JSON_H_
