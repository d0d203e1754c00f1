#ifndef CONCORDAT_PRIVACY_CRYPTO_X25519_H_
#define CONCORDAT_PRIVACY_CRYPTO_X25519_H_

#include <array>
#include <cstdint>

#include "common/random.h"
#include "common/secret.h"

namespace concordat::crypto {

/// The u-coordinate of a public point, little endian (RFC 7748, section 5).
using X25519Public = std::array<uint8_t, 32>;

struct X25519KeyPair {
  Secret32 secret;
  X25519Public pub{};
};

/// A fresh pair; takes 32 bytes from `random`.
X25519KeyPair GenerateX25519(RandomSource& random);

/// The public key of `secret`. Every 32 bytes are a secret key (they are clamped on use), so a status other
/// than OK (Internal) means that OpenSSL failed.
StatusOr<X25519Public> X25519PublicOf(const Secret32& secret);

/// The shared secret of RFC 7748, section 6.1. Not a key yet: put it through HkdfSha256 with what it is for.
/// InvalidArgument when `peer` is a point of low order, whose result is zero for everybody. Any thread.
/// Does not say who `peer` is: a signature over the public key must.
StatusOr<Secret32> X25519Agree(const Secret32& secret, const X25519Public& peer);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_X25519_H_
