#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_BYTES_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_BYTES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "common/secret.h"

namespace concordat::crypto {

/// The bytes that `hex` writes; a test with a typing error fails.
inline Bytes Hex(std::string_view hex) {
  auto bytes = FromHex(hex);
  EXPECT_TRUE(bytes.ok()) << hex;
  return bytes.ok() ? *bytes : Bytes{};
}

inline std::array<uint8_t, 32> Hex32(std::string_view hex) {
  const Bytes bytes = Hex(hex);
  std::array<uint8_t, 32> out{};
  EXPECT_EQ(bytes.size(), out.size());
  std::copy_n(bytes.begin(), std::min(bytes.size(), out.size()), out.begin());
  return out;
}

inline Secret32 HexSecret(std::string_view hex) { return Secret32(Hex32(hex)); }

/// The secret whose 32 bytes are all `value`.
inline Secret32 FilledSecret(uint8_t value) {
  std::array<uint8_t, 32> bytes;
  bytes.fill(value);
  return Secret32(bytes);
}

}  // namespace concordat::crypto

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_CRYPTO_TEST_BYTES_H_
