#include "privacy/mechanism/words.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace concordat {
namespace {

std::vector<uint32_t> SomeWords(size_t count) {
  std::mt19937 generator(static_cast<uint32_t>(count) + 1);  // test data
  std::vector<uint32_t> out(count);
  for (uint32_t& word : out) word = static_cast<uint32_t>(generator());
  return out;
}

TEST(WordsTest, AVectorOfPackedWordsHasThreeQuartersOfTheBytes) {
  EXPECT_EQ(VectorBytes(1'000'003, kPlainBits), 4'000'012U);
  EXPECT_EQ(VectorBytes(1'000'003, kPackedBits), 3'000'009U);
  EXPECT_TRUE(IsModulusBits(24) && IsModulusBits(32));
  for (const uint32_t bits : {0U, 1U, 8U, 16U, 23U, 25U, 31U, 33U, 64U})
    EXPECT_FALSE(IsModulusBits(bits)) << bits;
}

TEST(WordsTest, PackedWordsAreThreeLittleEndianBytesEach) {
  const std::vector<uint32_t> words = {0x11223344, 0x55667788, 0x99aabbcc, 0xddeeff00, 0x01020304};
  Bytes out(15);
  PackWords(words, kPackedBits, out);
  EXPECT_EQ(out, (Bytes{0x44, 0x33, 0x22, 0x88, 0x77, 0x66, 0xcc, 0xbb, 0xaa, 0x00, 0xff, 0xee, 4, 3, 2}));
}

TEST(WordsTest, UnpackingGivesTheLowBitsBackForEveryLength) {
  for (size_t count = 0; count < 40; ++count) {
    std::vector<uint32_t> words = SomeWords(count), back(count, 1);
    for (const uint32_t bits : {kPlainBits, kPackedBits}) {
      // Exactly as many bytes as there are: an address sanitizer sees a read or a write past them.
      Bytes packed(VectorBytes(count, bits));
      PackWords(words, bits, packed);
      UnpackWords(packed, bits, back);
      for (size_t i = 0; i < count; ++i)
        ASSERT_EQ(back[i], bits == kPlainBits ? words[i] : words[i] & 0xffffff) << count << ' ' << i;
      Bytes scratch;
      const ByteView wire = WireBytes(words, bits, scratch);
      EXPECT_TRUE(std::equal(wire.begin(), wire.end(), packed.begin(), packed.end()));
    }
  }
}

TEST(WordsTest, SumsOfPackedWordsAreSumsModuloTwoToTheTwentyFour) {
  std::vector<uint32_t> sum(9), expected(9);
  for (size_t site = 0; site < 20; ++site) {
    std::vector<uint32_t> words = SomeWords(9);
    for (size_t i = 0; i < 9; ++i) expected[i] += words[i] = static_cast<uint32_t>(words[i] * (site + 7));
    Bytes packed(27);
    PackWords(words, kPackedBits, packed);
    AddPackedWords(packed, kPackedBits, sum);
  }
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(sum[i] & 0xffffff, expected[i] & 0xffffff);
}

TEST(WordsTest, CentreLiftReadsTheUpperHalfAsNegativeAndIgnoresBitsAboveTheModulus) {
  EXPECT_EQ(CentreLift(0x7fffff, kPackedBits), 8'388'607);
  EXPECT_EQ(CentreLift(0x800000, kPackedBits), -8'388'608);
  EXPECT_EQ(CentreLift(0xab'ffffff, kPackedBits), -1);
  EXPECT_EQ(CentreLift(0x80000000, kPlainBits), INT32_MIN);
  EXPECT_EQ(CentreLift(0x7fffffff, kPlainBits), INT32_MAX);
}

}  // namespace
}  // namespace concordat
