#include "worker/rpc/attempt_name.h"

#include <charconv>

namespace concordat::worker {
namespace {

StatusOr<uint32_t> ParseNumber(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return InvalidArgument("expected a number");
  return value;
}

}  // namespace

std::string AttemptFileName(const AttemptId& id, std::string_view suffix) {
  return fmt::format("{}-{}-{}{}", id.job.hex(), id.round, id.attempt, suffix);
}

StatusOr<AttemptId> ParseAttemptFileName(std::string_view name, std::string_view suffix) {
  const auto bad = [&] { return InvalidArgument("no file of an attempt: {}", name.substr(0, 100)); };
  if (!name.ends_with(suffix)) return bad();
  name.remove_suffix(suffix.size());
  const size_t first = name.find('-');
  const size_t second = name.find('-', first == std::string_view::npos ? first : first + 1);
  if (second == std::string_view::npos) return bad();
  AttemptId id;
  ASSIGN_OR_RETURN(id.job, Digest::FromHexText(name.substr(0, first)));
  ASSIGN_OR_RETURN(id.round, ParseNumber(name.substr(first + 1, second - first - 1)));
  ASSIGN_OR_RETURN(id.attempt, ParseNumber(name.substr(second + 1)));
  return id;
}

}  // namespace concordat::worker
