#ifndef CONCORDAT_PRIVACY_CRYPTO_KEY_AGREEMENT_H_
#define CONCORDAT_PRIVACY_CRYPTO_KEY_AGREEMENT_H_

#include "privacy/crypto/signature.h"
#include "privacy/crypto/x25519.h"

// Key agreement on the curve that goes with a federation's identity keys. Secrets and public values have 32
// bytes on both, so that no message, share or stored state differs in form.
namespace concordat::crypto {

/// On P-256: the x-coordinate of the public point, big endian. That is enough, because the shared secret of
/// Diffie and Hellman is an x-coordinate too and does not depend on the sign of y (NIST SP 800-56A rev. 3,
/// section 5.7.1.2); the point is recovered as in SEC 1, section 2.3.4, with an even y.
using AgreementPublic = X25519Public;
using AgreementKeyPair = X25519KeyPair;

enum class AgreementCurve : uint8_t {
  kX25519,  // RFC 7748, with Ed25519 identities
  kP256     // NIST SP 800-186, with P-256 identities
};

/// The curve of a federation whose identity keys are of this kind.
AgreementCurve CurveFor(SignatureProfile profile);

/// A fresh pair; takes 32 bytes from `random`, on P-256 again where they are not below the group's order (one
/// draw in 2^32).
AgreementKeyPair GenerateKeyPair(RandomSource& random, AgreementCurve curve);

/// The public value of `secret`. InvalidArgument when it is none: on P-256 zero, or not below the group's
/// order.
StatusOr<AgreementPublic> PublicOf(const Secret32& secret, AgreementCurve curve);

/// The shared secret; not a key yet: put it through HkdfSha256 with what it is for. InvalidArgument when
/// `peer` is a point of low order or on P-256 not the coordinate of a point, or `secret` is none. Any thread.
/// Does not say who `peer` is: a signature over the public value must.
StatusOr<Secret32> Agree(const Secret32& secret, const AgreementPublic& peer, AgreementCurve curve);

}  // namespace concordat::crypto

#endif  // CONCORDAT_PRIVACY_CRYPTO_KEY_AGREEMENT_H_
