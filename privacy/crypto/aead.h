#ifndef CONCORDAT_PRIVACY_CRYPTO_AEAD_H_
#define CONCORDAT_PRIVACY_CRYPTO_AEAD_H_

#include <array>
#include <cstdint>
#include <span>

#include "common/secret.h"

namespace concordat::crypto {

inline constexpr size_t kAeadNonceBytes = 12;
inline constexpr size_t kAeadTagBytes = 16;
using AeadNonce = std::span<const uint8_t, kAeadNonceBytes>;

/// AES-256-GCM (NIST SP 800-38D): the ciphertext, then the 16-byte tag. Any thread.
/// A key and a nonce must never meet twice with different plaintexts: whoever seals one message per key may
/// use a nonce of zeros (kZeroNonce).
/// \param aad bound to the ciphertext, not part of it: who speaks to whom, in which attempt
/// \param plain at most 1 GiB; more ends the process
Bytes Seal(const Secret32& key, AeadNonce nonce, ByteView aad, ByteView plain);

/// Undoes Seal. DataLoss when key, nonce, aad or any bit of `sealed` is not what was sealed, or it is shorter
/// than a tag; nothing of the plaintext comes out then. The caller wipes a secret plaintext, or uses
/// OpenSecret.
StatusOr<Bytes> Open(const Secret32& key, AeadNonce nonce, ByteView aad, ByteView sealed);

/// Twelve zero bytes, for keys that seal one message only.
inline constexpr std::array<uint8_t, kAeadNonceBytes> kZeroNonce{};

/// Open for a plaintext of N secret bytes. InvalidArgument when it has another size.
template <size_t N>
StatusOr<Secret<N>> OpenSecret(const Secret32& key, AeadNonce nonce, ByteView aad, ByteView sealed) {
  ASSIGN_OR_RETURN(Bytes plain, Open(key, nonce, aad, sealed));
  auto secret = Secret<N>::From(plain);
  Wipe(plain);
  return secret;
}

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_AEAD_H_
