#ifndef CONCORDAT_COMMON_STATUS_H_
#define CONCORDAT_COMMON_STATUS_H_

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The only file that includes Abseil's status headers.
//
// Codes mean one thing each:
//   InvalidArgument    malformed input
//   FailedPrecondition wrong phase
//   PermissionDenied   a border rule forbids it
//   ResourceExhausted  budget, quota or disk spent
//   Unavailable        try again
//   NotFound           no such thing
//   AlreadyExists      said before, and not the same
//   DataLoss           stored bytes do not verify
//   Internal           our own mistake
// A message says what was expected, what came, and from whom; never a record, key, share or update.
namespace concordat {

using Status = absl::Status;
template <typename T>
using StatusOr = absl::StatusOr<T>;
using StatusCode = absl::StatusCode;

inline Status OkStatus() { return {}; }

/// A status of `code` with `message`. Debian's Abseil has its own string_view, hence this one place.
inline Status MakeStatus(StatusCode code, std::string_view message) {
  return Status(code, absl::string_view(message.data(), message.size()));
}

/// The message of `status` as the standard type.
inline std::string_view Message(const Status& status) {
  const auto m = status.message();
  return {m.data(), m.size()};
}

#define CONCORDAT_DEFINE_ERROR(Name)                                                          \
  template <typename... Args>                                                                 \
  Status Name(fmt::format_string<Args...> format, Args&&... args) {                           \
    return MakeStatus(StatusCode::k##Name, fmt::format(format, std::forward<Args>(args)...)); \
  }
CONCORDAT_DEFINE_ERROR(InvalidArgument)
CONCORDAT_DEFINE_ERROR(FailedPrecondition)
CONCORDAT_DEFINE_ERROR(PermissionDenied)
CONCORDAT_DEFINE_ERROR(ResourceExhausted)
CONCORDAT_DEFINE_ERROR(Unavailable)
CONCORDAT_DEFINE_ERROR(NotFound)
CONCORDAT_DEFINE_ERROR(AlreadyExists)
CONCORDAT_DEFINE_ERROR(DataLoss)
CONCORDAT_DEFINE_ERROR(Internal)
CONCORDAT_DEFINE_ERROR(Unimplemented)
#undef CONCORDAT_DEFINE_ERROR

/// `status` with "`context`: " before its message; OK stays OK.
inline Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), fmt::format("{}: {}", context, Message(status)));
}

/// "PERMISSION_DENIED: message", for a person's eyes.
inline std::string ToString(const Status& status) { return status.ToString(); }

}  // namespace concordat

#define CONCORDAT_CONCAT_INNER(a, b) a##b
#define CONCORDAT_CONCAT(a, b) CONCORDAT_CONCAT_INNER(a, b)

/// Returns from the enclosing function when `expr` (a Status) is not OK.
#define RETURN_IF_ERROR(expr)                        \
  do {                                               \
    if (::concordat::Status s_ = (expr); !s_.ok()) { \
      return s_;                                     \
    }                                                \
  } while (false)

#define ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                           \
  if (!tmp.ok()) return tmp.status();          \
  lhs = std::move(tmp).value()

/// `lhs = value of expr` (a StatusOr), or returns its status from the enclosing function.
#define ASSIGN_OR_RETURN(lhs, expr) ASSIGN_OR_RETURN_INNER(CONCORDAT_CONCAT(status_or_, __LINE__), lhs, expr)

#endif  // CONCORDAT_COMMON_STATUS_H_
