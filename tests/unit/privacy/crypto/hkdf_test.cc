#include "privacy/crypto/hkdf.h"

#include <numeric>

#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

Bytes Range(uint8_t first, size_t count) {
  Bytes bytes(count);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

std::string Derive(ByteView ikm, ByteView salt, ByteView info, size_t size) {
  Bytes out(size);
  HkdfSha256(ikm, salt, info, out);
  return ToHex(out);
}

// RFC 5869, appendix A.1 to A.3.
TEST(HkdfTest, GivesThePublishedKeys) {
  EXPECT_EQ(Derive(Bytes(22, 0x0b), Range(0x00, 13), Range(0xf0, 10), 42),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  EXPECT_EQ(Derive(Range(0x00, 80), Range(0x60, 80), Range(0xb0, 80), 82),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87");
  EXPECT_EQ(Derive(Bytes(22, 0x0b), ByteView(), ByteView(), 42),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(HkdfTest, TheShortFormIsTheFirst32Bytes) {
  const Secret32 key = HkdfSha256(Bytes(22, 0x0b), Range(0x00, 13), Range(0xf0, 10));
  EXPECT_EQ(ToHex(key.view()), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
}

TEST(HkdfTest, EveryInputMatters) {
  const Bytes a = Hex("01"), b = Hex("02");
  const Secret32 key = HkdfSha256(a, a, a);
  EXPECT_FALSE(key == HkdfSha256(b, a, a));
  EXPECT_FALSE(key == HkdfSha256(a, b, a));
  EXPECT_FALSE(key == HkdfSha256(a, a, b));
}

TEST(HkdfTest, TakesThe1024InfoBytesThatItPromises) {
  EXPECT_FALSE(HkdfSha256(Hex("01"), ByteView(), Bytes(1024, 7)) ==
               HkdfSha256(Hex("01"), ByteView(), Bytes(1023, 7)));
}

}  // namespace
}  // namespace concordat::crypto
