#ifndef CONCORDAT_TESTS_ADVERSARY_STAGE_H_
#define CONCORDAT_TESTS_ADVERSARY_STAGE_H_

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/adversary/wire_tap.h"
#include "tests/unit/worker/core/federation.h"

namespace concordat::adversary {

using secagg::AgreementBundle;
using secagg::CoordinatorPhase;
using secagg::Delivery;
using secagg::Keys;
using secagg::Offer;
using secagg::RefusalCode;
using secagg::Result;
using secagg::Signed;
using secagg::Survivors;
using worker::Dropout;
using worker::DropoutCode;
using worker::testing::At;
using worker::testing::Federation;
using worker::testing::Region;

/// Four regions (real cores, certificates, ledgers, noise and masks) and a coordinator whose key and whole
/// knowledge are in the test's hands. Region 1 is the victim; region 4 may be taken as colluding with the
/// coordinator, for the job assumes one. An honest core makes the honest messages; the test delivers them,
/// or others.
class Stage {
 public:
  static constexpr SiteIndex kVictim = 1, kColluder = 4;
  static constexpr uint32_t kThreshold = 3, kColluding = 1;

  Stage() : Stage("") {}
  /// \param section of the job, beside the usual ones
  explicit Stage(std::string_view section) : f("noise_multiplier: 0.05", section) {
    if (f.job.spec.secure_aggregation.pairwise_keys) f.CarryPairwiseKeys();
    f.StartAll();
    f.Notify();
  }

  Federation f;
  Region& site(SiteIndex s) { return *f.regions[s - 1u]; }
  Region& victim() { return site(kVictim); }
  const crypto::SigningKey& key(SiteIndex s) const { return f.regions[s - 1u]->party().key; }
  const AttemptId& id() const { return round_->offer().id; }
  secagg::CoordinatorRound& round() { return *round_; }

  /// What the coordinator, or a colluding site, signs.
  template <typename T>
  Signed<T> ByCoordinator(T body) const {
    return secagg::Sign(f.coordinator.key, std::move(body));
  }
  template <typename T>
  Signed<T> BySite(SiteIndex s, T body) const {
    return secagg::Sign(key(s), std::move(body));
  }

