// Secure aggregation: masks and unmasking, beside the machine's own rates.
//
//   secagg_bench                 everything
//   secagg_bench --benchmark_filter=Mask
//
// Each line of interest has the counter "s/elem/key" (seconds for one element and one key on one thread,
// printed as n or p), or the seconds of the whole task. The Raw lines say what the machine could do at best:
// AES-256-CTR by OpenSSL and by VAES, without memory, and adding vectors in the cache and in memory.
// VaesKernel can be faster than RawVaesCtr, because it does two of the fourteen rounds once for many blocks.
// Quote ratios from one run: machines are noisy, and their clock moves. On a busy one take
// --benchmark_repetitions=9 and the least.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/mechanism/words.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/mask_vaes.h"
#include "privacy/secagg/messages.h"
#include "privacy/secagg/shamir.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

#if defined(__x86_64__)
// Fourteen rounds over eight registers of counters at once, the keystream only kept from being optimised
// away.
[[gnu::target("aes,vaes,avx512f")]] void VaesBlocks(size_t strips) {
  __m512i counter[8], state[8];
  const __m512i key = _mm512_set1_epi32(0x5eed);
  for (int v = 0; v < 8; ++v) counter[v] = _mm512_set1_epi64(v);
  for (size_t n = 0; n < strips; ++n) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      state[v] = _mm512_xor_si512(counter[v], key);
      counter[v] = _mm512_add_epi64(counter[v], key);
    }
    for (int round = 1; round < 14; ++round) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) state[v] = _mm512_aesenc_epi128(state[v], key);
    }
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      state[v] = _mm512_aesenclast_epi128(state[v], key);
      asm volatile("" : : "v"(state[v]));
    }
  }
}

void RawVaesCtr(benchmark::State& state) {
  if (VaesMaskKernel() == nullptr) return state.SkipWithError("this CPU has no VAES with AVX-512");
  constexpr size_t kStrips = 8192;
  for (auto _ : state) VaesBlocks(kStrips);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kStrips * 512));
  SetPerElementKey(state, kStrips * 128);
}
BENCHMARK(RawVaesCtr);
#endif

// STREAM's "add", a = b + c, on vectors of state.range(0) elements: in the cache and beyond it.
void RawAdd(benchmark::State& state) {
  const auto n = static_cast<size_t>(state.range(0));
  std::vector<uint32_t> a(n, 0), b(n, 1), c(n, 2);
  for (auto _ : state) {
    for (size_t e = 0; e < n; ++e) a[e] = b[e] + c[e];
    benchmark::DoNotOptimize(a.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(12 * n));
  SetPerElementKey(state, static_cast<double>(n));
}
BENCHMARK(RawAdd)->Arg(1 << 13)->Arg(1 << 20)->Arg(1 << 26);

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

// Expansion and addition of state.range(0) keys, one thread: targets at most 0.65 ns with OpenSSL and 0.20 ns
// with VAES.
void MaskApply(benchmark::State& state, MaskKernel kernel) {
  if (kernel == nullptr) return state.SkipWithError("this CPU has no VAES with AVX-512");
  const auto keys = Keys(static_cast<size_t>(state.range(0)));
  MaskStream stream(keys, kernel);
  std::vector<uint32_t> v(kElements, 5);
  for (auto _ : state) {
    stream.Apply(0, v);
    benchmark::DoNotOptimize(v.data());
  }
  SetPerElementKey(state, static_cast<double>(kElements) * static_cast<double>(keys.size()));
}
BENCHMARK_CAPTURE(MaskApply, OpenSslKernel, OpenSslMaskKernel)
    ->Arg(1)
    ->Arg(3)
    ->Arg(10)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(MaskApply, VaesKernel, VaesMaskKernel())
    ->Arg(1)
    ->Arg(3)
    ->Arg(10)
    ->Arg(50)
    ->Unit(benchmark::kMillisecond);

// What a site sends for step 5: the masked words, of state.range(0) bits, and their signed header. Targets:
// at most 1.01 · 4 bytes an element, and 0.76 · 4 with words of 24 bits. What carries them (chunk offsets and
// hashes, gRPC, TLS) is not in it. The time is that of laying the words out.
void MaskedUploadBytes(benchmark::State& state) {
  constexpr size_t kLength = 1'000'000;
  std::vector<uint32_t> words(kLength, 1);
  MaskStream(Keys(10)).Apply(0, words);
  InputHeader header;
  header.elements = words.size();
  Bytes scratch;
  size_t bytes = 0;
  for (auto _ : state) {
    bytes = WireBytes(words, static_cast<uint32_t>(state.range(0)), scratch).size() +
            Canonical(header).size() + sizeof(Signed<InputHeader>::signature);
    benchmark::DoNotOptimize(scratch.data());
  }
  state.counters["bytes/elem"] = static_cast<double>(bytes) / kLength;
  state.counters["of 4"] = static_cast<double>(bytes) / kLength / 4;
}
BENCHMARK(MaskedUploadBytes)->Arg(kPlainBits)->Arg(kPackedBits)->Unit(benchmark::kMicrosecond);

// Unmask 1e6 elements when 16 of 50 sites were lost: 34 seeds and 16 mask keys rebuilt from 34 shares each,
// 16·34 pairwise keys agreed anew, 34 + 544 masks taken off. Target on 2 threads: at most 0.6 s.
void Unmask16Of50(benchmark::State& state, MaskKernel kernel) {
  if (kernel == nullptr) return state.SkipWithError("this CPU has no VAES with AVX-512");
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
        MaskStream(keys, kernel).Apply(from, std::span(sum).subspan(from, to - from));
      });
    }
    for (std::thread& t : pool) t.join();
    benchmark::DoNotOptimize(sum.data());
  }
}
BENCHMARK_CAPTURE(Unmask16Of50, OpenSslKernel, OpenSslMaskKernel)
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(Unmask16Of50, VaesKernel, VaesMaskKernel())
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace concordat::secagg

BENCHMARK_MAIN();
