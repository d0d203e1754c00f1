#include "aggregation/strict_json.h"

#include <set>
#include <string>
#include <vector>

namespace concordat {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

/// Builds the value like the library's own parser, and stops at what it would let pass.
class StrictSax {
 public:
  explicit StrictSax(json& out) : dom_(out, false) {}

  bool null() { return dom_.null(); }
  bool boolean(bool v) { return dom_.boolean(v); }
  bool number_integer(json::number_integer_t v) { return dom_.number_integer(v); }
  bool number_unsigned(json::number_unsigned_t v) { return dom_.number_unsigned(v); }
  bool number_float(json::number_float_t v, const std::string& s) { return dom_.number_float(v, s); }
  bool string(std::string& v) { return dom_.string(v); }
  bool binary(json::binary_t& v) { return dom_.binary(v); }
  bool start_object(size_t n) {
    keys_.emplace_back();
    return Enter() && dom_.start_object(n);
  }
  bool end_object() {
    keys_.pop_back();
    --depth_;
    return dom_.end_object();
  }
  bool start_array(size_t n) { return Enter() && dom_.start_array(n); }
  bool end_array() {
    --depth_;
    return dom_.end_array();
  }
  bool key(std::string& v) {
    if (!keys_.back().insert(v).second) return Stop("a key appears twice in one object");
    return dom_.key(v);
  }
  // The library's message quotes what it read last, so only the position is kept.
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    return Stop(fmt::format("not valid JSON at byte {}", position));
  }
  const std::string& error() const { return error_; }

 private:
  bool Enter() { return ++depth_ <= kMaxDepth || Stop("nested too deeply"); }
  bool Stop(std::string error) {
    if (error_.empty()) error_ = std::move(error);
    return false;
  }

  nlohmann::detail::json_sax_dom_parser<json> dom_;
  std::vector<std::set<std::string>> keys_;
  size_t depth_ = 0;
  std::string error_;
};

}  // namespace

StatusOr<json> ParseStrictJson(std::string_view text, std::string_view what) {
  try {
    json out;
    StrictSax sax(out);
    if (!json::sax_parse(text.begin(), text.end(), &sax)) {
      return InvalidArgument("{}: {}", what, sax.error().empty() ? "not valid JSON" : sax.error());
    }
    return out;
  } catch (const json::exception& e) {
    return InvalidArgument("{}: not valid JSON (library error {})", what, e.id);
  }
}

}  // namespace concordat
