// Time for an element of what happens to a delta before it leaves: rounding, noise, masks; and of what the
// coordinator does with it. "time/element" is CPU time of one thread; of BM_WholeUpload, wall time on all
// cores.
//
//   build/bench/bin/mechanism_bench --benchmark_min_time=0.5
#include <benchmark/benchmark.h>

#include <algorithm>
#include <numeric>
#include <thread>
#include <vector>

#include "aggregation/modular_sum.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/clip.h"
#include "privacy/mechanism/discrete_gaussian.h"
#include "privacy/mechanism/encoder.h"
#include "privacy/mechanism/rotation.h"
#include "privacy/secagg/mask.h"
#include "tests/bench/bench_support.h"

namespace concordat {
namespace {

constexpr uint64_t kElements = 16 * kEncodeBlockElements;

std::vector<float> Delta(uint64_t elements) {
  std::vector<float> out(elements);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>((i * 2654435761U) % 2001) * 1e-6F - 1e-3F;
  return out;
}

EncodingPlan Plan(uint64_t elements, double sigma, uint32_t modulus_bits = kPlainBits) {
  EncodingConfig c;
  c.modulus_bits = modulus_bits;
  c.elements = elements;
  c.clip = 1;
  c.sites = 10;
  c.noise_stddev = sigma;
  return EncodingPlan::Make(c).value();
}

std::vector<secagg::MaskKey> Keys(size_t count) {
  std::vector<secagg::MaskKey> keys(count);
  for (size_t i = 0; i < count; ++i) keys[i] = {Seed(static_cast<uint8_t>(i)), i % 2 == 0 ? 1 : -1};
  return keys;
}

void BM_Norm(benchmark::State& state) {
  const std::vector<float> delta = Delta(kElements);
  for (auto _ : state) benchmark::DoNotOptimize(L2Norm(delta).value());
  CountElements(state, kElements);
}
BENCHMARK(BM_Norm);

// Argument: σ in thousandths.
template <typename Sampler>
void BM_Noise(benchmark::State& state) {
  const Sampler sampler(NoiseVariance::FromStddev(static_cast<double>(state.range(0)) * 1e-3).value());
  crypto::CtrRandom random(Seed(1));
  std::vector<int64_t> out(4096);
  for (auto _ : state) {
    sampler.Sample(random, out);
    benchmark::DoNotOptimize(out.data());
  }
  CountElements(state, out.size());
}
BENCHMARK(BM_Noise<ExactDiscreteGaussian>)->Arg(500)->Arg(4000)->Arg(100'000)->Arg(1'000'000);
BENCHMARK(BM_Noise<FastDiscreteGaussian>)->Arg(500)->Arg(4000)->Arg(100'000)->Arg(1'000'000);

// Pass 1: norm, clip factor, one draw of the rounding.
void BM_EncodePassOne(benchmark::State& state) {
  const std::vector<float> delta = Delta(kElements);
  const EncodingPlan plan = Plan(kElements, 0);
  for (auto _ : state) benchmark::DoNotOptimize(Encoder::Make(plan, delta, 1, {}, Seed(1)).value());
  CountElements(state, kElements);
}
BENCHMARK(BM_EncodePassOne);

// Pass 2: the rounding replayed, noise of the given thousandths added.
void BM_EncodePassTwo(benchmark::State& state) {
  const std::vector<float> delta = Delta(kElements);
  const double sigma = static_cast<double>(state.range(0)) * 1e-3;
  const Encoder encoder = Encoder::Make(Plan(kElements, sigma), delta, 1, {}, Seed(1)).value();
  std::vector<uint32_t> out(kElements);
  for (auto _ : state) {
    if (!encoder.Encode(0, out).ok()) state.SkipWithError("encode");
    benchmark::DoNotOptimize(out.data());
  }
  CountElements(state, kElements);
}
BENCHMARK(BM_EncodePassTwo)->Arg(0)->Arg(500)->Arg(100'000)->Arg(1'000'000);

// Argument: keys. Divide by it for the cost of one.
void BM_Mask(benchmark::State& state) {
  secagg::MaskStream masks(Keys(static_cast<size_t>(state.range(0))));
  std::vector<uint32_t> words(kElements);
  for (auto _ : state) {
    masks.Apply(0, words);
    benchmark::DoNotOptimize(words.data());
  }
  CountElements(state, kElements);
}
BENCHMARK(BM_Mask)->Arg(1)->Arg(10);

void BM_ModularAdd(benchmark::State& state) {
  ModularSum sum(kElements);
  const std::vector<uint32_t> words(kElements, 12345);
  for (auto _ : state) benchmark::DoNotOptimize(sum.Add(0, words));
  CountElements(state, kElements);
}
BENCHMARK(BM_ModularAdd);

// What words of 24 bits cost more: laying them out, adding them up, rotating. Arguments of the rotations:
// elements and threads (0: a thread for each core); "time/element" is wall time there.
void BM_PackWords(benchmark::State& state) {
  const std::vector<uint32_t> words(kElements, 12345);
  Bytes out(VectorBytes(kElements, kPackedBits));
  for (auto _ : state) {
    PackWords(words, kPackedBits, out);
    benchmark::DoNotOptimize(out.data());
  }
  CountElements(state, kElements);
}
BENCHMARK(BM_PackWords);

void BM_PackedAdd(benchmark::State& state) {
  ModularSum sum(kElements);
  const Bytes bytes(VectorBytes(kElements, kPackedBits), 3);
  for (auto _ : state) benchmark::DoNotOptimize(sum.AddBytes(0, bytes, kPackedBits));
  CountElements(state, kElements);
}
BENCHMARK(BM_PackedAdd);

template <void (Rotation::*kWay)(std::span<float>, unsigned) const>
void BM_Rotation(benchmark::State& state) {
  const auto elements = static_cast<uint64_t>(state.range(0));
  std::vector<float> x = Delta(elements);
  const Rotation rotation(Digest{}, elements);
  for (auto _ : state) {
    (rotation.*kWay)(x, static_cast<unsigned>(state.range(1)));
    benchmark::DoNotOptimize(x.data());
  }
  CountElements(state, elements);
}
BENCHMARK(BM_Rotation<&Rotation::Apply>)
    ->ArgsProduct({{2'440'000, 40'000'000}, {1, 0}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(BM_Rotation<&Rotation::Undo>)
    ->ArgsProduct({{2'440'000, 40'000'000}, {1, 0}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// Argument: bits of a word.
void BM_Decode(benchmark::State& state) {
  const EncodingPlan plan = Plan(kElements, 0, static_cast<uint32_t>(state.range(0)));
  const std::vector<uint32_t> words(kElements, 12345);
  for (auto _ : state) benchmark::DoNotOptimize(Decode(plan, words, 10).value());
  CountElements(state, kElements);
}
BENCHMARK(BM_Decode)->Arg(kPlainBits)->Arg(kPackedBits)->UseRealTime();

// Encode, noise and ten masks, block by block as an upload takes them, on every core: 4e7 elements.
// Arguments: σ in thousandths, bits of a word.
void BM_WholeUpload(benchmark::State& state) {
  constexpr uint64_t kWhole = 40'000'000;
  const std::vector<float> delta = Delta(kWhole);
  const auto bits = static_cast<uint32_t>(state.range(1));
  const EncodingPlan plan = Plan(kWhole, static_cast<double>(state.range(0)) * 1e-3, bits);
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  for (auto _ : state) {
    const Encoder encoder = Encoder::Make(plan, delta, 1, {}, Seed(1)).value();
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < cores; ++t)
      threads.emplace_back([&, t] {
        secagg::MaskStream masks(Keys(10));
        std::vector<uint32_t> block(kEncodeBlockElements);
        Bytes scratch;
        for (uint64_t first = t * kEncodeBlockElements; first < kWhole;
             first += cores * kEncodeBlockElements) {
          const auto part = std::span(block).first(std::min(kEncodeBlockElements, kWhole - first));
          if (!encoder.Encode(first, part).ok()) std::abort();
          masks.Apply(first, part);
          benchmark::DoNotOptimize(WireBytes(part, bits, scratch).data());
        }
      });
    for (std::thread& t : threads) t.join();
  }
  state.counters["cores"] = cores;
  CountElements(state, kWhole);
}
BENCHMARK(BM_WholeUpload)
    ->ArgsProduct({{0, 100'000}, {kPlainBits, kPackedBits}})
    ->Unit(benchmark::kSecond)
    ->UseRealTime();

}  // namespace
}  // namespace concordat

BENCHMARK_MAIN();
