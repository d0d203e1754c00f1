#ifndef CONCORDAT_PRIVACY_AUDIT_EXPOSURE_H_
#define CONCORDAT_PRIVACY_AUDIT_EXPOSURE_H_

#include <cstdint>
#include <numbers>
#include <span>

#include "common/status.h"

namespace concordat::audit {

/// Mean exposure of a canary that was not trained on, in bits: 1/ln 2 = 1.4427 against very many references,
/// a little less against few.
inline constexpr double kNullExposure = 1 / std::numbers::ln2;
/// How far a mean over m canaries may be above that: 4.3/√m, three standard deviations of it.
inline constexpr double kExposureMargin = 4.3;

/// How much a model remembers of planted canaries (Carlini, Liu, Erlingsson, Kos and Song 2019, arXiv
/// 1802.08232, section 4): the exposure of one canary is log2(n + 1) − log2(rank) against n references that
/// were drawn as it was and never trained on. Bits; 0 for the last of all, at most log2(n + 1).
struct Exposure {
  uint32_t planted = 0;     ///< m
  uint32_t references = 0;  ///< n
  double mean = 0, median = 0, most = 0;
  /// 1/ln 2 + 4.3·√(1/m + 1/n). A mean above it is not chance: without training on them a planted canary and
  /// a reference are exchangeable, an exposure is close to exponential with mean and deviation 1/ln 2, and
  /// both samples move the mean, the references as 1/n because all canaries are held against the same ones.
  /// False alarms: 3 in 1,000 from a hundred canaries up, 1 in 100 for eight.
  double flag = 0;

  bool found() const { return mean > flag; }
  bool operator==(const Exposure&) const = default;
};

/// \param planted one score for each canary that was trained on, larger means better remembered (nats by
/// which the adapter lowers its loss); \param references of those never trained on. A score that ties counts
/// half, so that a model that knows nothing, where all tie, is not accused. InvalidArgument: none on a side,
/// more than 2^24, a score that is not finite.
StatusOr<Exposure> MeasureExposure(std::span<const double> planted, std::span<const double> references);

}  // namespace concordat::audit

#endif  // CONCORDAT_PRIVACY_AUDIT_EXPOSURE_H_
