#ifndef CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_
#define CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_

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

inline World& TheWorld() {
  static World world(4);
  return world;
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
        coordinator_(world.offer, world.coordinator, world.verifier, world.Chains()) {}

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
inline const Script& TheScript(bool lossy) {
  static const Script full = Recorder(TheWorld(), 0).Record();
  static const Script one_lost = Recorder(TheWorld(), 4).Record();
  return lossy ? one_lost : full;
}

}  // namespace concordat::fuzz

#endif  // CONCORDAT_TESTS_FUZZ_ATTEMPT_SCRIPT_H_
