#include "privacy/crypto/hash.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

TEST(Sha256Test, GivesThePublishedDigests) {
  EXPECT_EQ(Sha256(ByteView()).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256(AsBytes("abc")).hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256(AsBytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")).hex(),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256Test, HashesPartsAsTheirConcatenation) {
  EXPECT_EQ(Sha256({AsBytes("a"), ByteView(), AsBytes("bc")}), Sha256(AsBytes("abc")));
}

TEST(Sha256StreamTest, ShowsTheRunningDigestAndGoesOn) {
  Sha256Stream stream;
  EXPECT_EQ(stream.Current(), Sha256(ByteView()));
  stream.Update(AsBytes("ab"));
  EXPECT_EQ(stream.Current(), Sha256(AsBytes("ab")));
  stream.Update(AsBytes("c"));
  EXPECT_EQ(stream.Finish(), Sha256(AsBytes("abc")));
}

TEST(Sha256StreamTest, BeginsAnewAfterFinish) {
  Sha256Stream stream;
  stream.Update(AsBytes("first"));
  stream.Finish();
  stream.Update(AsBytes("abc"));
  EXPECT_EQ(stream.Finish(), Sha256(AsBytes("abc")));
}

TEST(Sha256StreamTest, ACopyGoesOnByItself) {
  Sha256Stream stream;
  stream.Update(AsBytes("a"));
  Sha256Stream copy = stream;
  copy.Update(AsBytes("x"));
  stream.Update(AsBytes("bc"));
  EXPECT_EQ(stream.Current(), Sha256(AsBytes("abc")));
  EXPECT_EQ(copy.Current(), Sha256(AsBytes("ax")));
  copy = stream;
  EXPECT_EQ(copy.Finish(), Sha256(AsBytes("abc")));
}

// RFC 4231, test cases 1, 2 and 6.
TEST(HmacSha256Test, GivesThePublishedValues) {
  EXPECT_EQ(HmacSha256(Bytes(20, 0x0b), AsBytes("Hi There")).hex(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(HmacSha256(AsBytes("Jefe"), AsBytes("what do ya want for nothing?")).hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(
      HmacSha256(Bytes(131, 0xaa), AsBytes("Test Using Larger Than Block-Size Key - Hash Key First")).hex(),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(HmacSha256Test, TakesAnEmptyKeyAndEmptyData) {
  EXPECT_EQ(HmacSha256(ByteView(), ByteView()).hex(),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(TaggedHashTest, IsTheHashOfLengthTagAndBody) {
  EXPECT_EQ(TaggedMessage("ab", Hex("0102")), Hex("020000006162"
                                                  "0102"));
  EXPECT_EQ(TaggedHash("ab", Hex("0102")), Sha256(Hex("0200000061620102")));
}

TEST(TaggedHashTest, MovingAByteFromTagToBodyChangesIt) {
  EXPECT_NE(TaggedHash("ab", AsBytes("c")), TaggedHash("a", AsBytes("bc")));
  EXPECT_NE(TaggedHash("", AsBytes("abc")), TaggedHash("abc", ByteView()));
}

class Sha256FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "concordat-hash-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(Sha256FileTest, EqualsTheHashOfTheContent) {
  const std::string content((3u << 20) + 17, 'x');
  std::ofstream(folder_ / "big", std::ios::binary) << content;
  std::ofstream(folder_ / "empty", std::ios::binary);
  ASSERT_TRUE(Sha256File(folder_ / "big").ok());
  EXPECT_EQ(*Sha256File(folder_ / "big"), Sha256(AsBytes(content)));
  ASSERT_TRUE(Sha256File(folder_ / "empty").ok());
  EXPECT_EQ(*Sha256File(folder_ / "empty"), Sha256(ByteView()));
}

TEST_F(Sha256FileTest, SaysThatThereIsNoFile) {
  EXPECT_EQ(Sha256File(folder_ / "none").status().code(), StatusCode::kNotFound);
}

TEST_F(Sha256FileTest, RefusesAFolder) {
  EXPECT_EQ(Sha256File(folder_).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace concordat::crypto
