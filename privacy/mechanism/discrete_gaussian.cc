#include "privacy/mechanism/discrete_gaussian.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "privacy/mechanism/random_words.h"

namespace concordat {
namespace {

using internal::RandomWords;
using Uint128 = unsigned __int128;

int BitWidth(Uint128 v) {
  const auto high = static_cast<uint64_t>(v >> 64);
  return high != 0 ? 64 + std::bit_width(high) : std::bit_width(static_cast<uint64_t>(v));
}

// Uniform in [0, bound), by rejection: no bias at all.
Uint128 UniformBelow(RandomWords& words, Uint128 bound) {
  const int width = BitWidth(bound - 1);
  if (width == 0) return 0;
  while (true) {
    Uint128 v = words.Word();
    if (width > 64) v |= static_cast<Uint128>(words.Word()) << 64;
    v &= width == 128 ? ~Uint128{0} : (Uint128{1} << width) - 1;
    if (v < bound) return v;
  }
}

// True with probability exp(−a/b) for a <= b (section 5.1, γ in [0, 1]).
bool BernoulliExpFraction(RandomWords& words, Uint128 a, Uint128 b) {
  uint64_t k = 1;
  while (UniformBelow(words, b * k) < a) ++k;
  return k % 2 == 1;
}

// True with probability exp(−a/b), any a. b is below 2^100, so b·k above does not overflow: k past 2^20 has
// probability below 1/(2^20)!.
bool BernoulliExp(RandomWords& words, Uint128 a, Uint128 b) {
  for (; a > b; a -= b)
    if (!BernoulliExpFraction(words, 1, 1)) return false;
  return BernoulliExpFraction(words, a, b);
}

struct SignedDraw {
  uint64_t magnitude;
  bool negative;
};

// Discrete Laplace: P(y) proportional to exp(−|y|/t) (section 5.2).
SignedDraw DiscreteLaplace(RandomWords& words, uint64_t t) {
  while (true) {
    const auto u = static_cast<uint64_t>(UniformBelow(words, t));
    if (!BernoulliExpFraction(words, u, t)) continue;
    uint64_t v = 0;
    while (BernoulliExpFraction(words, 1, 1)) ++v;
    const SignedDraw draw{.magnitude = u + t * v, .negative = words.Bits(1) == 1};
    if (!(draw.negative && draw.magnitude == 0)) return draw;
  }
}

uint64_t FloorSqrt(uint64_t v) {
  auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(v)));
  while (root * root > v) --root;
  while ((root + 1) * (root + 1) <= v) ++root;
  return root;
}

int64_t DrawExact(RandomWords& words, NoiseVariance variance) {
  const uint64_t n = variance.numerator, d = variance.denominator;
  // ⌊√(n/d)⌋ = ⌊√⌊n/d⌋⌋, in integers.
  const uint64_t t = FloorSqrt(n / d) + 1;
  const Uint128 b = Uint128{2} * n * d * t * t;
  while (true) {
    const SignedDraw y = DiscreteLaplace(words, t);
    // (|y| − σ²/t)² / (2σ²) = (|y|·d·t − n)² / (2·n·d·t²)
    const Uint128 wide = static_cast<Uint128>(y.magnitude) * d * t;
    // |y| beyond 2^63/(d·t) has a probability below exp(−2^20) and would be refused as surely.
    if (wide >> 63 != 0) continue;
    const auto product = static_cast<uint64_t>(wide);
    const uint64_t gap = product > n ? product - n : n - product;
    if (!BernoulliExp(words, static_cast<Uint128>(gap) * gap, b)) continue;
    const auto value = static_cast<int64_t>(y.magnitude);
    return y.negative ? -value : value;
  }
}

}  // namespace

void ExactDiscreteGaussian::Sample(RandomSource& source, std::span<int64_t> out) const {
  if (variance_.is_zero()) {
    std::fill(out.begin(), out.end(), 0);
    return;
  }
  RandomWords words(source);
  for (int64_t& v : out) v = DrawExact(words, variance_);
}

}  // namespace concordat
