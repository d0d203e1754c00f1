#ifndef CONCORDAT_PRIVACY_MECHANISM_ENCODING_H_
#define CONCORDAT_PRIVACY_MECHANISM_ENCODING_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "privacy/mechanism/variance.h"
#include "privacy/mechanism/words.h"

namespace concordat {

/// How a scaled weight becomes an integer.
enum class Rounding : uint8_t {
  kStochastic = 0,  // up with probability of the fraction: unbiased, the rule
  kNearest = 1,     // reproducible runs without noise only
  kIntegers = 2,    // nothing to round: sums of integers over privacy units, see EncodingPlan
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

/// Integers that a 32-bit float holds exactly: what a sum over privacy units is clamped to at most.
inline constexpr uint64_t kLargestInteger = uint64_t{1} << 24;

/// One metric: clipped to [−bound, bound], times `scale`, rounded to the nearest integer.
struct MetricSpec {
  MetricName name{};
  double bound = 0;         // in the metric's own unit, more than 0
  double scale = 1;         // integer units for each unit of the metric
  double noise_stddev = 0;  // per site, in integer units
  /// What one privacy unit changes at most, in integer units; 0: all of it, bound·scale.
  uint64_t sensitivity = 0;
  bool operator==(const MetricSpec&) const = default;
};

/// Public parameters of one round's encoding; the same at every site, part of the offer.
struct EncodingConfig {
  uint64_t elements = 0;               // d, of the delta, metrics not counted
  double clip = 0;                     // c, L2 bound on weight·delta
  double scale = 0;                    // s, integer units for each unit of weight; 0 means 5·√d / c
  uint32_t modulus_bits = kPlainBits;  // b, 32 or 24; with 24 the delta is rotated
  Digest rotation;                     // RotationSeed of the attempt; with b = 32 it does not count
  Rounding rounding = Rounding::kStochastic;
  double noise_stddev = 0;  // σ_s, of one site's noise, in integer units
  uint32_t max_weight = 1;  // largest weight of a site
  uint32_t sites = 0;       // n, of the roster
  std::vector<MetricSpec> metrics;
  /// With kIntegers alone, where `clip` is not used and `scale` must be given:
  double unit_sensitivity = 0;  // L2 bound on what one privacy unit changes, in integers
  uint64_t largest = 0;         // bound on each integer of a site
  bool operator==(const EncodingConfig&) const = default;
};

/// A config that was checked, with what follows from it.
///
/// **Sensitivity** (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, section 4.2, with β = 1e-9): every vector
/// that is sent has ‖q‖² <= Δ₂², the floor of min{(sc+√d)², (sc)² + d/4 + √(2 ln(1/β))·(sc + √d/2)}; it is
/// checked on the integers, so the bound does not rest on floating point. Under kNearest the first term.
///
/// **Sums over privacy units** (kIntegers, docs/decisions/0010-shared-noise-for-records.md): what a site
/// hands in is Σ_u q_u over its units, integers each of whose vectors was checked against ‖q_u‖ <=
/// unit_sensitivity, with every coordinate clamped to ±largest. Adding or removing a unit moves the sum by
/// exactly its q_u, and clamping moves no two vectors apart (each coordinate is 1-Lipschitz and integers stay
/// integers): Δ₂ is unit_sensitivity, Δ₂² its square's floor. There is no rounding after the sum, and no
/// floating point in the argument. Metrics are the same in one dimension, with a sensitivity of their own.
///
/// With b = 24 the clipped delta is rotated (rotation.h) before it is scaled. Lengths stay, the clip is
/// applied once more to what the rotation gave, and the same check is made on the integers that leave. Sums
/// over units are not rotated: their integers would not stay integers.
///
/// **Overflow**: a sum is read wrongly if a coordinate leaves [−2^(b−1), 2^(b−1)). A coordinate of one site
/// is at most ⌈sc⌉ before noise (‖x‖ <= c, rounding moves by less than 1), the clip being on weight·delta; of
/// a sum over units at most `largest`, which takes its place below.
/// The noise of n sites is sub-Gaussian with variance n·σ_s² (2004.00010, Corollary 17: a discrete Gaussian
/// has E exp(tX) <= exp(t²σ²/2), and independent sums multiply), so a coordinate overflows with probability
/// at most 2·exp(−M²/(2nσ_s²)), M = 2^(b−1) − 1 − n·⌈sc⌉. Summed over all d + k coordinates this must be at
/// most 2^-60 a round.
///
/// With b = 24 a second bound holds for the d coordinates of the delta, and the smaller one counts. Over the
/// signs a coordinate of the rotated sum is sub-Gaussian with variance proxy (n·sc)²/D, D = 2^⌊log2 d⌋: it is
/// Σ ±v_k/√D over a part of v, ‖v‖ <= n·sc, and where both steps of the rotation touch it that holds for the
/// second step's signs alone, whatever the first's were. Given the signs, the error of stochastic rounding
/// has range 1 and a mean within 2^-32 of zero (Hoeffding: n/4 for n sites), and the noise n·σ_s². Factors of
/// the moment generating functions multiply: V = (n·sc)²/D + n/4 + n·σ_s², and a coordinate overflows with
/// probability at most 2·exp(−M²/(2V)) with M = 2^(b−1) − 1 less what the rounding of f32 in the rotation may
/// add (n·sc·Rotation::ErrorBound), the 2^-32, and under kNearest 1/2 a site in place of n/4. A rounding that
/// is drawn again until its norm is within Δ₂ is that distribution given an event of probability at least
/// 1 − β, so n sites multiply the bound by at most (1 − β)^−n. This takes AES-CTR's bits for fair coins, and
/// deltas that were not made to fit them; nothing of privacy rests on it. Metrics are not rotated and keep
/// their worst case.
class EncodingPlan {
 public:
  /// InvalidArgument, saying what to change: d = 0 or over 2^31, clip, scale, bound or noise not finite or
  /// out of range, b other than 32 and 24, sites 0 or over 100, weight 0 or over 2^16, more than 64 metrics
  /// or one twice, kNearest with noise, overflow more likely than 2^-60. With kIntegers: no unit_sensitivity
  /// or one over 2^31, `largest` outside 1 … 2^24, no scale, weights; without: either of the two given.
  static StatusOr<EncodingPlan> Make(const EncodingConfig& config);

