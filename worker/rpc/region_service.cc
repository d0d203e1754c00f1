#include "worker/rpc/region_service.h"

#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/tls.h"
#include "proto/wire.h"

namespace concordat::worker {
namespace {

StatusOr<Decision> DecisionFrom(pb::DecideRequest::Decision in) {
  switch (in) {
    case pb::DecideRequest::APPROVE:
      return Decision::kApprove;
    case pb::DecideRequest::DENY:
      return Decision::kDeny;
    case pb::DecideRequest::PAUSE:
      return Decision::kPause;
    case pb::DecideRequest::WITHDRAW:
      return Decision::kWithdraw;
    case pb::DecideRequest::RESUME:
      return Decision::kResume;
    default:
      return InvalidArgument("decision: expected 1 to 5, got {}", static_cast<int>(in));
  }
}

}  // namespace

class RegionServer::Service final : public pb::Region::Service {
 public:
  explicit Service(Handlers handlers) : handlers_(std::move(handlers)) {}

  grpc::Status Status(grpc::ServerContext*, const pb::RegionStatusRequest*,
                      pb::RegionStatus* reply) override {
    auto status = handlers_.status();
    if (!status.ok()) return tls::ToGrpc(status.status());
    *reply = *std::move(status);
    return grpc::Status::OK;
  }

  grpc::Status Decide(grpc::ServerContext*, const pb::DecideRequest* request,
                      pb::DecideReply* reply) override {
    const auto effect = DecideOn(*request);
    if (!effect.ok()) return tls::ToGrpc(effect.status());
    reply->set_effect(*effect);
    return grpc::Status::OK;
  }

 private:
  StatusOr<std::string> DecideOn(const pb::DecideRequest& request) {
    ASSIGN_OR_RETURN(const Digest job, wire::DigestFrom(request.job(), "job"));
    ASSIGN_OR_RETURN(const Decision decision, DecisionFrom(request.decision()));
    return handlers_.decide(job, decision);
  }
  Handlers handlers_;
};

StatusOr<std::unique_ptr<RegionServer>> RegionServer::Start(const std::filesystem::path& socket,
                                                            Handlers handlers) {
  if (socket.string().size() >= sizeof(sockaddr_un::sun_path))
    return FailedPrecondition("{}: expected a path under {} bytes: set `socket` in the worker's file",
                              socket.string(), sizeof(sockaddr_un::sun_path));
  std::unique_ptr<RegionServer> server(new RegionServer());
  server->socket_ = socket;
  server->service_ = std::make_unique<Service>(std::move(handlers));
  ::unlink(socket.c_str());  // of a worker that is gone: the state folder's lock is ours
  const mode_t old = ::umask(0177);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket.string(), grpc::InsecureServerCredentials());
  builder.RegisterService(server->service_.get());
  server->server_ = builder.BuildAndStart();
  ::umask(old);
  if (!server->server_) return FailedPrecondition("{}: cannot listen there", socket.string());
  ::chmod(socket.c_str(), 0600);
  return server;
}

RegionServer::~RegionServer() { Stop(); }

void RegionServer::Stop() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  server_->Wait();
  server_.reset();
  ::unlink(socket_.c_str());
}

}  // namespace concordat::worker
