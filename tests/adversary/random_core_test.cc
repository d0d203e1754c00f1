#include <array>
#include <map>
#include <random>
#include <set>

#include "tests/adversary/stage.h"

// Random scripts against whole worker cores: honest steps, old messages, twisted ones, lost connections,
// restarts and deadlines in any order, over several attempts and rounds. Whatever is said, the laws of
// Stage::ExpectLawful hold: one answer for each question, one kind of share, no vector without its charge.
// And of results: a region goes on from no adapter that does not follow from the published sum, and after a
// lie about one it has no part in the job any more.
namespace concordat::adversary {
namespace {

class Chaos {
 public:
  Chaos(uint32_t seed, bool pairwise)
      : s_(pairwise ? "secure_aggregation: {pairwise_keys: required}" : ""), dice_(seed) {}

  void Run(int moves) {
    s_.Open(0, 0);
    for (int i = 0; i < moves; ++i) {
      Move();
      NoteHalted();
    }
    s_.ExpectLawful();
    ExpectTrueAdapters();
    for (SiteIndex site = 1; site <= 4; ++site) {
      EXPECT_LE(s_.site(site).ledger->entries().size(), 9u) << "more than attempts of all rounds";
      for (const auto& unmask : s_.site(site).Sent<Signed<secagg::Unmask>>())
        unmasked_ += unmask.body.site > 0;
    }
  }
  size_t unmasked() const { return unmasked_; }
  /// Regions that took a result, and those that found a lie in one.
  size_t verified() const { return verified_; }
  size_t halted() const { return halted_.size(); }

 private:
  size_t Pick(size_t n) { return dice_() % n; }
  bool Chance(int percent) { return static_cast<int>(dice_() % 100) < percent; }

