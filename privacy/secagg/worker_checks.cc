#include "privacy/secagg/worker_checks.h"

#include <algorithm>
#include <set>

#include "privacy/crypto/hash.h"
#include "privacy/secagg/refusal.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;

// Every agreement key of the attempt must differ from every other: a site that repeats another's key, or uses
// one key for two purposes, is refused before anything is derived from it.
class KeyBag {
 public:
  Status Add(const AgreementPublic& key, SiteIndex site) {
    if (keys_.insert(key).second) return OkStatus();
    return Refuse(kDuplicateKey, "site {} repeats a key", site);
  }
  Status Add(const Digest& seed_hash, SiteIndex site) {
    if (hashes_.insert(seed_hash).second) return OkStatus();
    return Refuse(kDuplicateKey, "site {} repeats a seed hash", site);
  }

 private:
  std::set<AgreementPublic> keys_;
  std::set<Digest> hashes_;
};

StatusOr<Peer> CheckPeer(const Signed<Advert>& advert, std::string_view chain, const WorkerState& state,
                         const PeerVerifier& verifier, Instant now) {
  const RosterEntry& entry = state.offer.roster[advert.body.site - 1];
  if (advert.body.id != state.offer.id)
    return Refuse(kWrongAttempt, "an advert of {}", advert.body.id.Brief());
  if (advert.body.t0 != state.t0) return Refuse(kTranscript, "{} saw another offer", entry.worker.Brief());
  const auto identity = verifier.Verify(chain, now);
  if (!identity.ok()) {
    return Refuse(kUntrustedPeer, "{}: {}", entry.worker.Brief(), Message(identity.status()));
  }
  if (identity->id != entry.worker || identity->key_hash != entry.key_hash) {
    return Refuse(kUntrustedPeer, "the chain for {} is {}'s or has another key", entry.worker.Brief(),
                  identity->id.Brief());
  }
  auto key = crypto::VerifyKey::FromSpki(identity->spki);
  if (!key.ok()) return Refuse(kUntrustedPeer, "{}: {}", entry.worker.Brief(), Message(key.status()));
  if (!CheckSignature(*key, advert).ok()) {
    return Refuse(kBadSignature, "the advert of {} is not signed by it", entry.worker.Brief());
  }
  return Peer{*std::move(key), advert.body};
}

// A point of low order would give a key that everybody knows, with any secret; on P-256, what is no point
// would give none.
Status CheckNotLowOrder(const WorkerState& state, const Advert& advert) {
  if (crypto::Agree(state.channel.secret, advert.channel_key, state.curve).ok() &&
      crypto::Agree(state.channel.secret, advert.mask_key, state.curve).ok()) {
    return OkStatus();
  }
  return Refuse(kDuplicateKey, "site {} has a key of low order", advert.site);
}

bool HoldersAreU1(const std::vector<ShareCommitment>& commitments, const std::map<SiteIndex, Peer>& peers) {
  return std::ranges::equal(commitments, peers, {}, &ShareCommitment::holder,
                            [](const auto& peer) { return peer.first; });
}

Status CheckHeader(const Signed<InputHeader>& header, const WorkerState& state) {
  const InputHeader& body = header.body;
  if (!state.held.contains(body.site)) return Refuse(kOutsideSet, "site {} is not in U2", body.site);
  if (body.id != state.offer.id) return Refuse(kWrongAttempt, "a header of {}", body.id.Brief());
  if (body.t2 != state.t2) return Refuse(kTranscript, "site {} masked under another transcript", body.site);
  if (body.elements != state.offer.elements) {
    return Refuse(kElements, "site {} sent {} elements, not {}", body.site, body.elements,
                  state.offer.elements);
  }
  if (!CheckSignature(state.peers.at(body.site).key, header).ok()) {
    return Refuse(kBadSignature, "the header of site {} is not signed by it", body.site);
  }
  return OkStatus();
}

}  // namespace

bool IsSiteSet(const std::vector<SiteIndex>& sites, size_t n) {
  SiteIndex last = 0;
  for (SiteIndex site : sites) {
    if (site <= last || site > n) return false;
    last = site;
  }
  return true;
}

StatusOr<SiteIndex> FindSelf(const Offer& offer, const SpiffeId& self, const Digest& own_key_hash) {
  for (size_t i = 0; i < offer.roster.size(); ++i) {
    if (offer.roster[i].worker != self) continue;
    if (offer.roster[i].key_hash != own_key_hash) {
      return Refuse(kRoster, "the roster has another key for {}", self.Brief());
    }
    return static_cast<SiteIndex>(i + 1);
  }
  return Refuse(kRoster, "{} is not in the roster", self.Brief());
}

