#include "worker/rpc/event_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace concordat::worker {
namespace {

TEST(EventLoopTest, WhoPostsFasterThanTheLoopWorksHasToWait) {
  EventLoop loop;
  std::atomic<int> posted = 0;
  std::thread fast([&] {
    for (int i = 0; i < 100; ++i) {
      loop.PostWhenShort([] {}, 4);
      ++posted;
    }
  });
  for (int taken = 0; taken < 100; ++taken) {
    ASSERT_LE(posted, taken + 4);
    ASSERT_TRUE(loop.Next(std::nullopt).has_value());
  }
  fast.join();
  EXPECT_EQ(posted, 100);
}

TEST(EventLoopTest, WhoWaitsForRoomIsLetGoWhenTheLoopEnds) {
  EventLoop loop;
  loop.Post([] {});
  std::thread waiting([&] { loop.PostWhenShort([] {}, 1); });
  loop.End();
  waiting.join();
}

}  // namespace
}  // namespace concordat::worker
