#include "privacy/crypto/key_agreement.h"

#include "privacy/crypto/openssl_support.h"
#include "privacy/crypto/p256.h"

namespace concordat::crypto {
namespace {

Status NoSecret() { return InvalidArgument("P-256: not a secret key"); }

StatusOr<AgreementPublic> P256PublicOf(const Secret32& secret) {
  const KeyHandle key = P256FromSecret(secret);
  if (key == nullptr) return NoSecret();
  return P256CoordinateOf(key.get());
}

StatusOr<Secret32> P256Agree(const Secret32& secret, const AgreementPublic& peer) {
  const KeyHandle own = P256FromSecret(secret);
  if (own == nullptr) return NoSecret();
  const KeyHandle other = P256FromCoordinate(peer);
  if (other == nullptr) return InvalidArgument("P-256: the peer's public value is no point's");
  const PkeyCtxPtr ctx(EVP_PKEY_CTX_new_from_pkey(nullptr, own.get(), nullptr));
  Secret32 shared;
  size_t size = Secret32::size();
  if (ctx == nullptr || EVP_PKEY_derive_init(ctx.get()) != 1 ||
      EVP_PKEY_derive_set_peer(ctx.get(), other.get()) != 1 ||
      EVP_PKEY_derive(ctx.get(), shared.mutable_view().data(), &size) != 1 || size != Secret32::size()) {
    return Internal("P-256: {}", TakeOpenSslError());
  }
  return shared;
}

}  // namespace

AgreementCurve CurveFor(SignatureProfile profile) {
  return profile == SignatureProfile::kP256 ? AgreementCurve::kP256 : AgreementCurve::kX25519;
}

AgreementKeyPair GenerateKeyPair(RandomSource& random, AgreementCurve curve) {
  if (curve == AgreementCurve::kX25519) return GenerateX25519(random);
  for (;;) {
    AgreementKeyPair pair;
    pair.secret = random.Seed();
    auto pub = P256PublicOf(pair.secret);
    if (!pub.ok()) continue;
    pair.pub = *pub;
    return pair;
  }
}

StatusOr<AgreementPublic> PublicOf(const Secret32& secret, AgreementCurve curve) {
  return curve == AgreementCurve::kX25519 ? X25519PublicOf(secret) : P256PublicOf(secret);
}

StatusOr<Secret32> Agree(const Secret32& secret, const AgreementPublic& peer, AgreementCurve curve) {
  return curve == AgreementCurve::kX25519 ? X25519Agree(secret, peer) : P256Agree(secret, peer);
}

}  // namespace concordat::crypto
