#ifndef CONCORDAT_PRIVACY_MECHANISM_LAZY_ROUNDING_H_
#define CONCORDAT_PRIVACY_MECHANISM_LAZY_ROUNDING_H_

#include <cstddef>
#include <cstdint>

#include "privacy/mechanism/random_words.h"

namespace concordat::internal {

using Uint128 = unsigned __int128;

/// round(m·2^-shift·(a + u)) for a lazy uniform deviate u in [0, 1): 64 of its bits are `first`, the next
/// ones are `more` (`known` words of 64 bits), and whatever is needed beyond is drawn. Exact: no digit is
/// guessed. \param a below 2^16; \param m from 1 to 2^44; \param shift such that the scale is m·2^-shift,
/// from −4 to 62.
///
/// With P = m·(a·2^64 + first) the number lies in [P, P + m)·2^-(shift+64). One integer boundary at most is
/// within; if it is, the rest of u, τ in [0, 1), is compared with the boundary's place N/m, digit by digit
/// of base 2^64.
template <typename Words>
inline uint64_t RoundLazily(Words& words, uint64_t m, int shift, uint64_t a, uint64_t first,
                            const uint64_t* more, size_t known) {
  const int q = shift + 64;
  const Uint128 one = Uint128{1} << q;
  const Uint128 product = static_cast<Uint128>(m) * ((static_cast<Uint128>(a) << 64) | first) + (one >> 1);
  const auto floor = static_cast<uint64_t>(product >> q);
  Uint128 to_next = one - (product & (one - 1));
  if (to_next >= m) [[likely]]
    return floor;
  // τ >= N/m, N = to_next.
  for (size_t i = 0;; ++i) {
    const Uint128 wide = to_next << 64;
    const auto digit = static_cast<uint64_t>(wide / m);
    to_next = wide % m;
    const uint64_t word = i < known ? more[i] : words.Word();
    if (word != digit) return word > digit ? floor + 1 : floor;
    if (to_next == 0) return floor + 1;
  }
}

}  // namespace concordat::internal

#endif  // CONCORDAT_PRIVACY_MECHANISM_LAZY_ROUNDING_H_
