#include "worker/core/round_state.h"

#include "common/canonical_attempt.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/privacy/secagg/harness.h"

namespace concordat::worker {
namespace {

using concordat::testing::HasStatus;
using secagg::CoordinatorPhase;
using secagg::testing::Attempt;
using secagg::testing::World;

class RoundStateTest : public ::testing::Test {
 protected:
  RoundStateTest() : attempt_(world_) { attempt_.RunUntil(CoordinatorPhase::kShares); }
  const AttemptId& id() const { return world_.offer.id; }

  /// As EncodeRoundState writes it, with what it cannot be given.
  Bytes Written(uint8_t phase, const std::vector<std::string>& names) {
    CanonicalWriter out;
    out.U8(1);
    out.U8(phase);
    Put(out, id());
    out.Raw(crypto::Signature{});
    out.Count(names.size());
    for (const std::string& name : names) {
      out.Text(name);
      out.Blob(AsBytes("body of " + name));
      out.Raw(crypto::Signature{});
    }
    out.Blob(attempt_.snapshot(1));
    return out.Take();
  }

  World world_{3};
  Attempt attempt_;
};

TEST_F(RoundStateTest, ComesBackAsItWasWritten) {
  const std::map<std::string, Evidence> accepted{
      {"keys", {id(), "keys", ToBytes(AsBytes("body of keys")), {}}},
      {"offer", {id(), "offer", ToBytes(AsBytes("body of offer")), {}}}};
  const auto state =
      EncodeRoundState(id(), secagg::WorkerPhase::kAdvertised, {}, accepted, attempt_.snapshot(1));
  EXPECT_EQ(ToBytes(state.view()), Written(1, {"keys", "offer"}));
  ASSERT_OK_AND_ASSIGN(const RoundState back, DecodeRoundState(id(), state.view()));
  EXPECT_EQ(back.phase, secagg::WorkerPhase::kAdvertised);
  EXPECT_EQ(back.offer.body, world_.offer);
  EXPECT_EQ(back.accepted.at("offer").body, ToBytes(AsBytes("body of offer")));
  EXPECT_EQ(ToBytes(back.snapshot.view()), attempt_.snapshot(1));
}

TEST_F(RoundStateTest, WhatNobodyWroteIsDataLoss) {
  ASSERT_OK(DecodeRoundState(id(), Written(1, {"keys", "offer"})));
  EXPECT_THAT(DecodeRoundState(id(), Written(1, {"offer", "keys"})),
              HasStatus(StatusCode::kDataLoss, "ascend"));
  EXPECT_THAT(DecodeRoundState(id(), Written(1, {"keys", "keys"})),
              HasStatus(StatusCode::kDataLoss, "ascend"));
  EXPECT_THAT(DecodeRoundState(id(), Written(11, {"keys"})), HasStatus(StatusCode::kDataLoss, "phase"));
  AttemptId other = id();
  ++other.attempt;
  EXPECT_THAT(DecodeRoundState(other, Written(1, {"keys"})), HasStatus(StatusCode::kDataLoss, "expected"));
}

}  // namespace
}  // namespace concordat::worker
