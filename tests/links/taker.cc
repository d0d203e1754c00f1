#include "tests/links/taker.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <stdexcept>

#include "proto/tls.h"
#include "proto/wire.h"
#include "tests/links/probe.h"

namespace concordat::testing {
namespace {

template <typename T>
T Must(StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

}  // namespace

Taker::Taker(const Federation& federation, const std::string& jurisdiction, uint64_t bytes,
             RoundIndex uploads)
    : charter_(Must(policy::LoadSignedCharter((federation.root() / "charter.yaml").string())).charter),
      worker_(Must(SpiffeId::Make(jurisdiction, Role::kWorker, "site"))),
      uploads_(Must(coordinator::Uploads::Make(folder_ / "spool"))) {
  for (RoundIndex i = 0; i < uploads; ++i) {
    coordinator::UploadSlot slot;
    slot.id = ProbeAttempt(i);
    slot.worker = worker_;
    slot.bytes = bytes;
    uploads_->Open(slot);
  }
  const auto keys = federation.coordinator_folder() / "coordinator";
  std::string roots;
  for (const auto& member : charter_.members) roots += member.root_pem;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(
      "0.0.0.0:0",
      tls::ServerCredentials({Must(ReadTextFile(keys / "cert.pem")), Must(ReadTextFile(keys / "key.pem"))},
                             roots),
      &port_);
  builder.SetMaxReceiveMessageSize(4 << 20);
  grpc::ResourceQuota quota("taker");
  quota.SetMaxThreads(512);
  builder.SetResourceQuota(quota);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
}

Taker::~Taker() { server_->Shutdown(std::chrono::system_clock::now()); }

std::string Taker::DigestOf(RoundIndex number) const {
  const auto spool = uploads_->Find(ProbeAttempt(number), worker_);
  if (spool == nullptr) return "";
  const auto digest = spool->Complete();
  return digest.ok() ? digest->hex() : "";
}

grpc::Status Taker::PutChunk(grpc::ServerContext*, const concordat::v1::PutChunkRequest* request,
                             concordat::v1::PutChunkReply* reply) {
  const ByteView data = AsBytes(request->data());
  const Digest digest = crypto::Sha256(data);
  if (wire::BytesOf(digest) != request->sha256()) return {grpc::StatusCode::DATA_LOSS, "hash"};
  const auto id = wire::FromProto(request->id());
  if (!id.ok()) return tls::ToGrpc(id.status());
  const auto stored = uploads_->Put(*id, worker_, request->offset(), request->total(), data, digest);
  if (!stored.ok()) return tls::ToGrpc(stored.status());
  reply->set_stored(*stored);
  return grpc::Status::OK;
}

grpc::Status Taker::UploadState(grpc::ServerContext*, const concordat::v1::UploadStateRequest* request,
                                concordat::v1::PutChunkReply* reply) {
  const auto id = wire::FromProto(request->id());
  if (!id.ok()) return tls::ToGrpc(id.status());
  const auto stored = uploads_->Stored(*id, worker_);
  if (!stored.ok()) return tls::ToGrpc(stored.status());
  reply->set_stored(*stored);
  return grpc::Status::OK;
}

}  // namespace concordat::testing
