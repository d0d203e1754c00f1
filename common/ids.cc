#include "common/ids.h"

namespace concordat {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kWorker:
      return "worker";
    case Role::kOperator:
      return "operator";
    case Role::kCoordinator:
      return "coordinator";
  }
  return "unknown";
}

bool IsName(std::string_view text) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (text.empty() || text.size() > 63 || !alnum(text.front()) || !alnum(text.back())) return false;
  for (char c : text) {
    if (!alnum(c) && c != '-' && c != '.') return false;
  }
  return true;
}

StatusOr<SpiffeId> SpiffeId::Make(std::string_view jurisdiction, Role role, std::string_view name) {
  if (!IsName(jurisdiction)) {
    return InvalidArgument(
        "jurisdiction: expected 1 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit");
  }
  if (!IsName(name)) {
    return InvalidArgument(
        "name: expected 1 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit");
  }
  SpiffeId id;
  id.jurisdiction_ = jurisdiction;
  id.role_ = role;
  id.name_ = name;
  return id;
}

StatusOr<SpiffeId> SpiffeId::Parse(std::string_view uri) {
  static constexpr std::string_view kScheme = "spiffe://";
  const Status bad = InvalidArgument("expected spiffe://<jurisdiction>/<worker|operator|coordinator>/<name>");
  if (!uri.starts_with(kScheme)) return bad;
  uri.remove_prefix(kScheme.size());
  const size_t first = uri.find('/');
  if (first == std::string_view::npos) return bad;
  const std::string_view jurisdiction = uri.substr(0, first);
  uri.remove_prefix(first + 1);
  const size_t second = uri.find('/');
  if (second == std::string_view::npos) return bad;
  const std::string_view word = uri.substr(0, second);
  const std::string_view name = uri.substr(second + 1);
  for (Role role : {Role::kWorker, Role::kOperator, Role::kCoordinator}) {
    if (word == RoleName(role)) return Make(jurisdiction, role, name);
  }
  return bad;
}

std::string SpiffeId::ToString() const {
  return fmt::format("spiffe://{}/{}/{}", jurisdiction_, RoleName(role_), name_);
}

std::string AttemptId::Brief() const {
  return fmt::format("job {} round {} attempt {}", job.brief(), round, attempt);
}

}  // namespace concordat
