#include "privacy/crypto/signature.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

using MdCtxPtr = OpenSslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;

constexpr size_t kMaxKeyPemBytes = 16 * 1024;

// Answers OpenSSL's question for a pass phrase with "none", or it would ask on the terminal.
int NoPassPhrase(char*, int, int, void*) { return -1; }

bool IsEd25519(const EVP_PKEY* key) { return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519; }

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

SigningKey SigningKey::Generate(RandomSource& random) { return FromSeed(random.Seed()); }

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
  if (!IsEd25519(key.get())) return InvalidArgument("private key: expected Ed25519, got another kind");
  return SigningKey(std::move(key));
}

SecretText SigningKey::ToPem() const {
  const BioPtr bio = WriteBio();
  Require(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "PEM_write_bio_PKCS8PrivateKey");
  return SecretText(BioContent(bio.get()));
}

Bytes SigningKey::PublicSpki() const { return SpkiOf(key_.get()); }

VerifyKey SigningKey::Public() const {
  auto key = VerifyKey::FromSpki(PublicSpki());
  Require(key.ok(), "Ed25519 public key");
  return *std::move(key);
}

Signature SigningKey::Sign(std::string_view domain, ByteView body) const {
  return SignRaw(TaggedMessage(domain, body));
}

Signature SigningKey::SignRaw(ByteView message) const {
  const MdCtxPtr ctx = NewMdContext();
  Require(EVP_DigestSignInit_ex(ctx.get(), nullptr, nullptr, nullptr, nullptr, key_.get(), nullptr) == 1,
          "Ed25519");
  Signature signature{};
  size_t size = signature.size();
  Require(EVP_DigestSign(ctx.get(), signature.data(), &size, message.data(), message.size()) == 1 &&
              size == signature.size(),
          "Ed25519");
  return signature;
}

StatusOr<VerifyKey> VerifyKey::FromSpki(ByteView spki) {
  if (spki.size() > kMaxKeyPemBytes) return InvalidArgument("public key: {} bytes are too many", spki.size());
  const unsigned char* at = spki.data();
  KeyHandle key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (key == nullptr) {
    return InvalidArgument("public key: expected a DER SubjectPublicKeyInfo ({})", TakeOpenSslError());
  }
  if (!IsEd25519(key.get())) return InvalidArgument("public key: expected Ed25519, got another kind");
  Bytes der = SpkiOf(key.get());
  // Two encodings of one key would have two hashes: only the canonical one is taken.
  if (!std::equal(der.begin(), der.end(), spki.begin(), spki.end())) {
    return InvalidArgument("public key: expected the one DER encoding of an Ed25519 SubjectPublicKeyInfo");
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
  const MdCtxPtr ctx = NewMdContext();
  Require(EVP_DigestVerifyInit_ex(ctx.get(), nullptr, nullptr, nullptr, nullptr, key_.get(), nullptr) == 1,
          "Ed25519");
  if (EVP_DigestVerify(ctx.get(), signature.data(), signature.size(), message.data(), message.size()) != 1) {
    TakeOpenSslError();
    return PermissionDenied("signature: does not match the message and key {}", KeyHash().brief());
  }
  return OkStatus();
}

}  // namespace concordat::crypto
