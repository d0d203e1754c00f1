#include "privacy/crypto/aead.h"

#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

std::array<uint8_t, 12> Nonce(std::string_view hex) {
  const Bytes bytes = Hex(hex);
  std::array<uint8_t, 12> nonce{};
  std::copy_n(bytes.begin(), 12, nonce.begin());
  return nonce;
}

// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13, 14 and 16.
TEST(AeadTest, GivesThePublishedCiphertexts) {
  const Secret32 zero;
  EXPECT_EQ(ToHex(Seal(zero, kZeroNonce, ByteView(), ByteView())), "530f8afbc74536b9a963b4f1c4cb738b");
  EXPECT_EQ(ToHex(Seal(zero, kZeroNonce, ByteView(), Bytes(16, 0))),
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
  const Secret32 key = HexSecret("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
  const Bytes plain =
      Hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
          "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
  const Bytes aad = Hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  EXPECT_EQ(ToHex(Seal(key, Nonce("cafebabefacedbaddecaf888"), aad, plain)),
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
}

TEST(AeadTest, OpeningUndoesSealing) {
  const Secret32 key = FilledSecret(3);
  for (size_t size : {0, 1, 15, 16, 17, 1000}) {
    const Bytes plain(size, 0x5a);
    const Bytes sealed = Seal(key, kZeroNonce, AsBytes("1 to 2"), plain);
    EXPECT_EQ(sealed.size(), size + kAeadTagBytes);
    const auto opened = Open(key, kZeroNonce, AsBytes("1 to 2"), sealed);
    ASSERT_TRUE(opened.ok()) << size;
    EXPECT_EQ(*opened, plain);
  }
}

TEST(AeadTest, RefusesEveryFlippedBit) {
  const Secret32 key = FilledSecret(3);
  const Bytes sealed = Seal(key, kZeroNonce, AsBytes("aad"), Hex("01020304"));
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    Bytes changed = sealed;
    changed[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_EQ(Open(key, kZeroNonce, AsBytes("aad"), changed).status().code(), StatusCode::kDataLoss) << bit;
  }
}

TEST(AeadTest, RefusesAnotherKeyNonceOrAssociatedData) {
  const Secret32 key = FilledSecret(3);
  const Bytes sealed = Seal(key, kZeroNonce, AsBytes("aad"), Hex("01020304"));
  EXPECT_EQ(Open(FilledSecret(4), kZeroNonce, AsBytes("aad"), sealed).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Open(key, Nonce("000000000000000000000001"), AsBytes("aad"), sealed).status().code(),
            StatusCode::kDataLoss);
  EXPECT_EQ(Open(key, kZeroNonce, AsBytes("aae"), sealed).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(Open(key, kZeroNonce, ByteView(), sealed).status().code(), StatusCode::kDataLoss);
}

TEST(AeadTest, RefusesWhatIsShorterThanATag) {
  const Bytes sealed = Seal(FilledSecret(3), kZeroNonce, ByteView(), Hex("01"));
  for (size_t size = 0; size < sealed.size(); ++size) {
    EXPECT_EQ(Open(FilledSecret(3), kZeroNonce, ByteView(), ByteView(sealed).first(size)).status().code(),
              StatusCode::kDataLoss)
        << size;
  }
}

TEST(AeadTest, OpensASecretOfItsSizeOnly) {
  const Secret32 key = FilledSecret(3), secret = FilledSecret(9);
  const Bytes sealed = Seal(key, kZeroNonce, ByteView(), secret.view());
  const auto opened = OpenSecret<32>(key, kZeroNonce, ByteView(), sealed);
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(*opened == secret);
  EXPECT_EQ(OpenSecret<33>(key, kZeroNonce, ByteView(), sealed).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenSecret<32>(key, kZeroNonce, Hex("00"), sealed).status().code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace concordat::crypto
