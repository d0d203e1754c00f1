#include "privacy/crypto/signature.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/p256.h"

namespace concordat::crypto {
namespace {

using MdCtxPtr = OpenSslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;

constexpr size_t kMaxKeyPemBytes = 16 * 1024;

// Answers OpenSSL's question for a pass phrase with "none", or it would ask on the terminal.
int NoPassPhrase(char*, int, int, void*) { return -1; }

constexpr size_t kMaxEcdsaDerBytes = 72;

/// How the SPKI of every uncompressed point of the named curve P-256 begins (RFC 5480, section 2): with
/// explicit parameters or a compressed point one key would have several names.
constexpr std::array<uint8_t, 27> kP256SpkiHead = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                                   0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                                   0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};

bool IsEd25519(const EVP_PKEY* key) { return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519; }

bool IsOurKind(const EVP_PKEY* key) { return IsEd25519(key) || IsP256(key); }

SignatureProfile ProfileOf(const EVP_PKEY* key) {
  return IsEd25519(key) ? SignatureProfile::kEd25519 : SignatureProfile::kP256;
}

/// Ed25519 hashes by itself: no digest is named.
const EVP_MD* DigestFor(const EVP_PKEY* key) { return IsEd25519(key) ? nullptr : EVP_sha256(); }

MdCtxPtr NewMdContext() {
  MdCtxPtr ctx(EVP_MD_CTX_new());
  Require(ctx != nullptr, "EVP_MD_CTX_new");
  return ctx;
}

}  // namespace

void KeyDeleter::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

SecretText& SecretText::operator=(SecretText&& other) noexcept {
  if (this != &other) {
    Wipe(bytes_);
    bytes_ = std::move(other.bytes_);
  }
  return *this;
}

std::string_view SignatureProfileName(SignatureProfile profile) {
  return profile == SignatureProfile::kP256 ? "P-256" : "Ed25519";
}

SigningKey SigningKey::Generate(RandomSource& random, SignatureProfile profile) {
  if (profile == SignatureProfile::kEd25519) return FromSeed(random.Seed());
  for (;;)
    if (KeyHandle key = P256FromSecret(random.Seed())) return SigningKey(std::move(key));
}

SigningKey SigningKey::FromSeed(const Secret32& seed) {
  KeyHandle key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.view().data(), Secret32::size()));
  Require(key != nullptr, "Ed25519");
  return SigningKey(std::move(key));
}

StatusOr<SigningKey> SigningKey::FromPem(ByteView pem) {
  if (pem.size() > kMaxKeyPemBytes) return InvalidArgument("private key: {} bytes are too many", pem.size());
  const BioPtr bio = ReadBio(pem);
  KeyHandle key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassPhrase, nullptr));
  if (key == nullptr) {
    return InvalidArgument("private key: expected an unencrypted PEM \"PRIVATE KEY\" ({})",
                           TakeOpenSslError());
  }
  if (!IsOurKind(key.get()))
    return InvalidArgument("private key: expected Ed25519 or P-256, got another kind");
  // Its public half must have the one encoding that rosters and charters can pin.
  if (const auto pub = VerifyKey::FromSpki(SpkiOf(key.get())); !pub.ok())
    return InvalidArgument("private key: {}", Message(pub.status()));
  return SigningKey(std::move(key));
}

SecretText SigningKey::ToPem() const {
  const BioPtr bio = WriteBio();
  Require(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "PEM_write_bio_PKCS8PrivateKey");
  return SecretText(BioContent(bio.get()));
}

SignatureProfile SigningKey::profile() const { return ProfileOf(key_.get()); }

Bytes SigningKey::PublicSpki() const { return SpkiOf(key_.get()); }

VerifyKey SigningKey::Public() const {
  auto key = VerifyKey::FromSpki(PublicSpki());
  Require(key.ok(), "public key");
  return *std::move(key);
}

Signature SigningKey::Sign(std::string_view domain, ByteView body) const {
  return SignRaw(TaggedMessage(domain, body));
}

