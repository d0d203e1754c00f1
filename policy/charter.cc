#include "policy/charter.h"

#include <array>
#include <map>

namespace concordat::policy {
namespace {

constexpr std::array<std::string_view, 4> kKinds = {"delta", "metrics", "evaluation", "adapter"};
constexpr std::array<std::string_view, 4> kBases = {"adequacy", "scc", "consent", "statute"};

bool Covers(std::string_view pattern, std::string_view jurisdiction) {
  return pattern == "*" || pattern == jurisdiction;
}

}  // namespace

std::string_view ArtefactKindName(ArtefactKind kind) {
  const size_t index = static_cast<size_t>(kind) - 1;
  return index < kKinds.size() ? kKinds[index] : "unknown";
}

StatusOr<ArtefactKind> ParseArtefactKind(std::string_view name) {
  for (size_t i = 0; i < kKinds.size(); ++i) {
    if (kKinds[i] == name) return static_cast<ArtefactKind>(i + 1);
  }
  return InvalidArgument("expected one of: delta, metrics, evaluation, adapter; got '{}'",
                         name.substr(0, 40));
}

std::string_view LegalBasisName(LegalBasis basis) {
  const size_t index = static_cast<size_t>(basis) - 1;
  return index < kBases.size() ? kBases[index] : "unknown";
}

StatusOr<LegalBasis> ParseLegalBasis(std::string_view name) {
  for (size_t i = 0; i < kBases.size(); ++i) {
    if (kBases[i] == name) return static_cast<LegalBasis>(i + 1);
  }
  return InvalidArgument("expected one of: adequacy, scc, consent, statute; got '{}'", name.substr(0, 40));
}

const CharterMember* Charter::Member(std::string_view jurisdiction) const {
  for (const CharterMember& member : members) {
    if (member.jurisdiction == jurisdiction) return &member;
  }
  return nullptr;
}

const CharterFlow* Charter::Flow(ArtefactKind kind, std::string_view from, std::string_view to) const {
  for (const CharterFlow& flow : flows) {
    if (flow.kind == kind && Covers(flow.from, from) && Covers(flow.to, to)) return &flow;
  }
  return nullptr;
}

crypto::RootLookup CharterRoots(const Charter& charter) {
  std::map<std::string, std::string> roots;
  // A coordinator in a member's jurisdiction has the member's root: ParseCharter insists.
  roots.emplace(charter.coordinator.id.jurisdiction(), charter.coordinator.root_pem);
  for (const CharterMember& member : charter.members) roots[member.jurisdiction] = member.root_pem;
  return [roots = std::move(roots)](const std::string& jurisdiction) -> StatusOr<std::string> {
    const auto it = roots.find(jurisdiction);
    if (it == roots.end()) return PermissionDenied("the charter has no member '{}'", jurisdiction);
    return it->second;
  };
}

StatusOr<crypto::PeerIdentity> CheckPeer(const Charter& charter, std::string_view pem_chain, Instant now) {
  ASSIGN_OR_RETURN(crypto::PeerIdentity peer, crypto::VerifyPeerChain(pem_chain, CharterRoots(charter), now));
  ASSIGN_OR_RETURN(const crypto::VerifyKey key, crypto::VerifyKey::FromSpki(peer.spki));
  ASSIGN_OR_RETURN(const crypto::VerifyKey ours, crypto::VerifyKey::FromSpki(charter.coordinator.spki));
  if (key.profile() != ours.profile()) {
    return PermissionDenied("{}: its key is {}, the charter's are {}: make it anew with the charter's kind",
                            peer.id.ToString(), crypto::SignatureProfileName(key.profile()),
                            crypto::SignatureProfileName(ours.profile()));
  }
  if (peer.id.role() != Role::kCoordinator) {
    if (charter.Member(peer.id.jurisdiction()) == nullptr) {
      return PermissionDenied("{}: '{}' is no member of the charter", peer.id.ToString(),
                              peer.id.jurisdiction());
    }
    return peer;
  }
  if (peer.id != charter.coordinator.id) {
    return PermissionDenied("{}: the charter's coordinator is {}", peer.id.ToString(),
                            charter.coordinator.id.ToString());
  }
  if (peer.key_hash != charter.coordinator.key_hash()) {
    return PermissionDenied("{}: its key {} is not the one in the charter, {}", peer.id.ToString(),
                            peer.key_hash.brief(), charter.coordinator.key_hash().brief());
  }
  return peer;
}

}  // namespace concordat::policy