  /// Begins an honest attempt: the offers wait.
  void Open(RoundIndex r, AttemptIndex a) { Open(f.MakeOffer(r, a)); }
  void Open(const Offer& offer) {
    std::map<SiteIndex, std::string> chains;
    for (SiteIndex s = 1; s <= 4; ++s) chains[s] = site(s).party().chain;
    round_ = std::make_unique<secagg::CoordinatorRound>(offer, f.coordinator.key, verifier_, chains,
                                                        f.job.spec.secure_aggregation.pairwise_keys);
    pending_.clear();
    sum_ = std::make_unique<ModularSum>(offer.elements);
    for (SiteIndex s = 1; s <= 4; ++s) read_[s] = site(s).sent.size();
    auto effects = round_->Start(now_);
    ASSERT_OK(effects);
    Absorb(*std::move(effects));
  }
  /// Goes on honestly until the coordinator enters `phase`; what it then says waits. Deadlines pass when
  /// nobody has anything to say.
  void RunUntil(CoordinatorPhase phase) {
    for (int idle = 0; round_->phase() < phase && idle < 3;) {
      if (!pending_.empty()) {
        const secagg::Outgoing next = pending_.front();
        pending_.pop_front();
        Deliver(next);
      } else if (!HearAll()) {
        ++idle;
        now_ += Millis(100'000'000);
        auto effects = round_->OnTimer(now_);
        ASSERT_OK(effects);
        Absorb(*std::move(effects));
      }
    }
  }
  /// To the end: the sum is published, results delivered.
  void Finish() {
    RunUntil(CoordinatorPhase::kDone);
    while (!pending_.empty()) {
      const secagg::Outgoing next = pending_.front();
      pending_.pop_front();
      Deliver(next);
    }
  }
  void Tell(SiteIndex s, const worker::FromCoordinator& message) { site(s).Receive(message); }
  /// The waiting message of type T for `s`.
  template <typename T>
  Signed<T> Waiting(SiteIndex s) const {
    for (const secagg::Outgoing& o : pending_) {
      if (o.to != s) continue;
      if (const auto* m = std::get_if<Signed<T>>(o.message.get())) return *m;
    }
    ADD_FAILURE() << "no " << T::kDomain << " waits for site " << int{s};
    return {};
  }
  bool IsWaiting(SiteIndex s) const {
    return std::ranges::any_of(pending_, [&](const auto& o) { return o.to == s; });
  }
  /// Delivers everything that waits for `s`.
  void DeliverTo(SiteIndex s) {
    const auto all = std::exchange(pending_, {});
    for (const secagg::Outgoing& o : all) {
      if (o.to == s)
        std::visit([&](const auto& m) { site(s).Receive(m); }, *o.message);
      else
        pending_.push_back(o);
    }
  }
  /// Copies of everything that waits for `s`.
  std::vector<std::shared_ptr<const secagg::CoordinatorMessage>> WaitingFor(SiteIndex s) const {
    std::vector<std::shared_ptr<const secagg::CoordinatorMessage>> out;
    for (const secagg::Outgoing& o : pending_)
      if (o.to == s) out.push_back(o.message);
    return out;
  }
  /// From now on nothing passes between the honest core and `s`.
  void Mute(SiteIndex s) { muted_.insert(s); }
  /// U1 as the last adverts of all regions give it, whatever the honest core thinks of them.
  Keys KeysFromWire() {
    Keys keys{id(), {}, {}};
    for (SiteIndex s = 1; s <= 4; ++s) {
      keys.adverts.push_back(LastOf<secagg::Advert>(s));
      keys.chains.push_back(site(s).party().chain);
    }
    return keys;
  }
  /// A header that `s` could have signed, for a vector that nobody has seen.
  secagg::InputHeader HeaderOf(SiteIndex s) const {
    return {id(), s, round_->t2(), round_->offer().elements, crypto::Sha256(AsBytes("unseen"))};
  }
  /// Messages of the honest core, kept for lies about them later.
  std::optional<Signed<Keys>> honest_keys, old_keys;
  std::map<SiteIndex, Signed<Delivery>> honest_delivery;  // by recipient
  std::optional<Signed<Delivery>> old_delivery;
  std::optional<Signed<Survivors>> old_survivors;

  /// The last message of type T that `s` sent.
  template <typename T>
  Signed<T> LastOf(SiteIndex s) {
    const auto all = site(s).template Sent<Signed<T>>();
    EXPECT_FALSE(all.empty());
    return all.empty() ? Signed<T>{} : all.back();
  }
  /// A region whose process ends and starts again, with what its journal holds.
  void Restart(SiteIndex s) {
    site(s).Start();
    site(s).Receive(worker::JobNotice{f.signed_job, true, 0});
  }
  void Reconnect(SiteIndex s) {
    site(s).Apply(site(s).core->OnDisconnected(site(s).now));
    site(s).Apply(site(s).core->OnConnected(site(s).now));
    site(s).Settle();
  }

  /// The laws of WireTap, and: no vector without its charge, none encoded twice alike, one for each attempt.
  void ExpectLawful() {
    WireTap tap;
    for (SiteIndex s = 1; s <= 4; ++s) {
      for (const worker::ToCoordinator& m : site(s).sent) {
        std::visit([&](const auto& message) { Overhear(tap, site(s).party().id.Brief(), message); }, m);
      }
      ExpectPaid(site(s));
    }
    EXPECT_EQ(tap.Breaches(kThreshold, kColluding), std::vector<std::string>{});
  }