Signature SigningKey::SignRaw(ByteView message) const {
  const MdCtxPtr ctx = NewMdContext();
  Require(EVP_DigestSignInit(ctx.get(), nullptr, DigestFor(key_.get()), nullptr, key_.get()) == 1,
          "signature");
  std::array<uint8_t, kMaxEcdsaDerBytes> out{};
  size_t size = out.size();
  Require(EVP_DigestSign(ctx.get(), out.data(), &size, message.data(), message.size()) == 1, "signature");
  Signature signature{};
  if (profile() == SignatureProfile::kEd25519) {
    Require(size == signature.size(), "Ed25519");
    std::copy_n(out.begin(), size, signature.begin());
    return signature;
  }
  const auto raw = EcdsaToRaw(ByteView(out).first(size));
  Require(raw.has_value(), "ECDSA");
  return *raw;
}

SignatureProfile VerifyKey::profile() const { return ProfileOf(key_.get()); }

StatusOr<VerifyKey> VerifyKey::FromSpki(ByteView spki) {
  if (spki.size() > kMaxKeyPemBytes) return InvalidArgument("public key: {} bytes are too many", spki.size());
  const unsigned char* at = spki.data();
  KeyHandle key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (key == nullptr) {
    return InvalidArgument("public key: expected a DER SubjectPublicKeyInfo ({})", TakeOpenSslError());
  }
  if (!IsOurKind(key.get()))
    return InvalidArgument("public key: expected Ed25519 or P-256, got another kind");
  Bytes der = SpkiOf(key.get());
  // Two encodings of one key would have two hashes: only the canonical one is taken.
  const bool named = IsEd25519(key.get()) || (der.size() == kP256SpkiHead.size() + 64 &&
                                              std::ranges::equal(kP256SpkiHead, ByteView(der).first(27)));
  if (!named || !std::equal(der.begin(), der.end(), spki.begin(), spki.end())) {
    return InvalidArgument(
        "public key: expected the one DER encoding of an Ed25519 SubjectPublicKeyInfo, or of an uncompressed "
        "point "
        "of the named curve P-256");
  }
  return VerifyKey(std::shared_ptr<evp_pkey_st>(std::move(key)), std::move(der));
}

StatusOr<VerifyKey> VerifyKey::FromPem(std::string_view pem) {
  if (pem.size() > kMaxKeyPemBytes) return InvalidArgument("public key: {} bytes are too many", pem.size());
  const BioPtr bio = ReadBio(AsBytes(pem));
  const KeyHandle key(PEM_read_bio_PUBKEY(bio.get(), nullptr, NoPassPhrase, nullptr));
  if (key == nullptr) {
    return InvalidArgument("public key: expected a PEM \"PUBLIC KEY\" ({})", TakeOpenSslError());
  }
  return FromSpki(SpkiOf(key.get()));
}

std::string VerifyKey::ToPem() const {
  const BioPtr bio = WriteBio();
  Require(PEM_write_bio_PUBKEY(bio.get(), key_.get()) == 1, "PEM_write_bio_PUBKEY");
  return ToStringBytes(BioContent(bio.get()));
}

Status VerifyKey::Verify(std::string_view domain, ByteView body, ByteView signature) const {
  return VerifyRaw(TaggedMessage(domain, body), signature);
}

Status VerifyKey::VerifyRaw(ByteView message, ByteView signature) const {
  if (signature.size() != sizeof(Signature)) {
    return PermissionDenied("signature: expected {} bytes, got {}", sizeof(Signature), signature.size());
  }
  Bytes wire(signature.begin(), signature.end());
  if (profile() == SignatureProfile::kP256) {
    Signature raw{};
    std::ranges::copy(signature, raw.begin());
    wire = EcdsaToDer(raw);
  }
  const MdCtxPtr ctx = NewMdContext();
  Require(EVP_DigestVerifyInit(ctx.get(), nullptr, DigestFor(key_.get()), nullptr, key_.get()) == 1,
          "signature");
  if (EVP_DigestVerify(ctx.get(), wire.data(), wire.size(), message.data(), message.size()) != 1) {
    TakeOpenSslError();
    return PermissionDenied("signature: does not match the message and key {}", KeyHash().brief());
  }
  return OkStatus();
}

}  // namespace concordat::crypto
