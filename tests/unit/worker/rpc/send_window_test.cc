#include "worker/rpc/send_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <queue>
#include <random>

#include "tests/support/status_matchers.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using Piece = SendWindow::Piece;
using Time = SendWindow::Time;

constexpr size_t kConnections = 4;
constexpr uint64_t kMiB = 1 << 20;

Time At(double seconds) {
  return Time(std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(seconds)));
}

/// All that may leave now.
std::vector<Piece> All(SendWindow& window, uint64_t made, Time now = At(0)) {
  std::vector<Piece> out;
  while (auto piece = window.Next(made, now)) out.push_back(*piece);
  return out;
}

TEST(SendWindowTest, GivesOutWhatIsMadeInOrderUntilItIsFull) {
  SendWindow window(10 * kMiB, kConnections);
  EXPECT_FALSE(window.Next(0, At(0)));
  uint64_t at = 0;
  for (const Piece& piece : All(window, 100'000)) {
    EXPECT_EQ(piece.offset, at);
    at += piece.bytes;
  }
  EXPECT_EQ(at, 100'000u) << "no more than is made";
  for (const Piece& piece : All(window, 10 * kMiB)) {
    EXPECT_EQ(piece.offset, at);
    EXPECT_LE(piece.bytes, SendWindow::kSmallestPiece);
    at += piece.bytes;
  }
  EXPECT_LE(window.flying(), SendWindow::kFirst);
  EXPECT_GT(window.flying(), SendWindow::kFirst - SendWindow::kSmallestPiece);
  EXPECT_EQ(window.left(), at);
}

TEST(SendWindowTest, WhatWasLostGoesFirstButForWhatIsStored) {
  SendWindow window(kMiB, kConnections);
  const auto pieces = All(window, kMiB);
  ASSERT_GE(pieces.size(), 4u);
  const uint64_t n = pieces[0].bytes;
  window.Lost(pieces[2]);
  window.Lost(pieces[0]);
  window.Lost(pieces[1]);
  ASSERT_OK(window.Told(n + 100, 0));  // the first had arrived, and part of the second
  auto again = window.Next(kMiB, At(1));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->offset, n + 100);
  EXPECT_EQ(again->bytes, n - 100);
  again = window.Next(kMiB, At(1));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->offset, pieces[2].offset);
  EXPECT_EQ(window.sent() - window.left(), n - 100 + n);
}

TEST(SendWindowTest, ClaimsThatCannotBeAreRefused) {
  SendWindow window(kMiB, kConnections);
  EXPECT_THAT(window.Told(1, 0), HasStatus(StatusCode::kInvalidArgument, "more than was sent"));
  const auto pieces = All(window, kMiB);
  EXPECT_THAT(window.Acknowledged(pieces[0], 1, At(1)),
              HasStatus(StatusCode::kInvalidArgument, "did not store it"));
  EXPECT_THAT(window.Acknowledged(pieces[1], kMiB + 1, At(1)),
              HasStatus(StatusCode::kInvalidArgument, "more than was sent"));
}

