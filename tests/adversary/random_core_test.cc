#include <random>

#include "tests/adversary/stage.h"

// Random scripts against whole worker cores: honest steps, old messages, twisted ones, lost connections,
// restarts and deadlines in any order, over several attempts and rounds. Whatever is said, the laws of
// Stage::ExpectLawful hold: one answer for each question, one kind of share, no vector without its charge.
namespace concordat::adversary {
namespace {

class Chaos {
 public:
  explicit Chaos(uint32_t seed) : dice_(seed) {}

  void Run(int moves) {
    s_.Open(0, 0);
    for (int i = 0; i < moves; ++i) Move();
    s_.ExpectLawful();
    for (SiteIndex site = 1; site <= 4; ++site) {
      EXPECT_LE(s_.site(site).ledger->entries().size(), 9u) << "more than attempts of all rounds";
      for (const auto& unmask : s_.site(site).Sent<Signed<secagg::Unmask>>())
        unmasked_ += unmask.body.site > 0;
    }
  }
  size_t unmasked() const { return unmasked_; }

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
    if (phase >= CoordinatorPhase::kSummed) return Next();
    s_.RunUntil(static_cast<CoordinatorPhase>(static_cast<int>(phase) + 1));
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
    if (Chance(50)) m.body.rows.pop_back();
    m.body.to = site;
    s_.Tell(site, s_.ByCoordinator(m.body));
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
    m.body.new_adapter.bytes[0] ^= 1;
    s_.Tell(site, s_.ByCoordinator(m.body));
  }

  Stage s_;
  std::mt19937 dice_;
  std::vector<worker::FromCoordinator> said_;
  RoundIndex round_ = 0;
  AttemptIndex attempt_ = 0;
  size_t unmasked_ = 0;
};

class RandomCoreTest : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomCoreTest, BreaksNoLaw) {
  size_t unmasked = 0;
  for (uint32_t i = 0; i < 15; ++i) {
    const uint32_t seed = 15 * GetParam() + i;
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Chaos chaos(seed);
    chaos.Run(60);
    if (HasFailure()) return;
    unmasked += chaos.unmasked();
  }
  EXPECT_GT(unmasked, 10u) << "the scripts come far enough";
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomCoreTest, ::testing::Range(0u, 4u));

}  // namespace
}  // namespace concordat::adversary
