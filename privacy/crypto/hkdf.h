#ifndef CONCORDAT_PRIVACY_CRYPTO_HKDF_H_
#define CONCORDAT_PRIVACY_CRYPTO_HKDF_H_

#include "common/secret.h"

namespace concordat::crypto {

/// HKDF with HMAC-SHA-256, extract then expand (RFC 5869), 32 bytes out. Any thread.
/// \param ikm input key material, e.g. the result of X25519Agree
/// \param salt not secret; empty means 32 zero bytes, as the RFC has it
/// \param info what the key is for; at most 1024 bytes (OpenSSL's bound; more is our own mistake and ends the
///     process, so never put a peer's free text here: put its hash)
Secret32 HkdfSha256(ByteView ikm, ByteView salt, ByteView info);

/// The same, filling `out`: 1 to 8160 bytes, the RFC's bound. The caller wipes `out`.
void HkdfSha256(ByteView ikm, ByteView salt, ByteView info, std::span<uint8_t> out);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_HKDF_H_
