#ifndef CONCORDAT_AGGREGATION_STRICT_JSON_H_
#define CONCORDAT_AGGREGATION_STRICT_JSON_H_

#include <nlohmann/json.hpp>
#include <string_view>

#include "common/bytes.h"

namespace concordat {

/// Parses `text` (RFC 8259, UTF-8). InvalidArgument, starting with `what` and naming the byte where it went
/// wrong but never quoting the text: not JSON, bytes after the value, a key twice in one object, nested
/// deeper than 64, a number that overflows. Throws nothing.
StatusOr<nlohmann::json> ParseStrictJson(std::string_view text, std::string_view what);

}  // namespace concordat

#endif  // CONCORDAT_AGGREGATION_STRICT_JSON_H_
