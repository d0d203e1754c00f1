#ifndef CONCORDAT_POLICY_PEER_VERIFIER_H_
#define CONCORDAT_POLICY_PEER_VERIFIER_H_

#include "policy/charter.h"
#include "privacy/secagg/worker_round.h"

namespace concordat::policy {

/// Peers as the charter knows them: CheckPeer behind secagg's interface. Any thread.
class CharterPeerVerifier final : public secagg::PeerVerifier {
 public:
  explicit CharterPeerVerifier(Charter charter) : charter_(std::move(charter)) {}
  StatusOr<crypto::PeerIdentity> Verify(std::string_view pem_chain, Instant now) const override {
    return CheckPeer(charter_, pem_chain, now);
  }

 private:
  Charter charter_;
};

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_PEER_VERIFIER_H_
