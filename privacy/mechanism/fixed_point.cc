#include "privacy/mechanism/fixed_point.h"

#include <algorithm>

namespace concordat::internal {

Fixed192 Fixed192::Integer(uint64_t v) {
  Fixed192 out;
  out.limbs_[3] = v;
  return out;
}

Fixed192 Fixed192::Fraction(uint64_t high, uint64_t low) {
  Fixed192 out;
  out.limbs_[2] = high;
  out.limbs_[1] = low;
  return out;
}

Fixed192 Fixed192::Ratio(Uint128 a, uint64_t b) {
  Fixed192 out;
  out.limbs_[3] = static_cast<uint64_t>(a / b);
  auto rest = static_cast<uint64_t>(a % b);
  for (int i = 2; i >= 0; --i) {
    const Uint128 wide = static_cast<Uint128>(rest) << 64;
    out.limbs_[i] = static_cast<uint64_t>(wide / b);
    rest = static_cast<uint64_t>(wide % b);
  }
  return out;
}

Fixed192 Fixed192::operator+(const Fixed192& o) const {
  Fixed192 out;
  Uint128 carry = 0;
  for (int i = 0; i < 4; ++i) {
    carry += static_cast<Uint128>(limbs_[i]) + o.limbs_[i];
    out.limbs_[i] = static_cast<uint64_t>(carry);
    carry >>= 64;
  }
  return out;
}

Fixed192 Fixed192::operator-(const Fixed192& o) const {
  Fixed192 out;
  uint64_t borrow = 0;
  for (int i = 0; i < 4; ++i) {
    const Uint128 take = static_cast<Uint128>(o.limbs_[i]) + borrow;
    borrow = limbs_[i] < take ? 1 : 0;
    out.limbs_[i] = static_cast<uint64_t>(limbs_[i] - take);
  }
  return out;
}

Fixed192 Fixed192::operator*(const Fixed192& o) const {
  std::array<uint64_t, 8> product{};
  for (int i = 0; i < 4; ++i) {
    uint64_t carry = 0;
    for (int j = 0; j < 4; ++j) {
      const Uint128 sum = static_cast<Uint128>(limbs_[i]) * o.limbs_[j] + product[i + j] + carry;
      product[i + j] = static_cast<uint64_t>(sum);
      carry = static_cast<uint64_t>(sum >> 64);
    }
    product[i + 4] = carry;
  }
  Fixed192 out;
  std::copy_n(product.begin() + 3, 4, out.limbs_.begin());
  return out;
}

Fixed192 Fixed192::DividedBy(uint64_t v) const {
  Fixed192 out;
  Uint128 rest = 0;
  for (int i = 3; i >= 0; --i) {
    rest = (rest << 64) | limbs_[i];
    out.limbs_[i] = static_cast<uint64_t>(rest / v);
    rest %= v;
  }
  return out;
}

Fixed192 Fixed192::Half() const {
  Fixed192 out;
  for (int i = 0; i < 4; ++i) out.limbs_[i] = (limbs_[i] >> 1) | (i < 3 ? limbs_[i + 1] << 63 : 0);
  return out;
}

bool Fixed192::operator<(const Fixed192& o) const {
  return std::lexicographical_compare(limbs_.rbegin(), limbs_.rend(), o.limbs_.rbegin(), o.limbs_.rend());
}

Uint128 Fixed192::ShareOf(const Fixed192& total) const {
  Uint128 quotient = 0;
  Fixed192 rest = *this;
  for (int bit = 0; bit < 128; ++bit) {
    rest = rest + rest;
    quotient <<= 1;
    if (!(rest < total)) {
      rest = rest - total;
      quotient |= 1;
    }
  }
  return quotient;
}

Fixed192 Fixed192::ExpMinus(Uint128 a, uint64_t b) {
  // exp(−200) is below 2^-288: nothing is left of it.
  if (a / b >= 200) return {};
  return ExpMinus(Ratio(a, b));
}

Fixed192 Fixed192::ExpMinus(Fixed192 x) {
  int halvings = 0;
  for (; x.integer() > 0; ++halvings) x = x.Half();
  // exp(−x) = Σ (−x)^k / k!, even and odd terms apart so that nothing goes below zero.
  Fixed192 term = Integer(1), even = term, odd;
  for (uint64_t k = 1; !(term == Fixed192{}); ++k) {
    term = (term * x).DividedBy(k);
    Fixed192& side = k % 2 == 0 ? even : odd;
    side = side + term;
  }
  Fixed192 out = even - odd;
  for (; halvings > 0; --halvings) out = out * out;
  return out;
}

}  // namespace concordat::internal
