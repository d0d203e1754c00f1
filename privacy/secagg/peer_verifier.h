#ifndef CONCORDAT_PRIVACY_SECAGG_PEER_VERIFIER_H_
#define CONCORDAT_PRIVACY_SECAGG_PEER_VERIFIER_H_

#include <string_view>

#include "common/clock.h"
#include "privacy/crypto/x509.h"

namespace concordat::secagg {

/// Says whose certificate chain this is, under the charter's roots. In the daemons: crypto::VerifyPeerChain
/// over the pinned charter.
class PeerVerifier {
 public:
  virtual ~PeerVerifier() = default;
  /// PermissionDenied with the reason when the chain does not end at the root of the jurisdiction it claims.
  /// \param pem_chain PEM, leaf first
  virtual StatusOr<crypto::PeerIdentity> Verify(std::string_view pem_chain, Instant now) const = 0;
};

}  // namespace concordat::secagg

#endif  // CONCORDAT_PRIVACY_SECAGG_PEER_VERIFIER_H_
