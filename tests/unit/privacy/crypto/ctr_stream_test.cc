#include "privacy/crypto/ctr_stream.h"

#include <random>

#include "tests/unit/privacy/crypto/test_bytes.h"

namespace concordat::crypto {
namespace {

Bytes Piece(CtrStream& stream, uint64_t offset, size_t size) {
  Bytes out(size, 0xee);
  stream.Keystream(offset, out);
  return out;
}

// Blocks 1 and 2 are, under an all-zero key and nonce, the tag mask and the first keystream block of GCM test
// case 14; block 0 is its hash key.
TEST(CtrStreamTest, CountsBigEndianBlocksFromZero) {
  CtrStream stream{Secret32()};
  EXPECT_EQ(
      ToHex(Piece(stream, 0, 48)),
      "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18");
}

TEST(CtrStreamTest, AnyPieceEqualsThatPartOfTheWhole) {
  CtrStream whole_stream(FilledSecret(7));
  const Bytes whole = Piece(whole_stream, 0, 100000);
  CtrStream stream(FilledSecret(7));
  constexpr uint32_t kSeed = 20261122;
  SCOPED_TRACE(kSeed);
  std::mt19937 draw(kSeed);
  for (int i = 0; i < 400; ++i) {
    const size_t offset = draw() % whole.size();
    const size_t size = draw() % (whole.size() - offset + 1) % (i % 2 == 0 ? 50 : 40000);
    const Bytes expected(whole.begin() + static_cast<ptrdiff_t>(offset),
                         whole.begin() + static_cast<ptrdiff_t>(offset + size));
    ASSERT_EQ(Piece(stream, offset, size), expected) << offset << " + " << size;
  }
}

TEST(CtrStreamTest, ConsecutivePiecesJoinWithoutASeam) {
  CtrStream whole_stream(FilledSecret(7)), stream(FilledSecret(7));
  const Bytes whole = Piece(whole_stream, 5, 60000);
  Bytes joined;
  for (size_t size : {1, 2, 13, 16, 17, 16383, 16384, 16385, 0, 10799}) {
    const Bytes piece = Piece(stream, 5 + joined.size(), size);
    joined.insert(joined.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(joined, whole);
}

TEST(CtrStreamTest, CarriesTheCounterBeyond32Bits) {
  const uint64_t offset = (uint64_t{1} << 36) - 16;  // the last block whose index fits 32 bits
  CtrStream a(FilledSecret(7)), b(FilledSecret(7));
  const Bytes across = Piece(a, offset, 32);
  const Bytes after = Piece(b, offset + 16, 16);
  EXPECT_EQ(Bytes(across.begin() + 16, across.end()), after);
  EXPECT_NE(after, Piece(b, 0, 16));
}

TEST(CtrStreamTest, KeysHaveDifferentStreams) {
  CtrStream a(FilledSecret(7)), b(FilledSecret(8));
  EXPECT_NE(Piece(a, 0, 32), Piece(b, 0, 32));
}

TEST(CtrRandomTest, GivesTheStreamFromItsBeginningWhateverTheSizes) {
  CtrStream stream(FilledSecret(9));
  const Bytes expected = Piece(stream, 0, 50000);
  CtrRandom random(FilledSecret(9));
  Bytes given;
  for (size_t size : {1, 31, 0, 4096, 5000, 4095, 8, 20000, 3, 16766}) {
    Bytes piece(size);
    random.Fill(piece);
    given.insert(given.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(given, expected);
  EXPECT_EQ(random.position(), 50000u);
}

TEST(CtrRandomTest, OneSeedRepeatsAndTwoDiffer) {
  CtrRandom a(FilledSecret(1)), b(FilledSecret(1)), c(FilledSecret(2));
  const Secret32 from_a = a.Seed();
  EXPECT_TRUE(from_a == b.Seed());
  EXPECT_FALSE(from_a == c.Seed());
  EXPECT_FALSE(from_a == a.Seed());
}

}  // namespace
}  // namespace concordat::crypto
