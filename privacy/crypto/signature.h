#ifndef CONCORDAT_PRIVACY_CRYPTO_SIGNATURE_H_
#define CONCORDAT_PRIVACY_CRYPTO_SIGNATURE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/random.h"
#include "privacy/crypto/hash.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace concordat::crypto {

/// The kind of an identity key. One federation has one kind: that of its coordinator's key.
enum class SignatureProfile : uint8_t {
  kEd25519 = 1,  // RFC 8032
  kP256 = 2      // ECDSA with SHA-256 (FIPS 186-5, section 6), for sites whose rules want NIST's curves
};
std::string_view SignatureProfileName(SignatureProfile profile);

/// An Ed25519 signature, R ‖ S (RFC 8032, section 5.1.6), or an ECDSA one, r ‖ s in 32 bytes each, big
/// endian.
using Signature = std::array<uint8_t, 64>;

/// Text that holds a secret, e.g. a private key in PEM. Wiped on destruction. Move only.
class SecretText {
 public:
  SecretText() = default;
  /// Copies `text`; the caller wipes its own.
  explicit SecretText(ByteView text) : bytes_(text.begin(), text.end()) {}
  SecretText(SecretText&& other) noexcept : bytes_(std::move(other.bytes_)) {}
  SecretText& operator=(SecretText&& other) noexcept;
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;
  ~SecretText() { Wipe(bytes_); }

  /// For writing it to a file of mode 0600; valid as long as the object.
  ByteView view() const { return bytes_; }

 private:
  Bytes bytes_;  // never grown after construction, so no unwiped copy stays behind
};

struct KeyDeleter {
  void operator()(evp_pkey_st* key) const;
};
using KeyHandle = std::unique_ptr<evp_pkey_st, KeyDeleter>;

class VerifyKey;

/// A private identity key. Move only; OpenSSL wipes it when it is freed. Its const calls may come from any
/// thread.
class SigningKey {
 public:
  /// A fresh key; takes 32 bytes from `random` (P-256: again where they are no scalar, one draw in 2^32).
  static SigningKey Generate(RandomSource& random, SignatureProfile profile = SignatureProfile::kEd25519);
  /// The Ed25519 key with this seed (RFC 8032, section 5.1.5).
  static SigningKey FromSeed(const Secret32& seed);
  /// Reads an unencrypted PKCS#8 "PRIVATE KEY". InvalidArgument when it is none, is encrypted or is neither
  /// Ed25519 nor P-256; the message repeats nothing of it.
  static StatusOr<SigningKey> FromPem(ByteView pem);

  SigningKey(SigningKey&&) noexcept = default;
  SigningKey& operator=(SigningKey&&) noexcept = default;

  /// PKCS#8 in PEM, unencrypted: for a file of mode 0600.
  SecretText ToPem() const;
  SignatureProfile profile() const;
  /// The public key as DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7; RFC 8410; RFC 5480).
  Bytes PublicSpki() const;
  VerifyKey Public() const;
  /// Signs TaggedMessage(domain, body). Ed25519 is deterministic; P-256 takes a nonce of OpenSSL's, so that
  /// the same statement signed again has other bytes: what is compared are bodies. \param domain what is
  /// said, e.g. "concordat/v1/advert": each kind of statement has its own
  Signature Sign(std::string_view domain, ByteView body) const;
  /// The plain signature of `message`, without a domain. For published test vectors; the protocol
  /// uses Sign.
  Signature SignRaw(ByteView message) const;

  evp_pkey_st* handle() const { return key_.get(); }

 private:
  explicit SigningKey(KeyHandle key) : key_(std::move(key)) {}
  KeyHandle key_;
};

/// A public identity key. A copy shares it. Any thread.
class VerifyKey {
 public:
  /// InvalidArgument unless `spki` is exactly one DER SubjectPublicKeyInfo with an Ed25519 key, or one with
  /// an uncompressed point of the named curve P-256.
  static StatusOr<VerifyKey> FromSpki(ByteView spki);
  /// Reads a PEM "PUBLIC KEY". InvalidArgument as FromSpki.
  static StatusOr<VerifyKey> FromPem(std::string_view pem);

  SignatureProfile profile() const;
  const Bytes& spki() const { return spki_; }
  /// SPKI in PEM.
  std::string ToPem() const;
  /// SHA-256 of the SPKI: what rosters and charters pin.
  Digest KeyHash() const { return Sha256(spki_); }

  /// PermissionDenied unless `signature` is this key's over TaggedMessage(domain, body); any length is safe.
  Status Verify(std::string_view domain, ByteView body, ByteView signature) const;
  /// Checks a plain signature: for published test vectors.
  Status VerifyRaw(ByteView message, ByteView signature) const;

  bool operator==(const VerifyKey& other) const { return spki_ == other.spki_; }

  evp_pkey_st* handle() const { return key_.get(); }

 private:
  VerifyKey(std::shared_ptr<evp_pkey_st> key, Bytes spki) : key_(std::move(key)), spki_(std::move(spki)) {}
  std::shared_ptr<evp_pkey_st> key_;
  Bytes spki_;
};

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_SIGNATURE_H_
