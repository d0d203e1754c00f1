#ifndef CONCORDAT_TESTS_BENCH_BENCH_SUPPORT_H_
#define CONCORDAT_TESTS_BENCH_BENCH_SUPPORT_H_

#include <benchmark/benchmark.h>

#include <cstdint>

#include "common/secret.h"

namespace concordat {

/// Reports the time for one of `elements` elements that each iteration worked on.
inline void CountElements(benchmark::State& state, uint64_t elements) {
  state.counters["time/element"] =
      benchmark::Counter(static_cast<double>(elements) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// A seed that differs from those of other `v`.
inline Secret32 Seed(uint8_t v) {
  Secret32 seed;
  seed.mutable_view()[0] = v;
  return seed;
}

}  // namespace concordat

#endif  // CONCORDAT_TESTS_BENCH_BENCH_SUPPORT_H_
