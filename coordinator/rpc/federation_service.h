#ifndef CONCORDAT_COORDINATOR_RPC_FEDERATION_SERVICE_H_
#define CONCORDAT_COORDINATOR_RPC_FEDERATION_SERVICE_H_

#include "concordat/v1/federation.grpc.pb.h"
#include "coordinator/rpc/call_gate.h"
#include "coordinator/rpc/hub.h"

namespace concordat::coordinator {

/// Largest piece of an upload in one message.
inline constexpr size_t kMaxChunkBytes = 1 << 20;

/// Who calls, by its certificate under the charter, in `role`. PermissionDenied otherwise.
StatusOr<crypto::PeerIdentity> CallerOf(const grpc::ServerContextBase& context, const Hub& hub, Role role);

/// What a peer is told: the status with names of files taken out, which are the operator's own business.
grpc::Status ToPeer(const Status& status);

/// A session's stream, in messages that are serialised here: what waits for a site to read takes its bytes
/// and no more. Parsed, the delivery to one of a hundred sites is ten thousand objects.
using SessionReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

/// Workers' side of the coordinator. The session is a callback stream, so that a waiting worker holds no
/// thread; chunks and files are plain calls.
class FederationService final
    : public concordat::v1::Federation::WithRawCallbackMethod_Session<concordat::v1::Federation::Service> {
 public:
  FederationService(Hub& hub, CallGate& gate) : hub_(hub), gate_(gate) {}

  SessionReactor* Session(grpc::CallbackServerContext* context) override;
  grpc::Status PutChunk(grpc::ServerContext* context, const concordat::v1::PutChunkRequest* request,
                        concordat::v1::PutChunkReply* reply) override;
  grpc::Status UploadState(grpc::ServerContext* context, const concordat::v1::UploadStateRequest* request,
                           concordat::v1::PutChunkReply* reply) override;
  grpc::Status GetBlob(grpc::ServerContext* context, const concordat::v1::GetBlobRequest* request,
                       grpc::ServerWriter<concordat::v1::BlobChunk>* writer) override;

 private:
  Status CheckGate(const grpc::ServerContextBase& context);
  Hub& hub_;
  CallGate& gate_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_FEDERATION_SERVICE_H_
