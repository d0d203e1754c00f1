#ifndef CONCORDAT_COORDINATOR_RPC_JOBS_SERVICE_H_
#define CONCORDAT_COORDINATOR_RPC_JOBS_SERVICE_H_

#include <atomic>

#include "concordat/v1/jobs.grpc.pb.h"
#include "coordinator/rpc/call_gate.h"
#include "coordinator/rpc/convert.h"
#include "coordinator/rpc/hub.h"

namespace concordat::coordinator {

/// Operators' side of the coordinator: the service behind the `concordat` command. Every caller must be an
/// operator of a member jurisdiction.
class JobsService final : public concordat::v1::Jobs::Service {
 public:
  JobsService(Hub& hub, CallGate& gate) : hub_(hub), gate_(gate) {}

  grpc::Status Submit(grpc::ServerContext* context, const concordat::v1::SubmitRequest* request,
                      concordat::v1::SubmitReply* reply) override;
  grpc::Status Plan(grpc::ServerContext* context, const concordat::v1::SubmitRequest* request,
                    concordat::v1::PlanReply* reply) override;
  grpc::Status ListJobs(grpc::ServerContext* context, const concordat::v1::ListJobsRequest* request,
                        concordat::v1::ListJobsReply* reply) override;
  grpc::Status Watch(grpc::ServerContext* context, const concordat::v1::WatchRequest* request,
                     grpc::ServerWriter<concordat::v1::JobState>* writer) override;
  grpc::Status Cancel(grpc::ServerContext* context, const concordat::v1::CancelRequest* request,
                      concordat::v1::JobState* reply) override;
  grpc::Status Fetch(grpc::ServerContext* context, const concordat::v1::FetchRequest* request,
                     grpc::ServerWriter<concordat::v1::FetchChunk>* writer) override;
  grpc::Status Evaluate(grpc::ServerContext* context, const concordat::v1::EvaluateRequest* request,
                        concordat::v1::EvaluateReply* reply) override;
  grpc::Status Rounds(grpc::ServerContext* context, const concordat::v1::RoundsRequest* request,
                      concordat::v1::RoundsReply* reply) override;
  grpc::Status Status(grpc::ServerContext* context, const concordat::v1::StatusRequest* request,
                      concordat::v1::StatusReply* reply) override;

 private:
  concordat::v1::JobState StateOf(const JobView& view, size_t most_rounds = kMostRounds);
  Hub& hub_;
  CallGate& gate_;
  std::atomic<int> waiting_ = 0;  // calls that hold a thread for long
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_JOBS_SERVICE_H_