StatusOr<std::map<SiteIndex, Peer>> CheckKeys(const Keys& keys, const WorkerState& state,
                                              const PeerVerifier& verifier, Instant now) {
  std::vector<SiteIndex> sites;
  for (const Signed<Advert>& advert : keys.adverts) sites.push_back(advert.body.site);
  if (!IsSiteSet(sites, state.offer.roster.size()) || keys.chains.size() != sites.size()) {
    return Refuse(kMalformed, "U1 must be sorted, without repeats, each with its chain");
  }
  if (sites.size() < state.offer.min_survivors) {
    return Refuse(kTooFewAdverts, "{} adverts, at least {} are needed", sites.size(),
                  state.offer.min_survivors);
  }
  if (!std::ranges::binary_search(sites, state.site))
    return Refuse(kSelfMissing, "U1 is without this worker");

  std::map<SiteIndex, Peer> peers;
  KeyBag bag;
  for (size_t i = 0; i < sites.size(); ++i) {
    const Advert& body = keys.adverts[i].body;
    if (sites[i] == state.site && Canonical(body) != Canonical(state.advert->body)) {
      return Refuse(kOwnMessageChanged, "this worker's advert came back altered");
    }
    ASSIGN_OR_RETURN(Peer peer, CheckPeer(keys.adverts[i], keys.chains[i], state, verifier, now));
    RETURN_IF_ERROR(bag.Add(body.channel_key, body.site));
    RETURN_IF_ERROR(bag.Add(body.mask_key, body.site));
    RETURN_IF_ERROR(bag.Add(body.seed_hash, body.site));
    RETURN_IF_ERROR(CheckNotLowOrder(state, body));
    peers.emplace(sites[i], std::move(peer));
  }
  return peers;
}

Status CheckDeliveryForm(const Delivery& delivery, const WorkerState& state) {
  if (delivery.to != state.site) return Refuse(kMalformed, "a delivery for site {}", delivery.to);
  if (delivery.t1 != state.t1) return Refuse(kTranscript, "a delivery under another T1");
  const Shares& own = state.shares->body;
  if (delivery.pair_tags.size() != (own.pair_seals.empty() ? 0 : delivery.rows.size())) {
    return Refuse(kMalformed, "{} pair tags with {} rows", delivery.pair_tags.size(), delivery.rows.size());
  }
  std::vector<SiteIndex> dealers;
  for (const Delivery::Row& row : delivery.rows) {
    dealers.push_back(row.dealer);
    if (!state.peers.contains(row.dealer)) return Refuse(kOutsideSet, "dealer {} is not in U1", row.dealer);
    if (!HoldersAreU1(*row.commitments, state.peers)) {
      return Refuse(kMalformed, "dealer {} has not committed to a share for each site of U1", row.dealer);
    }
    if (row.dealer != state.site) continue;
    const auto column = static_cast<size_t>(std::distance(state.peers.begin(), state.peers.find(state.site)));
    const bool other_tag =
        !own.pair_seals.empty() && delivery.pair_tags[dealers.size() - 1] != TagOf(own.pair_seals.at(column));
    if (*row.commitments != own.commitments || row.signature != state.shares->signature ||
        row.ciphertext != own.ciphertexts.at(column) || other_tag) {
      return Refuse(kOwnMessageChanged, "this worker's own row came back altered");
    }
  }
  if (!IsSiteSet(dealers, state.offer.roster.size()))
    return Refuse(kMalformed, "U2 must be sorted, without repeats");
  if (dealers.size() < state.offer.min_survivors) {
    return Refuse(kTooFewDealers, "{} dealers, at least {} are needed", dealers.size(),
                  state.offer.min_survivors);
  }
  if (!std::ranges::binary_search(dealers, state.site))
    return Refuse(kSelfMissing, "U2 is without this worker");
  return OkStatus();
}

StatusOr<Secret32> PairwiseKeyWith(SiteIndex site, const WorkerState& state, const PairwiseKeys& keys) {
  if (site == state.site) return OwnPairwiseKey(state.mask.secret, state.seed);
  const SpiffeId& peer = state.offer.roster.at(site - 1u).worker;
  const auto key = keys.find(peer);
  if (key == keys.end()) {
    return Refuse(kPairwiseKey, "this region has no pairwise key with {}", peer.ToString());
  }
  return key->second;
}

Status CheckPairwiseAsDealt(const WorkerState& state, const PairwiseKeys* pairwise) {
  const bool dealt = state.phase == WorkerPhase::kShared || state.phase == WorkerPhase::kReady;
  if (!dealt || !state.shares.has_value()) return OkStatus();
  const auto& seals = state.shares->body.pair_seals;
  if (seals.empty() != (pairwise == nullptr) || (!seals.empty() && seals.size() != state.peers.size()))
    return DataLoss("the snapshot has {} pair seals for {} sites", seals.size(), state.peers.size());
  size_t k = 0;
  for (const auto& [site, peer] : state.peers) {
    if (seals.empty()) break;
    ASSIGN_OR_RETURN(const Secret32 key, PairwiseKeyWith(site, state, *pairwise));
    const Secret32 part = PairMaskPart(key, state.t1, state.site, site);
    if (PairTag(part, state.t1, state.site, site) != TagOf(seals[k++])) {
      return Refuse(kPairwiseKey, "the pairwise key with {} is another than before the restart",
                    state.offer.roster.at(site - 1u).worker.ToString());
    }
  }
  return OkStatus();
}

