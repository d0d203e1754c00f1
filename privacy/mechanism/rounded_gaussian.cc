#include "privacy/mechanism/rounded_gaussian.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "privacy/mechanism/lazy_rounding.h"
#include "privacy/mechanism/random_words.h"

namespace concordat {
namespace {

using internal::RandomWords;

// A uniform deviate in [0, 1) whose digits of 64 bits are drawn when they are first looked at.
class LazyUniform {
 public:
  uint64_t Digit(RandomWords& words, size_t index) {
    while (digits_.size() <= index) digits_.push_back(words.Word());
    return digits_[index];
  }
  // Whether this is less than `other`: two deviates differ somewhere, with probability one.
  bool Less(RandomWords& words, LazyUniform& other) {
    for (size_t i = 0;; ++i) {
      const uint64_t mine = Digit(words, i), its = other.Digit(words, i);
      if (mine != its) return mine < its;
    }
  }
  const std::vector<uint64_t>& digits() const { return digits_; }

 private:
  std::vector<uint64_t> digits_;
};

uint32_t UniformBelow(RandomWords& words, uint32_t bound) {
  const auto width = static_cast<uint32_t>(std::bit_width(bound - 1));
  while (true) {
    const uint32_t v = words.Bits(width);
    if (v < bound) return v;
  }
}

// Algorithm H: true with probability exp(−1/2). The longest run 1/2 > u1 > u2 > … > un has n even.
bool HalfExponential(RandomWords& words) {
  LazyUniform last;
  if (last.Digit(words, 0) >> 63 != 0) return true;
  for (bool even = false;; even = !even) {
    LazyUniform next;
    if (!next.Less(words, last)) return even;
    last = std::move(next);
  }
}

// Algorithm B: true with probability exp(−x(2k + x)/(2k + 2)). The run x > u1 > u2 > … goes on at each step
// with probability (2k + x)/(2k + 2) only: i below 2k of 2k + 2, or i = 2k and another deviate below x.
bool AcceptFraction(RandomWords& words, uint32_t k, LazyUniform& x) {
  LazyUniform last;
  for (bool even = true;; even = !even) {
    LazyUniform next;
    if (!next.Less(words, last.digits().empty() ? x : last)) return even;
    const uint32_t i = UniformBelow(words, 2 * k + 2);
    if (i == 2 * k + 1) return even;
    if (i == 2 * k && !LazyUniform().Less(words, x)) return even;
    last = std::move(next);
  }
}

// Algorithm N: |X| = k + x.
uint32_t StandardNormal(RandomWords& words, LazyUniform& x) {
  while (true) {
    uint32_t k = 0;
    while (HalfExponential(words)) ++k;
    bool accepted = true;
    for (uint32_t i = k == 0 ? 0 : k * (k - 1); i > 0 && accepted; --i) accepted = HalfExponential(words);
    if (!accepted) continue;
    x = LazyUniform();
    for (uint32_t i = 0; i <= k && accepted; ++i) accepted = AcceptFraction(words, k, x);
    if (accepted) return k;
  }
}

}  // namespace

StatusOr<RoundedGaussianScale> RoundedGaussianScale::FromStddev(double stddev) {
  if (stddev == 0) return RoundedGaussianScale();
  if (!(stddev >= kSmallest && stddev <= kLargest)) {
    return InvalidArgument(
        "noise standard deviation: expected 0, or 2^-7 to 2^40 units of the grid, got {}; change the grid or "
        "the noise",
        stddev);
  }
  RoundedGaussianScale scale;
  scale.exponent_ = std::ilogb(stddev) - 43;
  scale.mantissa_ = static_cast<uint64_t>(std::ceil(std::ldexp(stddev, -scale.exponent_)));
  if (scale.mantissa_ == uint64_t{1} << 44) {
    scale.mantissa_ >>= 1;
    ++scale.exponent_;
  }
  return scale;
}

double RoundedGaussianScale::stddev() const { return std::ldexp(static_cast<double>(mantissa_), exponent_); }

void ExactRoundedGaussian::Sample(RandomSource& source, std::span<int64_t> out) const {
  if (scale_.is_zero()) {
    std::fill(out.begin(), out.end(), 0);
    return;
  }
  RandomWords words(source);
  for (int64_t& v : out) {
    LazyUniform x;
    const uint32_t k = StandardNormal(words, x);
    const uint64_t first = x.Digit(words, 0);
    const auto magnitude =
        static_cast<int64_t>(internal::RoundLazily(words, scale_.mantissa(), -scale_.exponent(), k, first,
                                                   x.digits().data() + 1, x.digits().size() - 1));
    v = words.Bits(1) == 1 ? -magnitude : magnitude;
  }
}

}  // namespace concordat
