#include "privacy/secagg/mask_vaes.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

// How it works. AES costs one instruction per round and 64 bytes, on one port of the CPU: what does not save
// such instructions does not count. Counter blocks differ in few bytes, and two of fourteen rounds can be had
// once for all (counter-mode caching: Bernstein and Schwabe, "New AES software speed records", INDOCRYPT
// 2008):
//
//   Column 0 of the state after round 1 depends on bytes 0, 5, 10 and 15 of the block, no other column on any
//   of them. Round 2 works on each byte alone and then linearly. So for blocks that agree in bytes 0 to 10,
//   which are the counters below 2^40 (then below 2^41, and so on),
//
//     state after round 2 = base(bytes 11 to 14) ^ table(byte 15).
//
//   256 counters with the same bytes 0 to 14 are a *page*: 1024 elements. The table has 256 entries of 16
//   bytes, depends on the key, and serves 2^40 blocks; it is read in order, at places that the counter alone
//   says.
//
// The other twelve rounds run on eight registers at once, a *strip* of 128 elements. A strip of the vector
// stays in eight registers more while the keys of a *group* pass over it; a *piece* of the vector stays in
// the second-level cache while the groups do.
#define CONCORDAT_VAES [[gnu::target("aes,vaes,avx512f,avx512bw,avx512dq,avx512vbmi")]]
#define CONCORDAT_VAES_INLINE \
  [[gnu::always_inline, gnu::target("aes,vaes,avx512f,avx512bw,avx512dq,avx512vbmi")]] inline

namespace concordat::secagg {
namespace {

constexpr size_t kRounds = 14;
constexpr size_t kVectorBytes = 64;
constexpr size_t kVectorElements = kVectorBytes / 4;
constexpr size_t kHalfVectors = 4;  // enough to hide the latency of a round
constexpr size_t kHalfElements = kHalfVectors * kVectorElements;
constexpr size_t kStripElements = 2 * kHalfElements;
constexpr size_t kPageBlocks = 256;
constexpr size_t kPageElements = kPageBlocks * 4;
constexpr size_t kPageBytes = kPageBlocks * 16;
constexpr size_t kPieceElements = size_t{1} << 16;
constexpr size_t kGroupLanes = 4;  // their tables leave room in the first-level cache
static_assert(kPageElements % kStripElements == 0 && kPieceElements % kPageElements == 0);

/// The key schedule of FIPS 197, section 5.2: word i as it is stored, first byte lowest.
struct alignas(16) Schedule {
  std::array<uint32_t, 4 * (kRounds + 1)> words;
};

struct Lane {
  Schedule schedule;
  int sign = 1;
};

/// What is derived from the keys of the group at work. As secret as they are.
struct Scratch {
  alignas(kVectorBytes) uint8_t tables[kGroupLanes][kPageBytes];
  alignas(16) uint8_t bases[kGroupLanes][16];
  alignas(kVectorBytes) uint8_t sbox[256];              // the only public part
  alignas(kVectorBytes) uint32_t edge[kStripElements];  // a strip of which only a part is the caller's
};

template <typename T>
void WipeObjects(T* first, size_t count) {
  Wipe({reinterpret_cast<uint8_t*>(first), count * sizeof(T)});
}

// In a state of four equal columns ShiftRows moves nothing, so the last round with a key of zeros is
// SubBytes.
CONCORDAT_VAES_INLINE uint32_t SubWord(uint32_t word) {
  const __m128i columns = _mm_set1_epi32(static_cast<int>(word));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_aesenclast_si128(columns, _mm_setzero_si128())));
}

CONCORDAT_VAES void ExpandKey(const Secret32& key, Schedule& schedule) {
  auto& w = schedule.words;
  std::memcpy(w.data(), key.view().data(), key.size());
  uint32_t rcon = 1;
  for (size_t i = 8; i < w.size(); ++i) {
    uint32_t word = w[i - 1];
    if (i % 8 == 0) {
      word = SubWord(std::rotr(word, 8)) ^
             rcon;  // RotWord takes the first byte, which is the lowest, to the end
      rcon <<= 1;
    } else if (i % 8 == 4) {
      word = SubWord(word);
    }
    w[i] = w[i - 8] ^ word;
  }
}