 private:
  template <typename T>
  static void Overhear(WireTap& tap, const std::string& who, const T& m) {
    if constexpr (std::is_constructible_v<secagg::WorkerMessage, T>) tap.Saw(who, m);
  }
  static void ExpectPaid(Region& region) {
    std::map<AttemptId, int> charges;
    for (const policy::LedgerEntry& entry : region.ledger->entries()) ++charges[entry.charge.attempt];
    for (const auto& [id, y] : region.uploads) EXPECT_EQ(charges[id], 1) << "left without a charge";
    for (const auto& [id, count] : charges) EXPECT_EQ(count, 1) << "charged twice";
    EXPECT_LE(region.encoded.size(), charges.size()) << "encoded more often than paid for";
    for (size_t i = 0; i < region.encoded.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        EXPECT_NE(region.encoded[i], region.encoded[j]) << "the same noise again";
  }
  void Deliver(const secagg::Outgoing& o) {
    if (muted_.contains(o.to)) return;
    std::visit([&](const auto& m) { site(o.to).Receive(m); }, *o.message);
    Hear(o.to);
  }
  bool HearAll() {
    bool any = false;
    for (SiteIndex s = 1; s <= 4; ++s) any |= !muted_.contains(s) && Hear(s);
    return any;
  }
  bool Hear(SiteIndex s) {
    bool any = false;
    while (read_[s] < site(s).sent.size()) {
      const worker::ToCoordinator message = site(s).sent[read_[s]++];
      std::visit([&](const auto& m) { HearOne(s, m); }, message);
      any = true;
    }
    return any;
  }
  template <typename T>
  void HearOne(SiteIndex s, const T& m) {
    StatusOr<secagg::CoordinatorEffects> effects = secagg::CoordinatorEffects{};
    if constexpr (std::is_same_v<T, Signed<secagg::Advert>>) effects = round_->OnAdvert(m, now_);
    if constexpr (std::is_same_v<T, Signed<secagg::Shares>>) effects = round_->OnShares(m, now_);
    if constexpr (std::is_same_v<T, Signed<secagg::Complaint>>) effects = round_->OnComplaint(m, now_);
    if constexpr (std::is_same_v<T, Signed<secagg::Agreement>>) effects = round_->OnAgreement(m, now_);
    if constexpr (std::is_same_v<T, Signed<secagg::Unmask>>) effects = round_->OnUnmask(m, now_);
    if constexpr (std::is_same_v<T, Signed<secagg::InputHeader>>) {
      const Bytes& y = site(s).uploads.at(m.body.id);
      effects = round_->OnUploaded(s, y.size() / 4, crypto::Sha256(y), m, now_);
    }
    if constexpr (std::is_same_v<T, Dropout>) {
      if (m.id == id()) effects = round_->OnLost(s, now_);
    }
    // What a test's lies led to may be of no use to the honest core; it need not be.
    if (effects.ok()) Absorb(*std::move(effects));
  }
  void Absorb(secagg::CoordinatorEffects effects) {
    for (SiteIndex s : effects.accept) ASSERT_OK(sum_->AddBytes(0, site(s).uploads.at(id())));
    for (secagg::Outgoing& o : effects.send) {
      if (const auto* keys = std::get_if<Signed<Keys>>(o.message.get())) honest_keys = *keys;
      if (const auto* d = std::get_if<Signed<Delivery>>(o.message.get())) honest_delivery[o.to] = *d;
      pending_.push_back(std::move(o));
    }
    if (effects.unmask) Publish(*effects.unmask);
  }
  void Publish(const secagg::UnmaskWork& work) {
    secagg::MaskStream(work.keys).Apply(0, sum_->mutable_words());
    Bytes sum(4 * sum_->elements());
    std::memcpy(sum.data(), sum_->words().data(), sum.size());
    const Digest sha = crypto::Sha256(sum);
    f.blobs[sha] = sum;
    const auto plan = policy::EncodingFor(f.job.spec, round_->offer());
    ASSERT_OK(plan);
    const auto decoded = Decode(*plan, sum_->words(), round_->survivors().size());
    ASSERT_OK(decoded);
    auto next = NextAdapter(f.layout, f.adapter, f.adapter_hash, decoded->mean_delta,
                            f.job.spec.server.learning_rate);
    ASSERT_OK(next);
    f.Publish(*std::move(next));
    auto effects = round_->Finish(f.adapter_hash, sha, now_);
    ASSERT_OK(effects);
    Absorb(*std::move(effects));
  }

  policy::CharterPeerVerifier verifier_{f.charter};
  std::unique_ptr<secagg::CoordinatorRound> round_;
  std::unique_ptr<ModularSum> sum_;
  std::deque<secagg::Outgoing> pending_;
  std::map<SiteIndex, size_t> read_;
  std::set<SiteIndex> muted_;
  Instant now_ = At(0);
};

}  // namespace concordat::adversary

#endif  // CONCORDAT_TESTS_ADVERSARY_STAGE_H_
