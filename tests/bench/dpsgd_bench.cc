// Time for an element of what DP-SGD does beside training: noise, a unit's gradient on its way into the
// integer sum, the end of a step; and for a unit of the sampler. "time/element" is CPU time of one thread; of
// BM_StepEnd/threads, wall time on all cores.
//
//   build/bench/bin/dpsgd_bench --benchmark_min_time=0.5
#include <benchmark/benchmark.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/gradient_grid.h"
#include "privacy/mechanism/poisson_sampler.h"
#include "privacy/mechanism/rounded_gaussian.h"
#include "tests/bench/bench_support.h"

namespace concordat {
namespace {

// Trained weights of SmolLM2-135M with rank 16 on all seven linear layers.
constexpr uint64_t kElements = 4'884'480;

void OnAllCores(size_t blocks, const std::function<void(size_t)>& body) {
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < cores; ++t)
    threads.emplace_back([&, t] {
      for (size_t block = t; block < blocks; block += cores) body(block);
    });
  for (std::thread& t : threads) t.join();
}

// Argument: standard deviation in thousandths of a grid step.
template <typename Sampler>
void BM_RoundedGaussian(benchmark::State& state) {
  const Sampler sampler(RoundedGaussianScale::FromStddev(static_cast<double>(state.range(0)) * 1e-3).value());
  crypto::CtrRandom random(Seed(1));
  std::vector<int64_t> out(4096);
  for (auto _ : state) {
    sampler.Sample(random, out);
    benchmark::DoNotOptimize(out.data());
  }
  CountElements(state, out.size());
}
BENCHMARK(BM_RoundedGaussian<ExactRoundedGaussian>)->Arg(1000)->Arg(221'000'000);
BENCHMARK(BM_RoundedGaussian<FastRoundedGaussian>)
    ->Arg(10)
    ->Arg(1000)
    ->Arg(1'000'000)
    ->Arg(221'000'000)
    ->Arg(1'000'000'000'000'000);

// One unit: norm, clip, rounding, sum.
void BM_AddUnit(benchmark::State& state) {
  GridSum sum(GradientGrid::Make({.elements = kElements, .clip = 1}).value());
  std::vector<float> gradient(kElements);
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<float>(i % 2001) * 1e-5F - 1e-2F;
  for (auto _ : state) benchmark::DoNotOptimize(sum.Add(gradient, 1).value());
  CountElements(state, kElements);
}
BENCHMARK(BM_AddUnit)->Unit(benchmark::kMillisecond);

// Noise, division, f32; argument 1: on all cores.
void BM_StepEnd(benchmark::State& state) {
  const bool all = state.range(0) == 1;
  GridSum sum(GradientGrid::Make({.elements = kElements, .clip = 1, .noise_multiplier = 1}).value(),
              all ? ForBlocks(OnAllCores) : ForBlocks(OneByOne));
  std::vector<float> out(kElements);
  for (auto _ : state) {
    if (!sum.Finish(Seed(1), 64, out).ok()) state.SkipWithError("finish");
    benchmark::DoNotOptimize(out.data());
  }
  CountElements(state, kElements);
}
BENCHMARK(BM_StepEnd)->Arg(0)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_StepEnd)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_PoissonDraw(benchmark::State& state) {
  const PoissonSampler sampler(SamplingRate::FromRatio(1, 100).value(), 1'000'000);
  for (auto _ : state) benchmark::DoNotOptimize(sampler.Draw(Seed(1)).data());
  CountElements(state, sampler.units());
}
BENCHMARK(BM_PoissonDraw)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace concordat

BENCHMARK_MAIN();
