#ifndef CONCORDAT_COORDINATOR_RPC_CALL_GATE_H_
#define CONCORDAT_COORDINATOR_RPC_CALL_GATE_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"

namespace concordat::coordinator {

/// How many calls are under way, by caller. Pure; the caller locks.
///
/// Beyond its share a caller's calls are refused in words; beyond twice that they are cancelled, because even
/// a refusal holds a thread when the other side does not read.
class CallCounts {
 public:
  enum class Verdict { kTaken, kRefused, kCancelled };
  /// \param threads that calls may hold in all
  /// \param members jurisdictions that share them
  CallCounts(size_t threads, size_t members);
  Verdict Begin(const SpiffeId& caller);
  /// \pre one Begin of `caller`, whatever its verdict, has no End yet
  void End(const SpiffeId& caller);
  size_t most_of_jurisdiction() const { return most_of_jurisdiction_; }
  size_t most_of_identity() const { return most_of_identity_; }
  /// How many chunks of one upload may be under way: so many are never refused, from a site of each member at
  /// once, and leave the caller some calls for other things. What is refused was sent in vain.
  size_t most_of_upload() const { return most_of_upload_; }

 private:
  size_t most_of_jurisdiction_;
  size_t most_of_identity_;
  size_t most_of_upload_;
  std::map<SpiffeId, size_t> identities_;
  std::map<std::string, size_t> jurisdictions_;
};

/// Stands before every call that holds a thread of the server's pool: all but a worker's session.
///
/// A caller, and a jurisdiction with all its callers, has a share of the pool (CallCounts), and a call whose
/// reply nobody reads for `patience` is cancelled, so that no key can park all threads. What a call costs
/// before it comes here (HTTP/2 frames, the handshake) is bounded by gRPC alone.
///
/// The server owns the interceptors; the gate must outlive it.
class CallGate {
 public:
  using Identify = std::function<StatusOr<SpiffeId>(const grpc::ServerContextBase&)>;
  /// \param identify who calls; any thread. A caller that it does not know is refused by the call itself.
  CallGate(Identify identify, size_t threads, size_t members, Millis patience);
  ~CallGate();

  /// For ServerBuilder::experimental().SetInterceptorCreators.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Factory();
  /// What the handler asks first: ResourceExhausted when the caller has the most that it may have, kCancelled
  /// when the caller has gone.
  Status Check(const grpc::ServerContextBase& context);
  /// CallCounts::most_of_upload: what a worker is told before it sends.
  size_t most_of_upload() const { return most_of_upload_; }

 private:
  class Factory_;
  class Call;
  void Watch();

  const Identify identify_;
  const Millis patience_;
  std::mutex mutex_;
  std::condition_variable wake_;
  CallCounts counts_;  // guarded by mutex_
  const size_t most_of_upload_;
  std::set<Call*> calls_;                             // guarded by mutex_
  std::set<const grpc::ServerContextBase*> refused_;  // guarded by mutex_
  bool stopping_ = false;                             // guarded by mutex_
  std::thread thread_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_CALL_GATE_H_
