#ifndef CONCORDAT_PRIVACY_CRYPTO_P256_H_
#define CONCORDAT_PRIVACY_CRYPTO_P256_H_

#include <array>
#include <cstdint>
#include <optional>

#include "privacy/crypto/signature.h"

// OpenSSL's P-256 keys from and to 32 bytes. For the sources of this folder only.
namespace concordat::crypto {

bool IsP256(const evp_pkey_st* key);

/// The key pair whose private scalar is `secret`, big endian. Null unless 0 < secret < group order.
KeyHandle P256FromSecret(const Secret32& secret);

/// The public key whose point has this x-coordinate and an even y. Null when the curve has no such point.
KeyHandle P256FromCoordinate(const std::array<uint8_t, 32>& x);

/// The x-coordinate of the public point, big endian.
std::array<uint8_t, 32> P256CoordinateOf(const evp_pkey_st* key);

/// r ‖ s, 32 bytes each, big endian (IEEE 1363), of a DER ECDSA signature; and back. Nothing when it is none.
std::optional<Signature> EcdsaToRaw(ByteView der);
Bytes EcdsaToDer(const Signature& raw);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_P256_H_
