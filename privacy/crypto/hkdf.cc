#include "privacy/crypto/hkdf.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

EVP_KDF* Hkdf() {
  static EVP_KDF* const kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  Require(kdf != nullptr, "HKDF");
  return kdf;
}

OSSL_PARAM OctetParam(const char* name, ByteView bytes) {
  static uint8_t nothing = 0;  // OpenSSL only reads it, but its parameters are not const
  auto* data = bytes.empty() ? &nothing : const_cast<uint8_t*>(bytes.data());
  return OSSL_PARAM_construct_octet_string(name, data, bytes.size());
}

}  // namespace

void HkdfSha256(ByteView ikm, ByteView salt, ByteView info, std::span<uint8_t> out) {
  OpenSslPtr<EVP_KDF_CTX, EVP_KDF_CTX_free> ctx(EVP_KDF_CTX_new(Hkdf()));
  Require(ctx != nullptr, "EVP_KDF_CTX_new");
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                               OctetParam(OSSL_KDF_PARAM_KEY, ikm), OctetParam(OSSL_KDF_PARAM_SALT, salt),
                               OctetParam(OSSL_KDF_PARAM_INFO, info), OSSL_PARAM_construct_end()};
  Require(EVP_KDF_derive(ctx.get(), out.data(), out.size(), params) == 1, "HKDF");
}

Secret32 HkdfSha256(ByteView ikm, ByteView salt, ByteView info) {
  Secret32 out;
  HkdfSha256(ikm, salt, info, out.mutable_view());
  return out;
}

}  // namespace concordat::crypto
