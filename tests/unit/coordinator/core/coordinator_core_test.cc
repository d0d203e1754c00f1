#include "coordinator/core/coordinator_core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>

#include "policy/job_privacy.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/secagg/coordinator_checks.h"
#include "privacy/secagg/worker_round.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace concordat::coordinator {
namespace {

using concordat::testing::FakeClock;
using concordat::testing::HasStatus;
using namespace secagg;  // NOLINT: the protocol's messages, both ends

Digest H(std::string_view text) { return crypto::Sha256(AsBytes(text)); }

/// Knows everyone who was introduced: the chain is the SPIFFE ID as text.
class FakePeers final : public PeerVerifier {
 public:
  void Introduce(const SpiffeId& id, const crypto::SigningKey& key) {
    spki_[id.ToString()] = key.PublicSpki();
  }
  /// Its certificate holds from `from` until `until`.
  void Certify(const SpiffeId& id, Instant from, Instant until) { holds_[id.ToString()] = {from, until}; }
  StatusOr<crypto::PeerIdentity> Verify(std::string_view chain, Instant now) const override {
    const auto it = spki_.find(std::string(chain));
    if (it == spki_.end()) return PermissionDenied("nobody knows {}", chain);
    const auto holds = holds_.find(std::string(chain));
    if (holds != holds_.end() && now < holds->second.first) return PermissionDenied("not yet valid");
    if (holds != holds_.end() && now >= holds->second.second) return PermissionDenied("expired");
    ASSIGN_OR_RETURN(const SpiffeId id, SpiffeId::Parse(chain));
    return crypto::PeerIdentity{id, it->second, crypto::Sha256(it->second), Instant::max()};
  }

 private:
  std::map<std::string, Bytes> spki_;
  std::map<std::string, std::pair<Instant, Instant>> holds_;
};

policy::JobSpec SomeSpec(uint32_t rounds = 2) {
  policy::JobSpec spec;
  spec.name = "job";
  spec.charter = H("charter");
  spec.base_model = {"tiny", H("base"), "Apache-2.0", {1, 8, 16, 2, 1, 4}};
  spec.adapter = {2, 4, {LoraTarget::kQ}, LoraMethod::kFedIt};
  spec.training = {2, 1, 16, 1e-3, policy::Schedule::kConstant, 0, 0.95, 1.0};
  spec.rounds = rounds;
  spec.cohort.minimum = 3;
  spec.cohort.min_survivors = 3;
  spec.cohort.wait_ms = 60'000;
  spec.deadlines = {10'000, 10'000, 100'000, 10'000, 10'000};
  spec.privacy.clip = 1.0;
  spec.privacy.noise_multiplier = 1.0;
  spec.privacy.delta = 1e-5;
  spec.metrics = {10, 0.1};
  return spec;
}

/// One honest region: a real WorkerRound for each attempt, which does what the shell of a worker would do.
struct Site {
  Site(SpiffeId worker, crypto::SigningKey identity) : id(std::move(worker)), key(std::move(identity)) {}
  SpiffeId id;
  crypto::SigningKey key;
  std::unique_ptr<WorkerRound> round;
  bool connected = false;
  Verdict verdict = Verdict::kEligible;
  std::vector<AttemptId> offers;
  std::vector<AttemptAborted> aborts;
  std::vector<JobEnded> ended;
  std::vector<JobNotice> notices;
  std::vector<EvaluationRequest> evaluations;
  std::vector<Digest> results;
  // What it keeps quiet about.
  bool mute_advert = false, mute_shares = false, mute_input = false, mute_agreement = false,
       mute_unmask = false;
};

/// Carries messages between a core and its sites, journals like the shell, and answers sum orders.
class World {
 public:
  explicit World(std::vector<std::string> jurisdictions, CoreLimits limits = {}, Millis grace = Millis(0))
      : key_(crypto::SigningKey::Generate(random_)),
        context_{H("charter"), jurisdictions, 3, &key_, &peers_, grace},
        core_(context_, limits) {
    for (const std::string& j : jurisdictions) AddSite(j, "w1");
  }

  Site& AddSite(const std::string& jurisdiction, std::string_view name) {
    auto site = std::make_unique<Site>(*SpiffeId::Make(jurisdiction, Role::kWorker, name),
                                       crypto::SigningKey::Generate(random_));
    peers_.Introduce(site->id, site->key);
    const SpiffeId id = site->id;
    return *(sites_[id] = std::move(site));
  }

  Site& site(const std::string& jurisdiction, std::string_view name = "w1") {
    return *sites_.at(*SpiffeId::Make(jurisdiction, Role::kWorker, name));
  }
  static std::string Chain(const Site& site) { return site.id.ToString(); }

  void Connect(Site& site) {
    site.connected = true;
    auto fx = core_.OnWorkerConnected({site.id, site.key.Public().KeyHash(), Chain(site)}, clock_.Now());
    ASSERT_OK(fx);
    Take(std::move(*fx));
  }
  void ConnectAll() {
    for (auto& [id, site] : sites_) Connect(*site);
  }
  void Lose(Site& site) {
    site.connected = false;
    site.round.reset();
    Take(core_.OnWorkerLost(site.id, clock_.Now()));
  }
  JobId Submit(policy::JobSpec spec, std::string_view name = "job") {
    JobRecord record = Record(name);
    auto fx = core_.OnSubmit(record, std::move(spec), clock_.Now());
    EXPECT_OK(fx);
    if (fx.ok()) Take(std::move(*fx));
    return record.id;
  }
  JobRecord Record(std::string_view name) {
    JobRecord record;
    record.id = H(name);
    record.signed_job.file = std::string(name);
    record.submitter = *SpiffeId::Make("de", Role::kOperator, "anna");
    record.initial_adapter = H("initial");
    record.submitted = clock_.Now();
    return record;
  }
  Status Event(Site& site, const WorkerEvent& event) {
    auto fx = core_.OnWorkerEvent(site.id, event, clock_.Now());
    if (!fx.ok()) return fx.status();
    Take(std::move(*fx));
    return OkStatus();
  }
  void Advance(Millis by) {
    clock_.Advance(by);
    Take(core_.OnTimer(clock_.Now()));
  }
  /// Goes to the instant that the core asked for.
  void AdvanceToDeadline() {
    ASSERT_TRUE(deadline_);
    clock_.Set(std::max(clock_.Now(), *deadline_));
    Take(core_.OnTimer(clock_.Now()));
  }
  JobView View(const JobId& job) { return *core_.View(job, clock_.Now()); }

  /// A second coordinator that has only the journal.
  /// With the log of the open attempt, and workers that go on where they are; or without either.
  enum class Log { kLost, kKept };
  void Restart(const policy::JobSpec& spec, Log log = Log::kLost) {
    CoordinatorCore fresh(context_, {});
    open_.clear();
    accepted_.clear();
    std::vector<CoreEffects> restored;
    for (const JobId& id : core_.Jobs()) {
      StoredJob stored;
      for (const JournalRecord& r : journal_) {
        if (const auto* job = std::get_if<JobRecord>(&r); job && job->id == id) stored.job = *job;
        if (const auto* phase = std::get_if<JobPhaseRecord>(&r); phase && phase->id == id)
          stored.phase = *phase;
        if (const auto* round = std::get_if<RoundRecord>(&r); round && round->id.job == id) {
          stored.rounds.push_back(*round);
        }
        if (const auto* attempt = std::get_if<AttemptRecord>(&r); attempt && attempt->id.job == id) {
          stored.last_attempt = std::max(stored.last_attempt.value_or(attempt->id), attempt->id);
        }
        // All rounds: the machine itself must know which ones count.
        if (const auto* blame = std::get_if<BlameRecord>(&r); blame && blame->id.job == id)
          stored.blames.push_back(*blame);
      }
      for (const JournalRecord& r : journal_) {
        const auto* record = std::get_if<AttemptLogRecord>(&r);
        if (record && log == Log::kKept && record->id == stored.last_attempt)
          stored.log.push_back(record->record);
        const auto* closed = std::get_if<AttemptClosedRecord>(&r);
        if (closed && closed->id == stored.last_attempt) stored.log.clear();
      }
      auto fx = fresh.Restore(std::move(stored), spec, clock_.Now());
      ASSERT_OK(fx);
      restored.push_back(std::move(*fx));
    }
    core_ = std::move(fresh);
    sums_.clear();
    for (auto& [id, site] : sites_) {
      site->connected = false;
      if (log == Log::kLost) site->round.reset();
    }
    for (CoreEffects& fx : restored) {
      for (const UploadSlot& slot : fx.accept_uploads) open_.insert({slot.id, slot.worker});  // kept files
      Take(std::move(fx));
    }
    Take(core_.OnTimer(clock_.Now()));
  }

  /// Everything the shell does, in its order.
  void Take(CoreEffects fx) {
    for (JournalRecord& r : fx.persist) {
      if (const auto* a = std::get_if<AttemptRecord>(&r)) {
        EXPECT_TRUE(attempts_.insert(a->id).second) << "an attempt was offered twice";
      }
      if (const auto* s = std::get_if<SurvivorsRecord>(&r)) {
        EXPECT_TRUE(survivors_.insert(s->id).second) << "U3 was fixed twice";
      }
      journal_.push_back(std::move(r));
    }
    for (const ToWorker& out : fx.send) ExpectWrittenAhead(out);
    for (std::string& note : fx.notes) notes_.push_back(std::move(note));
    for (const UploadSlot& slot : fx.open_uploads) open_.insert({slot.id, slot.worker});
    for (const UploadSlot& slot : fx.accept_uploads) {
      EXPECT_EQ(open_.erase({slot.id, slot.worker}), 1u) << "accepted an upload that was not open";
      accepted_[slot.id].insert(slot.worker);
    }
    for (const AttemptId& id : fx.close_uploads) {
      std::erase_if(open_, [&](const auto& slot) { return slot.first == id; });
    }
    for (const AttemptId& id : fx.drop_attempts) {
      std::erase_if(open_, [&](const auto& slot) { return slot.first == id; });
    }
    for (const SumOrder& sum : fx.sums) sums_.push_back(sum.id);
    deadline_ = fx.deadline;
    for (auto& plan : fx.plans) plans_.push_back(std::move(plan));
    for (auto& evaluation : fx.evaluations) evaluations_.push_back(std::move(evaluation));
    for (ToWorker& message : fx.send) queue_.push_back(std::move(message));
    if (delivering_) return;
    delivering_ = true;
    while (!queue_.empty() || (finish_sums_ && !sums_.empty())) {
      if (queue_.empty()) {
        const AttemptId id = sums_.front();
        sums_.pop_front();
        FinishSum(id);
        continue;
      }
      ToWorker next = std::move(queue_.front());
      queue_.pop_front();
      Site& site = *sites_.at(next.to);
      if (site.connected) std::visit([&](auto& m) { Deliver(site, m); }, next.message);
    }
    delivering_ = false;
  }
  /// U3 is on record before anybody hears of it.
  void ExpectWrittenAhead(const ToWorker& out) const {
    const auto* message = std::get_if<std::shared_ptr<const CoordinatorMessage>>(&out.message);
    if (message == nullptr) return;
    const auto* survivors = std::get_if<Signed<Survivors>>(message->get());
    if (survivors == nullptr) return;
    EXPECT_TRUE(survivors_.contains(survivors->body.id)) << survivors->body.id.Brief();
  }
  bool Noted(std::string_view text) const {
    return std::ranges::any_of(notes_,
                               [&](const std::string& n) { return n.find(text) != std::string::npos; });
  }
  std::vector<BlameRecord> Blames() const {
    std::vector<BlameRecord> out;
    for (const JournalRecord& r : journal_)
      if (const auto* blame = std::get_if<BlameRecord>(&r)) out.push_back(*blame);
    return out;
  }
  /// The sum that was ordered first.
  void FinishNextSum() {
    ASSERT_FALSE(sums_.empty());
    const AttemptId id = sums_.front();
    sums_.pop_front();
    FinishSum(id);
  }
  void FinishSum(const AttemptId& id) {
    SumFinished sum{id, H("sum"), H(fmt::format("adapter {}", id.round)), {6.0, 3.0}, 100, 50};
    auto fx = core_.OnSumFinished(sum, clock_.Now());
    ASSERT_OK(fx);
    Take(std::move(*fx));
  }

  void Deliver(Site& site, const JobNotice& notice) {
    site.notices.push_back(notice);
    JobAnswer answer;
    answer.job = H(notice.job->file);
    answer.verdict = site.verdict;
    if (answers_) (void)Event(site, answer);
  }
  void Deliver(Site& site, const AttemptAborted& m) { site.aborts.push_back(m); }
  void Deliver(Site& site, const JobEnded& m) { site.ended.push_back(m); }
  void Deliver(Site& site, const EvaluationRequest& m) { site.evaluations.push_back(m); }
  void Deliver(Site& site, const std::shared_ptr<const CoordinatorMessage>& message) {
    std::visit([&](const auto& m) { DeliverSigned(site, m); }, *message);
  }
  void DeliverSigned(Site& site, const Signed<Offer>& m) {
    site.offers.push_back(m.body.id);
    WorkerBounds bounds;
    bounds.id = m.body.id;
    bounds.charter = m.body.charter;
    bounds.base_model = m.body.base_model;
    bounds.adapter = m.body.adapter;
    bounds.elements = m.body.elements;
    for (const RosterEntry& entry : m.body.roster) bounds.jurisdictions.insert(entry.worker.jurisdiction());
    site.round =
        std::make_unique<WorkerRound>(site.id, site.key, peers_, key_.Public(), random_, bounds, Digest{});
    Answer(site, site.round->OnOffer(m, clock_.Now()), site.mute_advert);
  }
  void DeliverSigned(Site& site, const Signed<Keys>& m) {
    if (site.round) Answer(site, site.round->OnKeys(m, clock_.Now()), site.mute_shares);
  }
  void DeliverSigned(Site& site, const Signed<Delivery>& m) {
    if (!site.round) return;
    const auto fx = site.round->OnDelivery(m, clock_.Now());
    ASSERT_OK(fx);
    if (site.mute_input) return;
    if (!fx->send) return Upload(site);
    // A repeat, after a restart: the header goes out again, and the coordinator has the upload.
    CoreEffects refused;
    EXPECT_OK(
        core_.OnUploaded(site.id, 0, {}, std::get<Signed<InputHeader>>(*fx->send), clock_.Now(), &refused));
  }
  void DeliverSigned(Site& site, const Signed<Survivors>& m) {
    if (site.round) Answer(site, site.round->OnSurvivors(m, clock_.Now()), site.mute_agreement);
  }
  void DeliverSigned(Site& site, const Signed<AgreementBundle>& m) {
    if (site.round) Answer(site, site.round->OnAgreementBundle(m, clock_.Now()), site.mute_unmask);
  }
  void DeliverSigned(Site& site, const Signed<Result>& m) {
    if (!site.round) return;
    auto fx = site.round->OnResult(m, clock_.Now());
    ASSERT_OK(fx);
    site.results.push_back(m.body.new_adapter);
  }
  void Answer(Site& site, StatusOr<WorkerEffects> fx, bool mute) {
    ASSERT_OK(fx);
    if (mute || !fx->send) return;
    std::visit(
        [&](const auto& m) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(m)>, Signed<InputHeader>>) {
            EXPECT_OK(Event(site, m));
          }
        },
        *fx->send);
  }
  void Upload(Site& site, const Digest& stored = H("y")) {
    ASSERT_OK(site.round->BeginInput(clock_.Now()));
    const uint64_t elements = *policy::MaskedElements(SomeSpec());
    auto fx = site.round->OnInput(elements, H("y"), clock_.Now());
    ASSERT_OK(fx);
    const auto& header = std::get<Signed<InputHeader>>(*fx->send);
    EXPECT_TRUE(open_.contains({header.body.id, site.id}));
    CoreEffects refused;
    auto out = core_.OnUploaded(site.id, elements, stored, header, clock_.Now(), &refused);
    Take(out.ok() ? std::move(*out) : std::move(refused));
  }

