#include "common/logging.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/files.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace concordat {
namespace {

using testing::TempDir;

TEST(LogTextTest, WhatIsReadableStaysAsItIs) {
  EXPECT_EQ(LogText("job 3f2a: 12 of 14 sites, \"münchen\", 東京, 𝛿, C:\\x"),
            "job 3f2a: 12 of 14 sites, \"münchen\", 東京, 𝛿, C:\\x");
  EXPECT_EQ(LogText(""), "");
}

TEST(LogTextTest, NoTextAddsALineOrMovesACursor) {
  EXPECT_EQ(LogText("1.0\n2026-11-22T07:12:54.123Z info x: forged"),
            "1.0\\n2026-11-22T07:12:54.123Z info x: forged");
  EXPECT_EQ(LogText("a\tb\r\x1b[2J\x7f"), "a\\tb\\x0d\\x1b[2J\\x7f");
  EXPECT_EQ(LogText(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(LogText("\xc2\x85 \xc2\x9b[2J"), "\\xc2\\x85 \\xc2\\x9b[2J") << "C1: next line, CSI";
  EXPECT_EQ(LogText("\xe2\x80\xa8 \xe2\x80\xa9"), "\\xe2\\x80\\xa8 \\xe2\\x80\\xa9") << "separators";
  EXPECT_EQ(LogText("\xe2\x80\xae"
                    "txt"),
            "\\xe2\\x80\\xaetxt")
      << "right-to-left override";
}

TEST(LogTextTest, BytesThatAreNoUtf8AreShownAsSuch) {
  EXPECT_EQ(LogText("\xff\xc3(\xe2\x82"), "\\xff\\xc3(\\xe2\\x82");
  EXPECT_EQ(LogText("\xc0\x8a"), "\\xc0\\x8a") << "a line end in two bytes";
  EXPECT_EQ(LogText("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(LogText("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "past the last character";
}

TEST(LogTextTest, LongTextsAreCutBetweenCharactersSayingHowMuchIsLeftOut) {
  EXPECT_EQ(LogText(std::string(3'000'000, 'a')), std::string(2048, 'a') + " ... (2997952 bytes more)");
  EXPECT_EQ(LogText(std::string(2048, 'a')), std::string(2048, 'a'));
  EXPECT_EQ(LogText("abü", 3), "ab ... (2 bytes more)");
  EXPECT_EQ(LogText("ab\n\n", 4), "ab\\n ... (1 bytes more)") << "what is shown counts";
}

class LoggingTest : public ::testing::Test {
 protected:
  void SetUp() override { before_ = spdlog::default_logger(); }
  void TearDown() override { spdlog::set_default_logger(before_); }
  std::shared_ptr<spdlog::logger> before_;
  TempDir folder_;
};

TEST_F(LoggingTest, EveryLineOfTheFileIsOneThatThisProgramWrote) {
  ASSERT_OK(StartLogging("concordat-test", folder_ / "log", false));
  spdlog::warn("connection lost: {}", "gone\n2026-11-22T07:12:54.123Z info concordat-test: all is well");
  spdlog::error(std::string("raw\ntext ") + std::string(100'000, 'x'));
  ASSERT_OK_AND_ASSIGN(const std::string log, ReadTextFile(folder_ / "log"));
  EXPECT_EQ(std::ranges::count(log, '\n'), 2);
  EXPECT_NE(log.find(" warning concordat-test: connection lost: gone\\n2026"), std::string::npos) << log;
  EXPECT_NE(log.find(" error concordat-test: raw\\ntext xxx"), std::string::npos);
  EXPECT_LT(log.size(), 5'000u);
}

}  // namespace
}  // namespace concordat