CONCORDAT_VAES void FillSbox(uint8_t* sbox) {
  for (uint32_t i = 0; i < 256; ++i) sbox[i] = static_cast<uint8_t>(SubWord(i));
}

CONCORDAT_VAES_INLINE __m128i RoundKey(const Schedule& schedule, size_t round) {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(schedule.words.data() + 4 * round));
}

// Where an intrinsic has a full mask here, the one without makes g++ 12 warn of its own header.
constexpr __mmask64 kAllBytes = ~__mmask64{0};

/// Four times the same 16 bytes.
CONCORDAT_VAES_INLINE __m512i Broadcast(__m128i block) { return _mm512_maskz_broadcast_i32x4(0xffff, block); }

CONCORDAT_VAES_INLINE __m512i WideRoundKey(const Schedule& schedule, size_t round) {
  return Broadcast(RoundKey(schedule, round));
}

/// Counter block `block` as SP 800-38A writes it: a big-endian number of 128 bits.
CONCORDAT_VAES_INLINE __m128i CounterBlock(uint64_t block) {
  return _mm_set_epi64x(static_cast<int64_t>(__builtin_bswap64(block)), 0);
}

/// The state after two rounds of the first block of a page.
CONCORDAT_VAES_INLINE __m128i PageBase(const Schedule& schedule, uint64_t page) {
  const __m128i state = _mm_xor_si128(CounterBlock(page * kPageBlocks), RoundKey(schedule, 0));
  return _mm_aesenc_si128(_mm_aesenc_si128(state, RoundKey(schedule, 1)), RoundKey(schedule, 2));
}

/// table[b] = what byte 15 = b changes in the state after two rounds: the same for every page whose counters
/// agree with those of `page` from bit 40 upwards.
CONCORDAT_VAES void BuildTable(const Schedule& schedule, uint64_t page, uint8_t* table) {
  const __m512i base = Broadcast(PageBase(schedule, page));
  const __m512i step = Broadcast(_mm_set_epi32(4 << 24, 0, 0, 0));
  const __m512i lanes = _mm512_set_epi32(3 << 24, 0, 0, 0, 2 << 24, 0, 0, 0, 1 << 24, 0, 0, 0, 0, 0, 0, 0);
  // Byte 15 is still 0, so adding in the highest byte carries nowhere.
  __m512i counters = _mm512_add_epi32(Broadcast(CounterBlock(page * kPageBlocks)), lanes);
  for (size_t at = 0; at < kPageBytes; at += kVectorBytes) {
    __m512i state = _mm512_xor_si512(counters, WideRoundKey(schedule, 0));
    state = _mm512_aesenc_epi128(state, WideRoundKey(schedule, 1));
    state = _mm512_aesenc_epi128(state, WideRoundKey(schedule, 2));
    _mm512_store_si512(table + at, _mm512_xor_si512(state, base));
    counters = _mm512_add_epi32(counters, step);
  }
}

/// The S-box in registers, for the last round by lookup.
struct Sbox {
  __m512i quarters[4];
  __m512i shift_rows;
  __m512i bit6, bit7;
};

CONCORDAT_VAES_INLINE Sbox LoadSbox(const uint8_t* sbox) {
  return {{_mm512_load_si512(sbox), _mm512_load_si512(sbox + 64), _mm512_load_si512(sbox + 128),
           _mm512_load_si512(sbox + 192)},
          Broadcast(_mm_set_epi8(11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5, 0)),
          _mm512_set1_epi8(0x40),
          _mm512_set1_epi8(-0x80)};
}

