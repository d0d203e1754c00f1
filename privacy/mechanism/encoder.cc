#include "privacy/mechanism/encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "common/canonical.h"
#include "privacy/crypto/hkdf.h"
#include "privacy/mechanism/clip.h"
#include "privacy/mechanism/rotation.h"

namespace concordat {
namespace {

// Elements handled at a time: their rounding bits and noise stay in the first-level cache.
constexpr uint64_t kSpan = 4096;
static_assert(kEncodeBlockElements % kSpan == 0);

// A key of its own for every use of the seed.
Secret32 SubKey(const Secret32& seed, std::string_view purpose, uint64_t index) {
  CanonicalWriter info;
  info.Text(purpose);
  info.U64(index);
  return crypto::HkdfSha256(seed.view(), {}, info.bytes());
}

Status CheckMetrics(const EncodingPlan& plan, std::span<const double> metrics) {
  if (metrics.size() != plan.config().metrics.size())
    return InvalidArgument("encode: expected {} metrics, got {}", plan.config().metrics.size(),
                           metrics.size());
  for (size_t i = 0; i < metrics.size(); ++i)
    if (!std::isfinite(metrics[i]))
      return InvalidArgument("encode: metric {} is not a finite number",
                             MetricNameText(plan.config().metrics[i].name));
  return OkStatus();
}

// The delta times `factor`, which clips it, rotated.
std::shared_ptr<const std::vector<float>> Rotated(const EncodingConfig& config, std::span<const float> delta,
                                                  double factor) {
  auto out = std::make_shared<std::vector<float>>(delta.size());
  for (size_t i = 0; i < delta.size(); ++i)
    (*out)[i] = static_cast<float>(static_cast<double>(delta[i]) * factor);
  Rotation(config.rotation, config.elements).Apply(*out);
  return out;
}

int64_t MetricUnits(const MetricSpec& spec, double value) {
  const double clipped = std::clamp(value, -spec.bound, spec.bound);
  return static_cast<int64_t>(std::round(clipped * spec.scale));
}

}  // namespace

Status CheckIntegers(std::span<const float> delta, uint64_t largest) {
  largest = std::min(largest, kLargestInteger);
  const auto most = static_cast<float>(largest);
  for (size_t i = 0; i < delta.size(); ++i)
    if (!(std::abs(delta[i]) <= most) || std::trunc(delta[i]) != delta[i])
      return InvalidArgument("encode: element {} is no integer from -{} to {}", i, largest, largest);
  return OkStatus();
}

StatusOr<Encoder> Encoder::Make(EncodingPlan plan, std::span<const float> delta, uint32_t weight,
                                std::span<const double> metrics, const Secret32& seed) {
  const EncodingConfig& config = plan.config();
  if (delta.size() != config.elements)
    return InvalidArgument("encode: expected a delta of {} elements, got {}", config.elements, delta.size());
  if (weight == 0 || weight > config.max_weight)
    return InvalidArgument("encode: expected a weight of 1 to {}, got {}", config.max_weight, weight);
  RETURN_IF_ERROR(CheckMetrics(plan, metrics));
  Encoder out;
  if (plan.integers()) {
    RETURN_IF_ERROR(CheckIntegers(delta, config.largest));
    out.multiplier_ = 1;
  } else {
    ASSIGN_OR_RETURN(delta, out.Clip(plan, delta, weight));
  }
  for (size_t i = 0; i < metrics.size(); ++i)
    out.metric_units_.push_back(MetricUnits(config.metrics[i], metrics[i]));
  out.delta_ = delta;
  out.seed_ = seed;
  out.noise_ = std::make_shared<FastDiscreteGaussian>(plan.noise());
  out.plan_ = std::move(plan);
  if (!out.plan_.integers()) RETURN_IF_ERROR(out.PickRounding());
  return out;
}

// Sets the multiplier, and gives what it is to be applied to: the delta, or the rotated one.
StatusOr<std::span<const float>> Encoder::Clip(const EncodingPlan& plan, std::span<const float> delta,
                                               uint32_t weight) {
  const EncodingConfig& config = plan.config();
  ASSIGN_OR_RETURN(const double norm, L2Norm(delta));
  const double weighted = norm * weight;
  clipped_ = weighted > config.clip;
  const double factor = ClipFactor(weighted, config.clip) * weight;
  if (!plan.rotated()) {
    multiplier_ = factor * plan.scale();
    return delta;
  }
  rotated_ = Rotated(config, delta, factor);
  // What the rotation's own rounding has added is clipped off again.
  ASSIGN_OR_RETURN(const double rotated_norm, L2Norm(*rotated_));
  multiplier_ = ClipFactor(rotated_norm, config.clip) * plan.scale();
  return std::span<const float>(*rotated_);
}

crypto::CtrStream Encoder::RoundingBits() const {
  return crypto::CtrStream(SubKey(seed_, "concordat/encode/rounding/v1", draw_));
}

Status Encoder::PickRounding() {
  const uint32_t draws = plan_.config().rounding == Rounding::kNearest ? 1 : kMaxRoundingDraws;
  std::array<int32_t, kSpan> units;
  for (draw_ = 0; draw_ < draws; ++draw_) {
    crypto::CtrStream bits = RoundingBits();
    uint64_t squares = 0;
    for (uint64_t first = 0; first < delta_.size(); first += kSpan) {
      const std::span<int32_t> part(units.data(), std::min(kSpan, delta_.size() - first));
      RoundSpan(bits, first, part);
      for (const int32_t v : part) squares += static_cast<uint64_t>(static_cast<int64_t>(v) * v);
    }
    if (squares <= plan_.sensitivity_squared()) return OkStatus();
  }
  return Internal("encode: no rounding within the sensitivity bound in {} draws", draws);
}

// Up when the fraction is above a uniform number in [0, 1), made of 32 bits at the element's place in the
// stream; nearest is the same with one half. The fraction itself is exact in f64.
void Encoder::RoundSpan(crypto::CtrStream& bits, uint64_t first, std::span<int32_t> out) const {
  std::array<int32_t, kSpan> random{};
  if (plan_.config().rounding == Rounding::kStochastic) {
    bits.Keystream(first * sizeof(int32_t), {reinterpret_cast<uint8_t*>(random.data()), out.size_bytes()});
    if constexpr (std::endian::native == std::endian::big)
      for (int32_t& v : random) v = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(v)));
  }
  const float* in = delta_.data() + first;
  for (size_t i = 0; i < out.size(); ++i) {
    const double y = static_cast<double>(in[i]) * multiplier_;
    auto floor = static_cast<int32_t>(y);
    floor -= y < floor ? 1 : 0;
    const double uniform = static_cast<double>(random[i]) * 0x1p-32 + 0.5;
    out[i] = floor + (y - floor > uniform ? 1 : 0);
  }
  Wipe({reinterpret_cast<uint8_t*>(random.data()), out.size_bytes()});
}

