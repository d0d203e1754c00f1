#include "privacy/mechanism/rotation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numbers>
#include <thread>
#include <vector>

#include "common/canonical.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"

namespace concordat {
namespace {

constexpr uint64_t kSecondSigns = uint64_t{1} << 28;  // bytes: 2^31 signs lie before it
// A tile stays in the first-level cache while all its stages pass over it.
constexpr size_t kTile = 8192;
// Rows and columns of what is gathered for the stages beyond a tile: 64 rows are six stages for one pass
// over memory, and 128 columns are runs that the prefetcher and the TLB can live with.
constexpr size_t kRows = 64;
constexpr size_t kColumns = kTile / kRows;
constexpr unsigned kMostThreads = 16;
constexpr uint64_t kWorthAThread = 1 << 18;  // elements

enum class Order { kUp, kDown };  // of the strides

// ---- Stages within one tile. Inlined into a baseline and an AVX2 version, which give the same bits: no
// sum has more than two terms, and nothing is contracted (-ffp-contract=off).

using Four [[gnu::vector_size(16)]] = float;
using FourWords [[gnu::vector_size(16)]] = uint32_t;

[[gnu::always_inline]] inline Four Flip(Four v, FourWords mask) {
  return reinterpret_cast<Four>(reinterpret_cast<FourWords>(v) ^ mask);
}
// Strides 1 and 2 within four numbers.
template <Order order>
[[gnu::always_inline]] inline Four Within(Four v) {
  constexpr uint32_t k = 0x80000000U;
  const auto one = [](Four x) {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2) + Flip(x, FourWords{0, k, 0, k});
  };
  const auto two = [](Four x) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1) + Flip(x, FourWords{0, 0, k, k});
  };
  return order == Order::kUp ? two(one(v)) : one(two(v));
}

// Strides 1, 2, 4 of a size that is a multiple of 8.
template <Order order>
[[gnu::always_inline]] inline void SmallStrides(float* x, size_t size) {
  for (size_t i = 0; i < size; i += 8) {
    Four low, high;
    std::memcpy(&low, x + i, sizeof low);
    std::memcpy(&high, x + i + 4, sizeof high);
    if (order == Order::kUp) {
      low = Within<order>(low);
      high = Within<order>(high);
    }
    Four sum = low + high, difference = low - high;
    if (order == Order::kDown) {
      sum = Within<order>(sum);
      difference = Within<order>(difference);
    }
    std::memcpy(x + i, &sum, sizeof sum);
    std::memcpy(x + i + 4, &difference, sizeof difference);
  }
}

[[gnu::always_inline]] inline void OneStride(float* x, size_t size, size_t h) {
  for (size_t base = 0; base < size; base += 2 * h)
    for (size_t j = base; j < base + h; ++j) {
      const float a = x[j], b = x[j + h];
      x[j] = a + b;
      x[j + h] = a - b;
    }
}

// Strides h and 2h at once: half the loads and stores.
template <Order order>
[[gnu::always_inline]] inline void TwoStrides(float* x, size_t size, size_t h) {
  for (size_t base = 0; base < size; base += 4 * h) {
    float* __restrict p = x + base;
    float* __restrict q = p + h;
    float* __restrict r = q + h;
    float* __restrict s = r + h;
    for (size_t j = 0; j < h; ++j) {
      const float a = p[j], b = q[j], c = r[j], d = s[j];
      if (order == Order::kUp) {
        const float ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
        p[j] = ab + cd;
        q[j] = a_b + c_d;
        r[j] = ab - cd;
        s[j] = a_b - c_d;
      } else {
        const float ac = a + c, bd = b + d, a_c = a - c, b_d = b - d;
        p[j] = ac + bd;
        q[j] = ac - bd;
        r[j] = a_c + b_d;
        s[j] = a_c - b_d;
      }
    }
  }
}

