#include "privacy/secagg/mask.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hkdf.h"
#include "privacy/secagg/mask_vaes.h"
#include "privacy/secagg/pairwise.h"

namespace concordat::secagg {
namespace {

static_assert(std::endian::native == std::endian::little, "mask words are little endian");

// 8 KiB of data, of keystream and of the cipher's zeros fit a first-level cache together (measured: 6% faster
// than blocks of 16 KiB), and the cipher still runs at full speed.
constexpr size_t kBlockElements = 2048;

// out[e] ± pad[e]: one loop, compiled for the baseline and for 32-byte words (about 5% of the whole), with
// the same bits. Inlined into the two functions below, which differ in their target only.
[[gnu::always_inline]] inline void Combine(uint32_t* __restrict out, const uint32_t* __restrict pad, size_t n,
                                           int sign) {
  if (sign > 0) {
    for (size_t e = 0; e < n; ++e) out[e] += pad[e];
  } else {
    for (size_t e = 0; e < n; ++e) out[e] -= pad[e];
  }
}

void CombineBaseline(uint32_t* out, const uint32_t* pad, size_t n, int sign) { Combine(out, pad, n, sign); }

#if defined(__x86_64__)
[[gnu::target("avx2")]] void CombineAvx2(uint32_t* out, const uint32_t* pad, size_t n, int sign) {
  Combine(out, pad, n, sign);
}
#endif

using CombineFunction = void (*)(uint32_t*, const uint32_t*, size_t, int);

CombineFunction BestCombine() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return CombineAvx2;
#endif
  return CombineBaseline;
}

// Block by block, so that a block stays in the cache while all keys pass over it.
class OpenSslGroup final : public MaskGroup {
 public:
  explicit OpenSslGroup(std::span<const MaskKey> keys) {
    lanes_.reserve(keys.size());
    for (const MaskKey& key : keys) lanes_.push_back({crypto::CtrStream(key.key), key.sign});
  }
  // The last part of a keystream would open that part of a masked vector.
  ~OpenSslGroup() override { Wipe({reinterpret_cast<uint8_t*>(pad_.data()), 4 * pad_.size()}); }

  void Run(uint64_t first_element, std::span<uint32_t> inout, int sign) override {
    for (size_t at = 0; at < inout.size(); at += kBlockElements) {
      const size_t n = std::min(kBlockElements, inout.size() - at);
      for (Lane& lane : lanes_) {
        lane.stream.Keystream(4 * (first_element + at), {reinterpret_cast<uint8_t*>(pad_.data()), 4 * n});
        combine_(inout.data() + at, pad_.data(), n, sign * lane.sign);
      }
    }
  }

 private:
  struct Lane {
    crypto::CtrStream stream;
    int sign;
  };
  std::vector<Lane> lanes_;
  CombineFunction combine_ = BestCombine();
  alignas(64) std::array<uint32_t, kBlockElements> pad_{};
};

}  // namespace

StatusOr<Secret32> PairwiseMaskKey(const Secret32& own_secret, const crypto::AgreementPublic& peer,
                                   const Digest& t2, SiteIndex i, SiteIndex j, const Secret32* pair_part,
                                   crypto::AgreementCurve curve) {
  ASSIGN_OR_RETURN(const Secret32 agreed, crypto::Agree(own_secret, peer, curve));
  if (pair_part != nullptr)
    return DeriveWithPart(agreed, *pair_part, t2, "mask+pairwise", std::min(i, j), std::max(i, j));
  const std::array<uint8_t, 6> info = {'m', 'a', 's', 'k', std::min(i, j), std::max(i, j)};
  return crypto::HkdfSha256(agreed.view(), t2.view(), info);
}

Secret32 SelfMaskKey(const Secret32& seed, const Digest& t2, SiteIndex i) {
  const std::array<uint8_t, 5> info = {'s', 'e', 'l', 'f', i};
  return crypto::HkdfSha256(seed.view(), t2.view(), info);
}

std::unique_ptr<MaskGroup> OpenSslMaskKernel(std::span<const MaskKey> keys) {
  return std::make_unique<OpenSslGroup>(keys);
}

MaskKernel BestMaskKernel() {
  // Every kernel gives the same bits, so a surprising environment costs time and nothing else.
  const char* portable = std::getenv("CONCORDAT_PORTABLE_MASKS");
  const MaskKernel fast = VaesMaskKernel();
  return fast == nullptr || (portable != nullptr && *portable != '\0') ? OpenSslMaskKernel : fast;
}

MaskStream::MaskStream(std::span<const MaskKey> keys, MaskKernel kernel) : group_(kernel(keys)) {}

void MaskStream::Apply(uint64_t first_element, std::span<uint32_t> inout, MaskDirection direction) {
  group_->Run(first_element, inout, direction == MaskDirection::kApply ? 1 : -1);
}

}  // namespace concordat::secagg
