#include "proto/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>

namespace concordat::tls {
namespace {

class ExpectedPeer final : public grpc::experimental::ExternalCertificateVerifier {
 public:
  ExpectedPeer(Expected expected, const Clock* clock) : expected_(std::move(expected)), clock_(clock) {}

  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)>, grpc::Status* sync_status) override {
    *sync_status = ToGrpc(Check(*request));
    return true;
  }
  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

 private:
  Status Check(const grpc::experimental::TlsCustomVerificationCheckRequest& request) const {
    const auto text = [](grpc::string_ref r) { return std::string(r.data(), r.size()); };
    const std::string chain =
        crypto::JoinPeerChain(text(request.peer_cert()), text(request.peer_cert_full_chain()));
    const auto root = [this](const std::string& jurisdiction) -> StatusOr<std::string> {
      if (jurisdiction == expected_.id.jurisdiction()) return expected_.root_pem;
      return PermissionDenied("expected the coordinator of {}, got a peer of {}", expected_.id.jurisdiction(),
                              jurisdiction);
    };
    ASSIGN_OR_RETURN(const crypto::PeerIdentity peer, crypto::VerifyPeerChain(chain, root, clock_->Now()));
    if (peer.id != expected_.id) {
      return PermissionDenied("expected {}, got {}", expected_.id.ToString(), peer.id.ToString());
    }
    if (peer.key_hash != expected_.key_hash) {
      return PermissionDenied("{}: its key is not the one that the charter names", expected_.id.ToString());
    }
    return OkStatus();
  }

  Expected expected_;
  const Clock* clock_;
};

}  // namespace

void RequireTls13() { ::setenv("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384", 1); }

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const Identity& identity,
                                                           const std::string& root_pems) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = root_pems;
  options.pem_key_cert_pairs = {{identity.private_key, identity.certificate_chain}};
  return grpc::SslServerCredentials(options);
}

StatusOr<std::string> PeerChainOf(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  const auto leaf = auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (leaf.size() != 1) return PermissionDenied("expected one client certificate, got {}", leaf.size());
  const auto rest = auth->FindPropertyValues(GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME);
  const std::string tail = rest.empty() ? "" : std::string(rest[0].data(), rest[0].size());
  return crypto::JoinPeerChain(std::string(leaf[0].data(), leaf[0].size()), tail);
}

StatusOr<crypto::PeerIdentity> PeerOf(const grpc::ServerContextBase& context, const crypto::RootLookup& roots,
                                      Instant now) {
  ASSIGN_OR_RETURN(const std::string chain, PeerChainOf(context));
  return crypto::VerifyPeerChain(chain, roots, now);
}

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity,
                                                            const Expected& expected, const Clock& clock) {
  using grpc::experimental::ExternalCertificateVerifier;
  const std::vector<grpc::experimental::IdentityKeyCertPair> pairs = {
      {identity.private_key, identity.certificate_chain}};
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<grpc::experimental::StaticDataCertificateProvider>(expected.root_pem, pairs));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_verify_server_certs(true);
  // The peer is known by its SPIFFE ID and key, not by a DNS name.
  options.set_check_call_host(false);
  options.set_certificate_verifier(ExternalCertificateVerifier::Create<ExpectedPeer>(expected, &clock));
  return grpc::experimental::TlsCredentials(options);
}

grpc::Status ToGrpc(const Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(Message(status)));
}

Status FromGrpc(const grpc::Status& status) {
  return MakeStatus(static_cast<StatusCode>(status.error_code()), status.error_message());
}

}  // namespace concordat::tls
