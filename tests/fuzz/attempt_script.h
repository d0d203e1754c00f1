#ifndef CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_
#define CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "privacy/secagg/coordinator_log.h"
#include "privacy/secagg/worker_state.h"
#include "tests/fuzz/choices.h"
#include "tests/unit/privacy/secagg/harness.h"

// One honest attempt of four sites, every message of it: what the fuzzers of both machines start from. Cores
// are given the same randomness each time, so that their answers are the script's as long as nothing that
// they accept was changed.
namespace concordat::fuzz {

using namespace secagg;  // NOLINT: the protocol's messages
using secagg::testing::At;
using secagg::testing::Attempt;
using secagg::testing::DigestFor;
using secagg::testing::World;

/// What a federation and a job decide for a whole attempt.
enum Mode : uint8_t { kPlain, kP256, kPairwise, kP256Pairwise };
constexpr bool HasP256(Mode mode) { return mode == kP256 || mode == kP256Pairwise; }
constexpr bool HasPairwise(Mode mode) { return mode == kPairwise || mode == kP256Pairwise; }

/// The inputs' first byte when it is one of these says the mode; else it is the first choice of an attempt in
/// kPlain, as in corpora from before there were modes.
inline constexpr std::array<uint8_t, 4> kModeBytes{252, 253, 254, 255};
inline Mode TakeMode(Choices& c) {
  const auto known = std::ranges::find(kModeBytes, c.Peek());
  if (known == kModeBytes.end()) return kPlain;
  (void)c.Byte();
  return static_cast<Mode>(known - kModeBytes.begin());
}

/// Everybody's keys on P-256, with what is made of them.
inline void UseP256(World& world) {
  constexpr auto kProfile = crypto::SignatureProfile::kP256;
  crypto::CtrRandom random(secagg::testing::SeedFor("p256 identities"));
  world.coordinator = crypto::SigningKey::Generate(random, kProfile);
  for (size_t i = 0; i < world.sites.size(); ++i) {
    World::Site& site = world.sites[i];
    site.key = crypto::SigningKey::Generate(random, kProfile);
    world.verifier.Add(site.chain, site.id, site.key.Public());
    world.offer.roster[i].key_hash = site.key.Public().KeyHash();
  }
}

inline World& TheWorld(Mode mode = kPlain) {
  static std::map<Mode, World> worlds;
  const auto [known, is_new] = worlds.try_emplace(mode, 4);
  if (is_new && HasP256(mode)) UseP256(known->second);
  if (is_new && HasPairwise(mode)) known->second.CarryPairwiseKeys();
  return known->second;
}

/// Body, signature, and what is beside the body.
template <typename T>
Bytes WholeBytes(const Signed<T>& message) {
  CanonicalWriter out;
  out.Text(T::kDomain);
  out.Blob(Canonical(message.body));
  out.Raw(message.signature);
  if constexpr (std::is_same_v<T, Shares>) {
    for (const ShareCiphertext& c : message.body.ciphertexts) out.Raw(c);
    for (const PairSeal& seal : message.body.pair_seals) out.Raw(seal);
  }
  return out.Take();
}
template <typename... Messages>
Bytes WholeBytes(const std::variant<Messages...>& message) {
  return std::visit([](const auto& m) { return WholeBytes(m); }, message);
}

struct Script {
  Signed<Offer> offer;
  Signed<Keys> keys;
  std::map<SiteIndex, Signed<Delivery>> deliveries;
  Signed<Survivors> survivors;
  Signed<AgreementBundle> bundle;
  Signed<Result> result;
  std::map<SiteIndex, Signed<Advert>> adverts;
  std::map<SiteIndex, Signed<Shares>> shares;
  std::map<SiteIndex, Signed<InputHeader>> headers;
  std::map<SiteIndex, Signed<Agreement>> agreements;
  std::map<SiteIndex, Signed<Unmask>> unmasks;
  std::map<SiteIndex, std::map<SiteIndex, HeldShares>> held;  // by holder, by dealer
  std::vector<Bytes> snapshots;                               // of site 1, each step's
  std::vector<Bytes> log;                                     // of the coordinator
};

/// Plays an attempt and writes everything down.
class Recorder {
 public:
  /// \param lost a site whose connection is gone before its upload; 0: none
  Recorder(World& world, SiteIndex lost)
      : world_(world),
        lost_(lost),
        sites_(world),
        coordinator_(world.offer, world.coordinator, world.verifier, world.Chains(),
                     !world.pairwise.empty()) {}

  Script Record() {
    Take(coordinator_.Start(At(0)));
    Deliver();
    Must(coordinator_.round().phase() == CoordinatorPhase::kSummed, "the script's attempt has a sum");
    Take(coordinator_.Finish(DigestFor("new adapter"), DigestFor("sum"), At(0)));
    Deliver();
    return std::move(script_);
  }

