#include "common/bytes.h"

#include <gtest/gtest.h>

#include "common/secret.h"
#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

using testing::HasStatus;

TEST(HexTest, RoundTripsEveryByte) {
  Bytes all(256);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i);
  const std::string hex = ToHex(all);
  EXPECT_EQ(hex.substr(0, 6), "000102");
  EXPECT_EQ(hex.substr(510), "ff");
  EXPECT_EQ(FromHex(hex).value(), all);
}

TEST(HexTest, ReadsBothCases) { EXPECT_EQ(FromHex("aBCd").value(), (Bytes{0xab, 0xcd})); }

TEST(HexTest, RefusesOddLengthsAndOtherCharacters) {
  EXPECT_THAT(FromHex("abc"), HasStatus(StatusCode::kInvalidArgument, "even number"));
  for (const char* wrong : {"0g", " 0", "0x", "\xc3\xa9"}) {
    EXPECT_EQ(FromHex(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
  EXPECT_TRUE(FromHex("")->empty());
}

TEST(DigestTest, TakesExactlyThirtyTwoBytes) {
  EXPECT_OK(Digest::From(Bytes(32)));
  EXPECT_FALSE(Digest::From(Bytes(31)).ok());
  EXPECT_FALSE(Digest::From(Bytes(33)).ok());
  EXPECT_FALSE(Digest::FromHexText(std::string(62, '0')).ok());
  EXPECT_FALSE(Digest::FromHexText(std::string(66, '0')).ok());
  EXPECT_TRUE(Digest::FromHexText(std::string(64, '0'))->is_zero());
}

TEST(DigestTest, OrdersByItsBytes) {
  Digest a, b;
  b.bytes[31] = 1;
  EXPECT_LT(a, b);
  a.bytes[0] = 1;
  EXPECT_GT(a, b);
  EXPECT_FALSE(a.is_zero());
  EXPECT_EQ(a.brief(), "010000000000");
}

TEST(SecretTest, WipesWhatItWasMovedFrom) {
  const Bytes bytes(32, 7);
  Secret32 a = Secret32::From(bytes).value();
  Secret32 b = std::move(a);
  EXPECT_EQ(b, Secret32::From(bytes).value());
  EXPECT_EQ(a, Secret32()) << "the source holds zeros";  // NOLINT(bugprone-use-after-move): that is the test
  Secret32 c;
  c = std::move(b);
  EXPECT_EQ(c, Secret32::From(bytes).value());
  EXPECT_EQ(b, Secret32());  // NOLINT(bugprone-use-after-move)
}

TEST(SecretTest, WipesItselfOnDestruction) {
  alignas(Secret32) uint8_t place[sizeof(Secret32)];
  auto* secret = new (place) Secret32(Secret32::From(Bytes(32, 0x5a)).value());
  secret->~Secret32();
  for (uint8_t b : place) EXPECT_EQ(b, 0);
}

TEST(SecretTest, RefusesAnotherSizeWithoutShowingBytes) {
  EXPECT_THAT(Secret32::From(Bytes(31, 0xab)),
              HasStatus(StatusCode::kInvalidArgument, "expected 32 secret bytes, got 31"));
  EXPECT_EQ(std::string(Message(Secret32::From(Bytes(31, 0xab)).status())).find("ab"), std::string::npos);
}

TEST(SecretTest, ConstantTimeEqualComparesSizeAndContent) {
  EXPECT_TRUE(ConstantTimeEqual(Bytes{}, Bytes{}));
  EXPECT_TRUE(ConstantTimeEqual(Bytes{1, 2}, Bytes{1, 2}));
  EXPECT_FALSE(ConstantTimeEqual(Bytes{1, 2}, Bytes{1, 3}));
  EXPECT_FALSE(ConstantTimeEqual(Bytes{1, 2}, Bytes{3, 2}));
  EXPECT_FALSE(ConstantTimeEqual(Bytes{1}, Bytes{1, 2}));
}

}  // namespace
}  // namespace concordat
