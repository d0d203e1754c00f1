#include <deque>

#include "coordinator/core/coordinator_core.h"
#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "tests/adversary/liar.h"
#include "tests/support/status_matchers.h"

// Regions that lie, against the whole coordinator core: who is named, who sits out the next attempt, and that
// the job goes on with the others.
namespace concordat::adversary {
namespace {

using coordinator::AbortReason;
using coordinator::CoordinatorCore;
using coordinator::CoreEffects;
using coordinator::DropReason;
using coordinator::JobPhase;

/// Knows everyone; the chain is the SPIFFE ID as text.
class NamePeers final : public PeerVerifier {
 public:
  void Add(const SpiffeId& id, const crypto::SigningKey& key) { spki_[id.ToString()] = key.PublicSpki(); }
  StatusOr<crypto::PeerIdentity> Verify(std::string_view chain, Instant) const override {
    const auto it = spki_.find(std::string(chain));
    if (it == spki_.end()) return PermissionDenied("nobody knows {}", chain);
    return crypto::PeerIdentity{*SpiffeId::Parse(chain), it->second, crypto::Sha256(it->second),
                                Instant::max()};
  }

 private:
  std::map<std::string, Bytes> spki_;
};

policy::JobSpec Spec() {
  policy::JobSpec spec;
  spec.name = "job";
  spec.charter = DigestFor("charter");
  spec.base_model = {"tiny", DigestFor("base"), "Apache-2.0", {1, 8, 16, 2, 1, 4}};
  spec.adapter = {2, 4, {LoraTarget::kQ}, LoraMethod::kFedIt};
  spec.training = {2, 1, 16, 1e-3, policy::Schedule::kConstant, 0, 0.95, 1.0};
  spec.rounds = 1;
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

/// Five jurisdictions with a site each; honest ones run a real WorkerRound, a liar says what the test says.
class BadRegionsTest : public ::testing::Test {
 protected:
  struct Region {
    SpiffeId id;
    crypto::SigningKey key;
    std::unique_ptr<WorkerRound> round;
    std::vector<AttemptId> offers;
  };
  /// What a dealer of a wrong secret knows of its attempt.
  struct WrongSecret {
    crypto::X25519KeyPair channel, mask;
    Secret32 seed;
    SiteIndex site = 0;
    Offer offer;
    Digest t1;
  };

  BadRegionsTest() : key_(crypto::SigningKey::FromSeed(SeedFor("coordinator"))) {
    coordinator::CoreContext context;
    context.charter = DigestFor("charter");
    context.minimum_cohort = 3;
    context.key = &key_;
    context.peers = &peers_;
    regions_.reserve(8);  // rounds point into them
    for (const char* law : {"aa", "bb", "cc", "dd", "ee"}) {
      context.jurisdictions.push_back(law);
      Region region{
          *SpiffeId::Make(law, Role::kWorker, "w"), crypto::SigningKey::FromSeed(SeedFor(law)), {}, {}};
      peers_.Add(region.id, region.key);
      regions_.push_back(std::move(region));
    }
    core_.emplace(context, coordinator::CoreLimits{});
  }
  /// Everyone connects, the job is there. `hold` keeps honest regions from uploading.
  void Begin() {
    for (Region& r : regions_)
      Take(core_->OnWorkerConnected({r.id, r.key.Public().KeyHash(), r.id.ToString()}, now_));
    coordinator::JobRecord record;
    record.id = DigestFor("job");
    record.signed_job.file = "job";
    record.submitter = *SpiffeId::Make("aa", Role::kOperator, "anna");
    record.initial_adapter = DigestFor("initial");
    record.submitted = now_;
    policy::JobSpec spec = Spec();
    spec.rounds = rounds_;
    Take(core_->OnSubmit(record, spec, now_));
  }
  void Take(StatusOr<CoreEffects> effects) {
    ASSERT_OK(effects);
    deadline_ = effects->deadline;
    for (const auto& record : effects->persist)
      if (const auto* blame = std::get_if<coordinator::BlameRecord>(&record)) blames_.push_back(*blame);
    for (auto& sum : effects->sums) sums_.push_back(sum.id);
    for (auto& m : effects->send) queue_.push_back(std::move(m));
    if (busy_) return;
    busy_ = true;
    while (!queue_.empty()) {
      const coordinator::ToWorker next = std::move(queue_.front());
      queue_.pop_front();
      for (Region& r : regions_)
        if (r.id == next.to) std::visit([&](const auto& m) { Deliver(r, m); }, next.message);
    }
    busy_ = false;
  }
  Status Say(Region& region, const coordinator::WorkerEvent& event) {
    auto effects = core_->OnWorkerEvent(region.id, event, now_);
    const Status status = effects.status();
    if (effects.ok()) Take(std::move(effects));
    return status;
  }
  void NextDeadline() {
    ASSERT_TRUE(deadline_.has_value());
    now_ = std::max(now_, *deadline_);
    Take(core_->OnTimer(now_));
  }
  void FinishSum() {
    ASSERT_FALSE(sums_.empty());
    const AttemptId id = sums_.back();
    Take(core_->OnSumFinished(
        {id, DigestFor("sum"), DigestFor(fmt::format("adapter {}", id.round)), {6.0, 3.0}, 100, 50}, now_));
  }
  coordinator::JobView View() { return *core_->View(DigestFor("job"), now_); }
  SiteIndex SiteOf(size_t region) { return regions_[region].round->site(); }
  Region& At(size_t i) { return regions_[i]; }

  template <typename T>
  void Deliver(Region&, const T&) {}
  void Deliver(Region& region, const coordinator::JobNotice&) {
    coordinator::JobAnswer answer;
    answer.job = DigestFor("job");
    answer.verdict = coordinator::Verdict::kEligible;
    EXPECT_OK(Say(region, answer));
  }
  void Deliver(Region& region, const std::shared_ptr<const CoordinatorMessage>& message) {
    if (const auto* m = std::get_if<Signed<Offer>>(message.get())) {
      region.offers.push_back(m->body.id);
      if (&region == wrong_secret_) return Lie(region, m->body);
      WorkerBounds bounds;
      bounds.id = m->body.id;
      bounds.charter = m->body.charter;
      bounds.base_model = m->body.base_model;
      bounds.adapter = m->body.adapter;
      bounds.elements = m->body.elements;
      for (const auto& entry : m->body.roster) bounds.jurisdictions.insert(entry.worker.jurisdiction());
      region.round = std::make_unique<WorkerRound>(region.id, region.key, peers_, key_.Public(), random_,
                                                   bounds, Digest{});
      return Answer(region, region.round->OnOffer(*m, now_));
    }
    if (&region == wrong_secret_) {
      if (const auto* m = std::get_if<Signed<Keys>>(message.get())) Lie(region, m->body);
      if (const auto* m = std::get_if<Signed<Delivery>>(message.get())) Lie(region, m->body);
      return;
    }
    if (!region.round) return;
    if (const auto* m = std::get_if<Signed<Keys>>(message.get()))
      return Answer(region, region.round->OnKeys(*m, now_));
    if (const auto* m = std::get_if<Signed<Delivery>>(message.get())) {
      auto effects = region.round->OnDelivery(*m, now_);
      ASSERT_OK(effects);
      if (effects->send.has_value()) return Answer(region, std::move(effects));
      if (!hold_input_) Upload(region, 0);
      return;
    }
    if (const auto* m = std::get_if<Signed<Survivors>>(message.get()))
      return Answer(region, region.round->OnSurvivors(*m, now_));
    if (const auto* m = std::get_if<Signed<AgreementBundle>>(message.get()))
      return Answer(region, region.round->OnAgreementBundle(*m, now_));
  }
  /// Steps 1, 3 and 5 of a region whose shares match its commitments and rebuild another seed than it
  /// advertised. Afterwards it is silent.
  void Lie(Region& region, const Offer& offer) {
    lie_ = {crypto::GenerateX25519(random_), crypto::GenerateX25519(random_), random_.Seed(), 0, offer, {}};
    while (offer.roster.at(lie_.site).worker != region.id) ++lie_.site;
    ++lie_.site;
    const Advert advert{
        offer.id, lie_.site, lie_.channel.pub, lie_.mask.pub, DigestFor("another seed"), TranscriptT0(offer),
        {}};
    EXPECT_OK(Say(region, Sign(region.key, advert)));
  }
  void Lie(Region& region, const Keys& keys) {
    lie_.t1 = TranscriptT1(TranscriptT0(lie_.offer), keys.adverts);
    std::vector<SiteIndex> holders;
    for (const auto& advert : keys.adverts) holders.push_back(advert.body.site);
    const auto a = SplitSecret(lie_.mask.secret, lie_.offer.threshold, holders, random_);
    const auto b = SplitSecret(lie_.seed, lie_.offer.threshold, holders, random_);
    ASSERT_TRUE(a.ok() && b.ok());
    Shares shares{lie_.offer.id, lie_.site, lie_.t1, {}, {}};
    for (size_t k = 0; k < holders.size(); ++k) {
      const HeldShares held{(*a)[k].y, random_.Seed(), (*b)[k].y, random_.Seed()};
      const auto key =
          ShareKey(lie_.channel.secret, keys.adverts[k].body.channel_key, lie_.t1, lie_.site, holders[k]);
      ASSERT_OK(key);
      shares.commitments.push_back(held.Commit(lie_.site, holders[k]));
      shares.ciphertexts.push_back(SealShares(*key, lie_.t1, lie_.site, holders[k], held));
    }
    EXPECT_OK(Say(region, Sign(region.key, std::move(shares))));
  }
  void Lie(Region& region, const Delivery& delivery) {
    std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>> dealers;
    for (const auto& row : delivery.rows) dealers.emplace_back(row.dealer, *row.commitments);
    const uint64_t elements = lie_.offer.elements;
    const InputHeader header{lie_.offer.id, lie_.site, TranscriptT2(lie_.t1, dealers), elements,
                             DigestFor("y")};
    CoreEffects refused;
    Take(core_->OnUploaded(region.id, elements, DigestFor("y"), Sign(region.key, header), now_, &refused));
  }
  void Answer(Region& region, StatusOr<WorkerEffects> effects) {
    ASSERT_OK(effects);
    if (!effects->send.has_value()) return;
    std::visit(
        [&](const auto& m) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(m)>, Signed<InputHeader>>) Spoil(region, m);
        },
        *effects->send);
  }
  template <typename M>
  void Spoil(Region& region, M message) {
    if constexpr (std::is_same_v<M, Signed<Shares>>) {
      if (&region == bad_dealer_) message.body.ciphertexts[0][0] ^= 1;
    }
    EXPECT_OK(Say(region, message));
  }
  /// \param flip what the stored bytes' digest differs by from the header's
  void Upload(Region& region, uint8_t flip) {
    ASSERT_OK(region.round->BeginInput(now_));
    Digest digest = DigestFor("y");
    const uint64_t elements = *policy::MaskedElements(Spec());
    auto effects = region.round->OnInput(elements, digest, now_);
    ASSERT_OK(effects);
    digest.bytes[0] ^= flip;
    CoreEffects refused;
    auto out = core_->OnUploaded(region.id, elements, digest, std::get<Signed<InputHeader>>(*effects->send),
                                 now_, &refused);
    // A good one may come when the attempt has ended.
    EXPECT_TRUE(flip == 0 || !out.ok());
    Take(out.ok() ? std::move(out) : StatusOr<CoreEffects>(std::move(refused)));
  }

