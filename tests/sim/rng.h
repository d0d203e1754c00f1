#ifndef CONCORDAT_TESTS_SIM_RNG_H_
#define CONCORDAT_TESTS_SIM_RNG_H_

#include <cstdint>
#include <random>

namespace concordat::sim {

/// What is left to chance in a simulated run: everything comes from its seed, in the same way on every
/// machine (no std::distribution, whose results are the library's own).
class Rng {
 public:
  explicit Rng(uint64_t seed) : engine_(seed) {}
  uint64_t Next() { return engine_(); }
  /// 0 … n − 1; 0 for n = 0.
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : Next() % n; }
  /// a … b.
  int64_t Between(int64_t a, int64_t b) {
    return a + static_cast<int64_t>(Below(static_cast<uint64_t>(b - a + 1)));
  }
  bool Chance(double p) { return static_cast<double>(Next() >> 11) * 0x1p-53 < p; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace concordat::sim

#endif  // CONCORDAT_TESTS_SIM_RNG_H_
