// Linked into a concordat-trainer that exists for experiments/leak only: in the place of Poisson sampling,
// batches of one size cut from a shuffled list, as is common, and not what is priced. The linker sends every
// call of PoissonSampler::Draw here (--wrap).
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "privacy/mechanism/poisson_sampler.h"

namespace concordat {

std::vector<uint32_t> ShuffledDraw(const PoissonSampler& sampler, const Secret32& seed) __asm__(
    "__wrap__ZNK9concordat14PoissonSampler4DrawERKNS_6SecretILm32EEE");

std::vector<uint32_t> ShuffledDraw(const PoissonSampler& sampler, const Secret32& seed) {
  static std::vector<uint32_t> order;
  static size_t next = 0;
  const auto size = static_cast<size_t>(std::lround(sampler.rate().upper() * sampler.units()));
  std::vector<uint32_t> drawn;
  while (drawn.size() < std::min<size_t>(size, sampler.units())) {
    if (next >= order.size() || order.size() != sampler.units()) {
      order.resize(sampler.units());
      std::iota(order.begin(), order.end(), 0U);
      std::seed_seq words(seed.view().begin(), seed.view().end());
      std::shuffle(order.begin(), order.end(), std::mt19937_64(words));
      next = 0;
      if (!drawn.empty()) break;  // an epoch's last batch may be short: no unit twice in one
    }
    drawn.push_back(order[next++]);
  }
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

}  // namespace concordat
