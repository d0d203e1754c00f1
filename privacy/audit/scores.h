#ifndef CONCORDAT_PRIVACY_AUDIT_SCORES_H_
#define CONCORDAT_PRIVACY_AUDIT_SCORES_H_

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace concordat::audit::internal {

inline constexpr size_t kMostScores = size_t{1} << 24;

/// InvalidArgument naming `what`, never a value: fewer than `least` scores, too many, one that is not finite.
inline Status CheckScores(std::span<const double> scores, size_t least, std::string_view what) {
  if (scores.size() < least || scores.size() > kMostScores)
    return InvalidArgument("{}: expected {} to {} scores, got {}", what, least, kMostScores, scores.size());
  for (const double score : scores)
    if (!std::isfinite(score)) return InvalidArgument("{}: a score is not finite", what);
  return OkStatus();
}

inline std::vector<double> Ascending(std::span<const double> scores) {
  std::vector<double> out(scores.begin(), scores.end());
  std::sort(out.begin(), out.end());
  return out;
}

/// How many of `ascending` are below `score`, those equal to it counted half.
inline double Below(const std::vector<double>& ascending, double score) {
  const auto [first, last] = std::equal_range(ascending.begin(), ascending.end(), score);
  return static_cast<double>(first - ascending.begin()) + static_cast<double>(last - first) / 2;
}

}  // namespace concordat::audit::internal

#endif  // CONCORDAT_PRIVACY_AUDIT_SCORES_H_
