#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "privacy/mechanism/fixed_point.h"
#include "privacy/mechanism/lazy_rounding.h"
#include "privacy/mechanism/random_words.h"
#include "privacy/mechanism/rounded_gaussian.h"

namespace concordat {
namespace {

using internal::Fixed192;
using internal::RandomWords;
using internal::Uint128;

// Cells a standard deviation: few draws are refused (one in eighty), and the table fits the first-level
// cache.
constexpr int kCellShift = 6;
constexpr uint64_t kTwoCellsSquared = uint64_t{2} << (2 * kCellShift);
constexpr int kGuideBits = 10;

// P(y) proportional to exp(−y²/8192), as FastDiscreteGaussian's but for a whole weight at zero: X is
// continuous, no value is met by both signs.
struct CellTable {
  std::vector<uint64_t> high, low;  // 2^128·P(y' <= y), leading 64 bits and the 64 after them
  std::vector<uint16_t> guide;      // first index worth a look, by the leading bits
};

CellTable BuildTable() {
  const Fixed192 ratio = Fixed192::ExpMinus(1, kTwoCellsSquared);
  const Fixed192 ratio_squared = ratio * ratio;
  Fixed192 weight = Fixed192::Integer(1), step = ratio, sum = weight;
  std::vector<Fixed192> cumulative{sum};
  while (true) {
    weight = weight * step;
    step = step * ratio_squared;
    if (weight.integer() == 0 && weight.fraction() == 0 && weight.last_fraction() < (uint64_t{1} << 44))
      break;
    sum = sum + weight;
    cumulative.push_back(sum);
  }
  CellTable table;
  for (size_t i = 0; i + 1 < cumulative.size(); ++i) {
    const Uint128 threshold = cumulative[i].ShareOf(sum);
    table.high.push_back(static_cast<uint64_t>(threshold >> 64));
    table.low.push_back(static_cast<uint64_t>(threshold));
  }
  table.high.push_back(~uint64_t{0});
  table.low.push_back(~uint64_t{0});
  for (uint64_t lead = 0, index = 0; lead < (uint64_t{1} << kGuideBits); ++lead) {
    while (table.high[index] < lead << (64 - kGuideBits)) ++index;
    table.guide.push_back(static_cast<uint16_t>(index));
  }
  return table;
}

// A constant of the method, not of a sampler: made at first use, 2 ms.
const CellTable& Table() {
  static const CellTable table = BuildTable();
  return table;
}

// The index y with threshold(y−1) <= w < threshold(y), w uniform in [0, 2^128).
inline uint64_t DrawCell(const CellTable& table, RandomWords& words) {
  const uint64_t w = words.Word();
  size_t index = table.guide[w >> (64 - kGuideBits)];
  const size_t last = table.high.size() - 1;
  while (table.high[index] < w) ++index;
  if (table.high[index] > w || index == last) [[likely]]
    return index;
  // Equality: once in 2^64 draws for each threshold. The rest of w decides.
  const uint64_t rest = words.Word();
  while (index < last && table.high[index] == w && table.low[index] <= rest) ++index;
  return index;
}

// A uniform deviate of which `known` words after the first were drawn.
struct Fraction {
  uint64_t first = 0, second = 0;
  size_t known = 0;
};

// Within the margin: u and the uniform number anew, with 128 and 127 bits.
bool AcceptExactly(RandomWords& words, uint64_t y, Fraction& u, uint64_t coin) {
  u.second = words.Word();
  u.known = 1;
  const Fixed192 fraction = Fixed192::Fraction(u.first, u.second);
  const Fixed192 t = (fraction * (Fixed192::Integer(2 * y) + fraction)).DividedBy(kTwoCellsSquared);
  const Fixed192 p = Fixed192::ExpMinus(t);
  if (p.integer() > 0) return true;
  const Uint128 v = (static_cast<Uint128>(coin >> 1) << 65) | (static_cast<Uint128>(words.Word()) << 1);
  return v < p.fraction();
}

// True with probability exp(−u(2y + u)/8192). `coin` has 63 random bits above a bit that means something
// else.
inline bool Accept(RandomWords& words, uint64_t y, Fraction& u, uint64_t coin) {
  constexpr double kMargin = 0x1p-45;
  const double fraction = static_cast<double>(u.first >> 11) * 0x1p-53;
  const double t = fraction * (static_cast<double>(2 * y) + fraction) * (1.0 / kTwoCellsSquared);
  const double v = static_cast<double>(coin >> 11) * 0x1p-53;
  // exp(−t) >= 1 − t spares most draws the exponential.
  if (v < 1 - t - kMargin) [[likely]]
    return true;
  const double p = std::exp(-t);
  if (v < p - kMargin) return true;
  if (v > p + kMargin) return false;
  return AcceptExactly(words, y, u, coin);
}

}  // namespace

unsigned __int128 FastRoundedGaussian::Threshold(size_t index) {
  return (static_cast<Uint128>(Table().high[index]) << 64) | Table().low[index];
}

size_t FastRoundedGaussian::table_size() { return Table().high.size(); }

void FastRoundedGaussian::Sample(RandomSource& source, std::span<int64_t> out) const {
  if (scale_.is_zero()) {
    std::fill(out.begin(), out.end(), 0);
    return;
  }
  const CellTable& table = Table();
  RandomWords words(source);
  const uint64_t mantissa = scale_.mantissa();
  const int shift = kCellShift - scale_.exponent();
  for (int64_t& value : out) {
    while (true) {
      const uint64_t y = DrawCell(table, words);
      Fraction u{.first = words.Word()};
      const uint64_t coin = words.Word();
      if (!Accept(words, y, u, coin)) continue;
      const auto magnitude =
          static_cast<int64_t>(internal::RoundLazily(words, mantissa, shift, y, u.first, &u.second, u.known));
      const int64_t sign = -static_cast<int64_t>(coin & 1);
      value = (magnitude ^ sign) - sign;
      break;
    }
  }
}

}  // namespace concordat
