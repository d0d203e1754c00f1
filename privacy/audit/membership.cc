#include "privacy/audit/membership.h"

#include <numeric>

#include "privacy/audit/scores.h"

namespace concordat::audit {
namespace {

constexpr size_t kFewestForOnePercent = 100;

/// For each of `scores` the share of `ascending` that is below it (or, with `above`, above it).
std::vector<double> Shares(std::span<const double> scores, const std::vector<double>& ascending, bool above) {
  const auto all = static_cast<double>(ascending.size());
  std::vector<double> out;
  out.reserve(scores.size());
  for (const double score : scores) {
    const double below = internal::Below(ascending, score);
    out.push_back((above ? all - below : below) / all);
  }
  return out;
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Sample variance over the number of values.
double VarianceOfMean(const std::vector<double>& values, double mean) {
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  const auto n = static_cast<double>(values.size());
  return squares / (n - 1) / n;
}

}  // namespace

StatusOr<Membership> MeasureMembership(std::span<const double> members, std::span<const double> non_members) {
  RETURN_IF_ERROR(internal::CheckScores(members, 2, "members"));
  RETURN_IF_ERROR(internal::CheckScores(non_members, 2, "non-members"));
  const std::vector<double> in = internal::Ascending(members), out = internal::Ascending(non_members);
  const std::vector<double> beaten = Shares(members, out, /*above=*/false);
  const std::vector<double> beating = Shares(non_members, in, /*above=*/true);
  Membership result;
  result.members = static_cast<uint32_t>(members.size());
  result.non_members = static_cast<uint32_t>(non_members.size());
  result.auc = Mean(beaten);
  result.standard_error = std::sqrt(VarianceOfMean(beaten, result.auc) + VarianceOfMean(beating, result.auc));
  if (out.size() >= kFewestForOnePercent) {
    // The first non-member that may not be above the threshold any more is the threshold.
    const double threshold = out[out.size() - 1 - out.size() / 100];
    const auto above = in.end() - std::upper_bound(in.begin(), in.end(), threshold);
    result.tpr_at_1_percent = static_cast<double>(above) / static_cast<double>(in.size());
  }
  return result;
}

}  // namespace concordat::audit
