#ifndef CONCORDAT_COORDINATOR_RPC_SERVER_H_
#define CONCORDAT_COORDINATOR_RPC_SERVER_H_

#include <functional>
#include <memory>

#include "coordinator/rpc/hub.h"
#include "policy/node_config.h"

namespace concordat::coordinator {

/// A running coordinator: state folder, hub and gRPC server.
class Server {
 public:
  /// Reads charter, certificate and key, restores the state and listens.
  /// PermissionDenied when certificate or key are not the charter's coordinator's.
  /// \param fatal called when it cannot go on; any thread
  static StatusOr<std::unique_ptr<Server>> Start(const policy::CoordinatorConfig& config,
                                                 std::function<void()> fatal);
  ~Server();
  /// Where it listens, "host:port".
  const std::string& address() const;
  /// Closes streams and calls, then the state. Returns when all is written.
  void Stop();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_SERVER_H_