  FakeClock clock_;
  crypto::CtrRandom random_{Secret32()};
  FakePeers peers_;
  crypto::SigningKey key_;
  CoreContext context_;
  CoordinatorCore core_;
  std::map<SpiffeId, std::unique_ptr<Site>> sites_;
  std::vector<JournalRecord> journal_;
  std::set<AttemptId> attempts_;
  std::set<AttemptId> survivors_;  // whose U3 is on record
  std::vector<std::string> notes_;
  std::set<std::pair<AttemptId, SpiffeId>> open_;
  std::map<AttemptId, std::set<SpiffeId>> accepted_;
  std::deque<AttemptId> sums_;
  std::deque<ToWorker> queue_;
  std::optional<Instant> deadline_;
  std::vector<PlanOutcome> plans_;
  std::vector<EvaluationOutcome> evaluations_;
  bool delivering_ = false;
  bool finish_sums_ = true;
  bool answers_ = true;
};

const std::vector<std::string> kThree = {"de", "es", "fr"};
const std::vector<std::string> kFour = {"de", "es", "fr", "gb"};

TEST(CoordinatorCoreTest, RunsAJobOfThreeRegionsToItsEnd) {
  World world(kThree);
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(3));
  const JobView view = world.View(job);
  EXPECT_EQ(view.phase, JobPhase::kDone);
  ASSERT_EQ(view.rounds.size(), 3u);
  EXPECT_EQ(view.rounds[0].parent, H("initial"));
  EXPECT_EQ(view.rounds[1].parent, view.rounds[0].adapter);
  EXPECT_EQ(view.rounds[2].parent, view.rounds[1].adapter);
  EXPECT_EQ(view.rounds[0].survivors.size(), 3u);
  EXPECT_TRUE(view.rounds[0].missing.empty());
  EXPECT_DOUBLE_EQ(view.rounds[0].mean_loss, 2.0);
  EXPECT_DOUBLE_EQ(view.rounds[0].tokens, 3.0 * 2 * 1 * 16);
  EXPECT_GT(view.rounds[2].epsilon_local, view.rounds[0].epsilon_local);
  for (const auto& [id, site] : world.sites_) {
    EXPECT_EQ(site->results.size(), 3u);
    ASSERT_EQ(site->ended.size(), 1u);
    EXPECT_EQ(site->ended[0].final_adapter, view.adapter);
  }
}

