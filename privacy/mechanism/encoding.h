#ifndef CONCORDAT_PRIVACY_MECHANISM_ENCODING_H_
#define CONCORDAT_PRIVACY_MECHANISM_ENCODING_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "privacy/mechanism/variance.h"

namespace concordat {

/// How a scaled weight becomes an integer.
enum class Rounding : uint8_t {
  kStochastic = 0,  // up with probability of the fraction: unbiased, the rule
  kNearest = 1,     // reproducible runs without noise only
};

/// The closed set of figures that may travel beside a delta, each one coordinate of the masked vector.
enum class MetricName : uint8_t {
  kTrainLossSum = 1,    // nats, over the tokens the loss counted
  kTrainTokens = 2,     // tokens the loss counted
  kHeldOutLossSum = 3,  // nats
  kHeldOutTokens = 4,
  kHeldOutBytes = 5,
  kExamples = 6,
};
/// "train_loss_sum" …
std::string_view MetricNameText(MetricName name);
/// InvalidArgument for another name.
StatusOr<MetricName> ParseMetricName(std::string_view text);

/// One metric: clipped to [−bound, bound], times `scale`, rounded to the nearest integer.
struct MetricSpec {
  MetricName name{};
  double bound = 0;         // in the metric's own unit, more than 0
  double scale = 1;         // integer units for each unit of the metric
  double noise_stddev = 0;  // per site, in integer units
  bool operator==(const MetricSpec&) const = default;
};

/// Public parameters of one round's encoding; the same at every site, part of the offer.
struct EncodingConfig {
  uint64_t elements = 0;       // d, of the delta, metrics not counted
  double clip = 0;             // c, L2 bound on weight·delta
  double scale = 0;            // s, integer units for each unit of weight; 0 means 5·√d / c
  uint32_t modulus_bits = 32;  // b; only 32 so far
  Rounding rounding = Rounding::kStochastic;
  double noise_stddev = 0;  // σ_s, of one site's noise, in integer units
  uint32_t max_weight = 1;  // largest weight of a site
  uint32_t sites = 0;       // n, of the roster
  std::vector<MetricSpec> metrics;
  bool operator==(const EncodingConfig&) const = default;
};

/// A config that was checked, with what follows from it.
///
/// **Sensitivity** (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, section 4.2, with β = 1e-9): every vector
/// that is sent has ‖q‖² <= Δ₂², the floor of min{(sc+√d)², (sc)² + d/4 + √(2 ln(1/β))·(sc + √d/2)}; it is
/// checked on the integers, so the bound does not rest on floating point. Under kNearest the first term.
///
/// **Overflow**: a sum is read wrongly if a coordinate leaves [−2^(b−1), 2^(b−1)). A coordinate of one site
/// is at most ⌈sc⌉ before noise (‖x‖ <= c, rounding moves by less than 1), the clip being on weight·delta.
/// The noise of n sites is sub-Gaussian with variance n·σ_s² (2004.00010, Corollary 17: a discrete Gaussian
/// has E exp(tX) <= exp(t²σ²/2), and independent sums multiply), so a coordinate overflows with probability
/// at most 2·exp(−M²/(2nσ_s²)), M = 2^(b−1) − 1 − n·⌈sc⌉. Summed over all d + k coordinates this must be at
/// most 2^-60 a round.
class EncodingPlan {
 public:
  /// InvalidArgument, saying what to change: d = 0 or over 2^31, clip, scale, bound or noise not finite or
  /// out of range, b other than 32, sites 0 or over 100, weight 0 or over 2^16, more than 64 metrics or one
  /// twice, kNearest with noise, overflow more likely than 2^-60.
  static StatusOr<EncodingPlan> Make(const EncodingConfig& config);

  const EncodingConfig& config() const { return config_; }
  /// s, with the default put in.
  double scale() const { return scale_; }
  /// Length of the vector on the wire: the delta's elements, then the metrics.
  uint64_t total_elements() const { return config_.elements + config_.metrics.size(); }
  /// Δ₂², bound on the squared norm of the integers that one site sends for its delta.
  uint64_t sensitivity_squared() const { return sensitivity_squared_; }
  /// Δ₂.
  double sensitivity() const;
  /// Δ₁ <= min(√d·Δ₂, Δ₂²); the second because |q| <= q² on integers.
  double sensitivity_l1() const;
  /// Largest absolute integer of metric `index` before noise; its sensitivity.
  uint64_t metric_sensitivity(size_t index) const { return metric_sensitivity_[index]; }
  NoiseVariance noise() const { return noise_; }
  NoiseVariance metric_noise(size_t index) const { return metric_noise_[index]; }
  /// Base-2 logarithm of the bound on the overflow probability of a round; −infinity without noise.
  double log2_overflow() const { return log2_overflow_; }

 private:
  friend struct EncodingPlanTestPeer;
  EncodingConfig config_;
  double scale_ = 0;
  uint64_t sensitivity_squared_ = 0;
  NoiseVariance noise_;
  std::vector<uint64_t> metric_sensitivity_;
  std::vector<NoiseVariance> metric_noise_;
  double log2_overflow_ = 0;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_ENCODING_H_
