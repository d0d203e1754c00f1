#include "privacy/secagg/shamir.h"

#include <algorithm>
#include <array>

namespace concordat::secagg {
namespace {

// a · x in the field: shift, and reduce by x^8+x^4+x^3+x+1 when the top bit was set; no branch on `a`.
constexpr uint8_t TimesX(uint8_t a) { return static_cast<uint8_t>((a << 1) ^ (0x1b & -(a >> 7))); }

// values · scalar byte by byte, for a scalar that everyone knows (an abscissa or a Lagrange coefficient).
void MultiplyByPublic(std::span<uint8_t, 32> values, uint8_t scalar) {
  std::array<uint8_t, 32> power{};
  std::array<uint8_t, 32> sum{};
  std::ranges::copy(values, power.begin());
  for (int bit = 0; bit < 8; ++bit) {
    const auto mask = static_cast<uint8_t>(-((scalar >> bit) & 1));
    for (size_t k = 0; k < 32; ++k) {
      sum[k] ^= power[k] & mask;
      power[k] = TimesX(power[k]);
    }
  }
  std::ranges::copy(sum, values.begin());
  Wipe(power);
  Wipe(sum);
}

void AddTo(std::span<uint8_t, 32> values, std::span<const uint8_t, 32> other) {
  for (size_t k = 0; k < 32; ++k) values[k] ^= other[k];
}

Status CheckAbscissas(std::span<const SiteIndex> xs) {
  std::array<bool, 256> seen{};
  for (SiteIndex x : xs) {
    if (x == 0 || x > kMaxSites) return InvalidArgument("a share's site must be 1..{}, not {}", kMaxSites, x);
    if (seen[x]) return InvalidArgument("two shares of site {}", x);
    seen[x] = true;
  }
  return OkStatus();
}

}  // namespace

uint8_t Gf256Multiply(uint8_t a, uint8_t b) {
  uint8_t sum = 0;
  for (int bit = 0; bit < 8; ++bit) {
    sum = static_cast<uint8_t>(sum ^ (a & -((b >> bit) & 1)));
    a = TimesX(a);
  }
  return sum;
}

uint8_t Gf256Invert(uint8_t a) {
  // a^254 = a^-1, because the multiplicative group has order 255; 254 = 0b11111110.
  uint8_t power = a;
  uint8_t result = 1;
  for (int bit = 1; bit < 8; ++bit) {
    power = Gf256Multiply(power, power);
    result = Gf256Multiply(result, power);
  }
  return result;
}

StatusOr<std::vector<ShamirShare>> SplitSecret(const Secret32& secret, uint32_t threshold,
                                               std::span<const SiteIndex> holders, RandomSource& random) {
  if (threshold == 0 || threshold > holders.size() || holders.size() > kMaxSites) {
    return InvalidArgument("cannot split for {} of {} sites (at most {})", threshold, holders.size(),
                           kMaxSites);
  }
  RETURN_IF_ERROR(CheckAbscissas(holders));
  std::vector<Secret32> coefficients(threshold);  // of x^0 .. x^(t-1), each for all 32 bytes
  coefficients[0] = secret;
  for (uint32_t k = 1; k < threshold; ++k) random.Fill(coefficients[k].mutable_view());

  std::vector<ShamirShare> shares(holders.size());
  for (size_t i = 0; i < holders.size(); ++i) {
    shares[i].x = holders[i];
    const auto y = shares[i].y.mutable_view();  // Horner, from the highest coefficient down
    for (uint32_t k = threshold; k-- > 0;) {
      MultiplyByPublic(y, holders[i]);
      AddTo(y, coefficients[k].view());
    }
  }
  return shares;
}

StatusOr<Secret32> ReconstructSecret(std::span<const ShamirShare> shares, uint32_t threshold) {
  if (threshold == 0 || shares.size() < threshold) {
    return InvalidArgument("{} shares where {} are needed", shares.size(), threshold);
  }
  std::vector<SiteIndex> xs;
  xs.reserve(shares.size());
  for (const ShamirShare& share : shares) xs.push_back(share.x);
  RETURN_IF_ERROR(CheckAbscissas(xs));

  Secret32 secret;
  for (uint32_t i = 0; i < threshold; ++i) {
    uint8_t numerator = 1;  // Lagrange at 0: Π x_j / (x_j − x_i); minus is xor
    uint8_t denominator = 1;
    for (uint32_t j = 0; j < threshold; ++j) {
      if (j == i) continue;
      numerator = Gf256Multiply(numerator, xs[j]);
      denominator = Gf256Multiply(denominator, static_cast<uint8_t>(xs[j] ^ xs[i]));
    }
    Secret32 term = shares[i].y;
    MultiplyByPublic(term.mutable_view(), Gf256Multiply(numerator, Gf256Invert(denominator)));
    AddTo(secret.mutable_view(), term.view());
  }
  return secret;
}

}  // namespace concordat::secagg