  crypto::SigningKey key_;
  NamePeers peers_;
  crypto::CtrRandom random_{SeedFor("regions")};
  std::optional<CoordinatorCore> core_;
  std::vector<Region> regions_;
  std::deque<coordinator::ToWorker> queue_;
  std::vector<AttemptId> sums_;
  std::optional<Instant> deadline_;
  Instant now_ = secagg::testing::At(0);
  bool busy_ = false;
  bool hold_input_ = false;
  Region* bad_dealer_ = nullptr;
  Region* wrong_secret_ = nullptr;
  WrongSecret lie_;
  uint32_t rounds_ = 1;
  std::vector<coordinator::BlameRecord> blames_;
};

TEST_F(BadRegionsTest, ADealerOfBadSharesIsNamedAndTheNextAttemptGoesWithoutIt) {
  bad_dealer_ = &At(4);
  Begin();
  EXPECT_EQ(View().failure, AbortReason::kComplaint);
  EXPECT_TRUE(sums_.empty());
  bad_dealer_ = nullptr;
  NextDeadline();
  EXPECT_EQ(At(4).offers.size(), 1u);
  EXPECT_EQ(At(0).offers.size(), 2u);
  ASSERT_EQ(sums_.size(), 1u) << "the others come to their sum";
  EXPECT_EQ(sums_[0].attempt, 1u);
}

TEST_F(BadRegionsTest, AConvictedDealerIsOutOfTheJobWithItsWholeJurisdictionAndCostsTheOthersOneVectorOnce) {
  rounds_ = 4;
  wrong_secret_ = &At(4);
  Begin();
  ASSERT_EQ(View().failure, AbortReason::kConvicted) << View().text;
  EXPECT_TRUE(sums_.empty()) << "all five had uploaded";
  ASSERT_EQ(blames_.size(), 1u);
  EXPECT_EQ(blames_[0].worker, At(4).id);
  EXPECT_EQ(blames_[0].blame, coordinator::Blame::kLeftOut);
  // A second site of the same jurisdiction, with a key of its own.
  wrong_secret_ = nullptr;
  regions_.push_back(
      {*SpiffeId::Make("ee", Role::kWorker, "x"), crypto::SigningKey::FromSeed(SeedFor("ee x")), {}, {}});
  peers_.Add(At(5).id, At(5).key);
  Take(core_->OnWorkerConnected({At(5).id, At(5).key.Public().KeyHash(), At(5).id.ToString()}, now_));
  NextDeadline();
  for (uint32_t round = 0; round < 4; ++round) {
    ASSERT_EQ(sums_.size(), round + 1u) << View().text;
    EXPECT_EQ(sums_.back().attempt, round == 0 ? 1u : 0u) << "nobody pays for an attempt in vain again";
    FinishSum();
  }
  EXPECT_EQ(View().phase, JobPhase::kDone);
  EXPECT_EQ(At(4).offers.size(), 1u);
  EXPECT_TRUE(At(5).offers.empty());
  EXPECT_EQ(At(0).offers.size(), 5u);
}

TEST_F(BadRegionsTest, AnAccuserThatAccusesAgainSitsOutItselfSoThatItCannotRemoveTheOthers) {
  hold_input_ = true;
  Begin();
  for (int i = 0; i < 2; ++i) {
    const SiteIndex victim = SiteOf(static_cast<size_t>(1 + i));
    const Complaint lie{At(0).offers.back(), SiteOf(0), victim, At(0).round->t1(),
                        Complaint::Code::kCannotDecrypt};
    ASSERT_OK(Say(At(0), Sign(At(0).key, lie)));
    NextDeadline();
  }
  EXPECT_EQ(At(0).offers.size(), 2u) << "the liar is out of the third attempt";
  EXPECT_EQ(At(1).offers.size(), 1u) << "who was accused first sits out too: nobody can tell";
  EXPECT_EQ(At(2).offers.size(), 3u);
  EXPECT_EQ(At(3).offers.size(), 3u);
}

TEST_F(BadRegionsTest, ARegionCannotSpeakForAnother) {
  hold_input_ = true;
  Begin();
  // A complaint with the name of region 2, signed by region 1 and sent over region 1's connection.
  const Complaint lie{At(0).offers.back(), SiteOf(1), SiteOf(2), At(0).round->t1(),
                      Complaint::Code::kCannotDecrypt};
  EXPECT_EQ(Say(At(0), Sign(At(0).key, lie)).code(), StatusCode::kPermissionDenied);
  // Rightly signed by region 2, but stolen: it comes over region 1's connection.
  EXPECT_EQ(Say(At(0), Sign(At(1).key, lie)).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(View().failure, AbortReason::kNone);
  for (Region& r : regions_) Upload(r, 0);
  EXPECT_EQ(sums_.size(), 1u);
}

TEST_F(BadRegionsTest, AnUploadThatIsNotWhatItsHeaderSaysDropsItsRegionAtOnceAndNobodyWaits) {
  hold_input_ = true;
  Begin();
  Upload(At(3), 1);
  for (const size_t i : {0u, 1u, 2u, 4u}) Upload(At(i), 0);
  ASSERT_EQ(sums_.size(), 1u) << "no deadline had to pass";
  EXPECT_EQ(View().regions[3].dropped, DropReason::kBadUpload);
}

TEST_F(BadRegionsTest, NothingIsPublishedOfAnAttemptThatFellBelowItsMinimum) {
  hold_input_ = true;
  Begin();
  Upload(At(2), 1), Upload(At(3), 1);
  for (const size_t i : {0u, 1u, 4u}) Upload(At(i), 0);
  EXPECT_TRUE(sums_.empty());
  EXPECT_EQ(View().failure, AbortReason::kTooFewInputs);
  EXPECT_TRUE(View().rounds.empty());
  EXPECT_EQ(View().phase == JobPhase::kDone, false);
}

}  // namespace
}  // namespace concordat::adversary
