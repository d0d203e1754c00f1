#include "coordinator/rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include "common/files.h"
#include "common/logging.h"
#include "common/process.h"
#include "coordinator/rpc/call_gate.h"
#include "coordinator/rpc/federation_service.h"
#include "coordinator/rpc/jobs_service.h"
#include "coordinator/rpc/listener.h"
#include "policy/peer_verifier.h"
#include "proto/tls.h"

namespace concordat::coordinator {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr int kMaxThreads = 512;
/// What gRPC may hold of requests that it has read in part and of replies that a peer's link has not taken.
/// Beyond it gRPC cancels calls, sessions among them, so lower is not safer. A hundred deliveries of some
/// 0.75 MB that nobody reads, or as many uploads of 1 MiB a piece, come near it and above.
constexpr size_t kMaxBufferBytes = size_t{64} << 20;
constexpr int kMaxStreams = 128;  // of one connection
constexpr std::chrono::seconds kShutdownTime{5};
constexpr int kHandshakeMs = 10'000;
constexpr size_t kSharedThreads = 448;  // of kMaxThreads, among the members
constexpr Millis kReplyPatience{60'000};
/// A region behind one address: its sites, its operators and those who watch. More when more workers are
/// allowed.
constexpr size_t kMostOfOneAddress = 256;

}  // namespace

struct Server::Impl {
  SystemClock clock;
  policy::SignedCharter charter;
  std::optional<crypto::SigningKey> key;
  std::unique_ptr<policy::CharterPeerVerifier> peers;
  tls::Identity identity;
  std::unique_ptr<Hub> hub;
  std::unique_ptr<CallGate> gate;  // used until the server is gone
  std::unique_ptr<FederationService> federation;
  std::unique_ptr<JobsService> jobs;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Listener> listener;  // uses the acceptor; stopped before the server
  std::string address;

  Status LoadIdentity(const policy::CoordinatorConfig& config);
  Status OpenState(const policy::CoordinatorConfig& config, std::function<void()> fatal);
  Status Listen(const policy::CoordinatorConfig& config);
};

Status Server::Impl::LoadIdentity(const policy::CoordinatorConfig& config) {
  ASSIGN_OR_RETURN(charter, policy::LoadPinnedCharter(config.charter.file.string(), config.charter.hash));
  ASSIGN_OR_RETURN(identity.certificate_chain,
                   OfOwnFile(ReadTextFile(config.certificate, crypto::kMaxChainBytes)));
  RETURN_IF_ERROR(OfOwnFile(CheckPrivateFile(config.key)));
  ASSIGN_OR_RETURN(identity.private_key, OfOwnFile(ReadTextFile(config.key, 64 * 1024)));
  auto own_key = crypto::SigningKey::FromPem(AsBytes(identity.private_key));
  if (!own_key.ok()) return Annotate(own_key.status(), config.key.string());
  key = *std::move(own_key);
  const auto peer = policy::CheckPeer(charter.charter, identity.certificate_chain, clock.Now());
  if (!peer.ok()) return Annotate(peer.status(), config.certificate.string());
  const crypto::PeerIdentity& self = *peer;
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
  RETURN_IF_ERROR(OfOwnFile(MakeFolder(config.state, 0700)));
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
  const auto identify = [this](const grpc::ServerContextBase& context) -> StatusOr<SpiffeId> {
    ASSIGN_OR_RETURN(const std::string chain, tls::PeerChainOf(context));
    ASSIGN_OR_RETURN(const crypto::PeerIdentity peer, hub->Peer(chain));
    return peer.id;
  };
  gate = std::make_unique<CallGate>(identify, kSharedThreads, charter.charter.members.size(), kReplyPatience);
  federation = std::make_unique<FederationService>(*hub, *gate);
  jobs = std::make_unique<JobsService>(*hub, *gate);
  grpc::ServerBuilder builder;
  using External = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  acceptor = builder.experimental().AddExternalConnectionAcceptor(External::FROM_FD,
                                                                  tls::ServerCredentials(identity, roots));
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(gate->Factory());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
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
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  grpc::ResourceQuota quota("coordinator");
  quota.SetMaxThreads(kMaxThreads);
  quota.Resize(kMaxBufferBytes);
  builder.SetResourceQuota(quota);
  ASSIGN_OR_RETURN(listener, Listener::Open(config.listen, std::max(kMostOfOneAddress,
                                                                    size_t{4} * config.limits.max_workers)));
  server = builder.BuildAndStart();
  if (server == nullptr) return Internal("the gRPC server does not start");
  listener->Start([this](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  });
  address = fmt::format("{}:{}", config.listen.substr(0, config.listen.rfind(':')), listener->port());
  return WriteFileAtomically(config.state / "port", fmt::format("{}\n", listener->port()));
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
  if (impl_->listener) impl_->listener->Stop();
  if (impl_->hub) impl_->hub->Stop();
  if (impl_->server) {
    impl_->server->Shutdown(std::chrono::system_clock::now() + kShutdownTime);
    impl_->server->Wait();
    impl_->server.reset();
  }
}

}  // namespace concordat::coordinator
