#include <algorithm>
#include <cmath>

#include "privacy/mechanism/discrete_gaussian.h"
#include "privacy/mechanism/fixed_point.h"
#include "privacy/mechanism/random_words.h"

namespace concordat {
namespace {

using internal::Fixed192;
using internal::RandomWords;
using internal::Uint128;

constexpr int kGuideBits = 10;
constexpr double kLargestTableSigma = 128;

}  // namespace

FastDiscreteGaussian::FastDiscreteGaussian(NoiseVariance variance) : variance_(variance) {
  if (variance.is_zero()) return;
  inverse_two_variance_ = 0.5 / variance.value();
  const double sigma = std::sqrt(variance.value());
  while (std::ldexp(sigma, -static_cast<int>(shift_)) > kLargestTableSigma) ++shift_;
  BuildTable();
}

void FastDiscreteGaussian::BuildTable() {
  // 1/(2σ0²) = K²·denominator / (2·numerator); both fit: K² <= 2^26 only where the denominator is small.
  const Uint128 a = static_cast<Uint128>(variance_.denominator) << (2 * shift_);
  const Fixed192 ratio = Fixed192::ExpMinus(a, 2 * variance_.numerator);
  const Fixed192 ratio_squared = ratio * ratio;
  // exp(−y²/(2σ0²)) = Π_{j<=y} r^(2j−1). With a table only, zero counts half: a sign follows, and both give
  // 0.
  std::vector<Fixed192> cumulative;
  Fixed192 weight = Fixed192::Integer(1), step = ratio;
  Fixed192 sum = shift_ == 0 ? weight.Half() : weight;
  cumulative.push_back(sum);
  while (true) {
    weight = weight * step;
    step = step * ratio_squared;
    if (weight.integer() == 0 && weight.fraction() == 0 && weight.last_fraction() < (uint64_t{1} << 44))
      break;
    sum = sum + weight;
    cumulative.push_back(sum);
  }
  for (size_t i = 0; i + 1 < cumulative.size(); ++i) {
    const Uint128 threshold = cumulative[i].ShareOf(sum);
    high_.push_back(static_cast<uint64_t>(threshold >> 64));
    low_.push_back(static_cast<uint64_t>(threshold));
  }
  high_.push_back(~uint64_t{0});
  low_.push_back(~uint64_t{0});
  for (uint64_t lead = 0, index = 0; lead < (uint64_t{1} << kGuideBits); ++lead) {
    while (high_[index] < lead << (64 - kGuideBits)) ++index;
    guide_.push_back(static_cast<uint16_t>(index));
  }
}

unsigned __int128 FastDiscreteGaussian::Threshold(size_t index) const {
  return (static_cast<Uint128>(high_[index]) << 64) | low_[index];
}

// The index y with threshold(y−1) <= u < threshold(y), u uniform in [0, 2^128).
uint64_t FastDiscreteGaussian::Invert(RandomWords& words) const {
  const uint64_t u = words.Word();
  size_t index = guide_[u >> (64 - kGuideBits)];
  const size_t last = high_.size() - 1;
  while (high_[index] < u) ++index;
  if (high_[index] > u || index == last) return index;
  // Equality: once in 2^64 draws for each threshold. The rest of u decides.
  const uint64_t rest = words.Word();
  while (index < last && high_[index] == u && low_[index] <= rest) ++index;
  return index;
}

bool FastDiscreteGaussian::Accept(RandomWords& words, uint64_t y, uint64_t z) const {
  constexpr double kMargin = 0x1p-45;
  const uint64_t exponent = z * (z + (y << (shift_ + 1)));
  const double p = std::exp(-static_cast<double>(exponent) * inverse_two_variance_);
  const uint64_t u = words.Word();
  const double position = static_cast<double>(u >> 11) * 0x1p-53;
  if (position < p - kMargin) return true;
  if (position > p + kMargin) return false;
  const Fixed192 exact =
      Fixed192::ExpMinus(static_cast<Uint128>(exponent) * variance_.denominator, 2 * variance_.numerator);
  if (exact.integer() > 0) return true;
  const Uint128 longer = (static_cast<Uint128>(u) << 64) | words.Word();
  return longer < exact.fraction();
}

void FastDiscreteGaussian::Sample(RandomSource& source, std::span<int64_t> out) const {
  if (variance_.is_zero()) {
    std::fill(out.begin(), out.end(), 0);
    return;
  }
  RandomWords words(source);
  if (shift_ == 0) {
    for (int64_t& v : out) {
      const auto magnitude = static_cast<int64_t>(Invert(words));
      const int64_t sign = -static_cast<int64_t>(words.Bits(1));
      v = (magnitude ^ sign) - sign;
    }
    return;
  }
  for (int64_t& v : out) {
    while (true) {
      const uint64_t y = Invert(words);
      const uint64_t z = words.Bits(shift_);
      if (!Accept(words, y, z)) continue;
      const auto magnitude = static_cast<int64_t>((y << shift_) + z);
      const bool negative = words.Bits(1) == 1;
      if (negative && magnitude == 0) continue;
      v = negative ? -magnitude : magnitude;
      break;
    }
  }
}

}  // namespace concordat
