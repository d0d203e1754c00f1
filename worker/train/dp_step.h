#ifndef CONCORDAT_WORKER_TRAIN_DP_STEP_H_
#define CONCORDAT_WORKER_TRAIN_DP_STEP_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/secret.h"
#include "common/status.h"

namespace concordat::train {

/// Public bounds on what one privacy unit adds to a step's figures.
struct DpMetricBounds {
  uint32_t target_tokens = 1024;  ///< 1 to 2^24; a unit with more counts in proportion
  double loss = 8192;             ///< nats, more than 0; clipped after that proportion
};

/// Public parameters of one logical step of DP-SGD (Abadi et al. 2016) over privacy units (persons or
/// records).
struct DpStepConfig {
  double clip = 1;              ///< C, L2 bound on one unit's gradient (mean over the unit's target tokens)
  double noise_multiplier = 0;  ///< z, noise over sensitivity; 0 makes no promise at all
  double grid = 0;              ///< γ, see GradientGrid; 0: its default
  double divisor = 0;           ///< expected units a step, q·N with a public N; never the number drawn
  DpMetricBounds bounds = {};
  bool operator==(const DpStepConfig& o) const {
    return clip == o.clip && noise_multiplier == o.noise_multiplier && grid == o.grid &&
           divisor == o.divisor && bounds.target_tokens == o.bounds.target_tokens &&
           bounds.loss == o.bounds.loss;
  }
};

/// A step's figures as integers, each clipped per unit: fixed extra coordinates of the release.
enum class DpMetric : uint8_t { kLossSum, kTargetTokens, kCorrectTokens, kUnits };
inline constexpr size_t kDpMetrics = 4;
struct DpMetrics {
  struct Coordinate {
    int64_t sum = 0;          ///< over the units of a step
    int64_t sensitivity = 1;  ///< what one unit adds at most, at least 0 of it
    double unit = 1;          ///< value = sum·unit (nats or counts)
    double value() const { return static_cast<double>(sum) * unit; }
  };
  std::array<Coordinate, kDpMetrics> all;
  const Coordinate& operator[](DpMetric m) const { return all[static_cast<size_t>(m)]; }
  Coordinate& operator[](DpMetric m) { return all[static_cast<size_t>(m)]; }
};

/// Adds to every coordinate a Gaussian, rounded to integers, of standard deviation z·sensitivity: each
/// coordinate is then a Gaussian release of its own with noise multiplier `noise_multiplier`, to be composed
/// with the gradient's. \param seed fresh, used for nothing else. InvalidArgument: z not from 1e-2 to 1e6.
Status AddMetricNoise(double noise_multiplier, const Secret32& seed, DpMetrics& metrics);

/// What a logical step did. Only the adapter after the step is covered by its noise: **everything here but
/// `gradient_norm` and `noise_stddev` is data of the region** and must not leave it without noise of its own.
struct DpStepResult {
  uint64_t units = 0;             ///< whose gradient is in the sum
  uint64_t dropped = 0;           ///< left out: loss or gradient was NaN or infinite
  uint64_t clipped = 0;           ///< of `units`
  uint64_t records = 0;           ///< sequences read
  uint64_t tokens = 0;            ///< all tokens read
  DpMetrics metrics;              ///< without noise
  std::vector<float> unit_norms;  ///< before the clip, in the order of the units that count
  double gradient_norm = 0;       ///< of the noised mean gradient
  double noise_stddev = 0;        ///< of each of its coordinates
};

}  // namespace concordat::train

#endif  // CONCORDAT_WORKER_TRAIN_DP_STEP_H_
