// The coordinator's machine and its log against sites that say anything, all of whose keys the fuzzer holds:
// true answers, edited ones, lost and returning connections, deadlines, and restarts from the log. Each byte
// of the input is a choice; the first may say the attempt's mode (TakeMode).
//
// Whatever comes: one body for each message to a site, for ever; one U3, of sites whose uploads were
// accepted; no upload accepted twice; what is refused changes nothing; each decision is in the log, and the
// log gives the same state back.
#include <algorithm>
#include <array>
#include <set>

#include "tests/fuzz/attempt_script.h"
#include "tests/fuzz/edits.h"

namespace concordat::fuzz {
namespace {

constexpr int kMostMoves = 64;
constexpr Millis kGrace{30'000};

class Play {
 public:
  explicit Play(Choices c)
      : c_(c),
        mode_(TakeMode(c_)),
        world_(TheWorld(mode_)),
        editor_(world_, 0, c_),
        round_(world_.offer, world_.coordinator, world_.verifier, world_.Chains(), HasPairwise(mode_)) {}
  void Run() {
    Took([&] { return round_.Start(now_); });
    for (int i = 0; i < kMostMoves && !c_.done(); ++i) Move();
  }

 private:
  const CoordinatorRound& round() const { return round_.round(); }
  const crypto::SigningKey& KeyOf(SiteIndex site) const { return editor_.KeyOf(site); }
  SiteIndex AnySite() { return static_cast<SiteIndex>(1 + c_.Below(world_.n())); }

  void Move() {
    switch (c_.Below(10)) {
      case 0:
      case 1:
        return Honest();
      case 2:
        return SayAny(false);
      case 3:
        return Took([&, site = AnySite()] { return round_.OnLost(site, now_); });
      case 4:
        return Took([&, site = static_cast<SiteIndex>(c_.Below(6))] {  // 0 and 5 are nobody
          return round_.OnRejoined(site, now_);
        });
      case 5:
        return Wait(c_.Below(4));
      case 6:
        return Restart();
      case 7:
        if (c_.Byte() == 7) Took([&] { return StatusOr<LoggedEffects>(round_.Cancel("withdrawn", now_)); });
        return;
      default:
        return SayAny(true);
    }
  }
  void Wait(size_t how_long) {
    static constexpr std::array<int64_t, 4> kWaits{0, 1, 15'000, 600'000};
    now_ += Millis(kWaits[how_long]);
    Took([&] { return round_.OnTimer(now_); });
  }
  /// What the step waits for, from one of those it waits for.
  void Honest() {
    if (round().phase() == CoordinatorPhase::kSummed) {
      return Took([&] { return round_.Finish(DigestFor("new adapter"), DigestFor("sum"), now_); });
    }
    const auto awaited = round().awaited();
    if (awaited.empty()) return Wait(3);
    Say(static_cast<size_t>(round().phase()), awaited[c_.Below(awaited.size())], false);
  }

  // ---- Answers, true ones and edited ones.

  void SayAny(bool edited) {
    const size_t step = 1 + c_.Below(6);
    const SiteIndex site = AnySite();
    Say(step, site, edited);
  }
  /// \param step as CoordinatorPhase numbers it, kAdverts to kUnmask; 6: a complaint
  void Say(size_t step, SiteIndex site, bool edited) {
    switch (step) {
      case 1:
        return Say(site, edited, TheScript(false, mode_).adverts.at(site),
                   [&](const auto& m) { return round_.OnAdvert(m, now_); });
      case 2:
        return Say(site, edited, SharesOf(site), [&](const auto& m) { return round_.OnShares(m, now_); });
      case 3:
        return Say(site, edited,
                   Sign(KeyOf(site), InputHeader{round().offer().id, site, round().t2(),
                                                 round().offer().elements, Recorder::Upload256(site)}),
                   [&](const auto& m) { return Uploaded(site, m); });
      case 4:
        return Say(site, edited,
                   Sign(KeyOf(site), Agreement{round().offer().id, site, round().t2(), round().survivors()}),
                   [&](const auto& m) { return round_.OnAgreement(m, now_); });
      case 5:
        return Say(site, edited, Sign(KeyOf(site), UnmaskOf(site)),
                   [&](const auto& m) { return round_.OnUnmask(m, now_); });
      default:
        return Say(site, edited,
                   Sign(KeyOf(site), Complaint{round().offer().id, site, AnySite(), round().t1(),
                                               Complaint::Code::kCannotDecrypt}),
                   [&](const auto& m) { return round_.OnComplaint(m, now_); });
    }
  }
  template <typename T, typename F>
  void Say(SiteIndex site, bool edited, Signed<T> message, F give) {
    if (edited) {
      for (size_t more = 1 + c_.Below(3); more > 0; --more) editor_.Edit(message.body);
      const size_t signer = c_.Below(8);
      if (signer != 7) {
        const SiteIndex by = signer == 6 ? AnySite() : site;
        message = Sign(KeyOf(by), std::move(message.body));
      }
    }
    Took([&] { return give(message); });
  }
  StatusOr<LoggedEffects> Uploaded(SiteIndex site, const Signed<InputHeader>& header) {
    const size_t what = c_.Below(8);
    const uint64_t elements = header.body.elements + (what == 6 ? 1 : 0);
    const Digest sha256 = what == 7 ? DigestFor("other bytes") : header.body.sha256;
    return round_.OnUploaded(site, elements, sha256, header, now_);
  }
  /// The script's, which open, where U1 is the script's; else some that have the form only.
  Signed<Shares> SharesOf(SiteIndex site) {
    const Signed<Shares>& true_ones = TheScript(false, mode_).shares.at(site);
    if (round().t1() == true_ones.body.t1) return true_ones;
    Shares made{round().offer().id, site, round().t1(), {}, {}};
    for (const SiteIndex holder : round().advertised()) {
      made.commitments.push_back({holder, DigestFor("a"), DigestFor("b")});
      made.ciphertexts.emplace_back();
      if (HasPairwise(mode_)) made.pair_seals.emplace_back();
    }
    return Sign(KeyOf(site), std::move(made));
  }
  Unmask UnmaskOf(SiteIndex site) {
    Unmask out{round().offer().id, site, round().t2(), {}, {}};
    const auto& held = TheScript(false, mode_).held.at(site);
    for (const SiteIndex dealer : round().dealers()) {
      const HeldShares& shares = held.at(dealer);
      if (std::ranges::binary_search(round().survivors(), dealer)) {
        out.seed_shares.push_back({dealer, shares.seed_share, shares.seed_salt});
      } else {
        out.mask_key_shares.push_back({dealer, shares.mask_key_share, shares.mask_key_salt});
      }
    }
    return out;
  }

  // ---- Laws.

  template <typename F>
  void Took(F event) {
    const CoordinatorPhase before = round().phase();
    const auto u3 = round().survivors();
    const Digest t1 = round().t1(), t2 = round().t2();
    const StatusOr<LoggedEffects> effects = event();
    const CoordinatorPhase after = round().phase();
    if (!effects.ok()) {
      Must(after == before && round().survivors() == u3 && round().t1() == t1 && round().t2() == t2,
           "a refusal changes nothing");
      return;
    }
    Must(effects->phase == after && after >= before, "an attempt goes forward");
    Must(effects->aborted.has_value() == (after == CoordinatorPhase::kAborted && after != before),
         "an end is told once");
    const bool decided = (after != before && after <= CoordinatorPhase::kUnmask) ||
                         effects->aborted.has_value() || !effects->accept.empty();
    Must(!decided || effects->record.has_value(), "a decision is in the log");
    if (effects->record.has_value()) log_.push_back(*effects->record);
    Accepted(*effects, before);
    Survived(*effects);
    for (const Outgoing& out : effects->send) Sent(out);
    if (effects->unmask.has_value()) Unmasked(*effects->unmask);
  }
  void Accepted(const LoggedEffects& effects, CoordinatorPhase before) {
    for (const SiteIndex site : effects.accept) {
      Must(before == CoordinatorPhase::kInput, "uploads are accepted in their step");
      Must(std::ranges::binary_search(round().dealers(), site), "uploads are those of U2");
      Must(accepted_.insert(site).second, "an upload is accepted once");
    }
    if (round().phase() == CoordinatorPhase::kAborted) return;
    std::set<SiteIndex> stored;
    for (const auto& [site, header] : round_.uploads()) stored.insert(site);
    Must(stored == accepted_, "the log knows the uploads that were accepted");
  }
  void Survived(const LoggedEffects& effects) {
    if (!effects.survivors.has_value()) return;
    Must(u3_.empty(), "U3 is fixed once");
    u3_ = *effects.survivors;
    Must(u3_ == round().survivors() && u3_.size() >= round().offer().min_survivors, "U3 is large enough");
    for (const SiteIndex site : u3_)
      Must(accepted_.contains(site), "U3 are sites whose uploads were accepted");
  }
  void Sent(const Outgoing& out) {
    Must(out.to >= 1 && out.to <= world_.n(), "messages go to sites");
    // An ECDSA signature made again has other bytes: of those what is compared is the body.
    const Bytes whole = HasP256(mode_)
                            ? std::visit([](const auto& m) { return Canonical(m.body); }, *out.message)
                            : WholeBytes(*out.message);
    const auto [known, is_new] = said_.emplace(std::pair(out.message->index(), out.to), whole);
    Must(is_new || known->second == whole, "one body for each message to a site");
    const auto* survivors = std::get_if<Signed<Survivors>>(out.message.get());
    if (survivors == nullptr) return;
    std::vector<SiteIndex> sites;
    for (const auto& header : survivors->body.headers) sites.push_back(header.body.site);
    Must(sites == u3_, "the U3 that is told is the one that was fixed");
  }
  void Unmasked(const UnmaskWork& work) {
    const size_t alive = u3_.size(), dead = round().dealers().size() - alive;
    Must(work.survivors == u3_ && work.keys.size() == alive + alive * dead,
         "masks are taken off for the U3 that was fixed");
  }
  /// The process ended; the next one has the log.
  void Restart() {
    const CoordinatorPhase before = round().phase();
    if (before == CoordinatorPhase::kDone) return;  // the log is gone then
    auto replayed =
        LoggedRound::Replay(world_.coordinator, world_.verifier, log_, now_, kGrace, HasPairwise(mode_));
    Must(replayed.ok(), "a coordinator's log replays");
    const CoordinatorRound& again = replayed->round();
    if (before == CoordinatorPhase::kAborted) {
      Must(again.phase() == before && replayed->ended().has_value(), "an attempt that ended has ended");
    } else {
      // Opened shares are not in the log: the sites say them again.
      Must(again.phase() == std::min(before, CoordinatorPhase::kUnmask), "a replay is in the same step");
      Must(again.t0() == round().t0() && again.t1() == round().t1() && again.t2() == round().t2() &&
               again.survivors() == round().survivors(),
           "a replay has the same sets");
    }
    round_ = *std::move(replayed);
  }

  Choices c_;
  Mode mode_;
  const World& world_;
  Editor editor_;
  LoggedRound round_;
  Instant now_ = At(0);
  std::vector<Bytes> log_;
  std::set<SiteIndex> accepted_;
  std::vector<SiteIndex> u3_;
  std::map<std::pair<size_t, SiteIndex>, Bytes> said_;
};

}  // namespace
}  // namespace concordat::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  concordat::fuzz::Play(concordat::fuzz::Choices(data, size)).Run();
  return 0;
}
