#include "privacy/secagg/coordinator_checks.h"

#include <algorithm>

#include "privacy/crypto/hash.h"
#include "privacy/secagg/commitment.h"
#include "privacy/secagg/pairwise.h"
#include "privacy/secagg/shamir.h"

namespace concordat::secagg {
namespace {

using enum RefusalCode;

bool Contains(const std::vector<SiteIndex>& sites, SiteIndex site) {
  return std::ranges::binary_search(sites, site);
}

// An agreement with any fixed key shows a point of low order, and on P-256 what is no point.
bool IsLowOrder(const AgreementPublic& key, crypto::AgreementCurve curve) {
  Secret32 probe;
  probe.mutable_view()[0] = 8;
  return !crypto::Agree(probe, key, curve).ok();
}

Status CheckOpened(const std::vector<OpenedShare>& opened, const std::vector<SiteIndex>& dealers,
                   ShareKind kind, SiteIndex holder, const CoordinatorState& state) {
  if (!std::ranges::equal(opened, dealers, {}, &OpenedShare::dealer)) {
    return Refuse(kBothKinds, "site {} must open {} for exactly {} sites", holder,
                  kind == ShareKind::kSeed ? "seeds" : "mask keys", dealers.size());
  }
  for (const OpenedShare& share : opened) {
    const auto& commitments = state.shares.at(share.dealer).body.commitments;
    const auto commitment = std::ranges::find(commitments, holder, &ShareCommitment::holder);
    if (commitment == commitments.end()) return Refuse(kBadShare, "no commitment for site {}", holder);
    const Digest& expected = kind == ShareKind::kSeed ? commitment->seed_share : commitment->mask_key_share;
    if (CommitShare(kind, share.dealer, holder, share.share, share.salt) != expected) {
      return Refuse(kBadShare, "site {} opened a share that is not what site {} committed to", holder,
                    share.dealer);
    }
  }
  return OkStatus();
}

std::vector<SiteIndex> Without(const std::vector<SiteIndex>& all, const std::vector<SiteIndex>& some) {
  std::vector<SiteIndex> out;
  std::ranges::set_difference(all, some, std::back_inserter(out));
  return out;
}

// The secret of `dealer` from the first t answers; which ones does not matter when the dealer was honest.
StatusOr<Secret32> RebuildSecret(const CoordinatorState& state, SiteIndex dealer,
                                 std::vector<OpenedShare> Unmask::*kind) {
  std::vector<ShamirShare> shares;
  for (const auto& [holder, unmask] : state.unmasks) {
    const auto& opened = unmask.body.*kind;
    const auto share = std::ranges::find(opened, dealer, &OpenedShare::dealer);
    if (share != opened.end()) shares.push_back({holder, share->share});
  }
  return ReconstructSecret(shares, state.offer.threshold);
}

// The part of `lost` and `survivor` in their mask key, from what `lost` left for it, which `survivor` has not
// complained of.
StatusOr<Secret32> RebuildPairPart(const CoordinatorState& state, const Secret32& root, SiteIndex lost,
                                   SiteIndex survivor) {
  const auto column = static_cast<size_t>(std::ranges::lower_bound(state.u1, survivor) - state.u1.begin());
  return OpenPairPart(root, state.shares.at(lost).body.pair_seals.at(column), state.t1, lost, survivor);
}

// What takes off the masks that the survivors share with site `lost`.
StatusOr<std::vector<MaskKey>> RebuildMasksOf(const CoordinatorState& state, SiteIndex lost,
                                              SiteIndex& convicted) {
  ASSIGN_OR_RETURN(const Secret32 shared, RebuildSecret(state, lost, &Unmask::mask_key_shares));
  const Secret32 secret = state.pairwise ? MaskSecretOf(shared) : shared;
  const auto pub = crypto::PublicOf(secret, state.curve);
  if (!pub.ok() || *pub != state.adverts.at(lost).body.mask_key) {
    convicted = lost;
    return Refuse(kBadShare, "the shares of site {} rebuild another mask key than it advertised", lost);
  }
  std::vector<MaskKey> masks;
  for (SiteIndex i : state.u3) {
    std::optional<Secret32> part;
    if (state.pairwise) {
      auto opened = RebuildPairPart(state, shared, lost, i);
      if (!opened.ok()) {
        convicted = lost;
        return Refuse(kBadShare, "{}", Message(opened.status()));
      }
      part = *std::move(opened);
    }
    ASSIGN_OR_RETURN(Secret32 key, PairwiseMaskKey(secret, state.adverts.at(i).body.mask_key, state.t2, i,
                                                   lost, part.has_value() ? &*part : nullptr, state.curve));
    masks.push_back({std::move(key), -PairwiseSign(i, lost)});
  }
  return masks;
}

}  // namespace

StatusOr<crypto::VerifyKey> CheckMember(const RosterEntry& member, std::string_view chain,
                                        const Deadlines& deadlines, const PeerVerifier& peers, Instant now) {
  const Instant from = now - kClockSkew;
  const Instant until = now + Millis(deadlines.advert_ms) + Millis(deadlines.shares_ms) +
                        Millis(deadlines.input_ms) + Millis(deadlines.agreement_ms) +
                        Millis(deadlines.unmask_ms) + kClockSkew;
  const auto identity = peers.Verify(chain, from);
  // What holds at both ends holds between them: a certificate's time is one span.
  const Status holds = identity.ok() ? peers.Verify(chain, until).status() : identity.status();
  if (!holds.ok()) {
    return Refuse(kUntrustedPeer, "{}: its certificate must hold from {} to {}: {}", member.worker.Brief(),
                  FormatInstant(from), FormatInstant(until), Message(holds));
  }
  if (identity->id != member.worker || identity->key_hash != member.key_hash) {
    return Refuse(kUntrustedPeer, "the chain for {} is {}'s or has another key", member.worker.Brief(),
                  identity->id.Brief());
  }
  return crypto::VerifyKey::FromSpki(identity->spki);
}

Status CheckAdvert(const Advert& advert, const CoordinatorState& state) {
  if (advert.t0 != state.t0) return Refuse(kTranscript, "site {} saw another offer", advert.site);
  if (advert.channel_key == advert.mask_key)
    return Refuse(kDuplicateKey, "site {} has one key for both uses", advert.site);
  if (IsLowOrder(advert.channel_key, state.curve) || IsLowOrder(advert.mask_key, state.curve)) {
    return Refuse(kDuplicateKey, "site {} has a key of low order", advert.site);
  }
  for (const auto& [site, other] : state.adverts) {
    for (const AgreementPublic& key : {other.body.channel_key, other.body.mask_key}) {
      if (key == advert.channel_key || key == advert.mask_key) {
        return Refuse(kDuplicateKey, "site {} repeats a key of site {}", advert.site, site);
      }
    }
    if (other.body.seed_hash == advert.seed_hash) {
      return Refuse(kDuplicateKey, "site {} repeats the seed hash of site {}", advert.site, site);
    }
  }
  return OkStatus();
}

Status CheckShares(const Shares& shares, const CoordinatorState& state) {
  if (!Contains(state.u1, shares.dealer)) return Refuse(kOutsideSet, "site {} is not in U1", shares.dealer);
  if (shares.t1 != state.t1) return Refuse(kTranscript, "shares of site {} under another T1", shares.dealer);
  if (!std::ranges::equal(shares.commitments, state.u1, {}, &ShareCommitment::holder) ||
      shares.ciphertexts.size() != state.u1.size()) {
    return Refuse(kMalformed, "site {} must deal to exactly the {} sites of U1", shares.dealer,
                  state.u1.size());
  }
  if (shares.pair_seals.size() != (state.pairwise ? state.u1.size() : 0)) {
    return Refuse(kMalformed, "site {} deals with {} pair seals to {} sites in a job with{} pairwise keys",
                  shares.dealer, shares.pair_seals.size(), state.u1.size(), state.pairwise ? "" : "out");
  }
  return OkStatus();
}

Status CheckComplaint(const Complaint& complaint, const CoordinatorState& state) {
  if (!Contains(state.u2, complaint.site) || !Contains(state.u2, complaint.accused)) {
    return Refuse(kOutsideSet, "site {} against site {}: both must be in U2", complaint.site,
                  complaint.accused);
  }
  if (complaint.t1 != state.t1) return Refuse(kTranscript, "a complaint under another T1");
  return OkStatus();
}

Status CheckInputHeader(const InputHeader& header, const CoordinatorState& state) {
  if (!Contains(state.u2, header.site)) return Refuse(kOutsideSet, "site {} is not in U2", header.site);
  if (header.t2 != state.t2) return Refuse(kTranscript, "site {} masked under another T2", header.site);
  if (header.elements != state.offer.elements) {
    return Refuse(kElements, "site {} sent {} elements, not {}", header.site, header.elements,
                  state.offer.elements);
  }
  return OkStatus();
}

Status CheckAgreement(const Agreement& agreement, const CoordinatorState& state) {
  if (!Contains(state.u3, agreement.site)) return Refuse(kOutsideSet, "site {} is not in U3", agreement.site);
  if (agreement.t2 != state.t2) return Refuse(kTranscript, "site {} agrees under another T2", agreement.site);
  if (agreement.survivors != state.u3)
    return Refuse(kTranscript, "site {} agrees to another U3", agreement.site);
  return OkStatus();
}

Status CheckUnmask(const Unmask& unmask, const CoordinatorState& state) {
  if (!Contains(state.u3, unmask.site)) return Refuse(kOutsideSet, "site {} is not in U3", unmask.site);
  if (unmask.t2 != state.t2) return Refuse(kTranscript, "site {} unmasks under another T2", unmask.site);
  RETURN_IF_ERROR(CheckOpened(unmask.seed_shares, state.u3, ShareKind::kSeed, unmask.site, state));
  return CheckOpened(unmask.mask_key_shares, Without(state.u2, state.u3), ShareKind::kMaskKey, unmask.site,
                     state);
}

StatusOr<UnmaskWork> Rebuild(const CoordinatorState& state, SiteIndex& convicted) {
  UnmaskWork work;
  work.survivors = state.u3;
  for (SiteIndex j : state.u3) {
    ASSIGN_OR_RETURN(const Secret32 seed, RebuildSecret(state, j, &Unmask::seed_shares));
    if (crypto::Sha256(seed.view()) != state.adverts.at(j).body.seed_hash) {
      convicted = j;
      return Refuse(kBadShare, "the shares of site {} rebuild another seed than it advertised", j);
    }
    work.keys.push_back({SelfMaskKey(seed, state.t2, j), -1});
  }
  for (SiteIndex j : Without(state.u2, state.u3)) {
    ASSIGN_OR_RETURN(std::vector<MaskKey> masks, RebuildMasksOf(state, j, convicted));
    std::ranges::move(masks, std::back_inserter(work.keys));
  }
  return work;
}

}  // namespace concordat::secagg
