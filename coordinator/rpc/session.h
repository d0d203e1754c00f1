#ifndef CONCORDAT_COORDINATOR_RPC_SESSION_H_
#define CONCORDAT_COORDINATOR_RPC_SESSION_H_

#include <algorithm>
#include <functional>

#include "coordinator/rpc/convert.h"
#include "coordinator/rpc/federation_service.h"
#include "proto/wire.h"

namespace concordat::coordinator {

/// Begins a worker's stream: verifies who it is, exchanges hellos, then hands every checked message to the
/// hub. The reactor deletes itself when gRPC is done with it.
SessionReactor* StartSession(Hub& hub, grpc::CallbackServerContext* context);

/// Of a file in one message. Each reader has two under way, and a hundred may read at once.
inline constexpr size_t kBlobChunkBytes = 64 << 10;

/// Streams a blob from `offset` in chunks of at most kBlobChunkBytes. InvalidArgument for a name or offset
/// that does not fit, NotFound, PermissionDenied as Hub::CheckReader, DataLoss; Unavailable when the caller
/// is gone.
template <typename Chunk, typename Sent>
Status StreamBlob(Hub& hub, const SpiffeId& caller, const std::string& name, uint64_t offset,
                  grpc::ServerWriter<Chunk>& writer, const Sent& sent) {
  ASSIGN_OR_RETURN(const Digest digest, wire::DigestFrom(name, "sha256"));
  RETURN_IF_ERROR(hub.CheckReader(digest, caller.jurisdiction()));
  ASSIGN_OR_RETURN(const auto file, hub.blobs().Get(digest));
  const ByteView view = file->view();
  if (offset > view.size())
    return InvalidArgument("offset: expected at most {}, got {}", view.size(), offset);
  do {
    Chunk chunk;
    const size_t n = std::min<uint64_t>(kBlobChunkBytes, view.size() - offset);
    chunk.set_offset(offset);
    chunk.set_total(view.size());
    chunk.set_data(view.data() + offset, n);
    if (!writer.Write(chunk)) return Unavailable("the caller is gone");
    sent(n);
    offset += n;
  } while (offset < view.size());
  return OkStatus();
}

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_SESSION_H_
