#include "coordinator/rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include "common/files.h"
#include "common/logging.h"
#include "coordinator/rpc/federation_service.h"
#include "coordinator/rpc/jobs_service.h"
#include "policy/peer_verifier.h"
#include "proto/tls.h"

namespace concordat::coordinator {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr int kMaxThreads = 512;
constexpr size_t kMaxBufferBytes = size_t{256} << 20;
constexpr int kMaxStreams = 128;  // of one connection
constexpr std::chrono::seconds kShutdownTime{5};

}  // namespace

struct Server::Impl {
  SystemClock clock;
  policy::SignedCharter charter;
  std::optional<crypto::SigningKey> key;
  std::unique_ptr<policy::CharterPeerVerifier> peers;
  tls::Identity identity;
  std::unique_ptr<Hub> hub;
  std::unique_ptr<FederationService> federation;
  std::unique_ptr<JobsService> jobs;
  std::unique_ptr<grpc::Server> server;
  std::string address;

  Status LoadIdentity(const policy::CoordinatorConfig& config);
  Status OpenState(const policy::CoordinatorConfig& config, std::function<void()> fatal);
  Status Listen(const policy::CoordinatorConfig& config);
};

Status Server::Impl::LoadIdentity(const policy::CoordinatorConfig& config) {
  ASSIGN_OR_RETURN(charter, policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash));
  ASSIGN_OR_RETURN(identity.certificate_chain, ReadTextFile(config.certificate, crypto::kMaxChainBytes));
  RETURN_IF_ERROR(CheckPrivateFile(config.key));
  ASSIGN_OR_RETURN(identity.private_key, ReadTextFile(config.key, 64 * 1024));
  ASSIGN_OR_RETURN(key, crypto::SigningKey::FromPem(AsBytes(identity.private_key)));
  ASSIGN_OR_RETURN(const crypto::PeerIdentity self,
                   policy::CheckPeer(charter.charter, identity.certificate_chain, clock.Now()));
  if (self.id != charter.charter.coordinator.id) {
    return PermissionDenied("{}: the certificate is {}'s, the charter's coordinator is {}",
                            config.certificate.string(), self.id.ToString(),
                            charter.charter.coordinator.id.ToString());
  }
  if (key->PublicSpki() != self.spki) {
    return PermissionDenied("{}: the key is not the certificate's", config.key.string());
  }
  peers = std::make_unique<policy::CharterPeerVerifier>(charter.charter);
  return OkStatus();
}

Status Server::Impl::OpenState(const policy::CoordinatorConfig& config, std::function<void()> fatal) {
  RETURN_IF_ERROR(MakeFolder(config.state, 0700));
  Hub::Parts parts;
  parts.charter = &charter;
  parts.key = &*key;
  parts.peers = peers.get();
  parts.clock = &clock;
  ASSIGN_OR_RETURN(parts.journal, Journal::Open(config.state / "journal.sqlite"));
  ASSIGN_OR_RETURN(BlobStore blobs, BlobStore::Open(config.state / "blobs"));
  parts.blobs = std::make_unique<BlobStore>(std::move(blobs));
  ASSIGN_OR_RETURN(parts.uploads, Uploads::Make(config.state / "spool"));
  parts.limits.max_jobs = config.limits.max_jobs;
  parts.limits.max_workers = config.limits.max_workers;
  parts.limits.max_vector_elements = config.limits.max_vector_elements;
  parts.max_state_bytes = config.limits.max_state_bytes;
  parts.reconnect_grace = Millis(config.limits.reconnect_grace_ms);
  parts.fatal = std::move(fatal);
  ASSIGN_OR_RETURN(hub, Hub::Make(std::move(parts)));
  return OkStatus();
}

Status Server::Impl::Listen(const policy::CoordinatorConfig& config) {
  std::string roots = charter.charter.coordinator.root_pem;
  for (const auto& member : charter.charter.members) roots += member.root_pem;
  federation = std::make_unique<FederationService>(*hub);
  jobs = std::make_unique<JobsService>(*hub);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(config.listen, tls::ServerCredentials(identity, roots), &port);
  builder.RegisterService(federation.get());
  builder.RegisterService(jobs.get());
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  // A silent peer is asked at half its time, and closed when it does not answer within the other half.
  const int half = static_cast<int>(std::max<uint64_t>(2'000, config.limits.idle_timeout_ms) / 2);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, half);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, half);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  // Two coordinators must not share a port unnoticed.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("coordinator");
  quota.SetMaxThreads(kMaxThreads);
  // Half-received chunks: a site that floods waits, the others go on.
  quota.Resize(kMaxBufferBytes);
  builder.SetResourceQuota(quota);
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return Unavailable("cannot listen on {}", config.listen);
  address = fmt::format("{}:{}", config.listen.substr(0, config.listen.rfind(':')), port);
  return WriteFileAtomically(config.state / "port", fmt::format("{}\n", port));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { Stop(); }
const std::string& Server::address() const { return impl_->address; }

StatusOr<std::unique_ptr<Server>> Server::Start(const policy::CoordinatorConfig& config,
                                                std::function<void()> fatal) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->LoadIdentity(config));
  RETURN_IF_ERROR(impl->OpenState(config, std::move(fatal)));
  RETURN_IF_ERROR(impl->Listen(config));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

void Server::Stop() {
  if (impl_->hub) impl_->hub->Stop();
  if (impl_->server) {
    impl_->server->Shutdown(std::chrono::system_clock::now() + kShutdownTime);
    impl_->server->Wait();
    impl_->server.reset();
  }
}

}  // namespace concordat::coordinator