// All strides from `first` to size / 2; both are powers of two.
template <Order order>
[[gnu::always_inline]] inline void Stages(float* x, size_t size, size_t first) {
  const bool small = first == 1 && size >= 8;
  const size_t from = small ? 8 : first;
  // Pairs of strides; the odd one is that next to `from`.
  const bool odd = from < size && (std::countr_zero(size) - std::countr_zero(from)) % 2 != 0;
  if (order == Order::kUp) {
    if (small) SmallStrides<order>(x, size);
    if (odd) OneStride(x, size, from);
    for (size_t h = odd ? 2 * from : from; h < size; h *= 4) TwoStrides<order>(x, size, h);
  } else {
    for (size_t h = size / 4; h >= (odd ? 2 * from : from) && h > 0; h /= 4) TwoStrides<order>(x, size, h);
    if (odd) OneStride(x, size, from);
    if (small) SmallStrides<order>(x, size);
  }
}

[[gnu::always_inline]] inline void AnyStages(float* x, size_t size, size_t first, Order order) {
  if (order == Order::kUp)
    Stages<Order::kUp>(x, size, first);
  else
    Stages<Order::kDown>(x, size, first);
}

[[gnu::always_inline]] inline void ScaleAndSign(float* x, const uint8_t* signs, size_t size, float scale) {
  const auto one = [scale](float v, uint32_t byte, size_t k) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(v * scale) ^ ((byte << (31 - k)) & 0x80000000U));
  };
  if (size < 8) {
    for (size_t k = 0; k < size; ++k) x[k] = one(x[k], signs[0], k);
    return;
  }
  for (size_t i = 0; i < size; i += 8)
    for (size_t k = 0; k < 8; ++k) x[i + k] = one(x[i + k], signs[i / 8], k);
}

void StagesBaseline(float* x, size_t size, size_t first, Order order) { AnyStages(x, size, first, order); }
void SignsBaseline(float* x, const uint8_t* signs, size_t size, float scale) {
  ScaleAndSign(x, signs, size, scale);
}
#if defined(__x86_64__)
[[gnu::target("avx2")]] void StagesAvx2(float* x, size_t size, size_t first, Order order) {
  AnyStages(x, size, first, order);
}
[[gnu::target("avx2")]] void SignsAvx2(float* x, const uint8_t* signs, size_t size, float scale) {
  ScaleAndSign(x, signs, size, scale);
}
#endif

struct Kernels {
  void (*stages)(float*, size_t, size_t, Order) = StagesBaseline;
  void (*signs)(float*, const uint8_t*, size_t, float) = SignsBaseline;
};

Kernels BestKernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return {StagesAvx2, SignsAvx2};
#endif
  return {};
}

// ---- One step: D coordinates, all strides.

class Step {
 public:
  Step(std::span<float> x, const Digest& seed, uint64_t first_sign_byte, unsigned threads)
      : x_(x), first_sign_byte_(first_sign_byte), threads_(threads) {
    std::copy(seed.bytes.begin(), seed.bytes.end(), seed_.mutable_view().begin());
    const int log2 = std::countr_zero(x.size());
    scale_ = std::bit_cast<float>(static_cast<uint32_t>(127 - log2 / 2) << 23);
    if (log2 % 2 != 0) scale_ *= static_cast<float>(1 / std::numbers::sqrt2);
  }

  void Apply() {
    Tiles(Order::kUp);
    for (size_t h = kTile; h < x_.size(); h *= kRows) Strips(h, std::min(kRows, x_.size() / h), Order::kUp);
  }
  void Undo() {
    // The same groups of strides, backwards.
    size_t h = kTile;
    while (h < x_.size() && h * kRows < x_.size()) h *= kRows;
    for (; h >= kTile && h < x_.size(); h /= kRows) Strips(h, std::min(kRows, x_.size() / h), Order::kDown);
    Tiles(Order::kDown);
  }

