#include "privacy/secagg/coordinator_log.h"

#include <algorithm>

#include "tests/support/status_matchers.h"
#include "tests/unit/privacy/secagg/harness.h"

// The log of an attempt gives back the same state and the same bytes, wherever it is cut; what was decided
// once stays decided; nothing secret is in it.
namespace concordat::secagg::testing {
namespace {

using concordat::testing::HasStatus;
using enum CoordinatorPhase;

constexpr Millis kGrace{15'000};

/// The bytes of a message, signature and all.
Bytes WholeBytes(const CoordinatorMessage& message) {
  return std::visit(
      [](const auto& m) {
        Bytes out = Canonical(m.body);
        out.insert(out.end(), m.signature.begin(), m.signature.end());
        return out;
      },
      message);
}

/// A LoggedRound with its workers: what harness.h's Attempt is for a CoordinatorRound.
class LoggedAttempt {
 public:
  explicit LoggedAttempt(World& world) : world_(world), sites_(world) {
    round_.emplace(world.offer, world.coordinator, world.verifier, world.Chains(), !world.pairwise.empty());
  }
  LoggedRound& round() { return *round_; }
  std::vector<Bytes>& log() { return log_; }
  std::deque<Outgoing>& pending() { return pending_; }
  Attempt& sites() { return sites_; }
  const std::optional<UnmaskWork>& unmask() const { return unmask_; }
  Instant now() const { return now_; }
  void Wait(int64_t ms) { now_ += Millis(ms); }

  LoggedEffects Take(StatusOr<LoggedEffects> effects) {
    EXPECT_TRUE(effects.ok()) << effects.status();
    if (!effects.ok()) return {};
    if (effects->record.has_value()) log_.push_back(*effects->record);
    pending_.insert(pending_.end(), effects->send.begin(), effects->send.end());
    if (effects->unmask.has_value()) unmask_ = effects->unmask;
    return *std::move(effects);
  }
  void Start() { Take(round_->Start(now_)); }
  /// The first waiting message goes to its site, and the site's answer to the round.
  void Step() {
    const Outgoing next = pending_.front();
    pending_.pop_front();
    now_ += Millis(7);
    Answer(next.to, *next.message);
  }
  void Answer(SiteIndex site, const CoordinatorMessage& message) {
    auto effects = sites_.AtWorker(site, message);
    ASSERT_TRUE(effects.ok()) << effects.status();
    if (effects->phase == WorkerPhase::kReady) return Upload(site);
    if (!effects->send.has_value()) return;
    const WorkerMessage& m = *effects->send;
    if (const auto* a = std::get_if<Signed<Advert>>(&m)) Take(round_->OnAdvert(*a, now_));
    if (const auto* a = std::get_if<Signed<Shares>>(&m)) Take(round_->OnShares(*a, now_));
    if (const auto* a = std::get_if<Signed<Agreement>>(&m)) Take(round_->OnAgreement(*a, now_));
    if (const auto* a = std::get_if<Signed<Unmask>>(&m)) {
      unmasks_.push_back(*a);
      Take(round_->OnUnmask(*a, now_));
    }
  }
  void Upload(SiteIndex site) {
    ASSERT_OK(sites_.worker(site).BeginInput(now_));
    const auto masks = sites_.worker(site).TakeMasks();
    ASSERT_OK(masks);
    auto y = world_.Plain(site);
    MaskStream(*masks).Apply(0, y);
    const auto effects = sites_.worker(site).OnInput(y.size(), DigestOfWords(y), now_);
    ASSERT_OK(effects);
    y_[site] = y;
    Take(round_->OnUploaded(site, y.size(), DigestOfWords(y), std::get<Signed<InputHeader>>(*effects->send),
                            now_));
  }
  void RunUntil(CoordinatorPhase phase) {
    if (round_->round().phase() == kIdle) Start();
    while (round_->round().phase() < phase && !pending_.empty()) Step();
  }
  void ExpectSum() {
    ASSERT_TRUE(unmask_.has_value());
    std::vector<uint32_t> sum(world_.offer.elements, 0), plain(sum);
    for (const SiteIndex site : unmask_->survivors) {
      const auto x = world_.Plain(site);
      for (size_t e = 0; e < sum.size(); ++e) {
        sum[e] += y_.at(site)[e];
        plain[e] += x[e];
      }
    }
    MaskStream(unmask_->keys).Apply(0, sum);
    EXPECT_EQ(sum, plain);
  }
  StatusOr<LoggedRound> Replayed(size_t records) {
    return LoggedRound::Replay(world_.coordinator, world_.verifier, std::span(log_).first(records), now_,
                               kGrace, !world_.pairwise.empty());
  }
  /// The process dies and starts again.
  void Restart() {
    auto round = Replayed(log_.size());
    ASSERT_OK(round);
    round_ = *std::move(round);
    pending_.clear();
  }
  const std::vector<Signed<Unmask>>& unmasks() const { return unmasks_; }

 private:
  World& world_;
  Attempt sites_;
  std::optional<LoggedRound> round_;
  std::vector<Bytes> log_;
  std::deque<Outgoing> pending_;
  std::map<SiteIndex, std::vector<uint32_t>> y_;
  std::optional<UnmaskWork> unmask_;
  std::vector<Signed<Unmask>> unmasks_;
  Instant now_ = At(0);
};

class CoordinatorLogTest : public ::testing::Test {
 protected:
  World world_{5};
  LoggedAttempt attempt_{world_};
  LoggedRound& round() { return attempt_.round(); }
};

void ExpectSameState(const LoggedRound& a, const LoggedRound& b) {
  EXPECT_EQ(a.round().phase(), b.round().phase());
  EXPECT_EQ(a.round().t0(), b.round().t0());
  EXPECT_EQ(a.round().t1(), b.round().t1());
  EXPECT_EQ(a.round().t2(), b.round().t2());
  EXPECT_EQ(a.round().advertised(), b.round().advertised());
  EXPECT_EQ(a.round().dealers(), b.round().dealers());
  EXPECT_EQ(a.round().survivors(), b.round().survivors());
  ASSERT_EQ(a.uploads().size(), b.uploads().size());
  EXPECT_TRUE(std::ranges::equal(
      a.uploads(), b.uploads(), {}, [](const auto& u) { return u.first; },
      [](const auto& u) { return u.first; }));
}

TEST_F(CoordinatorLogTest, AReplayOfAnyPrefixGivesTheSameStateAndTheSameBytes) {
  attempt_.Start();
  std::map<SiteIndex, Bytes> last;
  const auto note = [&] {
    for (const Outgoing& out : attempt_.pending()) last[out.to] = WholeBytes(*out.message);
  };
  note();
  while (round().round().phase() < kUnmask) {
    if (attempt_.log().size() == 9) attempt_.Take(round().OnLost(4, attempt_.now()));
    attempt_.Step();
    note();
    auto replayed = attempt_.Replayed(attempt_.log().size());
    ASSERT_OK(replayed);
    ExpectSameState(*replayed, round());
    for (SiteIndex site = 1; site <= 5; ++site) {
      const auto again = replayed->OnRejoined(site, attempt_.now());
      if (!again.ok()) continue;  // not a member
      ASSERT_EQ(again->send.size(), 1u);
      EXPECT_EQ(WholeBytes(*again->send[0].message), last.at(site)) << "site " << int{site};
      EXPECT_FALSE(again->record.has_value());
    }
  }
}

TEST_F(CoordinatorLogTest, AnAttemptThatRestartsAfterEveryRecordHasItsSum) {
  attempt_.Start();
  size_t seen = 0;
  while (round().round().phase() < kUnmask) {
    attempt_.Step();
    if (attempt_.log().size() == seen) continue;
    seen = attempt_.log().size();
    attempt_.Restart();
    for (SiteIndex site = 1; site <= 5; ++site) attempt_.Take(round().OnRejoined(site, attempt_.now()));
  }
  attempt_.RunUntil(kSummed);
  attempt_.ExpectSum();
  EXPECT_EQ(round().round().survivors().size(), 5u);
  EXPECT_LE(attempt_.log().size(), 4 * 5u + 6u);
}

TEST_F(CoordinatorLogTest, AStepThatALossEndedEndsTheSameWayInTheReplay) {
  attempt_.RunUntil(kInput);
  const std::deque<Outgoing> deliveries = attempt_.pending();
  attempt_.Take(round().OnLost(3, attempt_.now()));
  for (const Outgoing& out : deliveries) {
    if (out.to != 3) attempt_.Answer(out.to, *out.message);
  }
  ASSERT_EQ(round().round().phase(), kAgreement);
  ASSERT_EQ(round().round().survivors(), (std::vector<SiteIndex>{1, 2, 4, 5}));
  attempt_.Restart();
  EXPECT_EQ(round().round().phase(), kAgreement);
  EXPECT_EQ(round().round().survivors(), (std::vector<SiteIndex>{1, 2, 4, 5}));
  EXPECT_THAT(round().OnRejoined(3, attempt_.now()), HasStatus(StatusCode::kNotFound, "site 3"));
  for (const SiteIndex site : {1, 2, 4, 5}) attempt_.Take(round().OnRejoined(site, attempt_.now()));
  attempt_.RunUntil(kUnmask);
  attempt_.Restart();  // what was logged after a replay follows what was logged before
  EXPECT_EQ(round().round().phase(), kUnmask);
}

TEST_F(CoordinatorLogTest, AStepThatATimerEndedEndsTheSameWayInTheReplay) {
  attempt_.Start();
  for (int i = 0; i < 4; ++i) attempt_.Step();
  attempt_.Wait(world_.offer.deadlines.advert_ms);
  const LoggedEffects effects = attempt_.Take(round().OnTimer(attempt_.now()));
  EXPECT_EQ(effects.phase, kShares);
  EXPECT_TRUE(effects.record.has_value());
  attempt_.Restart();
  EXPECT_EQ(round().round().advertised(), (std::vector<SiteIndex>{1, 2, 3, 4}));
}

TEST_F(CoordinatorLogTest, ALossThatEndedNothingIsForgottenAndTheSiteHasAnotherChance) {
  attempt_.Start();
  const LoggedEffects lost = attempt_.Take(round().OnLost(2, attempt_.now()));
  EXPECT_FALSE(lost.record.has_value());
  EXPECT_EQ(round().round().awaited().size(), 4u);
  attempt_.Restart();
  EXPECT_EQ(round().round().awaited().size(), 5u);
}

TEST_F(CoordinatorLogTest, AfterAReplayNoDeadlineCountsBeforeTheGrace) {
  attempt_.RunUntil(kShares);
  attempt_.Wait(600'000);  // the outage
  attempt_.Restart();
  ASSERT_EQ(round().deadline(), attempt_.now() + kGrace);
  attempt_.Wait(kGrace.count() - 1);
  EXPECT_EQ(attempt_.Take(round().OnTimer(attempt_.now())).phase, kShares);
  attempt_.Wait(1);
  EXPECT_EQ(attempt_.Take(round().OnTimer(attempt_.now())).phase, kAborted);
}

TEST_F(CoordinatorLogTest, AReplayShortlyAfterTheStepBeganKeepsItsDeadline) {
  attempt_.RunUntil(kInput);
  const auto deadline = round().deadline();
  ASSERT_TRUE(deadline.has_value());
  attempt_.Restart();
  EXPECT_EQ(round().deadline(), deadline);  // the input step is longer than the grace
}

TEST_F(CoordinatorLogTest, RepeatsAndLateAnswersAreNotLogged) {
  attempt_.Start();
  const Outgoing offer = attempt_.pending().front();
  attempt_.Step();
  const size_t records = attempt_.log().size();
  attempt_.Answer(offer.to, *offer.message);  // the same advert again
  EXPECT_EQ(attempt_.log().size(), records);
  attempt_.RunUntil(kAgreement);
  const auto survivors = attempt_.pending();
  attempt_.RunUntil(kUnmask);
  const size_t agreed = attempt_.log().size();
  attempt_.Answer(survivors.back().to, *survivors.back().message);  // t others were faster
  EXPECT_EQ(attempt_.log().size(), agreed);
}

TEST_F(CoordinatorLogTest, ARefusedEventIsNotLogged) {
  attempt_.RunUntil(kInput);
  const size_t records = attempt_.log().size();
  EXPECT_FALSE(round().OnAdvert({}, attempt_.now()).ok());
  EXPECT_EQ(attempt_.log().size(), records);
  EXPECT_OK(attempt_.Replayed(records));
}

TEST_F(CoordinatorLogTest, NoOpenedShareIsInTheLogAndARestartAsksForThemAgain) {
  attempt_.RunUntil(kInput);
  const std::deque<Outgoing> deliveries = attempt_.pending();
  attempt_.Take(round().OnLost(3, attempt_.now()));  // so that both kinds of share are opened
  for (const Outgoing& out : deliveries) {
    if (out.to != 3) attempt_.Answer(out.to, *out.message);
  }
  attempt_.pending().erase(attempt_.pending().begin(), attempt_.pending().begin() + 5);
  attempt_.RunUntil(kUnmask);
  const std::deque<Outgoing> bundles = attempt_.pending();
  while (attempt_.unmasks().size() < 3) attempt_.Step();
  attempt_.Restart();
  EXPECT_EQ(round().round().phase(), kUnmask);
  EXPECT_EQ(round().round().awaited(), (std::vector<SiteIndex>{1, 2, 4, 5}));
  for (const SiteIndex site : {1, 2, 4, 5}) attempt_.Take(round().OnRejoined(site, attempt_.now()));
  EXPECT_EQ(WholeBytes(*attempt_.pending().front().message), WholeBytes(*bundles.front().message));
  attempt_.RunUntil(kSummed);
  attempt_.ExpectSum();
  Bytes all;
  for (const Bytes& record : attempt_.log()) all.insert(all.end(), record.begin(), record.end());
  ASSERT_GE(attempt_.unmasks().size(), 4u);
  for (const auto& unmask : attempt_.unmasks()) {
    for (const auto* kind : {&unmask.body.seed_shares, &unmask.body.mask_key_shares}) {
      EXPECT_FALSE(kind->empty());
      for (const OpenedShare& s : *kind) {
        EXPECT_TRUE(std::ranges::search(all, s.share.view()).empty());
        EXPECT_TRUE(std::ranges::search(all, s.salt.view()).empty());
      }
    }
  }
}

TEST_F(CoordinatorLogTest, AnAbortedAttemptStaysAbortedWithItsReason) {
  attempt_.RunUntil(kInput);
  const Complaint complaint{world_.offer.id, 2, 4, round().round().t1(), Complaint::Code::kCannotDecrypt};
  const LoggedEffects effects =
      attempt_.Take(round().OnComplaint(Sign(world_.sites[1].key, complaint), attempt_.now()));
  ASSERT_TRUE(effects.aborted.has_value());
  attempt_.Restart();
  EXPECT_EQ(round().round().phase(), kAborted);
  EXPECT_FALSE(round().deadline().has_value());
  ASSERT_TRUE(round().ended().has_value());
  EXPECT_EQ(round().ended()->code, Aborted::Code::kComplaint);
  EXPECT_EQ(round().ended()->accuser, 2);
  EXPECT_EQ(round().ended()->accused, 4);
  attempt_.log().push_back(
      EncodeEvent({static_cast<uint32_t>(attempt_.log().size()), attempt_.now(), kInput, LogStepClosed{}}));
  EXPECT_THAT(attempt_.Replayed(attempt_.log().size()), HasStatus(StatusCode::kDataLoss, "after the end"));
}

TEST_F(CoordinatorLogTest, ACancelledAttemptAndOneWithTooFewAnswersEndInTheLog) {
  attempt_.RunUntil(kShares);
  const auto log = attempt_.log();
  attempt_.Take(round().Cancel("withdrawn", attempt_.now()));
  attempt_.Restart();
  EXPECT_EQ(round().ended()->code, Aborted::Code::kCancelled);
  EXPECT_EQ(round().ended()->message, "withdrawn");
  attempt_.log() = log;
  attempt_.Restart();
  for (SiteIndex site = 1; site <= 5; ++site) {
    if (round().round().phase() == kShares) attempt_.Take(round().OnLost(site, attempt_.now()));
  }
  attempt_.Restart();
  EXPECT_EQ(round().ended()->code, Aborted::Code::kTooFewShares);
}

TEST_F(CoordinatorLogTest, TheReplayUsesTheChainsOfTheLog) {
  attempt_.RunUntil(kShares);
  const auto event = DecodeEvent(attempt_.log()[0]);
  ASSERT_OK(event);
  const auto& started = std::get<LogStarted>(event->what);
  EXPECT_EQ(started.chains, world_.Chains());
  EXPECT_EQ(started.offer, world_.offer);
}

// ---- Logs that nobody wrote.

TEST_F(CoordinatorLogTest, MissingRepeatedSwappedAndForeignRecordsAreDataLoss) {
  attempt_.RunUntil(kUnmask);
  const std::vector<Bytes> log = attempt_.log();
  ASSERT_OK(attempt_.Replayed(log.size()));
  for (size_t i = 0; i + 1 < log.size(); ++i) {
    auto& cut = attempt_.log() = log;
    cut.erase(cut.begin() + static_cast<ptrdiff_t>(i));
    EXPECT_THAT(attempt_.Replayed(cut.size()), HasStatus(StatusCode::kDataLoss, "")) << "without " << i;
    auto& twice = attempt_.log() = log;
    twice.insert(twice.begin() + static_cast<ptrdiff_t>(i), log[i]);
    EXPECT_THAT(attempt_.Replayed(twice.size()), HasStatus(StatusCode::kDataLoss, "")) << "twice " << i;
    auto& swapped = attempt_.log() = log;
    std::swap(swapped[i], swapped[i + 1]);
    EXPECT_THAT(attempt_.Replayed(swapped.size()), HasStatus(StatusCode::kDataLoss, "")) << "swapped " << i;
  }
  World other(5, 38);
  EXPECT_THAT(LoggedRound::Replay(other.sites[0].key, other.verifier, {}, At(0), kGrace),
              HasStatus(StatusCode::kDataLoss, "without records"));
}

TEST_F(CoordinatorLogTest, AnAnswerTwiceOrOutsideItsStepIsDataLossAlsoUnderTheRightNumber) {
  attempt_.RunUntil(kUnmask);
  const std::vector<Bytes> log = attempt_.log();
  ASSERT_GT(log.size(), 6u);
  const auto with = [&](size_t from, CoordinatorPhase after) {
    auto event = *DecodeEvent(log[from]);
    event.seq = 3;
    event.after = after;
    attempt_.log() = {log[0], log[1], log[2], EncodeEvent(event)};
    return attempt_.Replayed(4);
  };
  EXPECT_THAT(with(1, kAdverts), HasStatus(StatusCode::kDataLoss, "came before"));
  ASSERT_TRUE(std::holds_alternative<Signed<Shares>>(DecodeEvent(log[6])->what));
  EXPECT_THAT(with(6, kAdverts), HasStatus(StatusCode::kDataLoss, "outside its step"));
  EXPECT_THAT(with(0, kAdverts), HasStatus(StatusCode::kDataLoss, "second beginning"));
  EXPECT_OK(with(3, kAdverts));
}

TEST_F(CoordinatorLogTest, AnotherPhaseThanTheAnswersLeadToIsDataLoss) {
  attempt_.RunUntil(kUnmask);
  const std::vector<Bytes> log = attempt_.log();
  for (size_t i = 0; i < log.size(); ++i) {
    auto event = *DecodeEvent(log[i]);
    for (const CoordinatorPhase wrong : {kIdle, kSummed, kDone}) {
      event.after = wrong;
      attempt_.log() = log;
      attempt_.log()[i] = EncodeEvent(event);
      EXPECT_THAT(attempt_.Replayed(log.size()), HasStatus(StatusCode::kDataLoss, "")) << i;
    }
  }
}

TEST_F(CoordinatorLogTest, EveryKindOfRecordComesBackAsItWas) {
  attempt_.RunUntil(kUnmask);
  attempt_.Take(round().Cancel("the end", attempt_.now()));
  std::set<size_t> kinds;
  for (const Bytes& record : attempt_.log()) {
    const auto event = DecodeEvent(record);
    ASSERT_OK(event);
    kinds.insert(event->what.index());
    EXPECT_EQ(EncodeEvent(*event), record);
  }
  EXPECT_EQ(kinds, (std::set<size_t>{0, 1, 2, 3, 4, 6}));
  const CoordinatorEvent closed{3, At(5), kShares, LogStepClosed{}};
  EXPECT_EQ(EncodeEvent(*DecodeEvent(EncodeEvent(closed))), EncodeEvent(closed));
}

TEST_F(CoordinatorLogTest, ATornOrLongerRecordIsDataLoss) {
  attempt_.RunUntil(kUnmask);
  attempt_.Take(round().Cancel("the end", attempt_.now()));
  for (const Bytes& record : attempt_.log()) {
    for (size_t n = 0; n < record.size(); ++n) {
      EXPECT_THAT(DecodeEvent(ByteView(record).first(n)), HasStatus(StatusCode::kDataLoss, ""));
    }
    Bytes longer = record;
    longer.push_back(0);
    EXPECT_THAT(DecodeEvent(longer), HasStatus(StatusCode::kDataLoss, ""));
  }
}

TEST_F(CoordinatorLogTest, AnUnknownVersionInstantKindPhaseOrReasonIsDataLoss) {
  const Bytes good = EncodeEvent({0, At(1), kAborted, LogEnded{{Aborted::Code::kCancelled, 0, 0, "x"}}});
  ASSERT_OK(DecodeEvent(good));
  // version, seq (4), instant (8), phase, kind, reason
  for (const auto& [at, value] : std::vector<std::pair<size_t, uint8_t>>{{0, 0},
                                                                         {0, 2},
                                                                         {12, 0x7f},
                                                                         {12, 0x80},
                                                                         {13, 9},
                                                                         {13, 255},
                                                                         {14, 7},
                                                                         {14, 255},
                                                                         {15, 0},
                                                                         {15, 9}}) {
    Bytes bad = good;
    bad.at(at) = value;
    EXPECT_THAT(DecodeEvent(bad), HasStatus(StatusCode::kDataLoss, "")) << at << " " << int{value};
  }
}

TEST_F(CoordinatorLogTest, AFlippedBitNeverGivesOtherMessagesToTheSites) {
  attempt_.RunUntil(kAgreement);
  const std::vector<Bytes> log = attempt_.log();
  const Bytes survivors = WholeBytes(*attempt_.pending().back().message);
  const SiteIndex to = attempt_.pending().back().to;
  for (size_t i = 1; i < log.size(); ++i) {
    for (size_t byte = 13; byte < log[i].size(); byte += 41) {  // past seq and instant, a sample
      attempt_.log() = log;
      attempt_.log()[i][byte] ^= 1;
      auto replayed = attempt_.Replayed(log.size());
      if (!replayed.ok()) {
        EXPECT_EQ(replayed.status().code(), StatusCode::kDataLoss);
        continue;
      }
      // A ciphertext is outside the dealer's signature: its receiver finds out and complains.
      const auto again = replayed->OnRejoined(to, attempt_.now());
      ASSERT_OK(again);
      EXPECT_EQ(WholeBytes(*again->send.at(0).message), survivors) << i << " " << byte;
    }
  }
}

TEST(CoordinatorLogPairwiseTest, AnAttemptThatRestartsAfterEveryRecordTakesALostSitesMasksOff) {
  World world(5);
  world.CarryPairwiseKeys();
  LoggedAttempt attempt(world);
  attempt.Start();
  size_t seen = 0;
  while (attempt.round().round().phase() < kUnmask) {
    ASSERT_FALSE(attempt.pending().empty());
    if (attempt.round().round().phase() == kInput && attempt.pending().front().to == 2) {
      attempt.pending().pop_front();
      attempt.Take(attempt.round().OnLost(2, attempt.now()));
    } else {
      attempt.Step();
    }
    if (attempt.log().size() == seen) continue;
    seen = attempt.log().size();
    attempt.Restart();
    for (SiteIndex site = 1; site <= 5; ++site) {
      auto again = attempt.round().OnRejoined(site, attempt.now());
      if (again.ok()) attempt.Take(std::move(again));
    }
  }
  attempt.RunUntil(kSummed);
  EXPECT_EQ(attempt.round().round().survivors(), (std::vector<SiteIndex>{1, 3, 4, 5}));
  attempt.ExpectSum();
}

TEST(CoordinatorLogPairwiseTest, SharesKeepTheirSealsAndALogOfTheOtherKindOfJobDoesNotReplay) {
  World world(4);
  world.CarryPairwiseKeys();
  LoggedAttempt attempt(world);
  attempt.RunUntil(kInput);
  size_t with_seals = 0;
  for (const Bytes& record : attempt.log()) {
    const auto event = DecodeEvent(record);
    ASSERT_OK(event);
    EXPECT_EQ(EncodeEvent(*event), record);
    if (const auto* shares = std::get_if<Signed<Shares>>(&event->what))
      with_seals += shares->body.pair_seals.size() == 4 ? 1 : 0;
  }
  EXPECT_EQ(with_seals, 4u);
  EXPECT_OK(attempt.Replayed(attempt.log().size()));
  world.pairwise.clear();
  EXPECT_THAT(attempt.Replayed(attempt.log().size()), HasStatus(StatusCode::kDataLoss, "pair seals"));
}

}  // namespace
}  // namespace concordat::secagg::testing
