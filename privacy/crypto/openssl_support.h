#ifndef CONCORDAT_PRIVACY_CRYPTO_OPENSSL_SUPPORT_H_
#define CONCORDAT_PRIVACY_CRYPTO_OPENSSL_SUPPORT_H_

#include <openssl/bio.h>
#include <openssl/evp.h>

#include <memory>
#include <string>

#include "common/bytes.h"

// For the sources of this folder only.
namespace concordat::crypto {

/// Ends the process, naming `what`, when `ok` is false: OpenSSL has no memory or no provider. Never for
/// anything that a peer, a file or a configuration contains.
void Require(bool ok, const char* what);

/// The reason of the latest OpenSSL error in this thread, e.g. "unsupported"; the queue is then empty. Never
/// holds input bytes.
std::string TakeOpenSslError();

/// An OpenSSL object that is freed with F.
template <typename T, auto F>
struct OpenSslDeleter {
  void operator()(T* object) const { F(object); }
};
template <typename T, auto F>
using OpenSslPtr = std::unique_ptr<T, OpenSslDeleter<T, F>>;

using BioPtr = OpenSslPtr<BIO, BIO_free>;
using PkeyCtxPtr = OpenSslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;

/// A BIO that reads `bytes`, which must outlive it. At most 1 GiB.
BioPtr ReadBio(ByteView bytes);
/// An empty BIO to write to.
BioPtr WriteBio();
/// What was written to `bio`; valid until the next write.
ByteView BioContent(BIO* bio);

/// DER SubjectPublicKeyInfo of `key`.
Bytes SpkiOf(const EVP_PKEY* key);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_OPENSSL_SUPPORT_H_