void Encoder::EncodeBlock(uint64_t block, crypto::CtrStream& bits, std::span<uint32_t> out) const {
  const uint64_t begin = block * kEncodeBlockElements;
  const bool noisy = !plan_.noise().is_zero();
  crypto::CtrRandom random(SubKey(seed_, "concordat/encode/noise/v1", block));
  std::array<int32_t, kSpan> units;
  std::array<int64_t, kSpan> noise;
  for (uint64_t i = 0; i < out.size(); i += kSpan) {
    const size_t count = std::min<uint64_t>(kSpan, out.size() - i);
    RoundSpan(bits, begin + i, std::span(units).first(count));
    if (noisy) noise_->Sample(random, std::span(noise).first(count));
    for (size_t j = 0; j < count; ++j)
      out[i + j] = static_cast<uint32_t>(units[j]) + (noisy ? static_cast<uint32_t>(noise[j]) : 0);
  }
  Wipe({reinterpret_cast<uint8_t*>(units.data()), sizeof units});
  Wipe({reinterpret_cast<uint8_t*>(noise.data()), sizeof noise});
}

void Encoder::EncodeMetrics(uint64_t first_metric, std::span<uint32_t> out) const {
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t metric = first_metric + i;
    crypto::CtrRandom random(SubKey(seed_, "concordat/encode/metric/v1", metric));
    int64_t noise = 0;
    ExactDiscreteGaussian(plan_.metric_noise(metric)).Sample(random, {&noise, 1});
    out[i] = static_cast<uint32_t>(metric_units_[metric] + noise);
  }
}

Status Encoder::Encode(uint64_t first_element, std::span<uint32_t> out) const {
  const uint64_t elements = delta_.size(), total = plan_.total_elements();
  if (first_element % kEncodeBlockElements != 0 || first_element > total ||
      out.size() > total - first_element)
    return InvalidArgument("encode: element {} and {} more do not begin at a block within {} elements",
                           first_element, out.size(), total);
  const uint64_t end = first_element + out.size();
  if (end % kEncodeBlockElements != 0 && end != total)
    return InvalidArgument("encode: element {} is not the end of a block or of the vector", end);
  crypto::CtrStream bits = RoundingBits();
  uint64_t at = first_element;
  while (at < std::min(end, elements)) {
    const uint64_t count = std::min(kEncodeBlockElements, elements - at);
    EncodeBlock(at / kEncodeBlockElements, bits, out.subspan(at - first_element, count));
    at += count;
  }
  if (at < end) EncodeMetrics(at - elements, out.subspan(at - first_element));
  return OkStatus();
}

StatusOr<DecodedSum> Decode(const EncodingPlan& plan, std::span<const uint32_t> sum, uint64_t total_weight) {
  const EncodingConfig& config = plan.config();
  if (sum.size() != plan.total_elements())
    return InvalidArgument("decode: expected {} words, got {}", plan.total_elements(), sum.size());
  if (total_weight == 0 || total_weight > uint64_t{config.sites} * config.max_weight)
    return InvalidArgument("decode: expected a summed weight of 1 to {}, got {}",
                           uint64_t{config.sites} * config.max_weight, total_weight);
  DecodedSum out;
  out.mean_delta.resize(config.elements);
  const double divisor = plan.scale() * static_cast<double>(total_weight);
  if (plan.rotated()) {
    for (size_t i = 0; i < out.mean_delta.size(); ++i)
      out.mean_delta[i] = static_cast<float>(CentreLift(sum[i], config.modulus_bits));
    Rotation(config.rotation, config.elements).Undo(out.mean_delta);
    for (float& v : out.mean_delta) v = static_cast<float>(static_cast<double>(v) / divisor);
  } else {
    for (size_t i = 0; i < out.mean_delta.size(); ++i)
      out.mean_delta[i] = static_cast<float>(CentreLift(sum[i], config.modulus_bits) / divisor);
  }
  for (size_t i = 0; i < config.metrics.size(); ++i)
    out.metric_sums.push_back(static_cast<double>(CentreLift(sum[config.elements + i], config.modulus_bits)) /
                              config.metrics[i].scale);
  return out;
}

}  // namespace concordat
