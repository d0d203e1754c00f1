#include "common/anchor.h"

#include "common/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat {
namespace {

using concordat::testing::TempDir;

TEST(AnchorTest, ReadsBackWhatWasWrittenLast) {
  const TempDir dir;
  EXPECT_EQ(*ReadAnchor(dir / "a"), std::nullopt);
  AnchorPoint point{7, {}};
  point.head.bytes[0] = 0xab;
  ASSERT_OK(WriteAnchor(dir / "a", {3, {}}));
  ASSERT_OK(WriteAnchor(dir / "a", point));
  EXPECT_EQ(*ReadAnchor(dir / "a"), point);
}

TEST(AnchorTest, AFileThatIsNoAnchorIsDataLoss) {
  const TempDir dir;
  const std::string zero(64, '0');
  for (const std::string& text :
       {std::string(), std::string("concordat-anchor v1 3\n"), "concordat-anchor v1 x " + zero + "\n",
        "concordat-anchor v1 3 " + zero, "concordat-anchor v1 3 " + zero.substr(1) + "\n",
        "concordat-anchor v2 3 " + zero + "\n"}) {
    ASSERT_OK(WriteFileAtomically(dir / "a", text));
    EXPECT_EQ(ReadAnchor(dir / "a").status().code(), StatusCode::kDataLoss) << text;
  }
}

}  // namespace
}  // namespace concordat
