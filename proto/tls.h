#ifndef CONCORDAT_PROTO_TLS_H_
#define CONCORDAT_PROTO_TLS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/clock.h"
#include "privacy/crypto/x509.h"

// Mutual TLS between our own nodes over gRPC 1.51, for every shell that listens or dials.
//
// gRPC checks that a chain ends at *some* trusted root; that it ends at the root of the jurisdiction that its
// SPIFFE ID claims is checked here again, with crypto::VerifyPeerChain. docs/SECURITY.md, "TLS", says what is
// negotiated and what an older peer gets.
namespace concordat::tls {

/// Makes this process speak TLS 1.3 only. gRPC 1.51 has no option for a minimum version; but with the one
/// TLS 1.2 cipher suite allowed being RSA and our certificates Ed25519, 1.2 has nothing to agree on,
/// while 1.3 has its own suites. Call first in main, before any gRPC call and any thread.
void RequireTls13();

/// What a node shows its peers: PEM texts.
struct Identity {
  std::string certificate_chain;  // leaf first
  std::string private_key;
};

/// A server that asks for and verifies a client certificate under any of `root_pems`; each call then asks
/// PeerOf.
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const Identity& identity,
                                                           const std::string& root_pems);

/// The chain that the client of this call showed, verified against the root of its claimed jurisdiction.
/// PermissionDenied with the reason.
StatusOr<crypto::PeerIdentity> PeerOf(const grpc::ServerContextBase& context, const crypto::RootLookup& roots,
                                      Instant now);
/// The same chain as one PEM text, leaf first.
StatusOr<std::string> PeerChainOf(const grpc::ServerContextBase& context);

/// Whom a client expects at the other end.
struct Expected {
  std::string root_pem;  // the only root that counts
  SpiffeId id;
  Digest key_hash;  // of its leaf's public key
};

/// A client whose channel opens only to `expected`, whatever its address or DNS name.
/// \param clock must outlive the channel.
std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity,
                                                            const Expected& expected, const Clock& clock);

/// Between our statuses and gRPC's, both ways: codes that have a twin keep it.
grpc::Status ToGrpc(const Status& status);
Status FromGrpc(const grpc::Status& status);

}  // namespace concordat::tls

#endif  // CONCORDAT_PROTO_TLS_H_
