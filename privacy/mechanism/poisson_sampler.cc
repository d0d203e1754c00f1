#include "privacy/mechanism/poisson_sampler.h"

#include <algorithm>
#include <cmath>

#include "common/random.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/random_words.h"
#include "privacy/mechanism/sub_seed.h"

namespace concordat {

StatusOr<SamplingRate> SamplingRate::FromRatio(uint64_t numerator, uint64_t denominator) {
  if (denominator == 0 || numerator > denominator) {
    return InvalidArgument("sampling rate: expected a ratio from 0 to 1, got {}/{}", numerator, denominator);
  }
  SamplingRate rate;
  rate.always_ = numerator == denominator;
  if (!rate.always_) {
    rate.threshold_ = static_cast<uint64_t>((static_cast<unsigned __int128>(numerator) << 64) / denominator);
  }
  return rate;
}

StatusOr<SamplingRate> SamplingRate::FromDouble(double q) {
  if (!(q >= 0 && q <= 1)) return InvalidArgument("sampling rate: expected 0 to 1, got {}", q);
  SamplingRate rate;
  rate.always_ = q == 1;
  // Scaling by a power of two is exact, and the conversion truncates.
  if (!rate.always_) rate.threshold_ = static_cast<uint64_t>(std::ldexp(q, 64));
  return rate;
}

double SamplingRate::upper() const {
  if (always_) return 1;
  const auto rounded = static_cast<double>(threshold_);
  // The conversion to double rounds to nearest: one step up covers it. At the top it may be 2^64 already.
  const bool below = rounded < 0x1p64 && static_cast<uint64_t>(rounded) < threshold_;
  return std::min(1.0, std::ldexp(below ? std::nextafter(rounded, HUGE_VAL) : rounded, -64));
}

std::vector<uint32_t> PoissonSampler::Draw(const Secret32& seed) const {
  std::vector<uint32_t> drawn;
  crypto::CtrRandom random(seed);
  internal::RandomWords words(random);
  for (uint32_t unit = 0; unit < units_; ++unit) {
    const uint64_t word = words.Word();
    if (rate_.always() || word < rate_.threshold()) drawn.push_back(unit);
  }
  return drawn;
}

StepSeeds StepSeedsFor(const Secret32& root, uint64_t step) {
  return {.sampling = internal::SubSeed(root, "concordat/dpsgd/sampling/v1", step),
          .noise = internal::SubSeed(root, "concordat/dpsgd/noise/v1", step)};
}

}  // namespace concordat
