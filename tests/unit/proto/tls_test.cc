#include "proto/tls.h"

#include <gtest/gtest.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/random.h"
#include "concordat/v1/jobs.grpc.pb.h"
#include "tests/support/status_matchers.h"

// Real handshakes on the loopback interface: who gets in, who does not, and which version is spoken.
namespace concordat::tls {
namespace {

using concordat::testing::HasStatus;
using crypto::SigningKey;

const bool kTls13Only = (RequireTls13(), true);

/// A jurisdiction with its root.
struct Jurisdiction {
  explicit Jurisdiction(std::string name) : name(std::move(name)) {
    const Instant now = SystemClock().Now();
    root_pem = *crypto::MakeRootCertificate(root_key, this->name, now - std::chrono::hours(24 * 400),
                                            now + std::chrono::hours(24 * 400), random);
  }
  /// A leaf for `id`, signed here, whatever jurisdiction `id` claims.
  Identity Leaf(const SpiffeId& id, Millis from, Millis until) {
    const Instant now = SystemClock().Now();
    const SigningKey key = SigningKey::Generate(random);
    crypto::CertificateProfile profile{id, key.PublicSpki(), {}, {}, now + from, now + until};
    Identity identity;
    identity.certificate_chain = *crypto::IssueLeaf(root_key, root_pem, profile, random);
    identity.private_key = ToStringBytes(key.ToPem().view());
    last_key_hash = crypto::Sha256(profile.spki);
    return identity;
  }
  Identity Leaf(Role role) {
    return Leaf(*SpiffeId::Make(name, role, "main"), -std::chrono::hours(1), std::chrono::hours(24));
  }
  OsRandom random;
  std::string name;
  SigningKey root_key = SigningKey::Generate(random);
  std::string root_pem;
  Digest last_key_hash;
};

class StatusService final : public v1::Jobs::Service {
 public:
  explicit StatusService(crypto::RootLookup roots) : roots_(std::move(roots)) {}
  grpc::Status Status(grpc::ServerContext* context, const v1::StatusRequest*,
                      v1::StatusReply* reply) override {
    const auto peer = PeerOf(*context, roots_, SystemClock().Now());
    if (!peer.ok()) return ToGrpc(peer.status());
    reply->set_version(peer->id.ToString());
    return grpc::Status::OK;
  }

 private:
  crypto::RootLookup roots_;
};

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(kTls13Only);
    const Identity server = neutral_.Leaf(Role::kCoordinator);
    expected_ = {neutral_.root_pem, *SpiffeId::Make("ch.example", Role::kCoordinator, "main"),
                 neutral_.last_key_hash};
    service_ =
        std::make_unique<StatusService>([this](const std::string& jurisdiction) -> StatusOr<std::string> {
          if (jurisdiction == german_.name) return german_.root_pem;
          return NotFound("{} is no member of this charter", jurisdiction);
        });
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", ServerCredentials(server, german_.root_pem + impostor_.root_pem),
                             &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  void TearDown() override { server_->Shutdown(); }

  /// Who the server says we are, or why not.
  StatusOr<std::string> Call(const Identity& identity, const Expected& expected) {
    const auto channel = grpc::CreateChannel(fmt::format("127.0.0.1:{}", port_),
                                             ClientCredentials(identity, expected, clock_));
    const auto stub = v1::Jobs::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::StatusReply reply;
    const grpc::Status status = stub->Status(&context, {}, &reply);
    if (!status.ok()) return FromGrpc(status);
    return reply.version();
  }

