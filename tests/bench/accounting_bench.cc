// The privacy accountant: wall time of one answer.
//
//   accounting_bench
//
// BM_EqualSteps asks for ε of 20,000 equal steps (meant to stay below 30 ms), BM_DifferentSigmas of 100
// rounds with 100 different σ (below 1 s), BM_Table for the 25 rows that
// experiments/reference/accountant/compare.py gives to dp-accounting too, BM_Calibration for a σ. Quote
// ratios from one run: machines are noisy.
#include <benchmark/benchmark.h>

#include <vector>

#include "privacy/accounting/calibration.h"
#include "privacy/accounting/pld.h"

namespace concordat {
namespace {

template <typename Relation>
double Epsilon(const std::vector<SubsampledGaussian>& steps, double delta) {
  PldAccountant<Relation> accountant;
  for (const SubsampledGaussian& s : steps) (void)accountant.Add(s);
  return accountant.Epsilon(delta).value();
}

void BM_EqualSteps(benchmark::State& state) {
  const std::vector<SubsampledGaussian> steps = {{0.01, 1, static_cast<uint64_t>(state.range(0))}};
  for (auto _ : state) benchmark::DoNotOptimize(Epsilon<AddRemove>(steps, 1e-6));
}
BENCHMARK(BM_EqualSteps)->Arg(1)->Arg(1000)->Arg(20'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

void BM_DifferentSigmas(benchmark::State& state) {
  std::vector<SubsampledGaussian> steps;
  for (int i = 0; i < 100; ++i)
    steps.push_back({0.01, 0.8 + 0.01 * i, static_cast<uint64_t>(state.range(0))});
  for (auto _ : state) benchmark::DoNotOptimize(Epsilon<AddRemove>(steps, 1e-6));
}
BENCHMARK(BM_DifferentSigmas)->Arg(1)->Arg(50)->Arg(500)->Unit(benchmark::kMillisecond);

template <typename Relation>
void BM_SmallSampling(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Epsilon<Relation>({{1e-5, 0.8, 1'000'000}}, 1e-9));
}
BENCHMARK(BM_SmallSampling<AddRemove>)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_SmallSampling<ReplaceOne>)->Unit(benchmark::kMillisecond);

// Five settings, each at five numbers of steps.
void BM_Table(benchmark::State& state) {
  constexpr SubsampledGaussian kSettings[] = {
      {0.04, 1.5, 1}, {0.01, 1, 1}, {0.001, 0.8, 1}, {0.1, 3, 1}, {0.02, 0.6, 1}};
  for (auto _ : state)
    for (SubsampledGaussian s : kSettings)
      for (const uint64_t steps : {100, 300, 1000, 3000, 10'000}) {
        s.steps = steps;
        benchmark::DoNotOptimize(Epsilon<AddRemove>({s}, 1e-6));
      }
}
BENCHMARK(BM_Table)->Unit(benchmark::kMillisecond);

void BM_Calibration(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(SampledSigmaFor<AddRemove>(8, 1e-5, 0.04, 2250).value());
}
BENCHMARK(BM_Calibration)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace concordat

BENCHMARK_MAIN();
