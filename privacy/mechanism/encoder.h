#ifndef CONCORDAT_PRIVACY_MECHANISM_ENCODER_H_
#define CONCORDAT_PRIVACY_MECHANISM_ENCODER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/secret.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/discrete_gaussian.h"
#include "privacy/mechanism/encoding.h"

namespace concordat {

/// Elements of one block: rounding and noise of a block depend on the seed and the block's number only.
inline constexpr uint64_t kEncodeBlockElements = 65536;
/// Draws of the rounding before the encoder gives up; each fails with probability at most 1e-9.
inline constexpr uint32_t kMaxRoundingDraws = 64;

/// OK if every element is an integer from −largest to largest: what a plan with integers() takes as a delta.
/// InvalidArgument with the first index that is not, never the value. Any thread.
Status CheckIntegers(std::span<const float> delta, uint64_t largest);

/// One site's delta on its way to integers: clip, rotate when b is 24, scale, round, add noise; or, when the
/// plan is of integers(), the integers that it is given and noise. Words come mod 2^32; PackWords reduces
/// them mod 2^b.
///
/// Make() is pass 1: norm, clip factor, and a draw of the rounding whose integer norm is within Δ₂. Only the
/// number of that draw is kept; Encode() is pass 2 and replays its bits from AES-CTR, so that the vector is
/// produced chunk by chunk, in cache, in any order and by any number of threads, and nothing of its size is
/// stored but, when b is 24, the rotated delta. The same seed gives the same bytes: whoever retries must take
/// a fresh one (one mask, one plaintext; one noise, one sum). Does not protect against someone who reads this
/// process's memory or times single noise draws.
class Encoder {
 public:
  /// \param delta plan.config().elements weights, borrowed: must outlive the encoder, unchanged.
  /// \param weight 1 to max_weight; the clip bounds ‖weight·delta‖.
  /// \param metrics in the order of the plan; each is clipped to its bound.
  /// \param seed fresh for each attempt, from the operating system.
  /// InvalidArgument: a size that does not match, a NaN or infinity (the index is named, never the value), a
  /// weight out of range, and where the plan is of integers() a delta that CheckIntegers refuses. Internal:
  /// no rounding within Δ₂ in 64 draws.
  static StatusOr<Encoder> Make(EncodingPlan plan, std::span<const float> delta, uint32_t weight,
                                std::span<const double> metrics, const Secret32& seed);

  /// Writes elements first_element … first_element + out.size() − 1 of the wire vector.
  /// `first_element` is a multiple of kEncodeBlockElements, and `out` ends at such a multiple or at the end
  /// of the vector: InvalidArgument otherwise. Any thread, several at once.
  Status Encode(uint64_t first_element, std::span<uint32_t> out) const;

  const EncodingPlan& plan() const { return plan_; }
  /// Whether the delta was longer than the clip: for the region's own log, never for the wire.
  bool clipped() const { return clipped_; }

 private:
  Encoder() = default;
  StatusOr<std::span<const float>> Clip(const EncodingPlan& plan, std::span<const float> delta,
                                        uint32_t weight);
  Status PickRounding();
  crypto::CtrStream RoundingBits() const;
  void RoundSpan(crypto::CtrStream& bits, uint64_t first, std::span<int32_t> out) const;
  void EncodeBlock(uint64_t block, crypto::CtrStream& bits, std::span<uint32_t> out) const;
  void EncodeMetrics(uint64_t first_metric, std::span<uint32_t> out) const;

  EncodingPlan plan_;
  std::shared_ptr<const std::vector<float>> rotated_;  // when the plan rotates
  std::span<const float> delta_;                       // the caller's, or rotated_
  double multiplier_ = 0;                              // weight · clip factor · scale
  std::vector<int64_t> metric_units_;                  // clipped, scaled, rounded
  Secret32 seed_;
  uint32_t draw_ = 0;
  bool clipped_ = false;
  std::shared_ptr<const DiscreteGaussianSampler> noise_;
};

/// What the sum over the surviving sites says.
struct DecodedSum {
  std::vector<float> mean_delta;    // Σ weight·delta / Σ weight, elements of the delta
  std::vector<double> metric_sums;  // in the metric's own unit, in the order of the plan
};

/// Reads the sum mod 2^b of the survivors' vectors: centre-lift, undo the rotation when b is 24 (a word fits
/// an f32), divide by scale and summed weight in f64, round to f32 once. The same words give the same bits on
/// every machine; bits of a word above b do not count. Memory: what it returns.
/// \param total_weight Σ of the survivors' weights, from 1 to sites · max_weight.
/// InvalidArgument if a size or the weight does not match the plan.
StatusOr<DecodedSum> Decode(const EncodingPlan& plan, std::span<const uint32_t> sum, uint64_t total_weight);

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_ENCODER_H_