/// What AESENCLAST gives, without it: VPERMB reads the low six bits of a byte, masks choose by the other two.
CONCORDAT_VAES_INLINE __m512i LastRoundByLookup(__m512i state, __m512i key, const Sbox& sbox) {
  state = _mm512_shuffle_epi8(state, sbox.shift_rows);
  const __mmask64 bit6 = _mm512_test_epi8_mask(state, sbox.bit6);
  const __mmask64 bit7 = _mm512_test_epi8_mask(state, sbox.bit7);
  __m512i low = _mm512_maskz_permutexvar_epi8(kAllBytes, state, sbox.quarters[0]);
  __m512i high = _mm512_maskz_permutexvar_epi8(kAllBytes, state, sbox.quarters[2]);
  low = _mm512_mask_permutexvar_epi8(low, bit6, state, sbox.quarters[1]);
  high = _mm512_mask_permutexvar_epi8(high, bit6, state, sbox.quarters[3]);
  return _mm512_xor_si512(_mm512_mask_blend_epi8(bit7, low, high), key);
}

/// sum ± the keystream of half a strip, whose state after two rounds is base ^ table.
CONCORDAT_VAES_INLINE void AddHalf(const Schedule& schedule, __m512i base, const uint8_t* table, bool plus,
                                   const Sbox& sbox, __m512i (&sum)[kHalfVectors]) {
  __m512i state[kHalfVectors];
#pragma GCC unroll 4
  for (size_t v = 0; v < kHalfVectors; ++v)
    state[v] = _mm512_xor_si512(base, _mm512_load_si512(table + v * kVectorBytes));
#pragma GCC unroll 11
  for (size_t round = 3; round < kRounds; ++round) {
    const __m512i key = WideRoundKey(schedule, round);
#pragma GCC unroll 4
    for (size_t v = 0; v < kHalfVectors; ++v) state[v] = _mm512_aesenc_epi128(state[v], key);
  }
  const __m512i key = WideRoundKey(schedule, kRounds);
#pragma GCC unroll 4
  for (size_t v = 0; v < kHalfVectors; ++v)
    state[v] = v % 2 == 0 ? LastRoundByLookup(state[v], key, sbox) : _mm512_aesenclast_epi128(state[v], key);
  // Signs are public, and come in the same sequence for every strip: the branch is foreseen.
  if (plus) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kHalfVectors; ++v) sum[v] = _mm512_add_epi32(sum[v], state[v]);
  } else {
#pragma GCC unroll 4
    for (size_t v = 0; v < kHalfVectors; ++v) sum[v] = _mm512_sub_epi32(sum[v], state[v]);
  }
}

/// words[e] ± every lane's keystream, for the strip that begins `in_page` elements into the page of the
/// bases.
CONCORDAT_VAES void AddStrip(std::span<const Lane> lanes, const Scratch& scratch, size_t in_page, int sign,
                             uint32_t* words) {
  const Sbox sbox = LoadSbox(scratch.sbox);
  __m512i left[kHalfVectors], right[kHalfVectors];
#pragma GCC unroll 4
  for (size_t v = 0; v < kHalfVectors; ++v) {
    left[v] = _mm512_loadu_si512(words + v * kVectorElements);
    right[v] = _mm512_loadu_si512(words + kHalfElements + v * kVectorElements);
  }
  for (size_t k = 0; k < lanes.size(); ++k) {
    const Schedule& schedule = lanes[k].schedule;
    const uint8_t* table = scratch.tables[k] + 4 * in_page;
    const __m512i base = Broadcast(_mm_load_si128(reinterpret_cast<const __m128i*>(scratch.bases[k])));
    const bool plus = sign * lanes[k].sign > 0;
    AddHalf(schedule, base, table, plus, sbox, left);
    AddHalf(schedule, base, table + 4 * kHalfElements, plus, sbox, right);
  }
#pragma GCC unroll 4
  for (size_t v = 0; v < kHalfVectors; ++v) {
    _mm512_storeu_si512(words + v * kVectorElements, left[v]);
    _mm512_storeu_si512(words + kHalfElements + v * kVectorElements, right[v]);
  }
}

