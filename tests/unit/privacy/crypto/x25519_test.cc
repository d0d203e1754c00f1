#include "privacy/crypto/x25519.h"

#include "privacy/crypto/ctr_stream.h"
#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

std::string Agree(const Secret32& secret, const X25519Public& peer) {
  const auto shared = X25519Agree(secret, peer);
  EXPECT_TRUE(shared.ok()) << shared.status();
  return shared.ok() ? ToHex(shared->view()) : "";
}

// RFC 7748, section 5.2.
TEST(X25519Test, GivesThePublishedProducts) {
  EXPECT_EQ(Agree(HexSecret("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
                  Hex32("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")),
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
  EXPECT_EQ(Agree(HexSecret("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
                  Hex32("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493")),
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
}

// RFC 7748, section 6.1.
TEST(X25519Test, GivesThePublishedAgreement) {
  const Secret32 alice = HexSecret("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  const Secret32 bob = HexSecret("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
  const auto alice_pub = X25519PublicOf(alice), bob_pub = X25519PublicOf(bob);
  ASSERT_TRUE(alice_pub.ok());
  ASSERT_TRUE(bob_pub.ok());
  EXPECT_EQ(ToHex(*alice_pub), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
  EXPECT_EQ(ToHex(*bob_pub), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const char* const shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
  EXPECT_EQ(Agree(alice, *bob_pub), shared);
  EXPECT_EQ(Agree(bob, *alice_pub), shared);
}

TEST(X25519Test, RefusesEveryPointOfLowOrder) {
  const Secret32 secret = FilledSecret(0x42);
  for (const char* point : {
           "0000000000000000000000000000000000000000000000000000000000000000",
           "0100000000000000000000000000000000000000000000000000000000000000",
           "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
           "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
       }) {
    EXPECT_EQ(X25519Agree(secret, Hex32(point)).status().code(), StatusCode::kInvalidArgument) << point;
  }
}

TEST(X25519Test, FreshPairsAgreeAndDiffer) {
  CtrRandom random(FilledSecret(1));
  const X25519KeyPair a = GenerateX25519(random), b = GenerateX25519(random);
  EXPECT_NE(a.pub, b.pub);
  EXPECT_EQ(*X25519PublicOf(a.secret), a.pub);
  EXPECT_EQ(Agree(a.secret, b.pub), Agree(b.secret, a.pub));
}

}  // namespace
}  // namespace concordat::crypto