 private:
  void Deliver() {
    while (!pending_.empty()) {
      const Outgoing next = std::move(pending_.front());
      pending_.pop_front();
      std::visit([&](const auto& m) { Keep(next.to, m); }, *next.message);
      if (next.to == lost_ && std::holds_alternative<Signed<Delivery>>(*next.message)) {
        Take(coordinator_.OnLost(lost_, At(0)));
        continue;
      }
      auto effects = sites_.AtWorker(next.to, *next.message);
      Must(effects.ok(), "the script's workers accept what comes");
      Snapshot(next.to, *effects);
      if (effects->phase == WorkerPhase::kReady) {
        Upload(next.to);
      } else if (effects->send.has_value()) {
        std::visit([&](const auto& m) { Answer(m); }, *effects->send);
      }
    }
  }
  void Upload(SiteIndex site) {
    WorkerRound& worker = sites_.worker(site);
    auto begun = worker.BeginInput(At(0));
    Must(begun.ok() && worker.TakeMasks().ok(), "the script's workers have masks");
    Snapshot(site, *begun);
    auto sent = worker.OnInput(world_.offer.elements, Upload256(site), At(0));
    Must(sent.ok(), "the script's workers upload");
    Snapshot(site, *sent);
    const auto& header = std::get<Signed<InputHeader>>(*sent->send);
    script_.headers[site] = header;
    Take(coordinator_.OnUploaded(site, header.body.elements, header.body.sha256, header, At(0)));
  }
  void Snapshot(SiteIndex site, const WorkerEffects& effects) {
    if (!effects.persist.has_value()) return;
    const ByteView snapshot = effects.persist->snapshot.view();
    if (site == 1) script_.snapshots.push_back(ToBytes(snapshot));
    if (effects.phase == WorkerPhase::kReady) script_.held[site] = DecodeWorkerState(snapshot).value().held;
  }
  void Take(StatusOr<LoggedEffects> effects) {
    Must(effects.ok(), "the script's coordinator accepts what comes");
    if (effects->record.has_value()) script_.log.push_back(*effects->record);
    for (Outgoing& out : effects->send) pending_.push_back(std::move(out));
  }

  void Keep(SiteIndex, const Signed<Offer>& m) { script_.offer = m; }
  void Keep(SiteIndex, const Signed<Keys>& m) { script_.keys = m; }
  void Keep(SiteIndex to, const Signed<Delivery>& m) { script_.deliveries[to] = m; }
  void Keep(SiteIndex, const Signed<Survivors>& m) { script_.survivors = m; }
  void Keep(SiteIndex, const Signed<AgreementBundle>& m) { script_.bundle = m; }
  void Keep(SiteIndex, const Signed<Result>& m) { script_.result = m; }

  void Answer(const Signed<Advert>& m) {
    script_.adverts[m.body.site] = m;
    Take(coordinator_.OnAdvert(m, At(0)));
  }
  void Answer(const Signed<Shares>& m) {
    script_.shares[m.body.dealer] = m;
    Take(coordinator_.OnShares(m, At(0)));
  }
  void Answer(const Signed<Agreement>& m) {
    script_.agreements[m.body.site] = m;
    Take(coordinator_.OnAgreement(m, At(0)));
  }
  void Answer(const Signed<Unmask>& m) {
    script_.unmasks[m.body.site] = m;
    Take(coordinator_.OnUnmask(m, At(0)));
  }
  void Answer(const Signed<Complaint>&) { Must(false, "the script's workers have no complaint"); }
  void Answer(const Signed<InputHeader>&) { Must(false, "a header comes with an upload"); }

 public:
  /// Stands for the digest of a site's masked vector, which no core looks into.
  static Digest Upload256(SiteIndex site) { return DigestFor(fmt::format("y of site {}", site)); }

 private:
  World& world_;
  SiteIndex lost_;
  Attempt sites_;  // its workers only
  LoggedRound coordinator_;
  std::deque<Outgoing> pending_;
  Script script_;
};

/// The attempt that everybody ends, and the one that loses site 4 after it has dealt its shares.
inline const Script& TheScript(bool lossy, Mode mode = kPlain) {
  static std::map<std::pair<bool, Mode>, Script> scripts;
  const auto known = scripts.find({lossy, mode});
  if (known != scripts.end()) return known->second;
  Script made = Recorder(TheWorld(mode), lossy ? 4 : 0).Record();
  return scripts[{lossy, mode}] = std::move(made);
}

}  // namespace concordat::fuzz

#endif  // CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_
