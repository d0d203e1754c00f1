// Secure aggregation: masks and unmasking, beside the machine's own rates.
//
//   secagg_bench                 everything
//   secagg_bench --benchmark_filter=Mask
//
// Each line of interest has the counter "s/elem/key" (seconds for one element and one key on one thread,
// printed as n or p), or the seconds of the whole task. The raw rates beside them say what the machine could
// do at best: AES-256-CTR without anything else, and adding one vector to another. Quote ratios from one run:
// machines are noisy.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/shamir.h"

namespace concordat::secagg {
namespace {

constexpr size_t kElements = size_t{1} << 20;

std::vector<MaskKey> Keys(size_t n) {
  OsRandom random;
  std::vector<MaskKey> keys;
  for (size_t k = 0; k < n; ++k) keys.push_back({random.Seed(), k % 2 == 0 ? 1 : -1});
  return keys;
}

void SetPerElementKey(benchmark::State& state, double elements_times_keys) {
  // Inverse rate: seconds for one element and one key; Google Benchmark prints it with its prefix (n, p).
  state.counters["s/elem/key"] =
      benchmark::Counter(elements_times_keys * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void RawAesCtr(benchmark::State& state) {
  crypto::CtrStream stream(OsRandom().Seed());
  std::vector<uint8_t> block(static_cast<size_t>(state.range(0)));
  uint64_t at = 0;
  for (auto _ : state) {
    stream.Keystream(at, block);
    at += block.size();
    benchmark::DoNotOptimize(block.data());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
  SetPerElementKey(state, static_cast<double>(block.size()) / 4);
}
BENCHMARK(RawAesCtr)->Arg(16 << 10)->Arg(1 << 20);

void RawAdd(benchmark::State& state) {
  std::vector<uint32_t> a(kElements, 1), b(kElements, 2);
  for (auto _ : state) {
    for (size_t e = 0; e < kElements; ++e) a[e] += b[e];
    benchmark::DoNotOptimize(a.data());
    benchmark::ClobberMemory();
  }
  SetPerElementKey(state, kElements);
}
BENCHMARK(RawAdd);

void RawCopy(benchmark::State& state) {
  std::vector<uint32_t> a(kElements, 1), b(kElements, 2);
  for (auto _ : state) {
    std::memcpy(a.data(), b.data(), 4 * kElements);
    benchmark::DoNotOptimize(a.data());
    benchmark::ClobberMemory();
  }
  SetPerElementKey(state, kElements);
}
BENCHMARK(RawCopy);

// Expansion and addition of state.range(0) keys, one thread: target at most 0.65 ns with OpenSSL.
void MaskApply(benchmark::State& state) {
  const auto keys = Keys(static_cast<size_t>(state.range(0)));
  MaskStream stream(keys);
  std::vector<uint32_t> v(kElements, 5);
  for (auto _ : state) {
    stream.Apply(0, v);
    benchmark::DoNotOptimize(v.data());
  }
  SetPerElementKey(state, static_cast<double>(kElements) * static_cast<double>(keys.size()));
}
BENCHMARK(MaskApply)->Arg(1)->Arg(3)->Arg(10)->Unit(benchmark::kMillisecond);

// Unmask 1e6 elements when 16 of 50 sites were lost: 34 seeds and 16 mask keys rebuilt from 34 shares each,
// 16·34 pairwise keys agreed anew, 34 + 544 masks taken off. Target on 2 threads: at most 0.6 s.
void Unmask16Of50(benchmark::State& state) {
  constexpr SiteIndex kSites = 50, kAlive = 34;
  constexpr size_t kLength = 1'000'000;
  OsRandom random;
  std::vector<SiteIndex> holders;
  for (SiteIndex i = 1; i <= kSites; ++i) holders.push_back(i);
  std::vector<crypto::X25519KeyPair> pairs;
  std::vector<std::vector<ShamirShare>> key_shares, seed_shares;
  for (SiteIndex i = 1; i <= kSites; ++i) {
    pairs.push_back(crypto::GenerateX25519(random));
    key_shares.push_back(SplitSecret(pairs.back().secret, kAlive, holders, random).value());
    seed_shares.push_back(SplitSecret(random.Seed(), kAlive, holders, random).value());
  }
  const Digest t2 = Digest::From(OsRandom().Seed().view()).value();
  std::vector<uint32_t> sum(kLength, 1);
  const auto threads = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    std::vector<MaskKey> keys;
    for (SiteIndex j = 1; j <= kAlive; ++j) {
      const Secret32 seed = ReconstructSecret(std::span(seed_shares[j - 1]).first(kAlive), kAlive).value();
      keys.push_back({SelfMaskKey(seed, t2, j), -1});
    }
    for (SiteIndex j = kAlive + 1; j <= kSites; ++j) {
      const Secret32 secret = ReconstructSecret(std::span(key_shares[j - 1]).first(kAlive), kAlive).value();
      for (SiteIndex i = 1; i <= kAlive; ++i) {
        keys.push_back({PairwiseMaskKey(secret, pairs[i - 1].pub, t2, i, j).value(), -PairwiseSign(i, j)});
      }
    }
    std::vector<std::thread> pool;
    for (size_t k = 0; k < threads; ++k) {
      pool.emplace_back([&, k] {
        const size_t from = k * kLength / threads, to = (k + 1) * kLength / threads;
        MaskStream(keys).Apply(from, std::span(sum).subspan(from, to - from));
      });
    }
    for (std::thread& t : pool) t.join();
    benchmark::DoNotOptimize(sum.data());
  }
}
BENCHMARK(Unmask16Of50)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace concordat::secagg

BENCHMARK_MAIN();
