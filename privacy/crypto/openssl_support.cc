#include "privacy/crypto/openssl_support.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <cstdio>
#include <cstdlib>

namespace concordat::crypto {

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "concordat: OpenSSL cannot work: %s (%s)\n", what, TakeOpenSslError().c_str());
  std::abort();
}

std::string TakeOpenSslError() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "no reason given" : reason;
}

BioPtr ReadBio(ByteView bytes) {
  // An empty span may have a null pointer, which OpenSSL refuses.
  const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();
  BioPtr bio(BIO_new_mem_buf(data, static_cast<int>(bytes.size())));
  Require(bio != nullptr, "BIO_new_mem_buf");
  return bio;
}

BioPtr WriteBio() {
  // Unlike BIO_s_mem, it clears what it held when it grows and when it is freed, with a secure heap or
  // without.
  BioPtr bio(BIO_new(BIO_s_secmem()));
  Require(bio != nullptr, "BIO_new");
  return bio;
}

ByteView BioContent(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size)};
}

Bytes SpkiOf(const EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(const_cast<EVP_PKEY*>(key), &der);
  Require(size > 0, "i2d_PUBKEY");
  Bytes spki(der, der + size);
  OPENSSL_free(der);
  return spki;
}

}  // namespace concordat::crypto
