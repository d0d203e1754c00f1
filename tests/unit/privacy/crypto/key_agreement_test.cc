#include "privacy/crypto/key_agreement.h"

#include "privacy/crypto/ctr_stream.h"
#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

constexpr AgreementCurve kBoth[] = {AgreementCurve::kX25519, AgreementCurve::kP256};

// NIST CAVP, ECC CDH primitive, P-256, COUNT = 0: dIUT, QIUTx, QCAVSx, ZIUT.
constexpr const char* kSecret = "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534";
constexpr const char* kPublic = "ead218590119e8876b29146ff89ca61770c4edbbf97d38ce385ed281d8a6b230";
constexpr const char* kPeer = "700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287";
constexpr const char* kShared = "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b";

TEST(KeyAgreementTest, GivesThePublishedSecretOnP256FromTheCoordinateAlone) {
  const Secret32 secret = HexSecret(kSecret);
  const auto pub = PublicOf(secret, AgreementCurve::kP256);
  ASSERT_TRUE(pub.ok()) << pub.status();
  EXPECT_EQ(ToHex(*pub), kPublic);
  const auto shared = Agree(secret, Hex32(kPeer), AgreementCurve::kP256);
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(ToHex(shared->view()), kShared);
}

TEST(KeyAgreementTest, FreshPairsAgreeAndDifferOnBothCurves) {
  for (const AgreementCurve curve : kBoth) {
    CtrRandom random(FilledSecret(1));
    // Some of these points have an odd y, which their coordinate does not tell.
    for (int i = 0; i < 8; ++i) {
      const X25519KeyPair a = GenerateKeyPair(random, curve), b = GenerateKeyPair(random, curve);
      EXPECT_NE(a.pub, b.pub);
      EXPECT_EQ(*PublicOf(a.secret, curve), a.pub);
      EXPECT_TRUE(*Agree(a.secret, b.pub, curve) == *Agree(b.secret, a.pub, curve));
    }
  }
}

TEST(KeyAgreementTest, TheCurvesDiffer) {
  const Secret32 secret = HexSecret(kSecret);
  EXPECT_NE(*PublicOf(secret, AgreementCurve::kX25519), *PublicOf(secret, AgreementCurve::kP256));
  EXPECT_EQ(CurveFor(SignatureProfile::kP256), AgreementCurve::kP256);
  EXPECT_EQ(CurveFor(SignatureProfile::kEd25519), AgreementCurve::kX25519);
}

TEST(KeyAgreementTest, RefusesWhatIsNoPointOrNoScalarOfP256) {
  const Secret32 secret = HexSecret(kSecret);
  for (const char* x : {
           // x = 1: x^3 - 3x + b is no square
           "0000000000000000000000000000000000000000000000000000000000000001",
           // p, and p + 5: not reduced, where 0 and 5 are coordinates of points
           "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
           "ffffffff00000001000000000000000000000001000000000000000000000004",
           "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
       }) {
    EXPECT_EQ(Agree(secret, Hex32(x), AgreementCurve::kP256).status().code(), StatusCode::kInvalidArgument)
        << x;
  }
  for (const char* scalar : {
           "0000000000000000000000000000000000000000000000000000000000000000",
           "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",  // the order
           "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
       }) {
    EXPECT_EQ(PublicOf(HexSecret(scalar), AgreementCurve::kP256).status().code(),
              StatusCode::kInvalidArgument);
    EXPECT_EQ(Agree(HexSecret(scalar), Hex32(kPeer), AgreementCurve::kP256).status().code(),
              StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(PublicOf(HexSecret("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550"),
                       AgreementCurve::kP256)
                  .ok());
}

}  // namespace
}  // namespace concordat::crypto
