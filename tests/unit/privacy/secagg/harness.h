#ifndef CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_HARNESS_H_
#define CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_HARNESS_H_

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "privacy/crypto/ctr_stream.h"
#include "privacy/crypto/hash.h"
#include "privacy/secagg/coordinator_round.h"
#include "privacy/secagg/mask.h"
#include "privacy/secagg/shamir.h"
#include "privacy/secagg/worker_round.h"

// An attempt in memory: real cores, real signatures, no network, no clock. Certificates are replaced by names
// that a table knows (real_certificates_test.cc has real ones).
namespace concordat::secagg::testing {

inline Digest DigestFor(std::string_view text) { return crypto::Sha256(AsBytes(text)); }
inline Secret32 SeedFor(std::string_view text) { return Secret32(DigestFor(text).bytes); }
inline Instant At(int64_t ms) { return Instant(Millis(1'800'000'000'000 + ms)); }

/// Knows chains by their text.
class TablePeerVerifier final : public PeerVerifier {
 public:
  void Add(const std::string& chain, const SpiffeId& id, const crypto::VerifyKey& key) {
    table_[chain] = {id, key.spki(), key.KeyHash(), At(1'000'000'000)};
  }
  StatusOr<crypto::PeerIdentity> Verify(std::string_view chain, Instant) const override {
    const auto it = table_.find(std::string(chain));
    if (it == table_.end()) return PermissionDenied("a chain that nobody signed");
    return it->second;
  }

 private:
  std::map<std::string, crypto::PeerIdentity> table_;
};

/// n sites with keys, a coordinator, and the offer between them.
struct World {
  struct Site {
    SpiffeId id;
    crypto::SigningKey key;
    std::string chain;
  };
  TablePeerVerifier verifier;
  crypto::SigningKey coordinator = crypto::SigningKey::FromSeed(SeedFor("coordinator"));
  std::vector<Site> sites;
  Offer offer;
  WorkerBounds bounds;

  /// \param jurisdictions of how many jurisdictions the sites are, in turn; 0: each its own
  explicit World(uint32_t n, uint64_t elements = 37, uint32_t jurisdictions = 0) {
    offer.id = {DigestFor("job"), 4, 1};
    offer.charter = DigestFor("charter");
    offer.base_model = DigestFor("base");
    offer.adapter = DigestFor("adapter");
    offer.elements = elements;
    offer.threshold = offer.min_survivors = ThresholdFor(n);
    offer.assumed_colluding = 1;
    offer.attempts_allowed = 3;
    offer.deadlines = {10'000, 20'000, 300'000, 30'000, 40'000};
    for (uint32_t i = 0; i < n; ++i) {
      const auto law = fmt::format("law{}", jurisdictions == 0 ? i : i % jurisdictions);
      Site site{SpiffeId::Make(law, Role::kWorker, fmt::format("w{}", i + 1)).value(),
                crypto::SigningKey::FromSeed(SeedFor(fmt::format("site {}", i + 1))),
                fmt::format("chain {}", i + 1)};
      verifier.Add(site.chain, site.id, site.key.Public());
      offer.roster.push_back({site.id, site.key.Public().KeyHash()});
      bounds.jurisdictions.insert(law);
      sites.push_back(std::move(site));
    }
    bounds.id = offer.id;
    bounds.charter = offer.charter;
    bounds.base_model = offer.base_model;
    bounds.adapter = offer.adapter;
    bounds.elements = elements;
  }
  uint32_t n() const { return static_cast<uint32_t>(sites.size()); }
  /// Each site's pairwise keys with the others; empty in a job without.
  std::vector<PairwiseKeys> pairwise;
  void CarryPairwiseKeys() {
    pairwise.assign(n(), {});
    for (uint32_t i = 0; i < n(); ++i) {
      for (uint32_t j = 0; j < i; ++j) {
        const Secret32 key = SeedFor(fmt::format("pairwise {} {}", j + 1, i + 1));
        pairwise[i][sites[j].id] = key;
        pairwise[j][sites[i].id] = key;
      }
    }
  }
  /// The bounds of one site. Borrows from this.
  WorkerBounds BoundsOf(SiteIndex site) const {
    WorkerBounds out = bounds;
    if (!pairwise.empty()) out.pairwise = &pairwise[site - 1u];
    return out;
  }
  std::map<SiteIndex, std::string> Chains() const {
    std::map<SiteIndex, std::string> chains;
    for (uint32_t i = 0; i < n(); ++i) chains[static_cast<SiteIndex>(i + 1)] = sites[i].chain;
    return chains;
  }
  /// A vector of `site` that uses all 32 bits.
  std::vector<uint32_t> Plain(SiteIndex site) const {
    std::vector<uint32_t> x(offer.elements);
    crypto::CtrStream(SeedFor(fmt::format("plain {}", site)))
        .Keystream(0, {reinterpret_cast<uint8_t*>(x.data()), 4 * x.size()});
    return x;
  }
};

inline Digest DigestOfWords(const std::vector<uint32_t>& words) {
  return crypto::Sha256({reinterpret_cast<const uint8_t*>(words.data()), 4 * words.size()});
}

/// One attempt: a coordinator core, n worker cores, messages between them delivered one by one.
class Attempt {
 public:
  explicit Attempt(World& world, std::string_view seed = "attempt")
      : world_(world),
        coordinator_(world.offer, world.coordinator, world.verifier, world.Chains(),
                     !world.pairwise.empty()) {
    for (uint32_t i = 0; i < world.n(); ++i) {
      randoms_.push_back(std::make_unique<crypto::CtrRandom>(SeedFor(fmt::format("{} {}", seed, i))));
      workers_.push_back(NewWorker(static_cast<SiteIndex>(i + 1)));
    }
    sum_.assign(world.offer.elements, 0);
  }
  std::unique_ptr<WorkerRound> NewWorker(SiteIndex site) {
    const World::Site& s = world_.sites[site - 1];
    return std::make_unique<WorkerRound>(s.id, s.key, world_.verifier, world_.coordinator.Public(),
                                         *randoms_[site - 1], world_.BoundsOf(site),
                                         DigestFor(fmt::format("ledger {}", site)));
  }
  StatusOr<WorkerRound> RestoreWorker(SiteIndex site, ByteView snapshot) {
    const World::Site& s = world_.sites[site - 1];
    return WorkerRound::Restore(s.id, s.key, world_.verifier, world_.coordinator.Public(),
                                *randoms_[site - 1], world_.BoundsOf(site),
                                DigestFor(fmt::format("ledger {}", site)), snapshot);
  }

  CoordinatorRound& coordinator() { return coordinator_; }
  WorkerRound& worker(SiteIndex site) { return *workers_[site - 1]; }
  const crypto::SigningKey& key(SiteIndex site) const { return world_.sites[site - 1].key; }
  const std::optional<Aborted>& aborted() const { return aborted_; }
  const std::optional<UnmaskWork>& unmask() const { return unmask_; }
  const std::vector<DroppedSite>& dropped() const { return dropped_; }
  std::deque<Outgoing>& pending() { return pending_; }
  const std::vector<uint32_t>& sum() const { return sum_; }
  const std::vector<uint32_t>& sent_vector(SiteIndex site) { return sent_[site]; }
  Instant now() const { return now_; }
  void Wait(int64_t ms) { now_ += Millis(ms); }

  /// The step at which `site` says nothing any more.
  void LoseAt(SiteIndex site, CoordinatorPhase step) { lose_at_[site] = step; }
  /// Whether a loss is told by the shell (a closed connection) or only seen at the deadline.
  void set_losses_are_seen(bool seen) { losses_are_seen_ = seen; }

  void Start() { Absorb(coordinator_.Start(now_)); }
  /// Delivers messages until the coordinator enters `phase` (its messages wait), or nothing is left to do.
  void RunUntil(CoordinatorPhase phase) {
    if (coordinator_.phase() == CoordinatorPhase::kIdle) Start();
    while (coordinator_.phase() < phase) {
      if (!pending_.empty()) {
        const Outgoing next = pending_.front();
        pending_.pop_front();
        Deliver(next);
      } else if (coordinator_.phase() >= CoordinatorPhase::kSummed) {
        return;
      } else {
        now_ += Millis(600'000);  // past every deadline of the offer
        Absorb(coordinator_.OnTimer(now_));
      }
    }
  }
  /// All of it, the result included. True when there is a sum.
  bool Run() {
    RunUntil(CoordinatorPhase::kSummed);
    if (!unmask_.has_value()) return false;
    MaskStream(unmask_->keys).Apply(0, sum_);
    Absorb(coordinator_.Finish(DigestFor("new adapter"), DigestOfWords(sum_), now_));
    while (!pending_.empty()) {
      const Outgoing next = pending_.front();
      pending_.pop_front();
      Deliver(next);
    }
    return true;
  }
  std::vector<uint32_t> PlainSum() const {
    std::vector<uint32_t> sum(world_.offer.elements, 0);
    for (SiteIndex site : coordinator_.survivors()) {
      const auto x = world_.Plain(site);
      for (size_t e = 0; e < x.size(); ++e) sum[e] += x[e];
    }
    return sum;
  }
  /// The waiting message of type T for `to`.
  template <typename T>
  Signed<T> Waiting(SiteIndex to) const {
    for (const Outgoing& o : pending_) {
      if (o.to != to) continue;
      if (const auto* m = std::get_if<Signed<T>>(o.message.get())) return *m;
    }
    ADD_FAILURE() << "no " << T::kDomain << " waits for site " << int{to};
    return {};
  }
  /// What a lying coordinator would sign.
  template <typename T>
  Signed<T> ByCoordinator(T body) const {
    return Sign(world_.coordinator, std::move(body));
  }
  /// Gives `message` to its worker, and the worker's answer to the coordinator unless the site is lost here.
  void Deliver(const Outgoing& message) {
    const auto loss = lose_at_.find(message.to);
    if (loss != lose_at_.end() && loss->second <= StepOf(*message.message)) {
      if (losses_are_seen_) Absorb(coordinator_.OnLost(message.to, now_));
      return;
    }
    auto effects = AtWorker(message.to, *message.message);
    ASSERT_TRUE(effects.ok()) << "site " << int{message.to} << ": " << effects.status();
    Answer(message.to, *effects);
  }
  StatusOr<WorkerEffects> AtWorker(SiteIndex site, const CoordinatorMessage& message) {
    WorkerRound& w = worker(site);
    if (const auto* m = std::get_if<Signed<Offer>>(&message)) return w.OnOffer(*m, now_);
    if (const auto* m = std::get_if<Signed<Keys>>(&message)) return w.OnKeys(*m, now_);
    if (const auto* m = std::get_if<Signed<Delivery>>(&message)) return w.OnDelivery(*m, now_);
    if (const auto* m = std::get_if<Signed<Survivors>>(&message)) return w.OnSurvivors(*m, now_);
    if (const auto* m = std::get_if<Signed<AgreementBundle>>(&message)) return w.OnAgreementBundle(*m, now_);
    return w.OnResult(std::get<Signed<Result>>(message), now_);
  }
  void Answer(SiteIndex site, const WorkerEffects& effects) {
    if (effects.persist.has_value()) snapshots_[site] = ToBytes(effects.persist->snapshot.view());
    if (effects.phase == WorkerPhase::kReady) return Upload(site);
    if (!effects.send.has_value()) return;
    const WorkerMessage& message = *effects.send;
    if (const auto* m = std::get_if<Signed<Advert>>(&message)) Absorb(coordinator_.OnAdvert(*m, now_));
    if (const auto* m = std::get_if<Signed<Shares>>(&message)) Absorb(coordinator_.OnShares(*m, now_));
    if (const auto* m = std::get_if<Signed<Complaint>>(&message)) Absorb(coordinator_.OnComplaint(*m, now_));
    if (const auto* m = std::get_if<Signed<Agreement>>(&message)) Absorb(coordinator_.OnAgreement(*m, now_));
    if (const auto* m = std::get_if<Signed<Unmask>>(&message)) Absorb(coordinator_.OnUnmask(*m, now_));
  }
  /// Steps 5: masks, uploads, signs.
  void Upload(SiteIndex site) {
    ASSERT_TRUE(worker(site).BeginInput(now_).ok());
    const auto masks = worker(site).TakeMasks();
    ASSERT_TRUE(masks.ok());
    auto y = world_.Plain(site);
    MaskStream(*masks).Apply(0, y);
    const auto effects = worker(site).OnInput(y.size(), DigestOfWords(y), now_);
    ASSERT_TRUE(effects.ok()) << effects.status();
    snapshots_[site] = ToBytes(effects->persist->snapshot.view());
    sent_[site] = y;
    Absorb(coordinator_.OnUploaded(site, y.size(), DigestOfWords(y),
                                   std::get<Signed<InputHeader>>(*effects->send), now_));
  }
  void Absorb(StatusOr<CoordinatorEffects> effects) {
    ASSERT_TRUE(effects.ok()) << effects.status();
    for (SiteIndex site : effects->accept) {
      for (size_t e = 0; e < sum_.size(); ++e) sum_[e] += sent_[site][e];
    }
    for (Outgoing& o : effects->send) pending_.push_back(std::move(o));
    dropped_.insert(dropped_.end(), effects->dropped.begin(), effects->dropped.end());
    if (effects->unmask.has_value()) unmask_ = std::move(effects->unmask);
    if (effects->aborted.has_value()) aborted_ = std::move(effects->aborted);
  }
  const Bytes& snapshot(SiteIndex site) { return snapshots_[site]; }
  void ReplaceWorker(SiteIndex site, WorkerRound round) {
    workers_[site - 1] = std::make_unique<WorkerRound>(std::move(round));
  }

 private:
  static CoordinatorPhase StepOf(const CoordinatorMessage& message) {
    return static_cast<CoordinatorPhase>(message.index() + 1);
  }
  World& world_;
  CoordinatorRound coordinator_;
  std::vector<std::unique_ptr<crypto::CtrRandom>> randoms_;
  std::vector<std::unique_ptr<WorkerRound>> workers_;
  std::deque<Outgoing> pending_;
  std::map<SiteIndex, CoordinatorPhase> lose_at_;
  std::map<SiteIndex, std::vector<uint32_t>> sent_;
  std::map<SiteIndex, Bytes> snapshots_;
  std::vector<uint32_t> sum_;
  std::vector<DroppedSite> dropped_;
  std::optional<UnmaskWork> unmask_;
  std::optional<Aborted> aborted_;
  bool losses_are_seen_ = true;
  Instant now_ = At(0);
};

/// Expects a refusal with this code.
template <typename T>
void ExpectRefused(const StatusOr<T>& got, RefusalCode code) {
  ASSERT_FALSE(got.ok()) << "expected " << RefusalName(code);
  EXPECT_EQ(RefusalName(RefusalCodeOf(got.status())), RefusalName(code)) << got.status();
}
inline void ExpectRefused(const Status& got, RefusalCode code) {
  ASSERT_FALSE(got.ok()) << "expected " << RefusalName(code);
  EXPECT_EQ(RefusalName(RefusalCodeOf(got)), RefusalName(code)) << got;
}

}  // namespace concordat::secagg::testing

#endif  // CONCORDAT_TESTS_UNIT_PRIVACY_SECAGG_HARNESS_H_
