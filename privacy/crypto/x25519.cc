#include "privacy/crypto/x25519.h"

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/signature.h"

namespace concordat::crypto {
namespace {

KeyHandle PrivateKey(const Secret32& secret) {
  return KeyHandle(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, secret.view().data(), Secret32::size()));
}

}  // namespace

X25519KeyPair GenerateX25519(RandomSource& random) {
  X25519KeyPair pair;
  pair.secret = random.Seed();
  auto pub = X25519PublicOf(pair.secret);
  Require(pub.ok(), "X25519");
  pair.pub = *pub;
  return pair;
}

StatusOr<X25519Public> X25519PublicOf(const Secret32& secret) {
  const KeyHandle key = PrivateKey(secret);
  X25519Public pub{};
  size_t size = pub.size();
  if (key == nullptr || EVP_PKEY_get_raw_public_key(key.get(), pub.data(), &size) != 1 ||
      size != pub.size()) {
    return Internal("X25519: {}", TakeOpenSslError());
  }
  return pub;
}

StatusOr<Secret32> X25519Agree(const Secret32& secret, const X25519Public& peer) {
  const KeyHandle own = PrivateKey(secret);
  const KeyHandle other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, peer.data(), peer.size()));
  if (own == nullptr || other == nullptr) return Internal("X25519: {}", TakeOpenSslError());
  const PkeyCtxPtr ctx(EVP_PKEY_CTX_new_from_pkey(nullptr, own.get(), nullptr));
  if (ctx == nullptr || EVP_PKEY_derive_init(ctx.get()) != 1) {
    return Internal("X25519: {}", TakeOpenSslError());
  }
  Secret32 shared;
  size_t size = Secret32::size();
  const bool derived = EVP_PKEY_derive_set_peer(ctx.get(), other.get()) == 1 &&
                       EVP_PKEY_derive(ctx.get(), shared.mutable_view().data(), &size) == 1 &&
                       size == Secret32::size();
  // OpenSSL refuses an all-zero result itself; the comparison stays in case another provider does not.
  if (!derived || shared == Secret32()) {
    TakeOpenSslError();
    return InvalidArgument("X25519: the peer's public key is a point of low order");
  }
  return shared;
}

}  // namespace concordat::crypto
