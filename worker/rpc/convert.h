#ifndef CONCORDAT_WORKER_RPC_CONVERT_H_
#define CONCORDAT_WORKER_RPC_CONVERT_H_

#include "concordat/v1/federation.pb.h"
#include "worker/core/messages.h"

// Between the session's generated messages and the core's structs.
namespace concordat::worker {

namespace pb = ::concordat::v1;

pb::WorkerMessage ToWire(const ToCoordinator& message);
/// Checks every size, count and range. InvalidArgument naming the field; also for a Hello, which is the
/// session's own matter, and for an empty message.
StatusOr<FromCoordinator> FromWire(const pb::CoordinatorMessage& message);

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_CONVERT_H_
