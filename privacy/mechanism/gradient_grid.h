#ifndef CONCORDAT_PRIVACY_MECHANISM_GRADIENT_GRID_H_
#define CONCORDAT_PRIVACY_MECHANISM_GRADIENT_GRID_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/secret.h"
#include "common/status.h"
#include "privacy/mechanism/rounded_gaussian.h"

namespace concordat {

/// Public parameters of one noised sum of clipped gradients.
struct GradientGridConfig {
  uint64_t elements = 0;        // d
  double clip = 0;              // C, L2 bound on one privacy unit's gradient
  double noise_multiplier = 0;  // z: noise's standard deviation over the sensitivity; 0: no noise, no privacy
  double grid = 0;              // γ, in units of the gradient; 0: DefaultGrid(clip, elements)
};

/// A config that was checked, with what follows from it. Everything below is in units of γ unless said
/// otherwise.
///
/// **Sensitivity**: each unit's gradient is clipped to C and every coordinate rounded to the nearest multiple
/// of γ, which moves the vector by at most √d/2. So one unit changes the sum, in L2, by at most S = C/γ +
/// √d/2 when it is added, removed or zeroed. S is stated 2^-30 larger, and the norm of the integers is
/// checked against it: the bound does not rest on the floating point that clipped.
///
/// **Noise**: round(s·N(0,1)) on each coordinate of the integer sum, s >= z·S. Integers plus a Gaussian
/// rounded to integers is the continuous Gaussian mechanism, rounded: (z, add/remove) prices it, an upper
/// bound.
///
/// **Overflow**: none. |coordinate| <= kMaxUnits·(S + 1) + 15·s + 1 < 2^62 from the limits that Make()
/// checks.
class GradientGrid {
 public:
  /// Units that one sum takes at most.
  static constexpr uint64_t kMaxUnits = uint64_t{1} << 28;

  /// InvalidArgument, saying what to change: no element or over 2^31, clip or grid not positive and finite,
  /// a noise multiplier that is negative or not finite, S over 2^31 (grid too fine), s outside what
  /// RoundedGaussianScale holds.
  static StatusOr<GradientGrid> Make(const GradientGridConfig& config);
  /// The largest power of two at most C/(100·√d): rounding then adds at most 0.5% to the sensitivity.
  static double DefaultGrid(double clip, uint64_t elements);
  /// γ of a sum that leaves as integers and gets its noise there (EncodingPlan, kIntegers): C/(k√d) with
  /// k = 50, which adds 1% to the sensitivity; less, down to 4, where noise of z sensitivities would not fit
  /// a word's room: k·z·√d at most 2^19, or 2^17 with 24 bits. Public numbers alone, so that all sites agree.
  static double SumGrid(double clip, uint64_t elements, double noise_multiplier, uint32_t modulus_bits);

  const GradientGridConfig& config() const { return config_; }
  /// γ, in units of the gradient.
  double grid() const { return config_.grid; }
  /// S.
  double sensitivity() const { return sensitivity_; }
  /// s with its distribution; zero when z is 0.
  const RoundedGaussianScale& noise() const { return noise_; }
  /// s·γ: the noise's standard deviation in units of the gradient's sum.
  double noise_stddev() const { return noise_.stddev() * config_.grid; }

 private:
  GradientGridConfig config_;
  double sensitivity_ = 0;
  RoundedGaussianScale noise_;
};

/// Runs the body for every block 0 … blocks − 1, in any order and on any threads, and returns when all are
/// done.
using ForBlocks = std::function<void(size_t blocks, const std::function<void(size_t)>& body)>;
/// One after the other on the caller's thread.
void OneByOne(size_t blocks, const std::function<void(size_t)>& body);

/// The sum of units' gradients, in integers: order and threads do not change a bit of it.
/// One thread calls; the work inside goes through ForBlocks.
class GridSum {
 public:
  /// Elements of one block: a block's noise depends on the seed and the block's number only.
  static constexpr uint64_t kBlockElements = 65536;

  explicit GridSum(GradientGrid grid, ForBlocks for_blocks = OneByOne);
  GridSum(const GridSum&) = delete;
  GridSum& operator=(const GridSum&) = delete;
  /// Wipes: the sum before its noise is what must not be seen.
  ~GridSum();

  /// What became of one unit's gradient.
  struct Added {
    bool counted = false;  // false: a NaN or infinity was in it; the sum is as before
    bool clipped = false;
    double norm = 0;  // of weight·gradient before the clip
  };
  /// Adds round(clip(weight·gradient)/γ).
  /// \param gradient d values. \param weight finite, at least 0.
  /// InvalidArgument: another size or weight. ResourceExhausted: more than kMaxUnits. Internal: the integers
  /// are longer than S (never, unless this code is wrong); the sum is as before.
  StatusOr<Added> Add(std::span<const float> gradient, double weight);

  /// Adds the noise of `seed`, once, then writes sum·γ/divisor, rounded to f32 once, and is empty again.
  /// \param divisor public, more than 0; never the number of units drawn.
  Status Finish(const Secret32& seed, double divisor, std::span<float> out);

  /// Instead of Finish: writes the sum's integers **without noise**, each clamped to ±largest, and is empty
  /// again. For who adds noise to them before they are seen. Clamping moves no two sums apart.
  /// \param largest 1 to 2^24, so that an f32 holds every integer.
  Status TakeIntegers(uint64_t largest, std::span<float> out);

  /// Forgets everything added since the last Finish.
  void Clear();

  const GradientGrid& grid() const { return grid_; }
  /// Units added since the last Finish. Data: noise covers it no more than anything else that is not in the
  /// sum.
  uint64_t units() const { return units_; }

 private:
  size_t blocks() const;

  GradientGrid grid_;
  ForBlocks for_blocks_;
  std::vector<int64_t> sum_;
  std::vector<double> squares_;  // per block
  uint64_t units_ = 0;
};

}  // namespace concordat

#endif  // CONCORDAT_PRIVACY_MECHANISM_GRADIENT_GRID_H_