  const EncodingConfig& config() const { return config_; }
  /// s, with the default put in.
  double scale() const { return scale_; }
  /// Length of the vector on the wire: the delta's elements, then the metrics.
  uint64_t total_elements() const { return config_.elements + config_.metrics.size(); }
  /// Bytes of that vector, as it is stored, sent and hashed.
  uint64_t vector_bytes() const { return VectorBytes(total_elements(), config_.modulus_bits); }
  /// Whether the delta is rotated before it is scaled.
  bool rotated() const { return config_.modulus_bits == kPackedBits && !integers(); }
  /// Whether a site hands in integers that are summed over privacy units.
  bool integers() const { return config_.rounding == Rounding::kIntegers; }
  /// Δ₂², bound on the squared norm of the integers that one site sends for its delta, or with integers() of
  /// what one privacy unit changes in them.
  uint64_t sensitivity_squared() const { return sensitivity_squared_; }
  /// Δ₂.
  double sensitivity() const;
  /// Δ₁ <= min(√d·Δ₂, Δ₂²); the second because |q| <= q² on integers.
  double sensitivity_l1() const;
  /// What a site, or with MetricSpec::sensitivity a privacy unit, changes at most in metric `index`, in
  /// integers.
  uint64_t metric_sensitivity(size_t index) const { return metric_sensitivity_[index]; }
  NoiseVariance noise() const { return noise_; }
  NoiseVariance metric_noise(size_t index) const { return metric_noise_[index]; }
  /// Base-2 logarithm of the bound on the overflow probability of a round; −infinity without noise.
  double log2_overflow() const { return log2_overflow_; }

 private:
  friend struct EncodingPlanTestPeer;
  Status MakeRounded();
  Status MakeIntegers();
  Status MakeMetrics();

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