  void Move() {
    const auto site = static_cast<SiteIndex>(1 + Pick(4));
    for (const auto& m : s_.WaitingFor(site)) Remember(*m);
    if (Chance(55)) return Honest();
    switch (Pick(9)) {
      case 0:
        return s_.Restart(site);
      case 1:
        return s_.Reconnect(site);
      case 2:
        return s_.Tell(site, worker::AttemptAborted{s_.id(), 3});
      case 3:
        return Next();
      case 4:
      case 5:
        if (!said_.empty()) s_.Tell(site, said_[Pick(said_.size())]);
        return;
      case 6:
        s_.site(site).Tick(s_.site(site).now + Millis(1000 * static_cast<int64_t>(Pick(50))));
        return;
      default:
        return Twist(site);
    }
  }
  /// The honest core goes one step on.
  void Honest() {
    const auto phase = s_.round().phase();
    if (phase >= CoordinatorPhase::kSummed) {
      if (phase == CoordinatorPhase::kDone) TellResults();
      return Next();
    }
    s_.RunUntil(static_cast<CoordinatorPhase>(static_cast<int>(phase) + 1));
    published_.insert(s_.f.adapter_hash);
  }
  /// To most regions, to some of them a lie before it.
  void TellResults() {
    for (SiteIndex site = 1; site <= 4; ++site) {
      const auto waiting = s_.WaitingFor(site);
      for (const auto& m : waiting) {
        Remember(*m);
        const auto* result = std::get_if<Signed<Result>>(m.get());
        if (result != nullptr && Chance(20)) TwistOne(site, *result);
      }
      if (Chance(90)) s_.DeliverTo(site);
    }
  }
  /// How many attempts a region had entered when it found a lie: it enters none after.
  void NoteHalted() {
    for (SiteIndex site = 1; site <= 4; ++site) {
      if (s_.site(site).JournalCount<worker::JobHalted>() == 0) continue;
      const size_t entered = s_.site(site).JournalCount<worker::AttemptEntered>();
      EXPECT_EQ(halted_.emplace(site, entered).first->second, entered) << "a lie was forgotten";
    }
  }
  void ExpectTrueAdapters() {
    for (SiteIndex site = 1; site <= 4; ++site) {
      std::map<RoundIndex, Digest> made;
      for (const worker::Record& record : s_.site(site).journal) {
        const auto* adapter = std::get_if<worker::AdapterVerified>(&record);
        if (adapter == nullptr) continue;
        ++verified_;
        EXPECT_TRUE(published_.contains(adapter->adapter)) << "took an adapter that nobody's sum makes";
        EXPECT_EQ(made.emplace(adapter->round, adapter->adapter).first->second, adapter->adapter);
      }
    }
  }
  void Next() {
    const bool done = s_.round().phase() == CoordinatorPhase::kDone;
    if (done) ++round_, attempt_ = 0;
    if (!done) ++attempt_;
    s_.Open(round_ % 4, attempt_ % 3);
  }
  template <typename T>
  void Keep(const Signed<T>& m) {
    said_.emplace_back(m);
  }
  void Remember(const secagg::CoordinatorMessage& message) {
    std::visit([&](const auto& m) { Keep(m); }, message);
  }
  /// Something that was said, changed and signed by the coordinator.
  void Twist(SiteIndex site) {
    if (said_.empty()) return;
    const worker::FromCoordinator chosen = said_[Pick(said_.size())];
    std::visit([&](const auto& m) { TwistOne(site, m); }, chosen);
  }
  template <typename M>
  void TwistOne(SiteIndex, const M&) {}
  void TwistOne(SiteIndex site, Signed<Offer> m) {
    if (Chance(50)) m.body.deadlines.input_ms += 1;
    if (Chance(30)) m.body.roster.pop_back();
    if (Chance(30)) m.body.id.attempt += 1;
    s_.Tell(site, s_.ByCoordinator(m.body));
  }
  void TwistOne(SiteIndex site, Signed<Keys> m) {
    m.body.adverts.pop_back(), m.body.chains.pop_back();
    s_.Tell(site, s_.ByCoordinator(m.body));
  }
  void TwistOne(SiteIndex site, Signed<Delivery> m) {
    auto& tags = m.body.pair_tags;
    if (Chance(50) && !m.body.rows.empty()) {
      m.body.rows.pop_back();
      if (!tags.empty()) tags.pop_back();
    }
    if (Chance(30)) TwistTags(m.body);
    m.body.to = site;
    s_.Tell(site, s_.ByCoordinator(m.body));
  }
  /// Tags where the job has none, none where it has, another one.
  void TwistTags(Delivery& delivery) {
    auto& tags = delivery.pair_tags;
    if (tags.empty()) return tags.resize(delivery.rows.size());
    if (Chance(50)) return tags.clear();
    tags[Pick(tags.size())].bytes[0] ^= 1;
  }
  void TwistOne(SiteIndex site, Signed<Survivors> m) {
    const auto dead = std::ranges::none_of(m.body.headers, [](const auto& h) { return h.body.site == 4; });
    if (dead)
      m.body.headers.push_back(
          s_.BySite(4, secagg::InputHeader{m.body.id, 4, m.body.t2, s_.round().offer().elements, m.body.t2}));
    else
      m.body.headers.pop_back();
    s_.Tell(site, s_.ByCoordinator(m.body));
  }
  void TwistOne(SiteIndex site, Signed<AgreementBundle> m) {
    AgreementBundle& b = m.body;
    if (b.survivors.empty()) return;
    if (b.survivors.back() == 4)
      b.survivors.pop_back();
    else
      b.survivors.push_back(4);
    b.signatures.clear();
    for (SiteIndex i : b.survivors)  // as if all had agreed to the other set as well
      b.signatures.emplace_back(i, s_.BySite(i, secagg::Agreement{b.id, i, b.t2, b.survivors}).signature);
    s_.Tell(site, s_.ByCoordinator(b));
  }
  void TwistOne(SiteIndex site, Signed<Result> m) {
    Result& r = m.body;
    switch (Pick(6)) {
      case 0:
        r.new_adapter.bytes[0] ^= 1;
        break;
      case 1:
        AnotherSum(r, [](Bytes& sum) { sum[3] ^= 0x40; });  // one element by 2^30
        break;
      case 2:
        AnotherSum(r, [](Bytes& sum) { sum.resize(8); });
        break;
      case 3:
        if (!r.survivors.empty()) r.survivors.pop_back();
        break;
      case 4:
        r.t2.bytes[0] ^= 1;
        break;
      default:  // the adapter that the round began with
        r.new_adapter = s_.round().offer().adapter;
    }
    s_.Tell(site, s_.ByCoordinator(r));
  }
  /// A sum changed by `change`, under its true digest.
  template <typename F>
  void AnotherSum(Result& result, F change) {
    const auto known = s_.f.blobs.find(result.sum_sha256);
    if (known == s_.f.blobs.end()) return;
    Bytes sum = known->second;
    change(sum);
    result.sum_sha256 = crypto::Sha256(sum);
    s_.f.blobs[result.sum_sha256] = sum;
  }

  Stage s_;
  std::mt19937 dice_;
  std::vector<worker::FromCoordinator> said_;
  RoundIndex round_ = 0;
  AttemptIndex attempt_ = 0;
  std::set<Digest> published_;
  std::map<SiteIndex, size_t> halted_;  // attempts entered before
  size_t unmasked_ = 0, verified_ = 0;
};

class RandomCoreTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomCoreTest, BreaksNoLaw) {
  size_t unmasked = 0, verified = 0, halted = 0;
  std::array<size_t, 2> unmasked_by_mode{};  // without pairwise keys, with them
  for (uint32_t i = 0; i < 15; ++i) {
    const uint32_t seed = 15 * GetParam() + i;
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Chaos chaos(seed, seed % 2 == 1);
    chaos.Run(60);
    if (HasFailure()) return;
    unmasked += chaos.unmasked();
    unmasked_by_mode[seed % 2] += chaos.unmasked();
    verified += chaos.verified();
    halted += chaos.halted();
  }
  EXPECT_GT(unmasked, 10u) << "the scripts come far enough";
  for (const size_t of_mode : unmasked_by_mode) EXPECT_GT(of_mode, 3u) << "in both modes";
  EXPECT_GT(verified, 3u) << "and to results";
  EXPECT_GT(halted, 0u) << "and to lies about them";
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomCoreTest, ::testing::Range(0u, 4u));

}  // namespace
}  // namespace concordat::adversary
