#ifndef CONCORDAT_PRIVACY_SECAGG_COORDINATOR_MACHINE_H_
#define CONCORDAT_PRIVACY_SECAGG_COORDINATOR_MACHINE_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "privacy/secagg/coordinator_checks.h"

// The inside of CoordinatorRound. Events are in coordinator_round.cc, what ends a step and begins the next in
// coordinator_steps.cc.
namespace concordat::secagg {

/// The keys of a map by site, sorted.
template <typename Map>
std::vector<SiteIndex> SitesOf(const Map& map) {
  std::vector<SiteIndex> sites;
  for (const auto& [site, value] : map) sites.push_back(site);
  return sites;
}

/// What a message of a site is, once its signature holds: new, or one that was taken before.
enum class Admission { kNew, kRepeat };

class CoordinatorRound::Machine {
 public:
  Machine(Offer offer, const crypto::SigningKey& key, const PeerVerifier& peers,
          std::map<SiteIndex, std::string> chains, bool pairwise)
      : key_(&key), peers_(&peers), chains_(std::move(chains)) {
    state_.offer = std::move(offer);
    state_.pairwise = pairwise;
    state_.t0 = TranscriptT0(state_.offer);
    state_.curve = crypto::CurveFor(key.profile());
  }

  StatusOr<CoordinatorEffects> Start(Instant now);
  StatusOr<CoordinatorEffects> OnAdvert(const Signed<Advert>& advert, Instant now);
  StatusOr<CoordinatorEffects> OnShares(const Signed<Shares>& shares, Instant now);
  StatusOr<CoordinatorEffects> OnComplaint(const Signed<Complaint>& complaint, Instant now);
  StatusOr<CoordinatorEffects> OnUploaded(SiteIndex site, uint64_t elements, const Digest& sha256,
                                          const Signed<InputHeader>& header, Instant now);
  StatusOr<CoordinatorEffects> OnAgreement(const Signed<Agreement>& agreement, Instant now);
  StatusOr<CoordinatorEffects> OnUnmask(const Signed<Unmask>& unmask, Instant now);
  StatusOr<CoordinatorEffects> OnLost(SiteIndex site, Instant now);
  StatusOr<CoordinatorEffects> OnRejoined(SiteIndex site, Instant now);
  StatusOr<CoordinatorEffects> OnTimer(Instant now);
  StatusOr<CoordinatorEffects> Finish(const Digest& new_adapter, const Digest& sum_sha256, Instant now);
  CoordinatorEffects Cancel(std::string_view why);

  const CoordinatorState& state() const { return state_; }
  std::vector<SiteIndex> Awaited() const;
  std::vector<SiteIndex> Members() const;

 private:
  // Attempt, site, signature, repeat, phase: the same questions for every message of a site.
  template <typename T>
  StatusOr<Admission> Admit(const Signed<T>& message, SiteIndex site,
                            const std::map<SiteIndex, Signed<T>>& earlier, CoordinatorPhase step) const;
  bool HasAnswered(SiteIndex site) const;
  size_t Answers() const;
  size_t Needed() const;
  bool StepIsOver(bool at_deadline) const;
  CoordinatorEffects Nothing() const;

  void Advance(CoordinatorEffects& effects, Instant now, bool at_deadline);
  void DropOutdated(Instant now);
  void ReportDropped(CoordinatorEffects& effects) const;
  void EnterShares(CoordinatorEffects& effects);
  void EnterInput(CoordinatorEffects& effects);
  void EnterAgreement(CoordinatorEffects& effects);
  void EnterUnmask(CoordinatorEffects& effects);
  void EnterSummed(CoordinatorEffects& effects);
  void Enter(CoordinatorPhase phase, uint32_t step_ms, CoordinatorEffects& effects, Instant now);
  void Abort(CoordinatorEffects& effects, Aborted aborted);
  void Post(CoordinatorEffects& effects, SiteIndex to, std::shared_ptr<const CoordinatorMessage> message);
  template <typename T>
  void Broadcast(CoordinatorEffects& effects, const std::vector<SiteIndex>& to, T body);

  const crypto::SigningKey* key_;
  const PeerVerifier* peers_;
  std::map<SiteIndex, std::string> chains_;
  CoordinatorState state_;
  std::map<SiteIndex, std::shared_ptr<const CoordinatorMessage>> last_sent_;
};

template <typename T>
void CoordinatorRound::Machine::Broadcast(CoordinatorEffects& effects, const std::vector<SiteIndex>& to,
                                          T body) {
  const auto message = std::make_shared<const CoordinatorMessage>(Sign(*key_, std::move(body)));
  for (SiteIndex site : to) Post(effects, site, message);
}

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_COORDINATOR_MACHINE_H_
