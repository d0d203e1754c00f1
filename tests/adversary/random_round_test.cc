#include <algorithm>
#include <array>

#include "tests/adversary/liar.h"

// Random scripts of deviations against real worker rounds, two attempts at once, with crashes at every point
// of the shell's duties. What must hold is the same for every script: see WireTap.
namespace concordat::adversary {
namespace {

using secagg::testing::At;

class Script {
 public:
  Script(uint32_t seed, uint32_t sites, bool pairwise)
      : world_(WorldOf(sites, pairwise)),
        colluder_(world_, fmt::format("colluder {}", seed)),
        dice_(seed),
        pairwise_(pairwise) {
    for (AttemptIndex a = 0; a < 2; ++a) {
      for (SiteIndex s = 1; s < sites; ++s) {
        randoms_.push_back(std::make_unique<crypto::CtrRandom>(SeedFor(fmt::format("{} {} {}", seed, a, s))));
        Honest& h = honest_[a].emplace_back();
        h.site = s;
        h.name = fmt::format("site {}", s);
        h.round.emplace(world_.sites[s - 1u].id, world_.sites[s - 1u].key, world_.verifier,
                        world_.coordinator.Public(), *randoms_.back(), BoundsOf(s, a), Digest{});
        random_of_[&h] = randoms_.back().get();
      }
    }
  }