TEST(CoordinatorCoreTest, PersistsTheAttemptInTheSameEffectsAsItsOffer) {
  World world(kThree);
  world.ConnectAll();
  world.answers_ = false;
  const JobId job = world.Submit(SomeSpec());
  ASSERT_TRUE(world.attempts_.empty());
  for (const char* j : {"de", "es"})
    ASSERT_OK(world.Event(world.site(j), JobAnswer{job, Verdict::kEligible, {}}));
  auto fx = world.core_.OnWorkerEvent(world.site("fr").id, JobAnswer{job, Verdict::kEligible, {}},
                                      world.clock_.Now());
  ASSERT_OK(fx);
  ASSERT_EQ(fx->persist.size(), 2u);
  EXPECT_EQ(std::get<AttemptRecord>(fx->persist[0]).id, (AttemptId{job, 0, 0}));
  EXPECT_EQ(std::get<AttemptLogRecord>(fx->persist[1]).id, (AttemptId{job, 0, 0}));
  EXPECT_EQ(fx->send.size(), 3u);
}

TEST(CoordinatorCoreTest, OffersOnlyToThoseWhoAnsweredEligible) {
  World world(kFour);
  world.site("gb").verdict = Verdict::kRefused;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_TRUE(world.site("gb").offers.empty());
  // The region that stayed out is named.
  EXPECT_EQ(world.View(job).rounds[0].missing, std::vector<SpiffeId>{world.site("gb").id});
}

TEST(CoordinatorCoreTest, WaitsForAnInvitedRegionAndGoesOnWithoutItAfterTheWait) {
  World world(kFour);
  for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
  const JobId job = world.Submit(SomeSpec(2));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_TRUE(world.attempts_.empty());
  world.AdvanceToDeadline();
  // Both rounds ran: the region that did not come was waited for once only.
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
}

TEST(CoordinatorCoreTest, WaitsForApprovalLikeForARegionThatIsNotThere) {
  World world(kFour);
  world.site("gb").verdict = Verdict::kWaitsForApproval;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  ASSERT_OK(world.Event(world.site("gb"), JobAnswer{job, Verdict::kEligible, {}}));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, NeverStartsWithFewerThanTheMinimum) {
  World world(kThree);
  world.Connect(world.site("de"));
  world.Connect(world.site("es"));
  const JobId job = world.Submit(SomeSpec());
  world.Advance(Millis(10'000'000));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_EQ(world.View(job).text, "2 of at least 3 regions are connected and eligible");
  world.Connect(world.site("fr"));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
}

TEST(CoordinatorCoreTest, TheChartersMinimumHoldsToo) {
  World world(kFour);
  world.context_.minimum_cohort = 4;
  world.core_ = CoordinatorCore(world.context_, {});
  for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
  const JobId job = world.Submit(SomeSpec());
  world.Advance(Millis(10'000'000));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
}

TEST(CoordinatorCoreTest, ARegionLostInTheMiddleOfARoundIsMissingAndTheRoundCompletes) {
  World world(kFour);
  world.site("gb").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(2));
  EXPECT_EQ(world.View(job).rounds.size(), 0u);
  world.Lose(world.site("gb"));
  // Nobody waits for a deadline: the others had answered. The next round waits for the lost region.
  JobView view = world.View(job);
  ASSERT_EQ(view.rounds.size(), 1u);
  EXPECT_EQ(view.rounds[0].missing, std::vector<SpiffeId>{world.site("gb").id});
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  world.site("gb").mute_input = false;
  world.Connect(world.site("gb"));
  view = world.View(job);
  EXPECT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds[1].survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, ASilentRegionIsDroppedAtTheDeadlineOfEachStep) {
  const std::vector<std::pair<std::function<void(Site&)>, DropReason>> cases = {
      {[](Site& s) { s.mute_advert = true; }, DropReason::kLateAdvert},
      {[](Site& s) { s.mute_shares = true; }, DropReason::kLateShares},
      {[](Site& s) { s.mute_input = true; }, DropReason::kLateInput},
  };
  for (const auto& [mute, reason] : cases) {
    World world(kFour);
    mute(world.site("gb"));
    world.ConnectAll();
    world.finish_sums_ = false;
    const JobId job = world.Submit(SomeSpec(1));
    world.AdvanceToDeadline();
    const JobView view = world.View(job);
    EXPECT_EQ(view.regions[3].dropped, reason);
    ASSERT_EQ(world.sums_.size(), 1u);
    world.FinishSum(world.sums_.front());
    EXPECT_EQ(world.View(job).rounds[0].missing, std::vector<SpiffeId>{world.site("gb").id});
  }
}

TEST(CoordinatorCoreTest, AFasterThresholdDoesNotWaitForALateAgreementOrUnmask) {
  World world(kFour);
  world.site("gb").mute_agreement = true;
  world.site("fr").mute_unmask = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  // fr and gb are in the sum; t = 3 of 4 signed, and 3 of 4 opened (gb got the bundle as well).
  EXPECT_EQ(world.View(job).rounds.size(), 1u);
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, AnAbortedAttemptIsTriedAgainWithANewNumberAfterABackoff) {
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.Lose(world.site("fr"));  // three sites are all or nothing
  EXPECT_EQ(world.View(job).rounds.size(), 0u);
  EXPECT_EQ(world.View(job).failure, AbortReason::kTooFewInputs);
  EXPECT_EQ(world.site("de").aborts.at(0).reason, AbortReason::kTooFewInputs);
  EXPECT_TRUE(world.open_.empty());
  world.site("fr").mute_input = false;
  world.Connect(world.site("fr"));
  EXPECT_EQ(world.View(job).rounds.size(), 0u) << "the backoff is not over";
  world.AdvanceToDeadline();
  const JobView view = world.View(job);
  ASSERT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds[0].id.attempt, 1u);
}

TEST(CoordinatorCoreTest, TheJobFailsWithAReasonWhenAllAttemptsAreSpent) {
  World world(kThree);
  world.site("fr").mute_shares = true;
  world.ConnectAll();
  policy::JobSpec spec = SomeSpec();
  spec.cohort.attempts_per_round = 2;
  const JobId job = world.Submit(spec);
  for (int i = 0; i < 3 && world.View(job).phase != JobPhase::kFailed; ++i) world.AdvanceToDeadline();
  const JobView view = world.View(job);
  ASSERT_EQ(view.phase, JobPhase::kFailed);
  EXPECT_EQ(view.failure, AbortReason::kAttemptsSpent);
  EXPECT_EQ(
      view.text,
      "round 0: all 2 attempts were aborted, the last because too few sites shared their secrets; fr/w1: "
      "sent no shares in time");
  EXPECT_EQ(world.site("de").offers.size(), 2u);
  EXPECT_EQ(world.site("de").ended.at(0).phase, JobPhase::kFailed);
  EXPECT_EQ(std::get<JobPhaseRecord>(world.journal_.back()).phase, JobPhase::kFailed);
}

TEST(CoordinatorCoreTest, AnAccusedSiteIsLeftOutOfTheNextAttempt) {
  World world(kFour);
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("de");
  const Complaint complaint{{job, 0, 0}, 1, 4, accuser.round->t1(), Complaint::Code::kCannotDecrypt};
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, complaint)));
  EXPECT_EQ(world.View(job).failure, AbortReason::kComplaint);
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.AdvanceToDeadline();
  EXPECT_EQ(world.site("gb").offers.size(), 1u);
  EXPECT_EQ(world.site("de").offers.size(), 2u);
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
}

/// Site `accuser` of the open attempt complains about site `accused`, both from 1.
Complaint About(Site& accuser, const AttemptId& id, SiteIndex site, SiteIndex accused) {
  return {id, site, accused, accuser.round->t1(), Complaint::Code::kCannotDecrypt};
}

TEST(CoordinatorCoreTest, AComplaintAndWhoIsLeftOutAreWrittenInOneTransaction) {
  World world(kFour);
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("de");
  const auto complaint = Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 4));
  auto fx = world.core_.OnWorkerEvent(accuser.id, complaint, world.clock_.Now());
  ASSERT_OK(fx);
  bool closed = false;
  std::map<SpiffeId, Blame> blames;
  for (const JournalRecord& record : fx->persist) {
    closed |= std::holds_alternative<AttemptClosedRecord>(record);
    if (const auto* blame = std::get_if<BlameRecord>(&record)) blames[blame->worker] = blame->blame;
  }
  EXPECT_TRUE(closed);
  EXPECT_EQ(blames, (std::map<SpiffeId, Blame>{{accuser.id, Blame::kAccuser},
                                               {world.site("gb").id, Blame::kExcluded}}));
}