/// One group over one part of the vector that lies in one piece.
CONCORDAT_VAES void AddGroup(std::span<const Lane> lanes, Scratch& scratch, uint64_t first,
                             std::span<uint32_t> inout, int sign) {
  for (size_t k = 0; k < lanes.size(); ++k)
    BuildTable(lanes[k].schedule, first / kPageElements, scratch.tables[k]);
  uint64_t page = ~uint64_t{0};  // no page has this number
  while (!inout.empty()) {
    if (first / kPageElements != page) {
      page = first / kPageElements;
      for (size_t k = 0; k < lanes.size(); ++k)
        _mm_store_si128(reinterpret_cast<__m128i*>(scratch.bases[k]), PageBase(lanes[k].schedule, page));
    }
    const size_t in_strip = first % kStripElements;
    const size_t strip = first % kPageElements - in_strip;
    const size_t n = std::min(kStripElements - in_strip, inout.size());
    if (n == kStripElements) {
      AddStrip(lanes, scratch, strip, sign, inout.data());
    } else {
      std::copy_n(inout.data(), n, scratch.edge + in_strip);
      AddStrip(lanes, scratch, strip, sign, scratch.edge);
      std::copy_n(scratch.edge + in_strip, n, inout.data());
    }
    first += n;
    inout = inout.subspan(n);
  }
}

class VaesGroup final : public MaskGroup {
 public:
  explicit VaesGroup(std::span<const MaskKey> keys) : lanes_(keys.size()) {
    for (size_t k = 0; k < keys.size(); ++k) {
      ExpandKey(keys[k].key, lanes_[k].schedule);
      lanes_[k].sign = keys[k].sign;
    }
    FillSbox(scratch_.sbox);
  }
  VaesGroup(const VaesGroup&) = delete;
  VaesGroup& operator=(const VaesGroup&) = delete;
  ~VaesGroup() override {
    WipeObjects(lanes_.data(), lanes_.size());
    WipeObjects(&scratch_, 1);
  }

  void Run(uint64_t first_element, std::span<uint32_t> inout, int sign) override {
    while (!inout.empty()) {
      const auto piece = inout.first(std::min(kPieceElements - first_element % kPieceElements, inout.size()));
      for (size_t at = 0; at < lanes_.size(); at += kGroupLanes) {
        const auto group = std::span(lanes_).subspan(at, std::min(kGroupLanes, lanes_.size() - at));
        AddGroup(group, scratch_, first_element, piece, sign);
      }
      first_element += piece.size();
      inout = inout.subspan(piece.size());
    }
  }

 private:
  std::vector<Lane> lanes_;
  Scratch scratch_{};
};

bool CpuHasVaes() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  // The compiler's own test covers AVX-512 and that the system saves its registers; clang 14 knows no "vaes"
  // there.
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
         __get_cpuid(1, &a, &b, &c, &d) && (c & bit_AES) != 0 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
         (c & bit_VAES) != 0;
}

}  // namespace

MaskKernel VaesMaskKernel() {
  static const bool has_vaes = CpuHasVaes();
  if (!has_vaes) return nullptr;
  return [](std::span<const MaskKey> keys) -> std::unique_ptr<MaskGroup> {
    return std::make_unique<VaesGroup>(keys);
  };
}

CONCORDAT_VAES std::array<uint8_t, 16> VaesEncryptBlock(const Secret32& key,
                                                        const std::array<uint8_t, 16>& block) {
  Schedule schedule;
  ExpandKey(key, schedule);
  __m128i state = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.data()));
  state = _mm_xor_si128(state, RoundKey(schedule, 0));
  for (size_t round = 1; round < kRounds; ++round) state = _mm_aesenc_si128(state, RoundKey(schedule, round));
  state = _mm_aesenclast_si128(state, RoundKey(schedule, kRounds));
  WipeObjects(&schedule, 1);
  std::array<uint8_t, 16> out;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out.data()), state);
  return out;
}

}  // namespace concordat::secagg

#else

namespace concordat::secagg {

MaskKernel VaesMaskKernel() { return nullptr; }
std::array<uint8_t, 16> VaesEncryptBlock(const Secret32&, const std::array<uint8_t, 16>&) { return {}; }

}  // namespace concordat::secagg

#endif
