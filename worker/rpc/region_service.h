#ifndef CONCORDAT_WORKER_RPC_REGION_SERVICE_H_
#define CONCORDAT_WORKER_RPC_REGION_SERVICE_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "common/status.h"
#include "concordat/v1/region.grpc.pb.h"
#include "worker/core/effects.h"

namespace concordat::worker {

namespace pb = ::concordat::v1;

/// The region's operator's way in: a unix socket of mode 0600 in the region's own folder. Who may open it is
/// the region's operator; there is no further check, and nothing that goes over it crosses a border.
class RegionServer {
 public:
  struct Handlers {
    std::function<StatusOr<pb::RegionStatus>()> status;                   // any thread; may wait for the loop
    std::function<StatusOr<std::string>(const JobId&, Decision)> decide;  // likewise
  };
  /// FailedPrecondition when the socket's path is too long for the kernel or cannot be bound.
  static StatusOr<std::unique_ptr<RegionServer>> Start(const std::filesystem::path& socket,
                                                       Handlers handlers);
  ~RegionServer();
  void Stop();

 private:
  class Service;
  RegionServer() = default;
  std::filesystem::path socket_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_REGION_SERVICE_H_
