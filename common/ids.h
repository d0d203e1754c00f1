#ifndef CONCORDAT_COMMON_IDS_H_
#define CONCORDAT_COMMON_IDS_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/bytes.h"

namespace concordat {

/// What an identity may be. Each has its own word in the SPIFFE path.
enum class Role { kWorker, kOperator, kCoordinator };
std::string_view RoleName(Role role);

/// A SPIFFE ID `spiffe://<jurisdiction>/<worker|operator|coordinator>/<name>` (SPIFFE-ID standard, section
/// 2). Jurisdiction and name: 1 to 63 of [a-z0-9.-], beginning and ending with a letter or digit.
class SpiffeId {
 public:
  SpiffeId() = default;
  /// InvalidArgument when a part does not fit.
  static StatusOr<SpiffeId> Make(std::string_view jurisdiction, Role role, std::string_view name);
  static StatusOr<SpiffeId> Parse(std::string_view uri);

  const std::string& jurisdiction() const { return jurisdiction_; }
  Role role() const { return role_; }
  const std::string& name() const { return name_; }
  std::string ToString() const;
  /// "jurisdiction/name", for people.
  std::string Brief() const { return jurisdiction_ + "/" + name_; }

  auto operator<=>(const SpiffeId&) const = default;

 private:
  std::string jurisdiction_;
  Role role_ = Role::kWorker;
  std::string name_;
};

/// True for 1 to 63 of [a-z0-9.-], beginning and ending with a letter or digit.
bool IsName(std::string_view text);

/// A job is named by the hash of its signed file (policy/job.h).
using JobId = Digest;
/// Rounds and attempts count from 0.
using RoundIndex = uint32_t;
using AttemptIndex = uint32_t;

/// (J, r, a): every "once" of the protocol is once for this.
struct AttemptId {
  JobId job;
  RoundIndex round = 0;
  AttemptIndex attempt = 0;
  auto operator<=>(const AttemptId&) const = default;
  std::string Brief() const;
};

/// Position of a site in the roster of an attempt, from 1 to n: also its Shamir abscissa.
using SiteIndex = uint8_t;
inline constexpr size_t kMaxSites = 100;

}  // namespace concordat

#endif  // CONCORDAT_COMMON_IDS_H_
