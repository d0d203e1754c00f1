#include "privacy/crypto/signature.h"

#include <openssl/ec.h>
#include <openssl/pem.h>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/openssl_support.h"
#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

// Fixed header of an Ed25519 SubjectPublicKeyInfo, RFC 8410, section 4.
constexpr std::string_view kSpkiHeader = "302a300506032b6570032100";

SigningKey Key(uint8_t seed) { return SigningKey::FromSeed(FilledSecret(seed)); }

struct Vector {
  const char* seed;
  const char* pub;
  const char* message;
  const char* signature;
};

// RFC 8032, section 7.1, tests 1 to 3.
constexpr Vector kVectors[] = {
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

TEST(SignatureTest, GivesThePublishedSignatures) {
  for (const Vector& v : kVectors) {
    const SigningKey key = SigningKey::FromSeed(HexSecret(v.seed));
    EXPECT_EQ(ToHex(key.PublicSpki()), std::string(kSpkiHeader) + v.pub);
    const Bytes message = Hex(v.message);
    EXPECT_EQ(ToHex(key.SignRaw(message)), v.signature);
    EXPECT_TRUE(key.Public().VerifyRaw(message, Hex(v.signature)).ok());
  }
}

TEST(SignatureTest, SignsTheTaggedMessage) {
  const SigningKey key = Key(1);
  EXPECT_EQ(key.Sign("concordat/v1/test", Hex("0102")),
            key.SignRaw(TaggedMessage("concordat/v1/test", Hex("0102"))));
}

TEST(SignatureTest, VerifiesWhatWasSignedAndNothingElse) {
  const SigningKey key = Key(1);
  const VerifyKey pub = key.Public();
  const Signature signature = key.Sign("domain", Hex("0102"));
  EXPECT_TRUE(pub.Verify("domain", Hex("0102"), signature).ok());
  EXPECT_EQ(pub.Verify("domain", Hex("0103"), signature).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(pub.Verify("domain", ByteView(), signature).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(pub.Verify("Domain", Hex("0102"), signature).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(pub.Verify("domai", AsBytes("n\x01\x02"), signature).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(Key(2).Public().Verify("domain", Hex("0102"), signature).code(), StatusCode::kPermissionDenied);
}

TEST(SignatureTest, RefusesEveryFlippedBitAndEveryOtherLength) {
  const SigningKey key = Key(1);
  const Signature signature = key.Sign("domain", Hex("0102"));
  for (size_t bit = 0; bit < signature.size() * 8; ++bit) {
    Signature changed = signature;
    changed[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(key.Public().Verify("domain", Hex("0102"), changed).ok()) << bit;
  }
  Bytes longer(signature.begin(), signature.end());
  longer.push_back(0);
  EXPECT_FALSE(key.Public().Verify("domain", Hex("0102"), longer).ok());
  EXPECT_FALSE(key.Public().Verify("domain", Hex("0102"), ByteView(signature).first(63)).ok());
  EXPECT_FALSE(key.Public().Verify("domain", Hex("0102"), ByteView()).ok());
}

// S + L is the other number that a lax verifier takes for S (RFC 8032, section 5.1.7, step 1).
TEST(SignatureTest, RefusesAMalleatedSignature) {
  const Vector& v = kVectors[1];
  Bytes signature = Hex(v.signature);
  const Bytes order = Hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  unsigned carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    carry += signature[32 + i] + order[i];
    signature[32 + i] = static_cast<uint8_t>(carry);
    carry >>= 8;
  }
  ASSERT_EQ(carry, 0u);
  EXPECT_FALSE(SigningKey::FromSeed(HexSecret(v.seed)).Public().VerifyRaw(Hex(v.message), signature).ok());
}

TEST(SigningKeyTest, PemGivesTheSameKeyBack) {
  const SigningKey key = Key(1);
  const SecretText pem = key.ToPem();
  EXPECT_TRUE(AsText(pem.view()).starts_with("-----BEGIN PRIVATE KEY-----\n"));
  const auto again = SigningKey::FromPem(pem.view());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->PublicSpki(), key.PublicSpki());
  EXPECT_EQ(again->Sign("d", Hex("01")), key.Sign("d", Hex("01")));
}

TEST(SigningKeyTest, RefusesWhatIsNoPlainEd25519Key) {
  for (const char* pem :
       {"", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}) {
    EXPECT_EQ(SigningKey::FromPem(AsBytes(pem)).status().code(), StatusCode::kInvalidArgument) << pem;
  }
  EXPECT_EQ(SigningKey::FromPem(AsBytes(Key(1).Public().ToPem())).status().code(),
            StatusCode::kInvalidArgument);
  const SecretText pem = Key(1).ToPem();
  EXPECT_FALSE(SigningKey::FromPem(pem.view().first(pem.view().size() / 2)).ok());
}

TEST(SigningKeyTest, RefusesAKeyOfAnotherKindAndAnEncryptedOne) {
  const KeyHandle p384(EVP_EC_gen("P-384"));
  const SigningKey ours = Key(1);
  const BioPtr other = WriteBio(), encrypted = WriteBio();
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(other.get(), p384.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
  char phrase[] = "phrase";
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(encrypted.get(), ours.handle(), EVP_aes_256_cbc(), phrase, 6,
                                          nullptr, nullptr),
            1);
  EXPECT_EQ(SigningKey::FromPem(BioContent(other.get())).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(SigningKey::FromPem(BioContent(encrypted.get())).status().code(), StatusCode::kInvalidArgument);
}

TEST(SigningKeyTest, GeneratesTheSeedOfItsRandomSource) {
  CtrRandom a(FilledSecret(5)), b(FilledSecret(5));
  const SigningKey first = SigningKey::Generate(a), second = SigningKey::Generate(a);
  EXPECT_EQ(first.PublicSpki(), SigningKey::FromSeed(b.Seed()).PublicSpki());
  EXPECT_NE(first.PublicSpki(), second.PublicSpki());
}

TEST(VerifyKeyTest, ReadsItsOwnSpkiAndPem) {
  const VerifyKey key = Key(1).Public();
  const auto from_spki = VerifyKey::FromSpki(key.spki());
  ASSERT_TRUE(from_spki.ok());
  EXPECT_TRUE(*from_spki == key);
  const auto from_pem = VerifyKey::FromPem(key.ToPem());
  ASSERT_TRUE(from_pem.ok());
  EXPECT_TRUE(*from_pem == key);
  EXPECT_EQ(key.KeyHash(), Sha256(key.spki()));
}

TEST(VerifyKeyTest, RefusesAnythingButOneEd25519Spki) {
  const Bytes spki = Key(1).PublicSpki();
  for (size_t size = 0; size < spki.size(); ++size) {
    EXPECT_FALSE(VerifyKey::FromSpki(ByteView(spki).first(size)).ok()) << size;
  }
  Bytes longer = spki;
  longer.push_back(0);
  EXPECT_FALSE(VerifyKey::FromSpki(longer).ok());
  Bytes x25519 = spki;
  x25519[8] = 0x6e;  // 1.3.101.110: the same 32 bytes as an X25519 key
  EXPECT_EQ(VerifyKey::FromSpki(x25519).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(VerifyKey::FromSpki(Bytes(70000, 0x30)).ok());
}

// ---- P-256.

SigningKey P256Key(uint8_t seed) {
  CtrRandom random(FilledSecret(seed));
  return SigningKey::Generate(random, SignatureProfile::kP256);
}

TEST(P256KeyTest, SignsInSixtyFourBytesThatNobodyElsesKeyMade) {
  const SigningKey key = P256Key(1);
  EXPECT_EQ(key.profile(), SignatureProfile::kP256);
  const VerifyKey pub = key.Public();
  EXPECT_EQ(pub.profile(), SignatureProfile::kP256);
  const Bytes body = Hex("0102");
  for (int i = 0; i < 64; ++i) {  // r or s begins with a zero in one of 128
    const Signature signature = key.Sign("d", body);
    EXPECT_TRUE(pub.Verify("d", body, signature).ok());
    EXPECT_FALSE(pub.Verify("e", body, signature).ok());
    EXPECT_FALSE(pub.Verify("d", Hex("0103"), signature).ok());
    EXPECT_FALSE(P256Key(2).Public().Verify("d", body, signature).ok());
    EXPECT_FALSE(Key(1).Public().Verify("d", body, signature).ok());
    Signature changed = signature;
    changed[static_cast<size_t>(i)] ^= 1;
    EXPECT_FALSE(pub.Verify("d", body, changed).ok());
  }
  EXPECT_FALSE(pub.Verify("d", body, Signature{}).ok());
  EXPECT_FALSE(pub.Verify("d", body, ByteView(key.Sign("d", body)).first(63)).ok());
}

// RFC 6979, A.2.5: the key, and its signature of "sample" with SHA-256.
TEST(P256KeyTest, TakesAPublishedSignature) {
  Bytes spki =
      Hex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"
          "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
          "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
  const auto key = VerifyKey::FromSpki(spki);
  ASSERT_TRUE(key.ok()) << key.status();
  const Bytes signature =
      Hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
          "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
  EXPECT_TRUE(key->VerifyRaw(AsBytes("sample"), signature).ok());
  EXPECT_FALSE(key->VerifyRaw(AsBytes("Sample"), signature).ok());
}

TEST(P256KeyTest, PemGivesTheSameKeyBack) {
  const SigningKey key = P256Key(1);
  const auto again = SigningKey::FromPem(key.ToPem().view());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->PublicSpki(), key.PublicSpki());
  EXPECT_TRUE(key.Public().Verify("d", Hex("01"), again->Sign("d", Hex("01"))).ok());
  const auto pub = VerifyKey::FromPem(key.Public().ToPem());
  ASSERT_TRUE(pub.ok()) << pub.status();
  EXPECT_TRUE(*pub == key.Public());
}

// Two encodings of one key would have two hashes, and rosters pin hashes.
TEST(P256KeyTest, RefusesEveryOtherEncodingOfItsSpki) {
  const SigningKey key = P256Key(1);
  const Bytes spki = key.PublicSpki();
  ASSERT_EQ(spki.size(), 91u);
  for (size_t size = 0; size < spki.size(); ++size)
    EXPECT_FALSE(VerifyKey::FromSpki(ByteView(spki).first(size)).ok()) << size;
  for (const char* form : {"compressed", "hybrid"}) {
    const KeyHandle other(EVP_PKEY_dup(key.handle()));
    ASSERT_EQ(EVP_PKEY_set_utf8_string_param(other.get(), "point-format", form), 1);
    const Bytes encoded = SpkiOf(other.get());
    ASSERT_NE(encoded, spki) << form;
    EXPECT_FALSE(VerifyKey::FromSpki(encoded).ok()) << form;
  }
  const KeyHandle named(EVP_PKEY_dup(key.handle()));
  ASSERT_EQ(EVP_PKEY_set_utf8_string_param(named.get(), "encoding", "explicit"), 1);
  const Bytes explicit_curve = SpkiOf(named.get());
  ASSERT_GT(explicit_curve.size(), spki.size());
  EXPECT_FALSE(VerifyKey::FromSpki(explicit_curve).ok());
  const BioPtr pem = WriteBio();
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(pem.get(), named.get(), nullptr, nullptr, 0, nullptr, nullptr), 1);
  EXPECT_EQ(SigningKey::FromPem(BioContent(pem.get())).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace concordat::crypto
