#include "privacy/crypto/aead.h"

#include "privacy/crypto/openssl_support.h"

namespace concordat::crypto {
namespace {

using CipherCtxPtr = OpenSslPtr<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;
constexpr size_t kMaxPlain = size_t{1} << 30;  // OpenSSL counts in int

const EVP_CIPHER* Aes256Gcm() {
  static const EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  Require(cipher != nullptr, "AES-256-GCM");
  return cipher;
}

// A context for one message with its associated data already taken in. The nonce is 12 bytes, GCM's default.
CipherCtxPtr Begin(const Secret32& key, AeadNonce nonce, ByteView aad, bool encrypt) {
  Require(aad.size() <= kMaxPlain, "AES-256-GCM: associated data longer than 1 GiB");
  CipherCtxPtr ctx(EVP_CIPHER_CTX_new());
  Require(ctx != nullptr, "EVP_CIPHER_CTX_new");
  Require(EVP_CipherInit_ex2(ctx.get(), Aes256Gcm(), key.view().data(), nonce.data(), encrypt ? 1 : 0,
                             nullptr) == 1,
          "AES-256-GCM");
  int n = 0;
  if (!aad.empty()) {
    Require(EVP_CipherUpdate(ctx.get(), nullptr, &n, aad.data(), static_cast<int>(aad.size())) == 1,
            "AES-256-GCM");
  }
  return ctx;
}

}  // namespace

Bytes Seal(const Secret32& key, AeadNonce nonce, ByteView aad, ByteView plain) {
  Require(plain.size() <= kMaxPlain, "AES-256-GCM: plaintext longer than 1 GiB");
  const CipherCtxPtr ctx = Begin(key, nonce, aad, true);
  Bytes out(plain.size() + kAeadTagBytes);
  int n = 0;
  if (!plain.empty()) {
    Require(EVP_CipherUpdate(ctx.get(), out.data(), &n, plain.data(), static_cast<int>(plain.size())) == 1,
            "AES-256-GCM");
  }
  uint8_t* const tag = out.data() + plain.size();
  Require(EVP_CipherFinal_ex(ctx.get(), tag, &n) == 1, "AES-256-GCM");
  Require(EVP_CIPHER_CTX_ctrl(ctx.get(), EVP_CTRL_AEAD_GET_TAG, kAeadTagBytes, tag) == 1, "AES-256-GCM");
  return out;
}

StatusOr<Bytes> Open(const Secret32& key, AeadNonce nonce, ByteView aad, ByteView sealed) {
  if (sealed.size() < kAeadTagBytes || sealed.size() > kMaxPlain || aad.size() > kMaxPlain) {
    return DataLoss("AES-256-GCM: {} bytes cannot be a sealed message", sealed.size());
  }
  const ByteView body = sealed.first(sealed.size() - kAeadTagBytes);
  const ByteView tag = sealed.last(kAeadTagBytes);
  const CipherCtxPtr ctx = Begin(key, nonce, aad, false);
  Require(EVP_CIPHER_CTX_ctrl(ctx.get(), EVP_CTRL_AEAD_SET_TAG, kAeadTagBytes,
                              const_cast<uint8_t*>(tag.data())) == 1,
          "AES-256-GCM");
  Bytes plain(body.size());
  int n = 0;
  if (!body.empty()) {
    Require(EVP_CipherUpdate(ctx.get(), plain.data(), &n, body.data(), static_cast<int>(body.size())) == 1,
            "AES-256-GCM");
  }
  uint8_t rest[kAeadTagBytes];
  if (EVP_CipherFinal_ex(ctx.get(), rest, &n) != 1) {
    TakeOpenSslError();
    Wipe(plain);
    return DataLoss(
        "AES-256-GCM: the tag does not match the key, the nonce, the associated data or the {} bytes",
        sealed.size());
  }
  return plain;
}

}  // namespace concordat::crypto