 private:
  // Strides within tiles, with the scale and the signs: before the strides going up, after them going down.
  void Tiles(Order order) {
    const size_t size = std::min(kTile, x_.size());
    Share(x_.size() / size, [this, order, size](size_t begin, size_t end) {
      crypto::CtrStream stream(seed_);
      std::array<uint8_t, kTile / 8> signs;
      for (size_t tile = begin; tile < end; ++tile) {
        float* x = x_.data() + tile * size;
        stream.Keystream(first_sign_byte_ + tile * (kTile / 8), std::span(signs).first((size + 7) / 8));
        if (order == Order::kUp) kernels_.signs(x, signs.data(), size, scale_);
        kernels_.stages(x, size, 1, order);
        if (order == Order::kDown) kernels_.signs(x, signs.data(), size, scale_);
      }
    });
  }

  // Strides h … h·rows/2: `rows` runs of kColumns numbers, h apart, are gathered, rotated and put back. Where
  // they lie their addresses differ by powers of two, which caches do not bear.
  void Strips(size_t h, size_t rows, Order order) {
    const size_t across = h / kColumns;
    Share(x_.size() / (rows * kColumns), [this, h, rows, across, order](size_t begin, size_t end) {
      std::vector<float> tile(rows * kColumns);
      for (size_t strip = begin; strip < end; ++strip) {
        float* first = x_.data() + strip / across * (rows * h) + strip % across * kColumns;
        for (size_t row = 0; row < rows; ++row)
          std::memcpy(tile.data() + row * kColumns, first + row * h, kColumns * sizeof(float));
        kernels_.stages(tile.data(), tile.size(), kColumns, order);
        for (size_t row = 0; row < rows; ++row)
          std::memcpy(first + row * h, tile.data() + row * kColumns, kColumns * sizeof(float));
      }
    });
  }

  // work(begin, end) for parts of [0, count).
  template <typename Work>
  void Share(size_t count, const Work& work) {
    const size_t most = std::max<size_t>(1, std::min<size_t>(count, x_.size() / kWorthAThread));
    const size_t threads = std::min<size_t>(threads_, most);
    const auto at = [&](size_t i) { return count * i / threads; };
    std::vector<std::jthread> others;
    for (size_t i = 1; i < threads; ++i) others.emplace_back(work, at(i), at(i + 1));
    work(0, at(1));
  }

  const std::span<float> x_;
  const uint64_t first_sign_byte_;
  const unsigned threads_;
  const Kernels kernels_ = BestKernels();
  Secret32 seed_;  // public, but keys come in this type
  float scale_ = 1;
};

unsigned ThreadsFor(unsigned asked) {
  return std::clamp(asked != 0 ? asked : std::thread::hardware_concurrency(), 1U, kMostThreads);
}

}  // namespace

Digest RotationSeed(const AttemptId& id) {
  CanonicalWriter out;
  out.Put(id.job);
  out.U32(id.round);
  out.U32(id.attempt);
  return crypto::TaggedHash("concordat/v1/rotation", out.bytes());
}

Rotation::Rotation(const Digest& seed, uint64_t elements)
    : seed_(seed), elements_(elements), block_(std::bit_floor(elements)) {}

void Rotation::Apply(std::span<float> x, unsigned threads) const {
  const unsigned count = ThreadsFor(threads);
  Step(x.first(block_), seed_, 0, count).Apply();
  if (block_ < elements_) Step(x.last(block_), seed_, kSecondSigns, count).Apply();
}

void Rotation::Undo(std::span<float> x, unsigned threads) const {
  const unsigned count = ThreadsFor(threads);
  if (block_ < elements_) Step(x.last(block_), seed_, kSecondSigns, count).Undo();
  Step(x.first(block_), seed_, 0, count).Undo();
}

double Rotation::ErrorBound(uint64_t elements) {
  const int stages = std::bit_width(elements) - 1;
  return (2 * (stages + 2) + 2) * 0x1.01p-24;
}

}  // namespace concordat