TEST(CoordinatorCoreTest, AnAccusedSiteIsLeftOutAlsoWhenTheCoordinatorRestartsRightAfterTheComplaint) {
  World world(kFour);
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("de");
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 4))));
  world.Restart(SomeSpec(1), World::Log::kKept);
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.ConnectAll();
  world.Advance(Millis(60'000));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.site("gb").offers.size(), 1u) << "the accused was offered another attempt";
  EXPECT_EQ(world.View(job).rounds.at(0).survivors.size(), 3u);
}

TEST(CoordinatorCoreTest, WhoComplainsAgainAfterARestartSitsOutItself) {
  World world({"at", "de", "es", "fr", "gb"});
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("at");
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 5))));
  world.Restart(SomeSpec(1), World::Log::kKept);
  world.ConnectAll();
  ASSERT_TRUE(world.attempts_.contains({job, 0, 1}));
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 1}, 1, 4))));
  world.Restart(SomeSpec(1), World::Log::kKept);
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.ConnectAll();
  world.Advance(Millis(60'000));
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(accuser.offers.size(), 2u) << "the accuser of two may not remove a third";
  EXPECT_EQ(world.View(job).rounds.at(0).survivors.size(), 3u);
}

TEST(CoordinatorCoreTest, WhoWasLeftOutOfARoundTakesPartInTheNextAlsoAfterARestart) {
  World world(kFour);
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(2));
  Site& accuser = world.site("de");
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 4))));
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.finish_sums_ = false;
  world.AdvanceToDeadline();
  ASSERT_EQ(world.sums_.size(), 1u);
  world.site("gb").mute_input = true;
  world.FinishSum(world.sums_.front());  // round 0 is done, round 1 is open
  world.Restart(SomeSpec(2));
  world.site("gb").mute_input = false;
  world.finish_sums_ = true;
  world.ConnectAll();
  const JobView view = world.View(job);
  ASSERT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds.at(0).survivors.size(), 3u);
  EXPECT_EQ(view.rounds.at(1).survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, WithNobodyElseLeftTheAccusedIsTakenBackAndASecondComplaintLeavesItsAuthorOut) {
  for (const bool restart : {false, true}) {
    World world(kFour);
    const auto connect = [&world] {
      for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
    };
    for (auto& [id, site] : world.sites_) site->mute_input = true;
    connect();
    policy::JobSpec spec = SomeSpec(1);
    spec.cohort.attempts_per_round = 5;
    const JobId job = world.Submit(spec);
    world.AdvanceToDeadline();  // gb does not come
    Site& accuser = world.site("de");
    ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 3))));
    if (restart) {
      world.Restart(spec, World::Log::kKept);
      connect();
    }
    world.AdvanceToDeadline();
    ASSERT_TRUE(world.attempts_.contains({job, 0, 1})) << "one lie does not end a job";
    EXPECT_EQ(world.site("fr").offers.size(), 2u);
    ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 1}, 1, 2))));
    world.Advance(Millis(120'000));
    EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
    EXPECT_NE(world.View(job).text.find("left out: de for this job, after complaints"), std::string::npos)
        << world.View(job).text;
    // Another site of the liar's jurisdiction changes nothing; with another member it goes on.
    for (auto& [id, site] : world.sites_) site->mute_input = false;
    world.Connect(world.AddSite("de", "w2"));
    world.Advance(Millis(60'000));
    EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
    world.Connect(world.site("gb"));
    world.Advance(Millis(60'000));
    EXPECT_EQ(world.View(job).phase, JobPhase::kDone) << world.View(job).text;
    EXPECT_EQ(accuser.offers.size(), 2u);
  }
}

TEST(CoordinatorCoreTest, ComplaintsAreRememberedForTheWholeJobAndByJurisdiction) {
  for (const bool restart : {false, true}) {
    World world({"at", "de", "es", "fr", "gb"});
    world.AddSite("at", "w2");
    for (auto& [id, site] : world.sites_) site->mute_input = true;
    world.site("at", "w2").verdict = Verdict::kRefused;  // not in the first attempt
    world.ConnectAll();
    policy::JobSpec spec = SomeSpec(2);
    const JobId job = world.Submit(spec);
    Site& first = world.site("at");
    ASSERT_OK(world.Event(first, Sign(first.key, About(first, {job, 0, 0}, 1, 5))));
    for (auto& [id, site] : world.sites_) site->mute_input = false;
    world.finish_sums_ = false;
    world.AdvanceToDeadline();
    ASSERT_EQ(world.sums_.size(), 1u);
    // The next round, and the other site of the same jurisdiction.
    for (auto& [id, site] : world.sites_) site->mute_input = true;
    first.verdict = Verdict::kRefused;
    world.site("at", "w2").verdict = Verdict::kEligible;
    JobAnswer answer;
    answer.job = job;
    answer.verdict = Verdict::kRefused;
    ASSERT_OK(world.Event(first, answer));
    answer.verdict = Verdict::kEligible;
    ASSERT_OK(world.Event(world.site("at", "w2"), answer));
    world.FinishSum(world.sums_.front());
    if (restart) {
      world.Restart(spec);
      world.ConnectAll();
    }
    const AttemptId open{job, 1, restart ? 1u : 0u};
    Site& second = world.site("at", "w2");
    ASSERT_EQ(second.offers.back(), open);
    ASSERT_OK(world.Event(second, Sign(second.key, About(second, open, 1, 4))));
    world.finish_sums_ = true;
    world.sums_.clear();
    for (auto& [id, site] : world.sites_) site->mute_input = false;
    first.verdict = Verdict::kEligible;
    world.Connect(first);
    world.Advance(Millis(60'000));
    ASSERT_EQ(world.View(job).phase, JobPhase::kDone);
    EXPECT_EQ(world.View(job).rounds.at(1).survivors.size(), 4u) << "fr, the second accused, was not removed";
    EXPECT_EQ(second.offers.back(), open);
  }
}

TEST(CoordinatorCoreTest, WhoIsAccusedByTwoJurisdictionsIsLeftOutAndNotItsAccusers) {
  World world({"at", "de", "es", "fr", "gb"});
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(2));
  Site& at = world.site("at");
  ASSERT_OK(world.Event(at, Sign(at.key, About(at, {job, 0, 0}, 1, 5))));
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.finish_sums_ = false;
  world.AdvanceToDeadline();
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  ASSERT_EQ(world.sums_.size(), 1u);
  world.FinishSum(world.sums_.front());
  world.sums_.clear();
  Site& de = world.site("de");
  ASSERT_OK(world.Event(de, Sign(de.key, About(de, {job, 1, 0}, 2, 5))));
  for (auto& [id, site] : world.sites_) site->mute_input = false;
  world.finish_sums_ = true;
  world.AdvanceToDeadline();
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds.at(1).survivors.size(), 4u);
  EXPECT_EQ(world.site("gb").offers.size(), 2u);
}

// ---- Certificates that run out while their workers are connected.

/// A certificate that holds for `ms` more than an attempt of SomeSpec that begins now needs.
void CertifyFor(World& world, Site& site, int64_t ms) {
  const Instant now = world.clock_.Now();
  world.peers_.Certify(site.id, Instant(), now + Millis(140'000) + kClockSkew + Millis(ms));
}

TEST(CoordinatorCoreTest, ARegionWhoseCertificateRunsOutDuringAnAttemptIsLeftOutByNameAndTheOthersGoOn) {
  for (const int64_t ms : {0, 1}) {
    World world(kFour);
    CertifyFor(world, world.site("gb"), ms);
    world.ConnectAll();
    world.finish_sums_ = false;
    const JobId job = world.Submit(SomeSpec(1));
    EXPECT_EQ(world.site("gb").offers.size(), ms == 0 ? 0u : 1u);
    if (ms != 0) continue;
    ASSERT_EQ(world.sums_.size(), 1u) << world.View(job).text;
    EXPECT_EQ(world.View(job).regions[3].dropped, DropReason::kCertificate);
    EXPECT_TRUE(world.Noted("goes on without gb/w1, which must renew its certificate"));
    world.FinishNextSum();
    EXPECT_EQ(world.View(job).rounds.at(0).missing, std::vector<SpiffeId>{world.site("gb").id});
  }
}

TEST(CoordinatorCoreTest, ACertificateThatRunsOutBetweenTwoRoundsDoesNotStopTheJob) {
  for (const int64_t passed : {200'000, 30'000}) {  // after 30 s nobody has looked again before the offer
    World world(kFour);
    CertifyFor(world, world.site("gb"), passed - 10'000);
    world.ConnectAll();
    world.finish_sums_ = false;
    const JobId job = world.Submit(SomeSpec(2));
    EXPECT_EQ(world.site("gb").offers.size(), 1u);
    world.Advance(Millis(passed));
    world.finish_sums_ = true;
    world.FinishNextSum();
    if (world.View(job).phase != JobPhase::kDone) world.AdvanceToDeadline();
    const JobView view = world.View(job);
    ASSERT_EQ(view.phase, JobPhase::kDone) << view.text;
    EXPECT_EQ(view.rounds[0].survivors.size(), 4u);
    EXPECT_EQ(view.rounds[1].survivors.size(), 3u);
    EXPECT_EQ(view.rounds[1].id.attempt, 0u) << "no attempt is spent on it";
  }
}

TEST(CoordinatorCoreTest, AJobThatWaitsForACertificateSaysWhoseAndGoesOnWithAFreshOne) {
  World world(kThree);
  CertifyFor(world, world.site("fr"), 0);
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_EQ(world.View(job).text,
            "2 of at least 3 regions are connected and eligible; left out: fr/w1 until its certificate is "
            "renewed and its worker restarted");
  for (int i = 0; i < 3; ++i) world.AdvanceToDeadline();
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  world.Lose(world.site("fr"));
  world.peers_.Certify(world.site("fr").id, Instant(), Instant::max());
  world.Connect(world.site("fr"));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone) << world.View(job).text;
}

TEST(CoordinatorCoreTest, ACertificateThatDoesNotHoldYetIsWaitedForWithoutAnyEvent) {
  World world(kThree);
  const Instant begin = world.clock_.Now() + Millis(90'000);
  world.peers_.Certify(world.site("fr").id, begin, Instant::max());
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  for (int i = 0; i < 10 && world.View(job).phase != JobPhase::kDone; ++i) world.AdvanceToDeadline();
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone) << world.View(job).text;
  EXPECT_GE(world.clock_.Now(), begin + kClockSkew) << "a worker with a slow clock would not have taken it";
  EXPECT_LT(world.clock_.Now(), begin + kClockSkew + Millis(60'000));
}

// ---- Silence that others have paid for.

const std::vector<std::string> kFive = {"at", "de", "es", "fr", "gb"};

TEST(CoordinatorCoreTest, ASiteThatIsSilentAfterItsUploadSitsOutTheRoundAndTheSecondTimeTheJob) {
  for (const bool restart : {false, true}) {
    World world(kFive);
    world.finish_sums_ = false;
    const policy::JobSpec spec = SomeSpec(3);
    const auto mute = [&](std::vector<const char*> who, bool muted) {
      for (const char* j : who) world.site(j).mute_agreement = muted;
    };
    const auto next_attempt = [&] {
      if (restart) {
        world.Restart(spec, World::Log::kKept);
        world.ConnectAll();
      }
      world.Advance(Millis(60'000));
    };
    mute({"fr", "gb"}, true);
    world.ConnectAll();
    const JobId job = world.Submit(spec);
    world.AdvanceToDeadline();  // three of five agree, four are needed
    ASSERT_EQ(world.View(job).failure, AbortReason::kTooFewAgreements);
    mute({"fr", "gb"}, false);
    next_attempt();
    ASSERT_EQ(world.sums_.size(), 1u) << world.View(job).text;
    EXPECT_EQ(world.sums_.front(), (AttemptId{job, 0, 1}));
    EXPECT_EQ(world.site("gb").offers.size(), 1u);
    EXPECT_EQ(world.View(job).regions[4].dropped, DropReason::kLeftOut);
    mute({"es", "gb"}, true);
    world.FinishNextSum();  // the next round begins with all of them
    EXPECT_EQ(world.site("gb").offers.size(), 2u) << "a silence may be the network's";
    world.AdvanceToDeadline();
    ASSERT_EQ(world.View(job).failure, AbortReason::kTooFewAgreements);
    mute({"es", "gb"}, false);
    next_attempt();
    ASSERT_EQ(world.sums_.size(), 1u) << world.View(job).text;
    world.FinishNextSum();
    ASSERT_EQ(world.sums_.size(), 1u);
    world.FinishNextSum();
    const JobView view = world.View(job);
    ASSERT_EQ(view.phase, JobPhase::kDone) << view.text;
    EXPECT_EQ(world.site("gb").offers.size(), 2u) << "it has cost the others enough";
    EXPECT_EQ(view.rounds.at(1).survivors.size(), 3u) << "without es in this round, and without gb";
    EXPECT_EQ(view.rounds.at(2).survivors.size(), 4u) << "with es again";
    EXPECT_TRUE(world.Noted("gb is left out of the rest of the job"));
    EXPECT_FALSE(world.Noted("es is left out of the rest of the job"));
  }
}

TEST(CoordinatorCoreTest, OfThreeSitesASilentOneCostsTheOthersTwoAttemptsOfAJobAndNoMore) {
  for (const bool restart : {false, true}) {
    World world(kThree);
    world.site("fr").mute_unmask = true;
    policy::JobSpec spec = SomeSpec(1);
    spec.cohort.attempts_per_round = 8;
    world.ConnectAll();
    const JobId job = world.Submit(spec);
    world.AdvanceToDeadline();
    ASSERT_EQ(world.View(job).failure, AbortReason::kTooFewUnmasks);
    world.AdvanceToDeadline();
    EXPECT_EQ(world.site("fr").offers.size(), 2u) << "three are all or nothing: it is taken back";
    EXPECT_TRUE(world.Noted("taken back, as too few are left: fr/w1"));
    if (restart) {
      world.Restart(spec, World::Log::kKept);
      world.ConnectAll();
    }
    world.Advance(Millis(60'000));  // the unmask step's end, and what follows
    world.Advance(Millis(60'000));
    const JobView view = world.View(job);
    EXPECT_EQ(view.phase, JobPhase::kFailed) << "two jurisdictions are never enough";
    EXPECT_EQ(view.failure, AbortReason::kCohortTooSmall);
    EXPECT_EQ(
        view.text,
        "round 0: too few of the invited jurisdictions are left; left out: fr for this job, whose silence "
        "cost others too often");
    EXPECT_EQ(world.site("de").offers.size(), 2u);
  }
}

TEST(CoordinatorCoreTest, WhoIsLeftOutForItsSilenceIsSoWithAllItsSitesAndTheJobWaitsForOthers) {
  World world(kFour);
  world.site("fr").mute_unmask = true;
  policy::JobSpec spec = SomeSpec(1);
  spec.cohort.attempts_per_round = 8;
  for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
  const JobId job = world.Submit(spec);
  for (int i = 0; i < 4; ++i) world.AdvanceToDeadline();  // gb does not come; two attempts and a pause
  world.Connect(world.AddSite("fr", "w2"));
  world.Advance(Millis(600'000));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_EQ(
      world.View(job).text,
      "2 of at least 3 regions are connected and eligible; left out: fr for this job, whose silence cost "
      "others too often");
  EXPECT_EQ(world.site("de").offers.size(), 2u);
  world.Connect(world.site("gb"));
  world.Advance(Millis(60'000));
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone) << world.View(job).text;
  EXPECT_TRUE(world.site("fr", "w2").offers.empty());
}

TEST(CoordinatorCoreTest, WhoDoesNotUploadWhenTheOthersHaveMayDoSoTwiceInTenRounds) {
  World world(kThree);
  world.site("fr").mute_input = true;
  policy::JobSpec spec = SomeSpec(1);
  spec.cohort.attempts_per_round = 8;
  world.ConnectAll();
  const JobId job = world.Submit(spec);
  for (int i = 0; i < 5; ++i) world.AdvanceToDeadline();  // three attempts, two pauses
  world.Advance(Millis(600'000));
  EXPECT_EQ(world.View(job).failure, AbortReason::kCohortTooSmall) << world.View(job).text;
  EXPECT_EQ(world.site("de").offers.size(), 3u);
  EXPECT_TRUE(world.Noted("fr is left out of the rest of the job"));
}

TEST(CoordinatorCoreTest, MissedUploadsOfLongAgoAreForgotten) {
  World world(kThree);
  world.finish_sums_ = false;
  const policy::JobSpec spec = SomeSpec(25);
  Site& fr = world.site("fr");
  fr.mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(spec);
  for (uint32_t round = 0; round < 25; ++round) {
    if (fr.mute_input) {
      world.AdvanceToDeadline();
      ASSERT_EQ(world.View(job).failure, AbortReason::kTooFewInputs) << round;
      fr.mute_input = false;
      world.AdvanceToDeadline();
    }
    ASSERT_EQ(world.sums_.size(), 1u) << round << world.View(job).text;
    fr.mute_input = (round + 1) % 5 == 0;  // in rounds 5, 10, 15 and 20
    world.FinishNextSum();
  }
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.Blames().size(), 5u);
  for (const BlameRecord& blame : world.Blames()) EXPECT_EQ(blame.blame, Blame::kLate);
}

TEST(CoordinatorCoreTest, WhenMostAreSilentNobodyIsBlamed) {
  World world(kFour);
  for (const char* j : {"es", "fr", "gb"}) world.site(j).mute_agreement = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.AdvanceToDeadline();
  ASSERT_EQ(world.View(job).failure, AbortReason::kTooFewAgreements);
  EXPECT_TRUE(world.Blames().empty()) << "it is the coordinator's own line";
  for (auto& [id, site] : world.sites_) site->mute_agreement = false;
  world.AdvanceToDeadline();
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, ASilenceIsWrittenInTheTransactionThatEndsTheAttempt) {
  World world(kThree);
  world.site("fr").mute_agreement = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.clock_.Set(*world.deadline_);
  const CoreEffects fx = world.core_.OnTimer(world.clock_.Now());
  bool closed = false;
  std::vector<BlameRecord> blames;
  for (const JournalRecord& record : fx.persist) {
    closed |= std::holds_alternative<AttemptClosedRecord>(record);
    if (const auto* blame = std::get_if<BlameRecord>(&record)) blames.push_back(*blame);
  }
  EXPECT_TRUE(closed);
  ASSERT_EQ(blames.size(), 1u);
  EXPECT_EQ(blames[0].id, (AttemptId{job, 0, 0}));
  EXPECT_EQ(blames[0].worker, world.site("fr").id);
  EXPECT_EQ(blames[0].blame, Blame::kSilent);
}

TEST(CoordinatorCoreTest, AConvictionOnRecordLeavesTheJurisdictionOutOfTheJobAlsoOneOfAnEarlierVersion) {
  for (const Blame blame : {Blame::kLeftOut, Blame::kExcluded}) {
    World world(kFour);
    world.finish_sums_ = false;
    world.ConnectAll();
    const JobId job = world.Submit(SomeSpec(3));
    world.FinishNextSum();
    world.journal_.push_back(BlameRecord{{job, 0, 0}, world.site("gb").id, blame});
    world.Restart(SomeSpec(3));
    world.finish_sums_ = true;
    world.ConnectAll();
    world.Advance(Millis(60'000));
    const JobView view = world.View(job);
    ASSERT_EQ(view.phase, JobPhase::kDone) << view.text;
    EXPECT_EQ(world.site("gb").offers.size(), 2u) << "of before the restart";
    EXPECT_EQ(view.rounds.at(2).survivors.size(), 3u);
  }
}

TEST(CoordinatorCoreTest, AComplaintAfterItsTimeCountsAsADropoutOfTheOneWhoComplains) {
  World world(kFour);
  for (auto& [id, site] : world.sites_) site->mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("de");
  world.Advance(Millis(10'001));  // longer than the step before it
  ASSERT_OK(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 4))));
  EXPECT_EQ(world.View(job).failure, AbortReason::kNone) << "the attempt goes on";
  EXPECT_EQ(world.View(job).regions[0].dropped, DropReason::kProtocolViolation);
  EXPECT_EQ(world.site("gb").aborts.size(), 0u);
}

TEST(CoordinatorCoreTest, WhoHasUploadedCannotComplain) {
  World world(kFour);
  world.site("gb").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& accuser = world.site("de");
  EXPECT_FALSE(world.Event(accuser, Sign(accuser.key, About(accuser, {job, 0, 0}, 1, 4))).ok());
  EXPECT_EQ(world.View(job).failure, AbortReason::kNone);
  world.Lose(world.site("gb"));
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds.at(0).survivors.size(), 3u) << "its upload stays in the sum";
}

TEST(CoordinatorCoreTest, AnAbortedAttemptNamesWhatEachSiteSaid) {
  const std::map<uint32_t, std::string> said{{1, "its trainer failed"},
                                             {6, "it withdrew"},
                                             {9, "its operator paused the job"},
                                             {10, "its operator denied the job"}};
  for (const auto& [code, reason] : said) {
    World world(kThree);
    world.site("fr").mute_input = true;
    world.ConnectAll();
    const JobId job = world.Submit(SomeSpec(1));
    world.finish_sums_ = false;
    ASSERT_OK(world.Event(world.site("fr"), Dropout{{job, 0, 0}, code, 0}));
    EXPECT_EQ(world.View(job).text.substr(0, 200),
              "attempt 1 was aborted: too few sites uploaded; fr/w1: " + reason);
  }
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.Lose(world.site("fr"));
  EXPECT_NE(world.View(job).text.find("fr/w1: disconnected"), std::string::npos) << world.View(job).text;
}

TEST(CoordinatorCoreTest, ARestartTriesTheOpenRoundAgainUnderAGreaterNumber) {
  World world(kThree);
  world.ConnectAll();
  world.finish_sums_ = false;
  const JobId job = world.Submit(SomeSpec(2));
  world.FinishSum(world.sums_.front());  // round 0 is done, round 1 is open
  ASSERT_TRUE(world.attempts_.contains({job, 1, 0}));
  world.Restart(SomeSpec(2));
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_EQ(world.View(job).rounds.size(), 1u);
  world.finish_sums_ = true;
  world.ConnectAll();
  const JobView view = world.View(job);
  EXPECT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds[1].id, (AttemptId{job, 1, 1}));
  EXPECT_EQ(view.rounds[1].parent, view.rounds[0].adapter);
}

TEST(CoordinatorCoreTest, ARestartGoesOnWithTheOpenAttemptWhereItsLogLeavesIt) {
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  ASSERT_EQ(world.View(job).step, 5u);
  world.Restart(SomeSpec(1), World::Log::kKept);
  EXPECT_EQ(world.View(job).phase, JobPhase::kRunning);
  EXPECT_EQ(world.View(job).step, 5u);
  EXPECT_EQ((world.accepted_.at({job, 0, 0}).size()), 2u) << "two had uploaded, and need not again";
  EXPECT_TRUE(world.open_.contains({{job, 0, 0}, world.site("fr").id}));
  world.site("fr").mute_input = false;
  world.ConnectAll();
  const JobView view = world.View(job);
  EXPECT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds[0].id, (AttemptId{job, 0, 0}));
  EXPECT_EQ(view.rounds[0].survivors.size(), 3u);
}

TEST(CoordinatorCoreTest, AfterARestartTheSurvivorsAreThoseThatWereFixedBefore) {
  World world(kFour);
  world.site("gb").mute_input = true;
  for (const char* j : {"de", "es"}) world.site(j).mute_agreement = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.Lose(world.site("gb"));
  ASSERT_EQ(world.View(job).step, 7u);
  const auto survivors = [&] {
    std::vector<std::vector<SpiffeId>> all;
    for (const JournalRecord& r : world.journal_)
      if (const auto* s = std::get_if<SurvivorsRecord>(&r)) all.push_back(s->survivors);
    return all;
  };
  ASSERT_EQ(survivors().size(), 1u);
  world.Restart(SomeSpec(1), World::Log::kKept);
  for (const char* j : {"de", "es"}) world.site(j).mute_agreement = false;
  world.site("gb").mute_input = false;
  world.ConnectAll();
  EXPECT_EQ(survivors().size(), 1u) << "a second U3 would open two sums";
  const JobView view = world.View(job);
  EXPECT_EQ(view.phase, JobPhase::kDone);
  EXPECT_EQ(view.rounds[0].survivors, survivors()[0]);
}

TEST(CoordinatorCoreTest, AnAttemptWhoseWorkersDoNotComeBackAfterARestartIsTriedAgain) {
  World world(kFour);
  world.site("gb").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.Restart(SomeSpec(1), World::Log::kKept);
  for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
  ASSERT_EQ(world.View(job).step, 5u) << "the fourth has a while to come back";
  world.Advance(Millis(30'000));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 3u);
}

TEST(CoordinatorCoreTest, ADamagedLogCostsTheAttemptAndNothingElse) {
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  for (JournalRecord& r : world.journal_)
    if (auto* record = std::get_if<AttemptLogRecord>(&r)) record->record[record->record.size() / 2] ^= 1;
  world.Restart(SomeSpec(1), World::Log::kKept);
  EXPECT_EQ(world.View(job).phase, JobPhase::kWaiting);
  EXPECT_TRUE(std::holds_alternative<AttemptClosedRecord>(world.journal_.back()));
  world.site("fr").mute_input = false;
  world.ConnectAll();
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds[0].id, (AttemptId{job, 0, 1}));
}

TEST(CoordinatorCoreTest, ARestartAfterTheLastAllowedAttemptFailsTheJob) {
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  policy::JobSpec spec = SomeSpec();
  spec.cohort.attempts_per_round = 1;
  const JobId job = world.Submit(spec);
  world.Restart(spec);
  world.ConnectAll();
  EXPECT_EQ(world.View(job).phase, JobPhase::kFailed);
  EXPECT_NE(world.View(job).text.find("the coordinator was restarted"), std::string::npos);
}

TEST(CoordinatorCoreTest, AJobThatEndedStaysEndedAfterARestart) {
  World world(kThree);
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.Restart(SomeSpec(1));
  for (auto& [id, site] : world.sites_) site->notices.clear();
  world.ConnectAll();
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_TRUE(world.site("de").notices.empty());
}

TEST(CoordinatorCoreTest, AWorkerThatReconnectsGetsTheMessageOfTheOpenStepAgain) {
  World world(kFour);
  world.site("gb").mute_advert = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  world.site("gb").mute_advert = false;
  world.site("gb").offers.clear();
  // A second session replaces the first.
  world.Connect(world.site("gb"));
  EXPECT_EQ(world.site("gb").offers.size(), 1u);
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 4u);
}

TEST(CoordinatorCoreTest, AStepWaitsAWhileForAConnectionThatBrokeAndNoLonger) {
  World world(kFour, {}, Millis(15'000));
  world.site("gb").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  // It comes back in time, and is a survivor.
  auto round = std::move(world.site("gb").round);
  world.Lose(world.site("gb"));
  world.Advance(Millis(14'999));
  EXPECT_EQ(world.View(job).rounds.size(), 0u);
  world.site("gb").round = std::move(round);
  world.Connect(world.site("gb"));
  world.Advance(Millis(20'000));
  EXPECT_EQ(world.View(job).rounds.size(), 0u) << "a site that is back is waited for until the deadline";
  // Gone again, and for good.
  world.Lose(world.site("gb"));
  world.AdvanceToDeadline();
  ASSERT_EQ(world.View(job).rounds.size(), 1u);
  EXPECT_EQ(world.View(job).rounds[0].missing, std::vector<SpiffeId>{world.site("gb").id});
}

TEST(CoordinatorCoreTest, AWorkerThatSaysThatItGoesIsNotWaitedForAtAll) {
  World world(kFour, {}, Millis(15'000));
  world.site("gb").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  ASSERT_OK(world.Event(world.site("gb"), Dropout{{job, 0, 0}, 8, 0}));
  world.Lose(world.site("gb"));
  EXPECT_EQ(world.View(job).rounds.size(), 1u);
}

TEST(CoordinatorCoreTest, AnUploadThatIsNotWhatItsHeaderSaysDropsTheSite) {
  World world(kFour);
  world.site("gb").mute_input = true;
  world.ConnectAll();
  world.finish_sums_ = false;
  const JobId job = world.Submit(SomeSpec(1));
  world.Upload(world.site("gb"), H("other bytes"));
  EXPECT_EQ(world.View(job).regions[3].dropped, DropReason::kBadUpload);
  EXPECT_EQ(world.accepted_.at({job, 0, 0}).size(), 3u);
  ASSERT_EQ(world.sums_.size(), 1u);
}

TEST(CoordinatorCoreTest, ADropoutIsNotWaitedForAndItsReasonIsShown) {
  World world(kFour);
  world.site("gb").mute_input = true;
  world.ConnectAll();
  world.finish_sums_ = false;
  const JobId job = world.Submit(SomeSpec(1));
  ASSERT_OK(world.Event(world.site("gb"), Dropout{{job, 0, 0}, 3, 0}));
  EXPECT_EQ(world.View(job).regions[3].dropped, DropReason::kBudgetSpent);
  EXPECT_EQ(world.sums_.size(), 1u);
}

TEST(CoordinatorCoreTest, RefusedEventsChangeNothing) {
  World world(kFour);
  world.site("gb").mute_advert = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  Site& de = world.site("de");
  const Advert advert{{job, 0, 0}, 4, {}, {}, {}, {}, {}};
  EXPECT_THAT(world.Event(de, Sign(de.key, advert)),
              HasStatus(StatusCode::kPermissionDenied, "spoke as site 4"));
  const Advert stale{{job, 0, 7}, 1, {}, {}, {}, {}, {}};
  EXPECT_THAT(world.Event(de, Sign(de.key, stale)),
              HasStatus(StatusCode::kFailedPrecondition, "open attempt"));
  const Advert unknown{{H("other"), 0, 0}, 1, {}, {}, {}, {}, {}};
  EXPECT_THAT(world.Event(de, Sign(de.key, unknown)), HasStatus(StatusCode::kNotFound, "no job"));
  EXPECT_THAT(world.Event(de, Dropout{{job, 0, 0}, 99, 0}), HasStatus(StatusCode::kInvalidArgument, "99"));
  EXPECT_THAT(world.Event(de, JobAnswer{H("other"), Verdict::kEligible, {}}),
              HasStatus(StatusCode::kNotFound, ""));
  EXPECT_THAT(world.core_.OnSumFinished({{job, 0, 0}, {}, {}, {}, 0, 0}, world.clock_.Now()),
              HasStatus(StatusCode::kFailedPrecondition, "waits for no sum"));
  Site stranger{*SpiffeId::Make("it", Role::kWorker, "w1"), crypto::SigningKey::Generate(world.random_)};
  EXPECT_THAT(world.core_.OnWorkerEvent(stranger.id, Dropout{}, world.clock_.Now()),
              HasStatus(StatusCode::kFailedPrecondition, "not connected"));
  EXPECT_EQ(world.View(job).step, 1u);
  EXPECT_EQ(world.View(job).regions[0].dropped, DropReason::kNone);
}

TEST(CoordinatorCoreTest, AWorkerOfAJurisdictionThatIsNotInvitedHearsNothingOfTheJob) {
  World world(kFour);
  world.ConnectAll();
  policy::JobSpec spec = SomeSpec(1);
  spec.cohort.jurisdictions = {"de", "es", "fr"};
  const JobId job = world.Submit(spec);
  EXPECT_TRUE(world.site("gb").notices.empty());
  EXPECT_THAT(world.Event(world.site("gb"), JobAnswer{job, Verdict::kEligible, {}}),
              HasStatus(StatusCode::kPermissionDenied, "does not invite"));
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
}

TEST(CoordinatorCoreTest, ASecondSiteOfOneJurisdictionThatWouldMakeTheCoalitionTooLargeStaysOut) {
  World world(kThree);
  world.AddSite("de", "w2");
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  ASSERT_EQ(world.View(job).phase, JobPhase::kDone) << world.View(job).text;
  EXPECT_EQ(world.View(job).rounds[0].survivors.size(), 3u);
}

TEST(CoordinatorCoreTest, SubmitRefusesAnotherCharterAStrangerAndATooLongVector) {
  World world(kThree, CoreLimits{.max_jobs = 1, .max_vector_elements = 50});
  policy::JobSpec spec = SomeSpec();
  spec.charter = H("another");
  EXPECT_THAT(world.core_.OnSubmit(world.Record("a"), spec, world.clock_.Now()),
              HasStatus(StatusCode::kPermissionDenied, "charter"));
  spec = SomeSpec();
  spec.cohort.jurisdictions = {"de", "es", "it"};
  EXPECT_THAT(world.core_.OnSubmit(world.Record("a"), spec, world.clock_.Now()),
              HasStatus(StatusCode::kInvalidArgument, "it, which is no member"));
  spec = SomeSpec();
  spec.adapter.rank = 4;
  EXPECT_THAT(world.core_.OnSubmit(world.Record("a"), spec, world.clock_.Now()),
              HasStatus(StatusCode::kResourceExhausted, "at most 50"));
  spec.adapter.method = LoraMethod::kFfa;  // 34 elements travel, the adapter has 64
  EXPECT_THAT(world.core_.OnSubmit(world.Record("a"), spec, world.clock_.Now()),
              HasStatus(StatusCode::kResourceExhausted, "an adapter of 64 elements"));
  EXPECT_TRUE(world.core_.Jobs().empty());
}

TEST(CoordinatorCoreTest, SubmitTwiceIsAlreadyExistsAndTooManyJobsAreRefused) {
  World world(kThree, CoreLimits{.max_jobs = 1});
  world.Submit(SomeSpec(), "a");
  EXPECT_THAT(world.core_.OnSubmit(world.Record("a"), SomeSpec(), world.clock_.Now()),
              HasStatus(StatusCode::kAlreadyExists, ""));
  EXPECT_THAT(world.core_.OnSubmit(world.Record("b"), SomeSpec(), world.clock_.Now()),
              HasStatus(StatusCode::kResourceExhausted, "1 jobs"));
}

TEST(CoordinatorCoreTest, CancelEndsTheAttemptAndOnlyTheSubmittersJurisdictionMay) {
  World world(kThree);
  world.site("fr").mute_input = true;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec());
  const SpiffeId stranger = *SpiffeId::Make("fr", Role::kOperator, "luc");
  EXPECT_THAT(world.core_.OnCancel(job, stranger, world.clock_.Now()),
              HasStatus(StatusCode::kPermissionDenied, "only operators of de"));
  EXPECT_EQ(world.View(job).phase, JobPhase::kRunning);
  const SpiffeId colleague = *SpiffeId::Make("de", Role::kOperator, "bert");
  auto fx = world.core_.OnCancel(job, colleague, world.clock_.Now());
  ASSERT_OK(fx);
  world.Take(std::move(*fx));
  EXPECT_EQ(world.View(job).phase, JobPhase::kCancelled);
  EXPECT_EQ(world.site("de").aborts.at(0).reason, AbortReason::kCancelled);
  EXPECT_EQ(world.site("de").ended.at(0).phase, JobPhase::kCancelled);
  EXPECT_TRUE(world.open_.empty());
  EXPECT_THAT(world.core_.OnCancel(job, colleague, world.clock_.Now()),
              HasStatus(StatusCode::kFailedPrecondition, "has ended"));
}

TEST(CoordinatorCoreTest, AWorkerTakesPartInOneAttemptAtATimeAndJobsTakeTurns) {
  World world(kThree);
  world.finish_sums_ = false;
  world.ConnectAll();
  const JobId a = world.Submit(SomeSpec(2), "a");
  const JobId b = world.Submit(SomeSpec(2), "b");
  EXPECT_TRUE(world.attempts_.contains({a, 0, 0}));
  EXPECT_FALSE(world.attempts_.contains({b, 0, 0}));
  const auto finish = [&] {
    const AttemptId id = world.sums_.front();
    world.sums_.pop_front();
    world.FinishSum(id);
  };
  finish();
  EXPECT_TRUE(world.attempts_.contains({b, 0, 0})) << "the job that waited comes first";
  EXPECT_FALSE(world.attempts_.contains({a, 1, 0}));
  finish();
  EXPECT_TRUE(world.attempts_.contains({a, 1, 0}));
  finish();
  finish();
  EXPECT_EQ(world.View(a).phase, JobPhase::kDone);
  EXPECT_EQ(world.View(b).phase, JobPhase::kDone);
}

TEST(CoordinatorCoreTest, AFailedSumAbortsTheAttemptAndItIsTriedAgain) {
  World world(kThree);
  world.finish_sums_ = false;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  auto fx = world.core_.OnSumFailed({job, 0, 0}, world.clock_.Now());
  ASSERT_OK(fx);
  world.Take(std::move(*fx));
  EXPECT_EQ(world.site("de").aborts.at(0).reason, AbortReason::kSumFailed);
  world.finish_sums_ = true;
  world.sums_.clear();
  world.AdvanceToDeadline();
  EXPECT_EQ(world.View(job).phase, JobPhase::kDone);
}

TEST(CoordinatorCoreTest, APlanGathersAnswersAndRegistersNothing) {
  World world(kFour);
  world.site("es").verdict = Verdict::kRefused;
  for (const char* j : {"de", "es", "fr"}) world.Connect(world.site(j));
  policy::SignedJob signed_job;
  signed_job.file = "plan me";
  auto fx = world.core_.OnPlan(H("q"), signed_job, H("plan me"), SomeSpec(),
                               world.clock_.Now() + Millis(5000), world.clock_.Now());
  ASSERT_OK(fx);
  world.Take(std::move(*fx));
  ASSERT_EQ(world.plans_.size(), 1u);
  const PlanOutcome& plan = world.plans_[0];
  ASSERT_EQ(plan.regions.size(), 4u);
  EXPECT_EQ(plan.regions[0].answer.verdict, Verdict::kEligible);
  EXPECT_EQ(plan.regions[1].answer.verdict, Verdict::kRefused);
  EXPECT_EQ(plan.regions[3].worker, "spiffe://gb");
  EXPECT_FALSE(plan.regions[3].connected);
  EXPECT_FALSE(plan.can_start);
  EXPECT_TRUE(world.site("de").notices.at(0).plan_only);
  EXPECT_TRUE(world.core_.Jobs().empty());
}

TEST(CoordinatorCoreTest, APlanEndsAtItsDeadlineWithTheAnswersThatCame) {
  World world(kThree);
  world.answers_ = false;
  world.ConnectAll();
  policy::SignedJob signed_job;
  auto fx = world.core_.OnPlan(H("q"), signed_job, H("p"), SomeSpec(), world.clock_.Now() + Millis(5000),
                               world.clock_.Now());
  ASSERT_OK(fx);
  world.Take(std::move(*fx));
  ASSERT_OK(world.Event(world.site("de"), JobAnswer{H("p"), Verdict::kEligible, {}}));
  EXPECT_TRUE(world.plans_.empty());
  world.AdvanceToDeadline();
  ASSERT_EQ(world.plans_.size(), 1u);
  EXPECT_EQ(world.plans_[0].regions[0].answer.verdict, Verdict::kEligible);
  EXPECT_EQ(world.plans_[0].regions[1].answer.verdict, Verdict::kNone);
}

TEST(CoordinatorCoreTest, AnEvaluationGathersOneCellFromEachRegion) {
  World world(kThree);
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  const EvaluationRequest request{H("q"), job, {Digest{}, world.View(job).adapter}, 10, 0};
  auto fx = world.core_.OnEvaluate(request, world.clock_.Now() + Millis(5000), world.clock_.Now());
  ASSERT_OK(fx);
  world.Take(std::move(*fx));
  ASSERT_EQ(world.site("de").evaluations.size(), 1u);
  EXPECT_EQ(world.site("de").evaluations[0].round, 1u);
  ASSERT_OK(world.Event(world.site("de"), EvaluationCell{H("q"), 1, {5, 6}, 0, 0.5}));
  ASSERT_OK(world.Event(world.site("es"), EvaluationCell{H("q"), 2, {}, 803, 0}));
  EXPECT_THAT(world.Event(world.site("de"), EvaluationCell{H("q"), 1, {9, 9}, 0, 0.5}),
              HasStatus(StatusCode::kFailedPrecondition, "has answered"));
  EXPECT_THAT(world.Event(world.site("fr"), EvaluationCell{H("x"), 1, {}, 0, 0}),
              HasStatus(StatusCode::kNotFound, ""));
  world.AdvanceToDeadline();
  ASSERT_EQ(world.evaluations_.size(), 1u);
  const auto& rows = world.evaluations_[0].rows;
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].cell.values, (std::vector<int64_t>{5, 6}));
  EXPECT_EQ(rows[1].cell.rule, 803u);
  EXPECT_EQ(rows[2].cell.state, 0u);
}

TEST(CoordinatorCoreTest, AnEvaluationOfAnAdapterThatIsNotTheJobsIsRefused) {
  World world(kThree);
  const JobId job = world.Submit(SomeSpec(1));
  EXPECT_THAT(
      world.core_.OnEvaluate({H("q"), job, {H("foreign")}, 10, 0}, world.clock_.Now(), world.clock_.Now()),
      HasStatus(StatusCode::kNotFound, "has no adapter"));
}

TEST(CoordinatorCoreTest, TooManyWorkersAreRefused) {
  World world(kThree, CoreLimits{.max_workers = 2});
  world.Connect(world.site("de"));
  world.Connect(world.site("es"));
  const Site& fr = world.site("fr");
  EXPECT_THAT(
      world.core_.OnWorkerConnected({fr.id, fr.key.Public().KeyHash(), World::Chain(fr)}, world.clock_.Now()),
      HasStatus(StatusCode::kResourceExhausted, "2 workers"));
  world.Connect(world.site("de"));  // a second session of one that is known is no further worker
  EXPECT_EQ(world.core_.Connected().size(), 2u);
}

TEST(CoordinatorCoreTest, OneMemberCannotTakeTheOthersPlaces) {
  World world(kThree, CoreLimits{.max_workers = 7});
  world.Connect(world.site("fr"));
  world.Connect(world.AddSite("fr", "w2"));
  const Site& third = world.AddSite("fr", "w3");
  EXPECT_THAT(world.core_.OnWorkerConnected({third.id, third.key.Public().KeyHash(), World::Chain(third)},
                                            world.clock_.Now()),
              HasStatus(StatusCode::kResourceExhausted, "its share of 7 among 3 members"));
  world.Connect(world.site("fr"));  // it is one of the two
  world.Connect(world.site("de"));
  world.Connect(world.site("es"));
  EXPECT_EQ(world.core_.Connected().size(), 4u);
}

TEST(CoordinatorCoreTest, OneMemberCannotTakeTheOthersJobs) {
  World world(kThree, CoreLimits{.max_jobs = 6});
  const JobId first = world.Submit(SomeSpec(), "a");
  world.Submit(SomeSpec(), "b");
  EXPECT_THAT(world.core_.OnSubmit(world.Record("c"), SomeSpec(), world.clock_.Now()),
              HasStatus(StatusCode::kResourceExhausted, "2 jobs of de are waiting or running"));
  JobRecord of_another = world.Record("d");
  of_another.submitter = *SpiffeId::Make("fr", Role::kOperator, "luc");
  EXPECT_OK(world.core_.OnSubmit(of_another, SomeSpec(), world.clock_.Now()));
  ASSERT_OK(world.core_.OnCancel(first, world.Record("a").submitter, world.clock_.Now()));
  EXPECT_OK(world.core_.OnSubmit(world.Record("c"), SomeSpec(), world.clock_.Now()));
}

TEST(CoordinatorCoreTest, AnAdapterIsForThoseWhomItsJobInvitesAndForWhoeverSubmittedIt) {
  World world({"de", "es", "fr", "gb", "it"});
  for (const char* j : {"es", "fr", "gb"}) world.Connect(world.site(j));
  policy::JobSpec spec = SomeSpec(1);
  spec.cohort.jurisdictions = {"es", "fr", "gb"};
  const JobId job = world.Submit(spec);
  const JobView view = world.View(job);
  ASSERT_EQ(view.phase, JobPhase::kDone) << view.text;
  for (const Digest& blob : {H("initial"), view.rounds[0].adapter, view.rounds[0].sum_sha256}) {
    for (const char* reader : {"es", "fr", "gb", "de"}) EXPECT_OK(world.core_.CheckReader(blob, reader));
    EXPECT_THAT(world.core_.CheckReader(blob, "it"),
                HasStatus(StatusCode::kPermissionDenied, "does not invite it"));
  }
  EXPECT_THAT(world.core_.CheckReader(H("else"), "de"), HasStatus(StatusCode::kNotFound, ""));
  // Another job that begins with the same adapter and invites more.
  spec.cohort.jurisdictions = {"es", "fr", "it"};
  world.Submit(spec, "another");
  EXPECT_OK(world.core_.CheckReader(H("initial"), "it"));
  EXPECT_FALSE(world.core_.CheckReader(view.rounds[0].adapter, "it").ok());
}

TEST(CoordinatorCoreTest, WorkersThatCameAndWentAreNotRememberedForEver) {
  World world(kThree);
  world.site("de").verdict = Verdict::kRefused;
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  for (int i = 0; i < 200; ++i) {
    Site& passing = world.AddSite("fr", "p" + std::to_string(i));
    passing.verdict = Verdict::kRefused;
    world.Connect(passing);
    world.Lose(passing);
  }
  EXPECT_LT(world.View(job).regions.size(), 30u);
  world.site("de").verdict = Verdict::kEligible;
  world.Connect(world.site("de"));
  const JobView view = world.View(job);
  ASSERT_EQ(view.phase, JobPhase::kDone) << view.text;
  EXPECT_LT(view.rounds[0].missing.size(), 30u);
}

TEST(CoordinatorCoreTest, AResultThatAWorkerComputedDifferentlyIsShown) {
  World world(kThree);
  world.ConnectAll();
  const JobId job = world.Submit(SomeSpec(1));
  ASSERT_OK(world.Event(world.site("de"), ResultAck{{job, 0, 0}, world.View(job).adapter}));
  ASSERT_OK(world.Event(world.site("es"), ResultAck{{job, 0, 0}, H("else")}));
  EXPECT_EQ(world.View(job).regions[0].dropped, DropReason::kNone);
  EXPECT_EQ(world.View(job).regions[1].dropped, DropReason::kResultMismatch);
  EXPECT_THAT(world.Event(world.site("fr"), ResultAck{{job, 5, 0}, {}}),
              HasStatus(StatusCode::kNotFound, ""));
}

}  // namespace
}  // namespace concordat::coordinator
