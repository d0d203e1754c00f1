#include "privacy/mechanism/encoding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "privacy/mechanism/rotation.h"

namespace concordat {
namespace {

constexpr uint64_t kMaxElements = uint64_t{1} << 31;
constexpr uint32_t kMaxSitesInSum = 100;
constexpr size_t kMaxMetrics = 64;
constexpr double kLargestUnits = 0x1p30;  // one site's coordinate, before noise
constexpr double kLog2OverflowLimit = -60;
constexpr double kBeta = 1e-9;

constexpr std::array<std::pair<MetricName, std::string_view>, 6> kMetricTexts = {{
    {MetricName::kTrainLossSum, "train_loss_sum"},
    {MetricName::kTrainTokens, "train_tokens"},
    {MetricName::kHeldOutLossSum, "held_out_loss_sum"},
    {MetricName::kHeldOutTokens, "held_out_tokens"},
    {MetricName::kHeldOutBytes, "held_out_bytes"},
    {MetricName::kExamples, "examples"},
}};

bool PositiveFinite(double v) { return v > 0 && std::isfinite(v); }

Status CheckConfig(const EncodingConfig& c) {
  if (c.elements == 0 || c.elements > kMaxElements)
    return InvalidArgument("encoding: expected 1 to {} elements, got {}", kMaxElements, c.elements);
  if (!PositiveFinite(c.clip))
    return InvalidArgument("encoding: expected a clip norm of more than 0, got {}", c.clip);
  if (c.scale != 0 && !PositiveFinite(c.scale))
    return InvalidArgument("encoding: expected a scale of more than 0, or 0 for the default, got {}",
                           c.scale);
  if (!IsModulusBits(c.modulus_bits))
    return InvalidArgument("encoding: expected a modulus of {} or {} bits, got {}", kPlainBits, kPackedBits,
                           c.modulus_bits);
  if (c.rounding != Rounding::kStochastic && c.rounding != Rounding::kNearest &&
      c.rounding != Rounding::kIntegers)
    return InvalidArgument("encoding: unknown rounding {}", static_cast<int>(c.rounding));
  if (c.max_weight == 0 || c.max_weight > 1U << 16)
    return InvalidArgument("encoding: expected a largest weight of 1 to {}, got {}", 1U << 16, c.max_weight);
  if (c.sites == 0 || c.sites > kMaxSitesInSum)
    return InvalidArgument("encoding: expected 1 to {} sites, got {}", kMaxSitesInSum, c.sites);
  if (c.rounding == Rounding::kNearest && c.noise_stddev != 0)
    return InvalidArgument(
        "encoding: nearest rounding is for runs without noise; use stochastic rounding with noise {}",
        c.noise_stddev);
  return OkStatus();
}

Status CheckIntegerConfig(const EncodingConfig& c) {
  if (c.rounding != Rounding::kIntegers) {
    if (c.unit_sensitivity == 0 && c.largest == 0) return OkStatus();
    return InvalidArgument("encoding: the sensitivity of a unit is for sums over privacy units alone");
  }
  if (!PositiveFinite(c.unit_sensitivity) || c.unit_sensitivity > 0x1p31)
    return InvalidArgument("encoding: expected a unit's sensitivity of more than 0, at most 2^31, got {}",
                           c.unit_sensitivity);
  if (c.largest == 0 || c.largest > kLargestInteger)
    return InvalidArgument("encoding: expected integers clamped to 1 to {}, got {}", kLargestInteger,
                           c.largest);
  if (c.scale == 0) return InvalidArgument("encoding: a sum over privacy units has a scale of its own");
  if (c.max_weight != 1)
    return InvalidArgument("encoding: a sum over privacy units has weight 1, got {}", c.max_weight);
  return OkStatus();
}

Status CheckMetric(const EncodingConfig& c, size_t index) {
  const MetricSpec& m = c.metrics[index];
  const std::string_view name = MetricNameText(m.name);
  if (name.empty()) return InvalidArgument("metric {}: unknown code {}", index, static_cast<int>(m.name));
  for (size_t i = 0; i < index; ++i)
    if (c.metrics[i].name == m.name) return InvalidArgument("metric {}: named twice", name);
  if (!PositiveFinite(m.bound) || !PositiveFinite(m.scale))
    return InvalidArgument("metric {}: expected a bound and a scale of more than 0, got {} and {}", name,
                           m.bound, m.scale);
  const double units = std::round(m.bound * m.scale);
  if (!(units >= 1) || units > kLargestUnits)
    return InvalidArgument("metric {}: expected bound times scale from 1 to {}, got {}; change the scale",
                           name, kLargestUnits, m.bound * m.scale);
  if (static_cast<double>(m.sensitivity) > units)
    return InvalidArgument("metric {}: one unit's part of {} is more than all of it, {}", name, m.sensitivity,
                           units);
  return OkStatus();
}

// log2 of coordinates · 2·exp(−room²/(2·variance)).
double Log2Tail(double coordinates, double room, double variance) {
  if (room <= 0) return std::numeric_limits<double>::infinity();
  if (variance == 0) return -std::numeric_limits<double>::infinity();
  return 1 + std::log2(coordinates) - room * room / (2 * variance) * std::numbers::log2e;
}

double LargestSum(const EncodingConfig& c) { return std::exp2(c.modulus_bits - 1) - 1; }

// log2 of the bound on the probability that any of `coordinates` overflows; +infinity when it may without
// noise. No part is left to the rotation.
double Log2Overflow(const EncodingConfig& c, double coordinates, double largest_units,
                    double share_variance) {
  return Log2Tail(coordinates, LargestSum(c) - c.sites * largest_units, c.sites * share_variance);
}

// The same for the rotated delta, over the signs too.
double Log2RotatedOverflow(const EncodingConfig& c, double sc, double share_variance) {
  const double n = c.sites, d = static_cast<double>(c.elements);
  const bool stochastic = c.rounding == Rounding::kStochastic;
  const double shift = sc * Rotation::ErrorBound(c.elements) + (stochastic ? 0x1p-32 : 0.5);
  const auto block = static_cast<double>(Rotation(c.rotation, c.elements).block());
  const double variance = n * sc * (n * sc) / block + n * ((stochastic ? 0.25 : 0) + share_variance);
  return Log2Tail(d, LargestSum(c) - n * shift, variance) - n * std::log2(1 - kBeta);
}

double Log2Add(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  if (std::isinf(high) || std::isinf(low)) return high;
  return high + std::log2(1 + std::exp2(low - high));
}

Status RefuseOverflow(const EncodingConfig& c, std::string_view what, double log2) {
  if (log2 <= kLog2OverflowLimit) return OkStatus();
  return InvalidArgument(
      "encoding: the sum of the {} may leave {} bits (probability bound 2^{:.1f}, allowed 2^{}); lower its "
      "scale, its noise, its bound or the number of sites{}",
      what, c.modulus_bits, std::min(log2, 0.0), kLog2OverflowLimit,
      c.modulus_bits == kPackedBits ? ", or take modulus_bits 32" : "");
}

}  // namespace

std::string_view MetricNameText(MetricName name) {
  for (const auto& [value, text] : kMetricTexts)
    if (value == name) return text;
  return {};
}

StatusOr<MetricName> ParseMetricName(std::string_view text) {
  for (const auto& [value, name] : kMetricTexts)
    if (name == text) return value;
  return InvalidArgument("unknown metric '{}'", text);
}

StatusOr<EncodingPlan> EncodingPlan::Make(const EncodingConfig& config) {
  RETURN_IF_ERROR(CheckConfig(config));
  RETURN_IF_ERROR(CheckIntegerConfig(config));
  EncodingPlan plan;
  plan.config_ = config;
  ASSIGN_OR_RETURN(plan.noise_, NoiseVariance::FromStddev(config.noise_stddev));
  RETURN_IF_ERROR(config.rounding == Rounding::kIntegers ? plan.MakeIntegers() : plan.MakeRounded());
  RETURN_IF_ERROR(RefuseOverflow(config, "delta", plan.log2_overflow_));
  RETURN_IF_ERROR(plan.MakeMetrics());
  RETURN_IF_ERROR(RefuseOverflow(config, "delta and metrics", plan.log2_overflow_));
  return plan;
}

Status EncodingPlan::MakeIntegers() {
  scale_ = config_.scale;
  // At most 2^62. A product of doubles is rounded by 2^-53 of itself, and who states a unit's sensitivity
  // states it longer by more than that (GradientGrid): no integer below its square is lost.
  sensitivity_squared_ =
      static_cast<uint64_t>(std::floor(config_.unit_sensitivity * config_.unit_sensitivity));
  if (sensitivity_squared_ == 0)
    return InvalidArgument("encoding: units of a sensitivity below 1 add nothing");
  log2_overflow_ = Log2Overflow(config_, static_cast<double>(config_.elements),
                                static_cast<double>(config_.largest), noise_.value());
  return OkStatus();
}

Status EncodingPlan::MakeRounded() {
  const auto d = static_cast<double>(config_.elements);
  scale_ = config_.scale != 0 ? config_.scale : 5 * std::sqrt(d) / config_.clip;
  const double sc = scale_ * config_.clip;
  if (!(sc <= kLargestUnits) || !std::isfinite(scale_))
    return InvalidArgument("encoding: scale times clip is {}, expected at most {}; lower the scale", sc,
                           kLargestUnits);
  double bound = (sc + std::sqrt(d)) * (sc + std::sqrt(d));
  if (config_.rounding == Rounding::kStochastic)
    bound = std::min(bound, sc * sc + d / 4 + std::sqrt(2 * std::log(1 / kBeta)) * (sc + std::sqrt(d) / 2));
  sensitivity_squared_ = static_cast<uint64_t>(std::floor(bound));
  log2_overflow_ = Log2Overflow(config_, d, std::ceil(sc) + 1, noise_.value());
  if (rotated()) log2_overflow_ = std::min(log2_overflow_, Log2RotatedOverflow(config_, sc, noise_.value()));
  return OkStatus();
}

Status EncodingPlan::MakeMetrics() {
  if (config_.metrics.size() > kMaxMetrics)
    return InvalidArgument("encoding: expected at most {} metrics, got {}", kMaxMetrics,
                           config_.metrics.size());
  for (size_t i = 0; i < config_.metrics.size(); ++i) {
    RETURN_IF_ERROR(CheckMetric(config_, i));
    const MetricSpec& m = config_.metrics[i];
    const double units = std::round(m.bound * m.scale);
    ASSIGN_OR_RETURN(const NoiseVariance noise, NoiseVariance::FromStddev(m.noise_stddev));
    const double log2 = Log2Overflow(config_, 1, units, noise.value());
    RETURN_IF_ERROR(RefuseOverflow(config_, MetricNameText(m.name), log2));
    log2_overflow_ = Log2Add(log2_overflow_, log2);
    metric_sensitivity_.push_back(m.sensitivity != 0 ? m.sensitivity : static_cast<uint64_t>(units));
    metric_noise_.push_back(noise);
  }
  return OkStatus();
}

double EncodingPlan::sensitivity() const { return std::sqrt(static_cast<double>(sensitivity_squared_)); }

double EncodingPlan::sensitivity_l1() const {
  return std::min(std::sqrt(static_cast<double>(config_.elements)) * sensitivity(),
                  static_cast<double>(sensitivity_squared_));
}

}  // namespace concordat
