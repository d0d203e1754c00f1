#include "coordinator/rpc/federation_service.h"

#include "common/logging.h"
#include "coordinator/rpc/session.h"
#include "privacy/crypto/hash.h"
#include "proto/tls.h"
#include "proto/wire.h"

namespace concordat::coordinator {

StatusOr<crypto::PeerIdentity> CallerOf(const grpc::ServerContextBase& context, const Hub& hub, Role role) {
  ASSIGN_OR_RETURN(const std::string chain, tls::PeerChainOf(context));
  ASSIGN_OR_RETURN(const crypto::PeerIdentity peer, hub.Peer(chain));
  if (peer.id.role() != role) {
    return PermissionDenied("{} is a {}; this call is for a {}", peer.id.ToString(), RoleName(peer.id.role()),
                            RoleName(role));
  }
  return peer;
}

grpc::Status ToPeer(const Status& status) {
  const std::string_view text = Message(status);
  std::string out;
  bool begins = true;  // a word; a slash within one is an identity's
  for (size_t i = 0; i < text.size(); ++i) {
    if (begins && text[i] == '/') {
      out += "a file";
      i = std::min(text.find_first_of(" :;,()'\"", i), text.size()) - 1;
      begins = false;
      continue;
    }
    begins = std::string_view(" :;,('\"").find(text[i]) != std::string_view::npos;
    out += text[i];
  }
  if (out != text) spdlog::warn("a peer was told \"{}\", which is: {}", out, text);
  return tls::ToGrpc(MakeStatus(status.code(), out));
}

SessionReactor* FederationService::Session(grpc::CallbackServerContext* context) {
  return StartSession(hub_, context);
}

namespace {

StatusOr<uint64_t> Put(Hub& hub, const grpc::ServerContext& context, const pb::PutChunkRequest& request) {
  ASSIGN_OR_RETURN(const crypto::PeerIdentity peer, CallerOf(context, hub, Role::kWorker));
  ASSIGN_OR_RETURN(const AttemptId id, wire::FromProto(request.id()));
  if (request.data().empty() || request.data().size() > kMaxChunkBytes) {
    return InvalidArgument("chunk: expected 1 to {} bytes, got {}", kMaxChunkBytes, request.data().size());
  }
  ASSIGN_OR_RETURN(const Digest said, wire::DigestFrom(request.sha256(), "chunk.sha256"));
  const ByteView data = AsBytes(request.data());
  if (crypto::Sha256(data) != said)
    return DataLoss("chunk at {}: it is not what its hash says", request.offset());
  hub.traffic().AddUp(peer.id, data.size());
  return hub.uploads().Put(id, peer.id, request.offset(), request.total(), data, said);
}

}  // namespace

/// A worker that is over its share tries again by itself.
Status FederationService::CheckGate(const grpc::ServerContextBase& context) {
  const Status gate = gate_.Check(context);
  if (gate.code() != StatusCode::kResourceExhausted) return gate;
  return MakeStatus(StatusCode::kUnavailable, Message(gate));
}

grpc::Status FederationService::PutChunk(grpc::ServerContext* context, const pb::PutChunkRequest* request,
                                         pb::PutChunkReply* reply) {
  if (const Status gate = CheckGate(*context); !gate.ok()) return ToPeer(gate);
  const auto stored = Put(hub_, *context, *request);
  if (!stored.ok()) return ToPeer(stored.status());
  reply->set_stored(*stored);
  return grpc::Status::OK;
}

grpc::Status FederationService::UploadState(grpc::ServerContext* context,
                                            const pb::UploadStateRequest* request, pb::PutChunkReply* reply) {
  if (const Status gate = CheckGate(*context); !gate.ok()) return ToPeer(gate);
  const auto peer = CallerOf(*context, hub_, Role::kWorker);
  if (!peer.ok()) return tls::ToGrpc(peer.status());
  const auto id = wire::FromProto(request->id());
  if (!id.ok()) return tls::ToGrpc(id.status());
  const auto stored = hub_.uploads().Stored(*id, peer->id);
  if (!stored.ok()) return ToPeer(stored.status());
  reply->set_stored(*stored);
  reply->set_chunks(static_cast<uint32_t>(gate_.most_of_upload()));
  return grpc::Status::OK;
}

grpc::Status FederationService::GetBlob(grpc::ServerContext* context, const pb::GetBlobRequest* request,
                                        grpc::ServerWriter<pb::BlobChunk>* writer) {
  if (const Status gate = CheckGate(*context); !gate.ok()) return ToPeer(gate);
  const auto peer = CallerOf(*context, hub_, Role::kWorker);
  if (!peer.ok()) return tls::ToGrpc(peer.status());
  return ToPeer(StreamBlob<pb::BlobChunk>(hub_, peer->id, request->sha256(), request->offset(), *writer,
                                          [&](uint64_t bytes) { hub_.traffic().AddDown(peer->id, bytes); }));
}

}  // namespace concordat::coordinator
