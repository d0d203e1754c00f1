#include "common/ids.h"

#include <gtest/gtest.h>

#include "common/clock.h"
#include "common/units.h"
#include "tests/support/status_matchers.h"

namespace concordat {
namespace {

using testing::HasStatus;

TEST(SpiffeIdTest, ReadsBackWhatItPrints) {
  for (const char* text :
       {"spiffe://de.example/worker/site-1", "spiffe://a/operator/b", "spiffe://x9/coordinator/main.2"}) {
    ASSERT_OK_AND_ASSIGN(const SpiffeId id, SpiffeId::Parse(text));
    EXPECT_EQ(id.ToString(), text);
  }
}

TEST(SpiffeIdTest, RefusesWhatIsNoIdentityHere) {
  const std::string longest(63, 'a');
  EXPECT_OK(SpiffeId::Parse("spiffe://" + longest + "/worker/" + longest));
  for (const std::string& wrong : std::vector<std::string>{"",
                                                           "spiffe://",
                                                           "spiffe://a",
                                                           "spiffe://a/worker",
                                                           "spiffe://a/worker/",
                                                           "spiffe:///worker/b",
                                                           "spiffe://a/root/b",
                                                           "spiffe://a/worker/b/c",
                                                           "spiffe://a/worker/b?x",
                                                           "spiffe://A/worker/b",
                                                           "spiffe://a/Worker/b",
                                                           "SPIFFE://a/worker/b",
                                                           "https://a/worker/b",
                                                           "spiffe://a /worker/b",
                                                           "spiffe://a/worker/../b",
                                                           "spiffe://-a/worker/b",
                                                           "spiffe://a./worker/b",
                                                           "spiffe://a/worker/b-",
                                                           "spiffe://a:1/worker/b",
                                                           "spiffe://u@a/worker/b",
                                                           "spiffe://é/worker/b",
                                                           "spiffe://a/worker/" + longest + "a",
                                                           std::string("spiffe://a/worker/b\0", 20)}) {
    EXPECT_EQ(SpiffeId::Parse(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(SpiffeIdTest, MakeSaysWhichPartIsWrong) {
  EXPECT_THAT(SpiffeId::Make("A", Role::kWorker, "b"),
              HasStatus(StatusCode::kInvalidArgument, "jurisdiction:"));
  EXPECT_THAT(SpiffeId::Make("a", Role::kWorker, ""), HasStatus(StatusCode::kInvalidArgument, "name:"));
}

TEST(ClockTest, InstantsRoundTrip) {
  for (const char* text : {"2026-11-22T07:12:54.123Z", "1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z",
                           "2024-02-29T23:59:59.001Z"}) {
    ASSERT_OK_AND_ASSIGN(const Instant instant, ParseInstant(text));
    EXPECT_EQ(FormatInstant(instant), text);
  }
}

TEST(ClockTest, RefusesWhatFormatInstantDoesNotWrite) {
  for (const char* wrong :
       {"", "2026-11-22", "2026-11-22T07:12:54Z", "2026-11-22T07:12:54.123", "2026-11-22T07:12:54.123Zx",
        "2026-02-29T00:00:00.000Z", "2026-13-01T00:00:00.000Z", "2026-11-22T24:00:00.000Z",
        "2026-11-22T07:60:00.000Z", "2026-11-22T07:12:60.000Z", "2026-11-22T 7:12:54.123Z",
        "+026-11-22T07:12:54.123Z", "2026-11-22T07:12:54.-12Z", "2026-11-22 07:12:54.123Z"}) {
    EXPECT_EQ(ParseInstant(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

TEST(UnitsTest, FactoriesRefuseWhatTheMeaningExcludes) {
  EXPECT_OK(Epsilon::Make(0));
  EXPECT_OK(Epsilon::Make(INFINITY)) << "infinity says plainly that there is no guarantee";
  EXPECT_THAT(Epsilon::Make(-1), HasStatus(StatusCode::kInvalidArgument, "epsilon"));
  EXPECT_THAT(Epsilon::Make(NAN), HasStatus(StatusCode::kInvalidArgument, "not a number"));
  EXPECT_OK(Delta::Make(1));
  EXPECT_THAT(Delta::Make(1.1), HasStatus(StatusCode::kInvalidArgument, "at most 1"));
  EXPECT_THAT(ClipNorm::Make(0), HasStatus(StatusCode::kInvalidArgument, "more than 0"));
  EXPECT_THAT(ClipNorm::Make(INFINITY), HasStatus(StatusCode::kInvalidArgument, "finite"));
  EXPECT_OK(NoiseMultiplier::Make(0));
  EXPECT_LT(Epsilon::Make(1).value(), Epsilon::Make(2).value());
}

}  // namespace
}  // namespace concordat
