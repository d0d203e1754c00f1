#ifndef CONCORDAT_WORKER_RPC_RETRY_H_
#define CONCORDAT_WORKER_RPC_RETRY_H_

#include "common/status.h"

namespace concordat::worker {

/// Whether a call that ended so may go well when it is made again: the connection broke or was reset, or the
/// other side restarts.
inline bool IsTransient(const Status& status) {
  return status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kDeadlineExceeded ||
         status.code() == StatusCode::kCancelled || status.code() == StatusCode::kAborted ||
         status.code() == StatusCode::kUnknown || status.code() == StatusCode::kInternal;
}

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_RETRY_H_
