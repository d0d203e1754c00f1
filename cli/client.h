#ifndef CONCORDAT_CLI_CLIENT_H_
#define CONCORDAT_CLI_CLIENT_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/context.h"
#include "concordat/v1/jobs.grpc.pb.h"
#include "policy/node_config.h"
#include "policy/signed_job.h"

namespace concordat::cli {

namespace pb = ::concordat::v1;

/// Who sits at the command: the operator file, the charter it pins, certificate and key.
struct Operator {
  policy::OperatorConfig config;
  policy::SignedCharter charter;  // verified and pinned
  SpiffeId self;
  std::string chain;  // PEM, leaf first
  std::string key_pem;
  std::string address;  // of the coordinator

  /// InvalidArgument when no --config was given or a file does not read; PermissionDenied when the charter is
  /// not the pinned one or the certificate is no operator's of a member.
  static StatusOr<Operator> Load(const Context& context);
  /// Signs a job file's bytes.
  StatusOr<policy::SignedJob> Sign(std::string_view job_file) const;
};

/// A connection to the coordinator as an operator. One thread.
class Client {
 public:
  /// Opens the channel and asks the coordinator who it is. Unavailable when it does not answer;
  /// FailedPrecondition for another protocol version and PermissionDenied for another charter, naming both.
  static StatusOr<std::unique_ptr<Client>> Connect(const Context& context);

  const Operator& me() const { return operator_; }
  const pb::StatusReply& coordinator() const { return status_; }

  /// The id of the job that `text` names: 64 hexadecimal digits, a prefix of them, a job's name, or a job
  /// file. NotFound; InvalidArgument when several match, naming them.
  StatusOr<JobId> FindJob(const std::string& text);

  StatusOr<pb::SubmitReply> Submit(const policy::SignedJob& job);
  StatusOr<pb::PlanReply> Plan(const policy::SignedJob& job, Millis wait);
  StatusOr<std::vector<pb::JobState>> ListJobs();
  /// The state of one job now.
  StatusOr<pb::JobState> State(const JobId& job);
  /// Calls `on_state` with each state until it returns false or the stream ends (OK).
  Status Watch(const JobId& job, const std::function<bool(const pb::JobState&)>& on_state);
  StatusOr<pb::JobState> Cancel(const JobId& job);
  StatusOr<pb::RoundsReply> Rounds(const JobId& job);
  StatusOr<pb::EvaluateReply> Evaluate(const JobId& job, const std::vector<Digest>& adapters,
                                       uint32_t max_documents, Millis wait);
  /// The content-addressed file `sha256`. What arrives is kept in `partial` (if not empty), and a later call
  /// goes on where the last one stopped. DataLoss when the bytes have another hash.
  StatusOr<Bytes> Fetch(const Digest& sha256, const std::filesystem::path& partial, uint64_t max_bytes);

 private:
  Client() = default;
  /// What went wrong, said for a person, with the coordinator's address.
  Status Explain(const grpc::Status& status) const;
  template <typename Request, typename Reply>
  StatusOr<Reply> Call(grpc::Status (pb::Jobs::Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                       const Request& request, Millis deadline);
  Status FetchFrom(const Digest& sha256, uint64_t offset, uint64_t max_bytes,
                   const std::function<Status(ByteView)>& sink);

  Operator operator_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::Jobs::Stub> stub_;
  pb::StatusReply status_;
};

/// A digest that a peer sent; zero when it has another length.
Digest DigestOf(const std::string& bytes);
/// "jurisdiction/name" of a SPIFFE ID that a peer sent, or the text as it may be shown.
std::string BriefWorker(const std::string& spiffe_id);

}  // namespace concordat::cli

#endif  // CONCORDAT_CLI_CLIENT_H_
