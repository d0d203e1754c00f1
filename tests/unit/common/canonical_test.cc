#include "common/canonical.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

using testing::HasStatus;

Bytes Everything() {
  CanonicalWriter w;
  w.U8(0x12);
  w.U16(0x3456);
  w.U32(0x789abcde);
  w.U64(0x0123456789abcdefu);
  w.I64(-2);
  w.F64(-0.5);
  w.Bool(true);
  w.Put(Digest{});
  w.Text("hé");
  w.Blob(Bytes{});
  w.Count(2);
  w.U8(1);
  w.U8(2);
  return w.Take();
}

TEST(CanonicalTest, IntegersAreLittleEndianAndTextsHaveTheirLength) {
  CanonicalWriter w;
  w.U32(1);
  w.Text("ab");
  EXPECT_EQ(w.bytes(), (Bytes{1, 0, 0, 0, 2, 0, 0, 0, 'a', 'b'}));
}

TEST(CanonicalTest, ReadsBackWhatWasWritten) {
  const Bytes bytes = Everything();
  CanonicalReader r(bytes);
  EXPECT_EQ(r.U8(), 0x12);
  EXPECT_EQ(r.U16(), 0x3456);
  EXPECT_EQ(r.U32(), 0x789abcdeu);
  EXPECT_EQ(r.U64(), 0x0123456789abcdefu);
  EXPECT_EQ(r.I64(), -2);
  EXPECT_EQ(r.F64(), -0.5);
  EXPECT_TRUE(r.Bool());
  EXPECT_TRUE(r.Hash().is_zero());
  EXPECT_EQ(r.Text(10), "hé");
  EXPECT_TRUE(r.Blob(0).empty());
  EXPECT_EQ(r.Count(5), 2u);
  EXPECT_EQ(r.U8() + r.U8(), 3);
  EXPECT_OK(r.Finish());
}

TEST(CanonicalTest, EveryTruncationIsRefusedAndReadsStayHarmless) {
  const Bytes bytes = Everything();
  for (size_t size = 0; size < bytes.size(); ++size) {
    CanonicalReader r(ByteView(bytes).first(size));
    r.U8(), r.U16(), r.U32(), r.U64(), r.I64(), r.F64(), r.Bool(), r.Hash(), r.Text(10), r.Blob(0);
    const size_t n = r.Count(5);
    for (size_t i = 0; i < n; ++i) r.U8();
    EXPECT_THAT(r.Finish(), HasStatus(StatusCode::kInvalidArgument, "malformed at byte")) << size;
    EXPECT_EQ(r.U64(), 0u);
  }
}

TEST(CanonicalTest, BytesAfterTheEndAreRefused) {
  const Bytes bytes = {1, 2};
  CanonicalReader r(bytes);
  r.U8();
  EXPECT_THAT(r.Finish(), HasStatus(StatusCode::kInvalidArgument, "after the end"));
}

TEST(CanonicalTest, AFlagIsZeroOrOne) {
  const Bytes bytes = {2};
  CanonicalReader r(bytes);
  r.Bool();
  EXPECT_THAT(r.Finish(), HasStatus(StatusCode::kInvalidArgument, "flag"));
}

TEST(CanonicalTest, LengthsBeyondTheLimitOrTheInputAreRefused) {
  CanonicalWriter w;
  w.Text("abcd");
  CanonicalReader small(w.bytes());
  EXPECT_EQ(small.Text(3), "");
  EXPECT_FALSE(small.Finish().ok());
  const Bytes huge = {0xff, 0xff, 0xff, 0xff, 1};
  CanonicalReader blob(huge), count(huge);
  EXPECT_TRUE(blob.Blob(UINT32_MAX).empty());
  EXPECT_FALSE(blob.Finish().ok());
  EXPECT_EQ(count.Count(UINT32_MAX), 0u) << "nobody may reserve more than the input could hold";
  EXPECT_FALSE(count.Finish().ok());
}

TEST(CanonicalTest, TheFirstFailureStands) {
  CanonicalReader r({});
  r.U8();
  const std::string first(Message(r.status()));
  r.Fail("something else");
  EXPECT_EQ(Message(r.status()), first);
}

TEST(CanonicalTest, DoublesKeepTheirBits) {
  for (double v : std::vector<double>{0.0, -0.0, 1e-310, HUGE_VAL, -HUGE_VAL, 0.1}) {
    CanonicalWriter w;
    w.F64(v);
    CanonicalReader r(w.bytes());
    const double read = r.F64();
    EXPECT_EQ(std::signbit(read), std::signbit(v));
    EXPECT_EQ(read, v);
  }
}

}  // namespace
}  // namespace concordat
