#ifndef CONCORDAT_PRIVACY_MECHANISM_FIXED_POINT_H_
#define CONCORDAT_PRIVACY_MECHANISM_FIXED_POINT_H_

#include <array>
#include <cstdint>

namespace concordat::internal {

using Uint128 = unsigned __int128;

/// A number from 0 to below 2^64 with 192 bits after the point, for the probabilities of a sampler. Plain
/// integer arithmetic, every operation truncates: the result is below the true one by less than 2^-191.
class Fixed192 {
 public:
  constexpr Fixed192() = default;
  static Fixed192 Integer(uint64_t v);
  /// a / b. b from 1 to 2^63, a / b below 2^64.
  static Fixed192 Ratio(Uint128 a, uint64_t b);
  /// high·2^-64 + low·2^-128, exactly.
  static Fixed192 Fraction(uint64_t high, uint64_t low);
  /// exp(−a/b), error below 2^-176.
  static Fixed192 ExpMinus(Uint128 a, uint64_t b);
  /// exp(−x), x below 200, error below 2^-176 beside what an error of x makes.
  static Fixed192 ExpMinus(Fixed192 x);

  Fixed192 operator+(const Fixed192& o) const;
  /// At least `o`.
  Fixed192 operator-(const Fixed192& o) const;
  Fixed192 operator*(const Fixed192& o) const;
  Fixed192 DividedBy(uint64_t v) const;
  Fixed192 Half() const;

  uint64_t integer() const { return limbs_[3]; }
  /// The first 128 bits after the point.
  Uint128 fraction() const { return (static_cast<Uint128>(limbs_[2]) << 64) | limbs_[1]; }
  /// The bits after those.
  uint64_t last_fraction() const { return limbs_[0]; }
  /// floor(2^128 · this / total), for this < total: binary long division.
  Uint128 ShareOf(const Fixed192& total) const;
  bool operator<(const Fixed192& o) const;
  bool operator==(const Fixed192&) const = default;

 private:
  std::array<uint64_t, 4> limbs_{};  // least significant first, the last one before the point
};

}  // namespace concordat::internal

#endif  // CONCORDAT_PRIVACY_MECHANISM_FIXED_POINT_H_