  void Run(int moves) {
    for (int i = 0; i < moves; ++i) Move();
  }
  std::vector<std::string> Breaches() const {
    auto out = tap_.Breaches(world_.offer.threshold, world_.offer.assumed_colluding);
    const auto more = tap_.AgreementBreaches(world_.offer.threshold, colluder_.site());
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  size_t Unmasked() const { return tap_.Count(Unmask::kDomain); }
  size_t refused() const { return refused_; }
  /// Results that were taken, true or not: a round cannot tell, its region's core does.
  size_t results() const { return results_; }

 private:
  bool Chance(int percent) { return static_cast<int>(dice_() % 100) < percent; }
  size_t Pick(size_t n) { return n == 0 ? 0 : dice_() % n; }

  AttemptId IdOf(AttemptIndex a) const { return {world_.offer.id.job, world_.offer.id.round, a}; }
  static World WorldOf(uint32_t sites, bool pairwise) {
    World world(sites, 5);
    if (pairwise) world.CarryPairwiseKeys();
    return world;
  }
  WorkerBounds BoundsOf(SiteIndex site, AttemptIndex a) const {
    WorkerBounds bounds = world_.BoundsOf(site);
    bounds.id = IdOf(a);
    return bounds;
  }

  void Move() {
    const AttemptIndex a = Chance(80) ? 0 : 1;
    Honest& h = honest_[a][Pick(honest_[a].size())];
    if (h.dead) return;
    if (Chance(4)) return Crash(h, a);
    if (Chance(12) && !history_.empty()) return Tell(h, a, history_[Pick(history_.size())]);
    switch (h.round->phase()) {
      case WorkerPhase::kIdle:
        return Say(h, a, MakeOffer(a));
      case WorkerPhase::kAdvertised:
        return Say(h, a, MakeKeys(h, a));
      case WorkerPhase::kShared:
        return Say(h, a, MakeDelivery(h, a));
      case WorkerPhase::kReady:
      case WorkerPhase::kInputBegun:
        return Input(h, a);
      case WorkerPhase::kInputSent:
        return Chance(10) ? Input(h, a) : Say(h, a, MakeSurvivors(h, a));
      case WorkerPhase::kAgreed:
        return Chance(5) ? Say(h, a, MakeResult(h, a)) : AfterAgreement(h, a);
      case WorkerPhase::kUnmasked:
      case WorkerPhase::kDone:
        return Chance(30) ? Say(h, a, MakeResult(h, a)) : AfterAgreement(h, a);
      default:
        return;
    }
  }
  void AfterAgreement(Honest& h, AttemptIndex a) {
    return Chance(25) ? Say(h, a, MakeSurvivors(h, a)) : Say(h, a, MakeBundle(h, a));
  }

  template <typename T>
  void Say(Honest& h, AttemptIndex a, T body) {
    history_.emplace_back(Sign(world_.coordinator, std::move(body)));
    Tell(h, a, history_.back());
  }
  void Tell(Honest& h, AttemptIndex a, const CoordinatorMessage& message) {
    const WorkerPhase before = h.round->phase();
    auto effects = At(h, message);
    if (!effects.ok()) {
      ++refused_;
      EXPECT_NE(RefusalCodeOf(effects.status()), RefusalCode::kNone) << effects.status();
      EXPECT_EQ(h.round->phase(), before) << "a refusal changed something";
      return;
    }
    if (const auto* keys = std::get_if<Signed<Keys>>(&message)) h.keys = keys->body;
    if (const auto* result = std::get_if<Signed<Result>>(&message)) Ended(h, result->body);
    Carry(h, a, *std::move(effects));
  }
  /// One result for an attempt, of the set that was agreed to.
  void Ended(Honest& h, const Result& result) {
    EXPECT_EQ(result.t2, h.round->t2());
    EXPECT_EQ(result.survivors, h.round->survivors());
    EXPECT_EQ(Canonical(h.result.value_or(result)), Canonical(result)) << "another result";
    results_ += !h.result.has_value();
    h.result = result;
  }
  static StatusOr<WorkerEffects> At(Honest& h, const CoordinatorMessage& message) {
    const Instant now = secagg::testing::At(0);
    if (const auto* m = std::get_if<Signed<Offer>>(&message)) return h.round->OnOffer(*m, now);
    if (const auto* m = std::get_if<Signed<Keys>>(&message)) return h.round->OnKeys(*m, now);
    if (const auto* m = std::get_if<Signed<Delivery>>(&message)) return h.round->OnDelivery(*m, now);
    if (const auto* m = std::get_if<Signed<Survivors>>(&message)) return h.round->OnSurvivors(*m, now);
    if (const auto* m = std::get_if<Signed<AgreementBundle>>(&message))
      return h.round->OnAgreementBundle(*m, now);
    return h.round->OnResult(std::get<Signed<Result>>(message), now);
  }

  // The shell: persist, then send; it may die before, between and after.
  void Carry(Honest& h, AttemptIndex a, WorkerEffects effects) {
    if (Chance(3)) return Crash(h, a);
    if (effects.persist.has_value()) h.snapshot = ToBytes(effects.persist->snapshot.view());
    if (Chance(3)) return Crash(h, a);
    if (effects.send.has_value()) {
      tap_.Saw(h.name, *effects.send);
      Gather(gathered_[a], *effects.send);
    }
    if (Chance(3)) Crash(h, a);
  }
  static void Gather(Gathered& g, const WorkerMessage& message) {
    if (const auto* m = std::get_if<Signed<Advert>>(&message)) g.adverts[m->body.site] = *m;
    if (const auto* m = std::get_if<Signed<Shares>>(&message)) g.shares[m->body.dealer] = *m;
    if (const auto* m = std::get_if<Signed<InputHeader>>(&message)) g.headers[m->body.site] = *m;
    if (const auto* m = std::get_if<Signed<Agreement>>(&message)) g.agreements[m->body.site] = *m;
  }
  void Crash(Honest& h, AttemptIndex a) {
    const World::Site& s = world_.sites[h.site - 1u];
    if (!h.snapshot.has_value()) {
      h.dead = true;  // entered on record only: lost in this attempt
      return;
    }
    auto restored = WorkerRound::Restore(s.id, s.key, world_.verifier, world_.coordinator.Public(),
                                         *random_of_.at(&h), BoundsOf(h.site, a), Digest{}, *h.snapshot);
    ASSERT_TRUE(restored.ok()) << restored.status();
    h.round.emplace(*std::move(restored));
    if (h.round->phase() != WorkerPhase::kDone) h.result.reset();  // it was not persisted
  }
  void Input(Honest& h, AttemptIndex a) {
    const Instant now = secagg::testing::At(0);
    if (h.round->phase() == WorkerPhase::kReady) {
      auto begun = h.round->BeginInput(now);
      ASSERT_TRUE(begun.ok()) << begun.status();
      Carry(h, a, *std::move(begun));
    }
    // The coordinator would like two encodings of one attempt: whoever hands out masks twice gives them.
    for (int i = 0; i < 2; ++i) {
      if (h.round->TakeMasks().ok()) {
        h.took_masks = true;
        tap_.TookMasks(h.name, IdOf(a));
      }
    }
    if (!h.took_masks) return;  // nothing was encoded: the shell counts itself lost here
    auto sent = h.round->OnInput(world_.offer.elements, DigestFor(h.name), now);
    if (sent.ok()) Carry(h, a, *std::move(sent));
    if (h.round->phase() != WorkerPhase::kInputSent) return;
    const auto other = h.round->OnInput(world_.offer.elements, DigestFor("a fresh encoding"), now);
    EXPECT_EQ(RefusalCodeOf(other.status()), RefusalCode::kMaskSpent);
  }

  // ---- What the coordinator says: mostly what could be true, then twisted.

  Offer MakeOffer(AttemptIndex a) {
    Offer offer = world_.offer;
    offer.id = IdOf(a);
    if (!Chance(20)) return offer;
    switch (Pick(6)) {
      case 0:
        offer.threshold -= 1;
        break;
      case 1:
        offer.adapter = DigestFor("another");
        break;
      case 2:
        offer.roster.pop_back();
        break;
      case 3:  // within the region's bounds, so that sites hold different offers
        offer.deadlines.input_ms += 1;
        break;
      case 4:
        offer.roster.back().key_hash = DigestFor("another key");
        break;
      default:
        offer.id.attempt ^= 1;
    }
    return offer;
  }
  Keys MakeKeys(Honest& h, AttemptIndex a) {
    Gathered& g = gathered_[a];
    g.adverts[colluder_.site()] = colluder_.AdvertFor(IdOf(a), h.round->t0(), Chance(5));
    Keys keys{IdOf(a), {}, {}};
    for (const auto& [site, advert] : g.adverts) {
      if (site != h.site && Chance(4)) continue;  // two rosters
      keys.adverts.push_back(advert);
      keys.chains.push_back(world_.sites[site - 1u].chain);
    }
    if (!Chance(12) || keys.adverts.size() < 2) return keys;
    const size_t i = Pick(keys.adverts.size()), j = Pick(keys.adverts.size());
    switch (Pick(6)) {
      case 0:
        std::swap(keys.adverts[i], keys.adverts[j]);
        break;
      case 1:
        keys.adverts[i] = keys.adverts[j];
        break;
      case 2:
        keys.adverts[i].body.mask_key[3] ^= 1;
        break;
      case 3:
        keys.adverts[i] = Sign(world_.coordinator, keys.adverts[i].body);
        break;
      case 4:
        keys.adverts.erase(keys.adverts.begin()), keys.chains.erase(keys.chains.begin());
        break;
      default:
        if (const auto old = gathered_[a ^ 1].adverts.find(h.site); old != gathered_[a ^ 1].adverts.end())
          keys.adverts[0] = old->second;
    }
    return keys;
  }
  Delivery MakeDelivery(Honest& h, AttemptIndex a) {
    Gathered& g = gathered_[a];
    const Digest t1 = h.round->t1();
    if (h.keys.has_value()) g.shares[colluder_.site()] = colluder_.SharesFor(IdOf(a), t1, *h.keys);
    Delivery delivery{IdOf(a), h.site, t1, {}};
    for (const auto& [dealer, shares] : g.shares) {
      if (dealer != h.site && Chance(3)) continue;  // two U2
      const auto& list = shares.body.commitments;
      const auto mine = std::ranges::find(list, h.site, &ShareCommitment::holder);
      if (mine == list.end()) continue;
      const auto column = static_cast<size_t>(mine - list.begin());
      delivery.rows.push_back({dealer, list, shares.signature, shares.body.ciphertexts[column]});
      if (pairwise_) delivery.pair_tags.push_back(TagOf(shares.body.pair_seals.at(column)));
    }
    if (!Chance(8) || delivery.rows.size() < 2) return delivery;
    const size_t i = Pick(delivery.rows.size()), j = Pick(delivery.rows.size());
    switch (Pick(5)) {
      case 4:
        TwistTags(delivery);
        break;
      case 0:
        delivery.rows[i].ciphertext = delivery.rows[j].ciphertext;
        break;
      case 1:
        delivery.rows[i] = delivery.rows[j];
        break;
      case 2:
        delivery.to = static_cast<SiteIndex>(1 + Pick(world_.n()));
        break;
      default:
        delivery.rows[i].commitments.Change()[0].seed_share.bytes[0] ^= 1;
    }
    return delivery;
  }
  /// Of what the region's job says of pairwise keys, and of the others' seals.
  void TwistTags(Delivery& delivery) {
    auto& tags = delivery.pair_tags;
    if (tags.empty()) return tags.resize(delivery.rows.size());
    switch (Pick(4)) {
      case 0:
        return tags.clear();
      case 1:
        return tags.pop_back();
      case 2:
        return std::swap(tags.front(), tags.back());
      default:
        tags[Pick(tags.size())].bytes[0] ^= 1;
    }
  }
  Survivors MakeSurvivors(Honest& h, AttemptIndex a) {
    Gathered& g = gathered_[a];
    const Digest t2 = h.round->t2();
    g.headers[colluder_.site()] = colluder_.HeaderFor(IdOf(a), t2);
    Survivors survivors{IdOf(a), t2, {}};
    // Half of the time the colluder lives, half of the time it is dead: two survivor sets.
    for (const auto& [site, header] : g.headers) {
      if (site != colluder_.site() ? Chance(8) : Chance(50)) continue;
      survivors.headers.push_back(header);
    }
    if (Chance(6) && !survivors.headers.empty())
      survivors.headers[Pick(survivors.headers.size())].body.sha256 = DigestFor("other");
    if (Chance(4)) survivors.t2 = DigestFor("other");
    return survivors;
  }
  AgreementBundle MakeBundle(Honest& h, AttemptIndex a) {
    const Digest t2 = h.round->t2();
    std::vector<SiteIndex> u3 = h.round->survivors();
    if (Chance(15)) {  // the other set: the colluder changes sides
      const auto at = std::ranges::find(u3, colluder_.site());
      if (at == u3.end())
        u3.push_back(colluder_.site());
      else
        u3.erase(at);
    }
    AgreementBundle bundle{IdOf(a), t2, u3, {}};
    for (const auto& [site, agreement] : gathered_[a].agreements)
      bundle.signatures.emplace_back(site, agreement.signature);
    if (std::ranges::find(u3, colluder_.site()) != u3.end() || Chance(20))
      bundle.signatures.emplace_back(colluder_.site(), colluder_.AgreementFor(IdOf(a), t2, u3));
    // Signatures over another set would spoil the bundle; the liar can tell them apart as well as anyone.
    if (Chance(85)) {
      std::erase_if(bundle.signatures, [&](const auto& entry) {
        const Agreement said{IdOf(a), entry.first, t2, u3};
        return !CheckSignature(world_.sites[entry.first - 1u].key.Public(),
                               Signed<Agreement>{said, entry.second})
                    .ok();
      });
    }
    if (Chance(4) && !bundle.signatures.empty()) bundle.signatures.push_back(bundle.signatures.back());
    return bundle;
  }
  Result MakeResult(Honest& h, AttemptIndex a) {
    Result result{IdOf(a), h.round->t2(), h.round->survivors(), DigestFor("sum"), DigestFor("next")};
    if (!Chance(50)) return result;
    switch (Pick(6)) {
      case 0:
        result.sum_sha256 = DigestFor("another sum");
        break;
      case 1:
        result.new_adapter = DigestFor("another adapter");
        break;
      case 2:
        result.t2.bytes[0] ^= 1;
        break;
      case 3:
        result.id.attempt ^= 1;
        break;
      case 4:
        result.survivors.push_back(static_cast<SiteIndex>(1 + Pick(world_.n())));
        break;
      default:
        if (!result.survivors.empty()) result.survivors.pop_back();
    }
    return result;
  }

  World world_;
  Colluder colluder_;
  std::mt19937 dice_;
  std::vector<std::unique_ptr<crypto::CtrRandom>> randoms_;
  std::map<AttemptIndex, std::deque<Honest>> honest_;
  std::map<const Honest*, crypto::CtrRandom*> random_of_;
  std::map<AttemptIndex, Gathered> gathered_;
  std::deque<CoordinatorMessage> history_;
  WireTap tap_;
  bool pairwise_;
  size_t refused_ = 0, results_ = 0;
};

constexpr uint32_t kSeedsOfAShard = 150;
class RandomScriptTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomScriptTest, BreaksNoLaw) {
  size_t unmasked = 0, refused = 0, results = 0;
  std::array<size_t, 2> unmasked_by_mode{};  // without pairwise keys, with them
  for (uint32_t i = 0; i < kSeedsOfAShard; ++i) {
    const uint32_t seed = GetParam() * kSeedsOfAShard + i;
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Script script(seed, seed % 3 == 0 ? 5 : 4, seed % 2 == 1);
    script.Run(70);
    ASSERT_EQ(script.Breaches(), std::vector<std::string>{});
    if (::testing::Test::HasFailure()) return;
    unmasked += script.Unmasked();
    unmasked_by_mode[seed % 2] += script.Unmasked();
    results += script.results();
    refused += script.refused();
  }
  // The scripts come far enough to break something if it could be broken.
  EXPECT_GT(unmasked, kSeedsOfAShard / 4);
  for (const size_t of_mode : unmasked_by_mode) EXPECT_GT(of_mode, kSeedsOfAShard / 10);
  EXPECT_GT(refused, 5 * kSeedsOfAShard);
  EXPECT_GT(results, kSeedsOfAShard / 10);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomScriptTest, ::testing::Range(0u, 4u));

}  // namespace
}  // namespace concordat::adversary
