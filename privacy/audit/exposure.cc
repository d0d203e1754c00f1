#include "privacy/audit/exposure.h"

#include <numeric>

#include "privacy/audit/scores.h"

namespace concordat::audit {

StatusOr<Exposure> MeasureExposure(std::span<const double> planted, std::span<const double> references) {
  RETURN_IF_ERROR(internal::CheckScores(planted, 1, "canaries"));
  RETURN_IF_ERROR(internal::CheckScores(references, 1, "references"));
  const std::vector<double> below = internal::Ascending(references);
  const auto m = static_cast<double>(planted.size()), n = static_cast<double>(references.size());
  std::vector<double> bits;
  bits.reserve(planted.size());
  for (const double score : planted) {
    const double rank = 1 + n - internal::Below(below, score);
    bits.push_back(std::log2(n + 1) - std::log2(rank));
  }
  std::sort(bits.begin(), bits.end());
  Exposure out;
  out.planted = static_cast<uint32_t>(planted.size());
  out.references = static_cast<uint32_t>(references.size());
  out.mean = std::accumulate(bits.begin(), bits.end(), 0.0) / m;
  out.median = (bits[(bits.size() - 1) / 2] + bits[bits.size() / 2]) / 2;
  out.most = bits.back();
  out.flag = kNullExposure + kExposureMargin * std::sqrt(1 / m + 1 / n);
  return out;
}

}  // namespace concordat::audit