OpenedRow OpenRow(const Delivery::Row& row, const WorkerState& state, const PairwiseKeys* pairwise,
                  const Digest& tag) {
  const Peer& dealer = state.peers.at(row.dealer);
  const Signed<Shares> dealt{{state.offer.id, row.dealer, state.t1, *row.commitments, {}}, row.signature};
  if (!CheckSignature(dealer.key, dealt).ok()) return {std::nullopt, Complaint::Code::kBadSignature};
  std::optional<Secret32> part;
  if (pairwise != nullptr) {
    // Said before a ciphertext that does not open would say it, so that the two regions know what to mend.
    const auto pair = PairwiseKeyWith(row.dealer, state, *pairwise);
    if (!pair.ok()) return {std::nullopt, Complaint::Code::kOtherPairwiseKey};
    const Secret32 mask_part = PairMaskPart(*pair, state.t1, row.dealer, state.site);
    if (PairTag(mask_part, state.t1, row.dealer, state.site) != tag)
      return {std::nullopt, Complaint::Code::kOtherPairwiseKey};
    part = PairSharePart(*pair, state.t1, row.dealer, state.site);
  }
  const auto key = ShareKey(state.channel.secret, dealer.advert.channel_key, state.t1, row.dealer, state.site,
                            part.has_value() ? &*part : nullptr, state.curve);
  if (!key.ok()) return {std::nullopt, Complaint::Code::kCannotDecrypt};
  auto shares = OpenShares(*key, state.t1, row.dealer, state.site, row.ciphertext);
  if (!shares.ok()) return {std::nullopt, Complaint::Code::kCannotDecrypt};
  const auto mine = std::ranges::find(*row.commitments, state.site, &ShareCommitment::holder);
  if (mine == row.commitments->end() || *mine != shares->Commit(row.dealer, state.site)) {
    return {std::nullopt, Complaint::Code::kCommitmentMismatch};
  }
  return {*std::move(shares), {}};
}

Digest TranscriptOf(const Delivery& delivery) {
  std::vector<std::pair<SiteIndex, std::vector<ShareCommitment>>> dealers;
  for (const Delivery::Row& row : delivery.rows) dealers.emplace_back(row.dealer, *row.commitments);
  return TranscriptT2(delivery.t1, dealers);
}

Status CheckSurvivors(const Survivors& survivors, const WorkerState& state) {
  if (survivors.t2 != state.t2) return Refuse(kTranscript, "survivors under another T2");
  std::vector<SiteIndex> sites;
  for (const Signed<InputHeader>& header : survivors.headers) sites.push_back(header.body.site);
  if (!IsSiteSet(sites, state.offer.roster.size()))
    return Refuse(kMalformed, "U3 must be sorted, without repeats");
  if (sites.size() < state.offer.min_survivors) {
    return Refuse(kTooFewSurvivors, "{} survivors, at least {} are needed", sites.size(),
                  state.offer.min_survivors);
  }
  if (!std::ranges::binary_search(sites, state.site))
    return Refuse(kSelfMissing, "U3 is without this worker");
  for (const Signed<InputHeader>& header : survivors.headers) {
    RETURN_IF_ERROR(CheckHeader(header, state));
    if (header.body.site == state.site && Canonical(header.body) != Canonical(state.header->body)) {
      return Refuse(kOwnMessageChanged, "this worker's header came back altered");
    }
  }
  return OkStatus();
}

Status CheckBundle(const AgreementBundle& bundle, const WorkerState& state) {
  if (bundle.t2 != state.t2) return Refuse(kTranscript, "a bundle under another T2");
  if (bundle.survivors != state.survivors)
    return Refuse(kTranscript, "a bundle for another U3 than the one signed");
  std::vector<SiteIndex> signers;
  for (const auto& [site, signature] : bundle.signatures) signers.push_back(site);
  if (!IsSiteSet(signers, state.offer.roster.size()))
    return Refuse(kMalformed, "signers must be sorted, without repeats");
  for (const auto& [site, signature] : bundle.signatures) {
    if (!std::ranges::binary_search(state.survivors, site)) {
      return Refuse(kOutsideSet, "site {} signs, but is not in U3", site);
    }
    const Signed<Agreement> agreement{{state.offer.id, site, state.t2, state.survivors}, signature};
    if (!CheckSignature(state.peers.at(site).key, agreement).ok()) {
      return Refuse(kBadSignature, "site {} has not signed this U3", site);
    }
  }
  if (signers.size() < state.offer.threshold) {
    return Refuse(kTooFewAgreements, "{} signatures, at least {} are needed", signers.size(),
                  state.offer.threshold);
  }
  return OkStatus();
}

Status CheckResult(const Result& result, const WorkerState& state) {
  if (result.t2 != state.t2) return Refuse(kTranscript, "a result under another T2");
  if (result.survivors != state.survivors) return Refuse(kTranscript, "a result for another U3");
  return OkStatus();
}

}  // namespace concordat::secagg