TEST(SendWindowTest, WhatAnEarlierProcessSentMayBeStored) {
  SendWindow window(kMiB, kConnections);
  window.MayHaveLeft(kMiB);
  ASSERT_OK(window.Told(700'000, 0));
  const auto piece = window.Next(kMiB, At(0));
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->offset, 700'000u);
  ASSERT_OK(window.Told(kMiB, 0));
  EXPECT_TRUE(window.done());
}

TEST(SendWindowTest, ACoordinatorThatLostSomeOfItsPrefixGetsItAgain) {
  SendWindow window(4 * SendWindow::kSmallestPiece, kConnections);
  const auto pieces = All(window, kMiB);
  const uint64_t n = pieces[0].bytes;
  ASSERT_OK(window.Acknowledged(pieces[0], n, At(0.1)));
  ASSERT_OK(window.Told(100, 0));  // an old answer says nothing new
  EXPECT_EQ(window.stored(), n);
  EXPECT_FALSE(window.Next(kMiB, At(0.2)));
  ASSERT_OK(window.Told(100, n));  // asked after it had said n
  EXPECT_EQ(window.stored(), 100u);
  const auto again = window.Next(kMiB, At(0.2));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->offset, 100u);
  EXPECT_EQ(again->bytes, n - 100);
}

TEST(SendWindowTest, WhatOvertookAndWasLostIsSentAgainAndWhoStoresNothingIsGivenUp) {
  SendWindow window(4 * SendWindow::kSmallestPiece, kConnections);
  const auto pieces = All(window, kMiB);
  ASSERT_EQ(pieces.size(), 4u);
  for (int i = 1; i < 4; ++i) ASSERT_OK(window.Acknowledged(pieces[i], 0, At(0.4)));
  EXPECT_FALSE(window.Stuck());
  ASSERT_OK(window.Acknowledged(pieces[0], pieces[0].bytes, At(0.5)));
  EXPECT_TRUE(window.Stuck());
  ASSERT_OK(window.BeginAgain());
  EXPECT_EQ(All(window, kMiB, At(1)).size(), 3u);
  EXPECT_THAT(window.BeginAgain(), HasStatus(StatusCode::kInvalidArgument, "did not store them"));
}

/// A link that takes `rate` bytes a second, one after the other, and brings the answer `delay` seconds after
/// the last byte left. Gives the time at which all was stored, and shows every moment.
class Link {
 public:
  Link(double rate, double delay) : rate_(rate), delay_(delay) {}
  double Carry(SendWindow& window, uint64_t total, const std::function<void(double)>& look) {
    double now = 0;
    for (;;) {
      while (auto piece = window.Next(total, At(now))) {
        free_ = std::max(free_, now) + static_cast<double>(piece->bytes) / rate_;
        flying_.push_back({free_ + delay_, *piece});
      }
      look(now);
      if (flying_.empty()) return now;
      now = flying_.front().first;
      stored_ += flying_.front().second.bytes;
      EXPECT_OK(window.Acknowledged(flying_.front().second, stored_, At(now)));
      flying_.pop_front();
    }
  }

 private:
  const double rate_, delay_;
  double free_ = 0;
  uint64_t stored_ = 0;
  std::deque<std::pair<double, Piece>> flying_;
};

TEST(SendWindowTest, ASlowLinkNeverHasMoreInFlightThanOneChunk) {
  constexpr uint64_t kTotal = 8 * kMiB;
  SendWindow window(kTotal, kConnections);
  window.SetPatience(Millis(800));  // four round trips of 200 ms
  const double took = Link(250'000, 0.2).Carry(window, kTotal, [&](double now) {
    ASSERT_LE(window.flying(), now < 5 ? SendWindow::kLargestPiece : SendWindow::kLeast) << now;
  });
  EXPECT_TRUE(window.done());
  EXPECT_LT(took, 1.05 * kTotal / 250'000.0) << "and the link is never idle";
}

TEST(SendWindowTest, OneLuckyConnectionOfALossyLinkDoesNotFloodTheOthers) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  constexpr uint64_t kTotal = 6 * kMiB;
  for (int run = 0; run < 50; ++run) {
    SendWindow window(kTotal, kConnections);
    window.SetPatience(Millis(3'000));  // its first handshake met a lost packet
    struct Lane {
      double free = 0;
      uint64_t flying = 0;
    } lanes[kConnections];
    std::multimap<double, std::pair<Lane*, Piece>> answers;
    std::map<uint64_t, uint64_t> has;
    uint64_t stored = 0;
    double now = 0;
    while (!window.done()) {
      while (auto piece = window.Next(kTotal, At(now))) {
        Lane* lane = std::min_element(std::begin(lanes), std::end(lanes),
                                      [](const Lane& a, const Lane& b) { return a.flying < b.flying; });
        // 20 to 200 kB a second, and sometimes a time-out.
        const double rate = 2e4 * std::pow(10, std::uniform_real_distribution<double>(0, 1)(random));
        lane->free = std::max(lane->free, now) + static_cast<double>(piece->bytes) / rate +
                     (random() % 8 == 0 ? 2 : 0);
        lane->flying += piece->bytes;
        answers.emplace(lane->free + 0.2, std::pair(lane, *piece));
      }
      ASSERT_LE(window.flying(), SendWindow::kLargestPiece) << "at " << now;
      const auto [time, answer] = *answers.begin();
      answers.erase(answers.begin());
      now = time;
      answer.first->flying -= answer.second.bytes;
      has[answer.second.offset] = answer.second.offset + answer.second.bytes;
      for (auto it = has.find(stored); it != has.end(); it = has.find(stored)) stored = it->second;
      ASSERT_OK(window.Acknowledged(answer.second, stored, At(now)));
    }
  }
}

TEST(SendWindowTest, ALongFatLinkIsFullWithinASecond) {
  constexpr uint64_t kTotal = 256 * kMiB;
  SendWindow window(kTotal, kConnections);
  window.SetPatience(Millis(400));
  const double took = Link(62.5e6, 0.1).Carry(window, kTotal, [&](double now) {
    ASSERT_LE(window.flying(), SendWindow::kMost);
    if (now > 1 && window.left() < kTotal) {
      ASSERT_GT(window.flying(), 6'250'000u) << "less than the link holds, at " << now;
    }
  });
  EXPECT_LT(took, kTotal / 62.5e6 + 1);
}

TEST(SendWindowTest, NoMorePiecesAreUnderWayThanTheCoordinatorTakesAndTheyFillTheLinkAllTheSame) {
  constexpr uint64_t kTotal = 64 * kMiB;
  SendWindow window(kTotal, kConnections);
  window.SetPatience(Millis(400));
  window.LimitPieces(4);
  size_t most_seen = 0;
  uint64_t largest = 0;
  std::queue<Piece> flying;
  uint64_t stored = 0;
  double now = 0;
  while (!window.done()) {
    while (auto piece = window.Next(kTotal, At(now))) {
      largest = std::max(largest, piece->bytes);
      flying.push(*piece);
    }
    most_seen = std::max(most_seen, flying.size());
    ASSERT_FALSE(flying.empty());
    now += 0.02;
    stored += flying.front().bytes;
    ASSERT_OK(window.Acknowledged(flying.front(), stored, At(now)));
    flying.pop();
  }
  EXPECT_EQ(most_seen, 4u);
  EXPECT_EQ(largest, SendWindow::kLargestPiece) << "few pieces, large ones";
}

TEST(SendWindowTest, AtLeastOnePieceIsUnderWayAndNeverMoreThanASenderMayHave) {
  SendWindow one(kMiB, kConnections), many(64 * kMiB, kConnections);
  one.LimitPieces(0);
  EXPECT_EQ(All(one, kMiB).size(), 1u);
  many.LimitPieces(1'000'000);
  uint64_t stored = 0;
  for (int i = 0; i < 400 && !many.done(); ++i) {
    const auto pieces = All(many, 64 * kMiB, At(i));
    ASSERT_LE(pieces.size(), SendWindow::kMostPieces);
    for (const Piece& piece : pieces) {
      stored += piece.bytes;
      ASSERT_OK(many.Acknowledged(piece, stored, At(i + 0.001)));
    }
  }
  EXPECT_TRUE(many.done());
}

TEST(SendWindowTest, APlaceIsGivenBackByALossToo) {
  SendWindow window(10 * kMiB, kConnections);
  window.LimitPieces(2);
  for (int i = 0; i < 10; ++i) {
    const auto pieces = All(window, 10 * kMiB);
    ASSERT_EQ(pieces.size(), 2u) << i;
    for (const Piece& piece : pieces) window.Lost(piece);
  }
}

TEST(SendWindowTest, ALinkThatSlowsDownIsNotFloodedForLong) {
  constexpr uint64_t kFirst = 64 * kMiB, kTotal = 160 * kMiB;
  SendWindow window(kTotal, kConnections);
  window.SetPatience(Millis(400));
  Link(62.5e6, 0.1).Carry(window, kFirst, [](double) {});
  EXPECT_GT(window.size(), 8 * kMiB);
  // From now on two pieces a second.
  double now = 100;
  uint64_t stored = kFirst;
  std::queue<Piece> flying;
  while (!window.done()) {
    while (auto piece = window.Next(kTotal, At(now))) flying.push(*piece);
    now += 0.5;
    stored += flying.front().bytes;
    ASSERT_OK(window.Acknowledged(flying.front(), stored, At(now)));
    flying.pop();
  }
  EXPECT_EQ(window.size(), SendWindow::kLeast);
}

TEST(SendWindowTest, ASlowLinkWantsAnotherConnectionEveryFourSeconds) {
  SendWindow window(100 * kMiB);
  EXPECT_FALSE(window.Slow(100 * kMiB, At(0)));
  EXPECT_FALSE(window.Slow(100 * kMiB, At(3.9)));
  EXPECT_TRUE(window.Slow(100 * kMiB, At(4)));
  EXPECT_FALSE(window.Slow(100 * kMiB, At(4.1))) << "the other one has not been tried yet";
  EXPECT_TRUE(window.Slow(100 * kMiB, At(8)));
}

TEST(SendWindowTest, ALinkThatGoesOnOrWaitsForBytesWantsNoOtherConnection) {
  SendWindow window(100 * kMiB);
  const auto store = [&](uint64_t bytes, double at) {
    for (uint64_t to = window.stored() + bytes; window.stored() < to;) {
      const auto piece = window.Next(100 * kMiB, At(at));
      ASSERT_TRUE(piece);
      ASSERT_OK(window.Acknowledged(*piece, window.stored() + piece->bytes, At(at)));
    }
  };
  EXPECT_FALSE(window.Slow(100 * kMiB, At(0)));
  store(512 << 10, 3);
  EXPECT_FALSE(window.Slow(100 * kMiB, At(4)));
  store(256 << 10, 7);
  EXPECT_TRUE(window.Slow(100 * kMiB, At(8)));
  // Everything that there is has been stored for a while: the time begins when there is more.
  EXPECT_FALSE(window.Slow(window.stored(), At(11)));
  EXPECT_FALSE(window.Slow(100 * kMiB, At(13)));
  EXPECT_FALSE(window.Slow(100 * kMiB, At(16)));
  EXPECT_TRUE(window.Slow(100 * kMiB, At(17)));
}

TEST(SendWindowTest, AnyMixOfLossesOrdersAndRestartsEndsWithAllStored) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int run = 0; run < 30; ++run) {
    const uint64_t total = 1 + random() % (20 * kMiB);
    SendWindow window(total, kConnections);
    std::vector<Piece> flying;
    std::map<uint64_t, uint64_t> has;
    const auto prefix = [&] {
      uint64_t at = 0;
      for (const auto& [begin, end] : has)
        if (begin <= at) at = std::max(at, end);
      return at;
    };
    double now = 0;
    while (!window.done()) {
      now += 0.01;
      for (const Piece& piece : All(window, total, At(now))) flying.push_back(piece);
      ASSERT_LE(window.flying(), SendWindow::kMost);
      ASSERT_LE(window.left(), total);
      if (random() % 50 == 0) {  // a restart keeps the prefix, or some of it
        const uint64_t kept = prefix() / (1 + random() % 2);
        const uint64_t known = window.stored();
        has = {{0, kept}};
        for (const Piece& piece : flying) window.Lost(piece);
        flying.clear();
        ASSERT_OK(window.Told(kept, known));
      }
      if (flying.empty()) {
        if (window.Stuck()) {
          ASSERT_OK(window.BeginAgain());
        }
        continue;
      }
      const size_t pick = random() % flying.size();
      const Piece piece = flying[pick];
      flying.erase(flying.begin() + static_cast<ptrdiff_t>(pick));
      const uint64_t fate = random() % 4;
      if (fate != 0) has[piece.offset] = std::max(has[piece.offset], piece.offset + piece.bytes);
      if (fate <= 1) {
        window.Lost(piece);  // before it was stored, or its answer after
      } else {
        ASSERT_OK(window.Acknowledged(piece, prefix(), At(now)));
      }
    }
    EXPECT_EQ(prefix(), total);
  }
}

}  // namespace
}  // namespace concordat::worker
