#include "privacy/mechanism/clip.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace concordat {
namespace {

constexpr size_t kBlock = 4096;
constexpr size_t kLanes = 8;

// Eight running sums let the compiler use vectors without being allowed to reorder anything.
double BlockSquares(std::span<const float> block) {
  std::array<double, kLanes> lanes{};
  size_t i = 0;
  for (; i + kLanes <= block.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) {
      const double v = block[i + l];
      lanes[l] += v * v;
    }
  for (size_t l = 0; i < block.size(); ++i, ++l) lanes[l] += static_cast<double>(block[i]) * block[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double PairwiseSum(std::span<const double> values) {
  if (values.empty()) return 0;
  if (values.size() == 1) return values[0];
  const size_t half = values.size() / 2;
  return PairwiseSum(values.first(half)) + PairwiseSum(values.subspan(half));
}

}  // namespace

StatusOr<double> L2Norm(std::span<const float> values) {
  std::vector<double> sums;
  sums.reserve(values.size() / kBlock + 1);
  for (size_t first = 0; first < values.size(); first += kBlock) {
    const auto block = values.subspan(first, std::min(kBlock, values.size() - first));
    sums.push_back(BlockSquares(block));
    // A square of a float is at most 1.2e77: a sum is finite exactly when every element is.
    if (!std::isfinite(sums.back())) {
      const auto bad = std::find_if(block.begin(), block.end(), [](float v) { return !std::isfinite(v); });
      return InvalidArgument("element {} of {} is not a finite number", first + (bad - block.begin()),
                             values.size());
    }
  }
  return std::sqrt(PairwiseSum(sums));
}

double ClipFactor(double norm, double bound) { return norm > bound ? bound / norm : 1.0; }

}  // namespace concordat