  /// The TLS version that a client offering at most `version` ends up with; empty when refused.
  std::string Negotiate(int version, const Identity& identity) {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    BIO* certificate = BIO_new_mem_buf(identity.certificate_chain.data(),
                                       static_cast<int>(identity.certificate_chain.size()));
    BIO* key = BIO_new_mem_buf(identity.private_key.data(), static_cast<int>(identity.private_key.size()));
    X509* x509 = PEM_read_bio_X509(certificate, nullptr, nullptr, nullptr);
    EVP_PKEY* pkey = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context, x509);
    SSL_CTX_use_PrivateKey(context, pkey);
    const unsigned char alpn[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context, alpn, sizeof alpn);
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    const bool connected = SSL_connect(ssl) == 1;
    const std::string spoken = connected ? SSL_get_version(ssl) : "";
    SSL_free(ssl);
    ::close(fd);
    X509_free(x509);
    EVP_PKEY_free(pkey);
    BIO_free(certificate);
    BIO_free(key);
    SSL_CTX_free(context);
    return spoken;
  }

  SystemClock clock_;
  Jurisdiction neutral_{"ch.example"}, german_{"de.example"}, impostor_{"de.example"},
      stranger_{"xx.example"};
  Expected expected_;
  std::unique_ptr<StatusService> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

TEST_F(TlsTest, AMemberGetsInUnderItsOwnName) {
  ASSERT_OK_AND_ASSIGN(const std::string name, Call(german_.Leaf(Role::kWorker), expected_));
  EXPECT_EQ(name, "spiffe://de.example/worker/main");
}

TEST_F(TlsTest, ALeafUnderATrustedRootThatIsNotItsJurisdictionsIsRefusedWithTheReason) {
  // TLS itself lets it pass: its chain ends at a root that the server trusts, only not at Germany's.
  EXPECT_THAT(Call(impostor_.Leaf(Role::kWorker), expected_),
              HasStatus(StatusCode::kPermissionDenied, "de.example"));
}

TEST_F(TlsTest, AStrangerDoesNotGetThroughTheHandshake) {
  EXPECT_THAT(Call(stranger_.Leaf(Role::kWorker), expected_), HasStatus(StatusCode::kUnavailable, ""));
}

TEST_F(TlsTest, AnExpiredLeafDoesNotGetThroughTheHandshake) {
  const Identity expired = german_.Leaf(*SpiffeId::Make("de.example", Role::kWorker, "main"),
                                        -std::chrono::hours(48), -std::chrono::hours(1));
  EXPECT_THAT(Call(expired, expected_), HasStatus(StatusCode::kUnavailable, ""));
}

TEST_F(TlsTest, ASelfSignedCertificateDoesNotGetThroughTheHandshake) {
  const Identity self{german_.root_pem, ToStringBytes(german_.root_key.ToPem().view())};
  EXPECT_FALSE(Call(self, expected_).ok());
}

TEST_F(TlsTest, AClientRefusesAServerWithAnotherKey) {
  Expected other = expected_;
  other.key_hash = crypto::Sha256(AsBytes("another"));
  EXPECT_THAT(Call(german_.Leaf(Role::kWorker), other), HasStatus(StatusCode::kUnavailable, ""));
}

TEST_F(TlsTest, AClientRefusesAServerOfAnotherName) {
  Expected other = expected_;
  other.id = *SpiffeId::Make("ch.example", Role::kCoordinator, "another");
  EXPECT_THAT(Call(german_.Leaf(Role::kWorker), other), HasStatus(StatusCode::kUnavailable, ""));
}

TEST_F(TlsTest, AClientRefusesAServerUnderAnotherRoot) {
  Expected other = expected_;
  other.root_pem = stranger_.root_pem;
  EXPECT_THAT(Call(german_.Leaf(Role::kWorker), other), HasStatus(StatusCode::kUnavailable, ""));
}

TEST_F(TlsTest, SpeaksTls13AndNothingOlder) {
  const Identity identity = german_.Leaf(Role::kWorker);
  EXPECT_EQ(Negotiate(TLS1_3_VERSION, identity), "TLSv1.3");
  EXPECT_EQ(Negotiate(TLS1_2_VERSION, identity), "");
}

}  // namespace
}  // namespace concordat::tls
