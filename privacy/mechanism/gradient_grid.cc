#include "privacy/mechanism/gradient_grid.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/clip.h"
#include "privacy/mechanism/sub_seed.h"
#include "privacy/mechanism/words.h"

namespace concordat {
namespace {

constexpr double kMargin = 0x1p-30;

bool Positive(double x) { return x > 0 && std::isfinite(x); }

// x + 1.5·2^52 has the nearest integer of x in its low bits, for |x| < 2^51: rounding and conversion by two
// additions, which compilers turn into vectors on any machine.
constexpr double kShift = 0x1.8p52;
constexpr int64_t kShiftBits = std::bit_cast<int64_t>(kShift);

// Adds round(factor·gradient), or takes it away again; returns the sum of its squares.
template <bool kAdd>
double RoundInto(std::span<const float> gradient, double factor, int64_t* sum) {
  constexpr size_t kLanes = 8;
  std::array<double, kLanes> lanes{};
  const auto one = [&](size_t i, double& squares) {
    const double shifted = static_cast<double>(gradient[i]) * factor + kShift;
    const double rounded = shifted - kShift;
    const int64_t units = std::bit_cast<int64_t>(shifted) - kShiftBits;
    sum[i] = kAdd ? sum[i] + units : sum[i] - units;
    squares += rounded * rounded;
  };
  size_t i = 0;
  for (; i + kLanes <= gradient.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) one(i + l, lanes[l]);
  for (; i < gradient.size(); ++i) one(i, lanes[0]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

}  // namespace

void OneByOne(size_t blocks, const std::function<void(size_t)>& body) {
  for (size_t block = 0; block < blocks; ++block) body(block);
}

double GradientGrid::DefaultGrid(double clip, uint64_t elements) {
  const double finest = clip / (100 * std::sqrt(static_cast<double>(elements)));
  return std::ldexp(1.0, std::ilogb(finest));
}

double GradientGrid::SumGrid(double clip, uint64_t elements, double noise_multiplier, uint32_t modulus_bits) {
  constexpr double kFinest = 50, kCoarsest = 4;
  const double root = std::sqrt(static_cast<double>(elements));
  const double room = (modulus_bits == kPackedBits ? 0x1p17 : 0x1p19) / (root * noise_multiplier);
  return clip / (root * std::clamp(room, kCoarsest, kFinest));  // without noise the room is infinite
}

StatusOr<GradientGrid> GradientGrid::Make(const GradientGridConfig& config) {
  if (config.elements == 0 || config.elements > (uint64_t{1} << 31))
    return InvalidArgument("gradient sum: expected 1 to 2^31 elements, got {}", config.elements);
  if (!Positive(config.clip) || config.clip > 1e9 || config.clip < 1e-9)
    return InvalidArgument("gradient clip: expected 1e-9 to 1e9, got {}", config.clip);
  if (config.grid != 0 && !Positive(config.grid))
    return InvalidArgument("gradient grid: expected a positive number, or 0 for the default, got {}",
                           config.grid);
  if (!(config.noise_multiplier >= 0 && std::isfinite(config.noise_multiplier)))
    return InvalidArgument("noise multiplier: expected at least 0, got {}", config.noise_multiplier);
  GradientGrid out;
  out.config_ = config;
  if (config.grid == 0) out.config_.grid = DefaultGrid(config.clip, config.elements);
  const double root = std::sqrt(static_cast<double>(config.elements));
  out.sensitivity_ = (config.clip / out.config_.grid + root / 2) * (1 + kMargin);
  if (!(out.sensitivity_ <= 0x1p31)) {
    return InvalidArgument("gradient grid {} is too fine for a clip of {}: expected at most 2^31 steps",
                           out.config_.grid, config.clip);
  }
  // A product of doubles is rounded to nearest: one step up covers it.
  const double stddev =
      config.noise_multiplier == 0 ? 0 : std::nextafter(config.noise_multiplier * out.sensitivity_, HUGE_VAL);
  ASSIGN_OR_RETURN(out.noise_, RoundedGaussianScale::FromStddev(stddev));
  return out;
}

GridSum::GridSum(GradientGrid grid, ForBlocks for_blocks)
    : grid_(std::move(grid)),
      for_blocks_(std::move(for_blocks)),
      sum_(grid_.config().elements),
      squares_(blocks()) {}

GridSum::~GridSum() { Wipe({reinterpret_cast<uint8_t*>(sum_.data()), sum_.size() * sizeof(int64_t)}); }

void GridSum::Clear() {
  if (units_ > 0) std::fill(sum_.begin(), sum_.end(), 0);
  units_ = 0;
}

size_t GridSum::blocks() const { return (grid_.config().elements + kBlockElements - 1) / kBlockElements; }

Status GridSum::TakeIntegers(uint64_t largest, std::span<float> out) {
  if (out.size() != sum_.size())
    return InvalidArgument("room for {} values, the sum has {}", out.size(), sum_.size());
  if (largest == 0 || largest > (uint64_t{1} << 24))
    return InvalidArgument("largest integer of a sum: expected 1 to 2^24, got {}", largest);
  const auto most = static_cast<int64_t>(largest);
  for_blocks_(blocks(), [&](size_t block) {
    const uint64_t end = std::min<uint64_t>((block + 1) * kBlockElements, sum_.size());
    for (uint64_t i = block * kBlockElements; i < end; ++i) {
      out[i] = static_cast<float>(std::clamp(sum_[i], -most, most));
      sum_[i] = 0;
    }
  });
  units_ = 0;
  return OkStatus();
}

StatusOr<GridSum::Added> GridSum::Add(std::span<const float> gradient, double weight) {
  if (gradient.size() != sum_.size())
    return InvalidArgument("gradient has {} elements, expected {}", gradient.size(), sum_.size());
  if (!(weight >= 0 && std::isfinite(weight)))
    return InvalidArgument("gradient's weight is not a finite number");
  if (units_ == GradientGrid::kMaxUnits)
    return ResourceExhausted("gradient sum: more than {} units", GradientGrid::kMaxUnits);
  const auto part = [&](size_t block) {
    const uint64_t first = block * kBlockElements;
    return gradient.subspan(first, std::min<uint64_t>(kBlockElements, gradient.size() - first));
  };
  for_blocks_(blocks(), [&](size_t block) {
    const StatusOr<double> norm = L2Norm(part(block));
    squares_[block] = norm.ok() ? *norm * *norm : HUGE_VAL;
  });
  double squares = 0;
  for (const double s : squares_) squares += s;
  Added added;
  added.norm = weight * std::sqrt(squares);
  if (!std::isfinite(added.norm)) return added;
  // A clip that is 2^-40 short: rounding in f64 (relative 1e-13) then cannot lead past C.
  const double clip = grid_.config().clip * (1 - 0x1p-40);
  added.clipped = added.norm > clip;
  const double factor = weight * ClipFactor(added.norm, clip) / grid_.grid();
  for_blocks_(blocks(), [&](size_t block) {
    squares_[block] = RoundInto<true>(part(block), factor, sum_.data() + block * kBlockElements);
  });
  squares = 0;
  for (const double s : squares_) squares += s;
  // Sums of squares in f64 err by less than 2^-35; S is 2^-30 longer than it need be.
  if (squares > grid_.sensitivity() * grid_.sensitivity() * (1 - 0x1p-31)) {
    for_blocks_(blocks(), [&](size_t block) {
      RoundInto<false>(part(block), factor, sum_.data() + block * kBlockElements);
    });
    return Internal("gradient sum: a unit's integers are longer than the sensitivity");
  }
  ++units_;
  added.counted = true;
  return added;
}

Status GridSum::Finish(const Secret32& seed, double divisor, std::span<float> out) {
  if (out.size() != sum_.size())
    return InvalidArgument("room for {} values, the sum has {}", out.size(), sum_.size());
  if (!Positive(divisor)) return InvalidArgument("divisor: expected a positive number, got {}", divisor);
  const FastRoundedGaussian noise(grid_.noise());
  const double unit = grid_.grid() / divisor;
  for_blocks_(blocks(), [&](size_t block) {
    constexpr size_t kSpan = 4096;
    std::array<int64_t, kSpan> draws;
    crypto::CtrRandom random(internal::SubSeed(seed, "concordat/gradient/noise/v1", block));
    const uint64_t end = std::min<uint64_t>((block + 1) * kBlockElements, sum_.size());
    for (uint64_t first = block * kBlockElements; first < end; first += kSpan) {
      const size_t count = std::min<uint64_t>(kSpan, end - first);
      noise.Sample(random, std::span(draws).first(count));
      for (size_t i = 0; i < count; ++i) {
        out[first + i] = static_cast<float>(static_cast<double>(sum_[first + i] + draws[i]) * unit);
        sum_[first + i] = 0;
      }
    }
    Wipe({reinterpret_cast<uint8_t*>(draws.data()), sizeof draws});
  });
  units_ = 0;
  return OkStatus();
}

}  // namespace concordat
