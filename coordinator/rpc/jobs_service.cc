#include "coordinator/rpc/jobs_service.h"

#include <algorithm>
#include <set>
#include <thread>

#include "common/version.h"
#include "coordinator/rpc/session.h"
#include "policy/signed_job.h"
#include "proto/tls.h"

namespace concordat::coordinator {
namespace {

constexpr Millis kWatchInterval{250};  // at most four states a second
constexpr Millis kWatchIdle{1000};
constexpr uint32_t kPlanWaitMs = 10'000;
constexpr uint32_t kEvaluateWaitMs = 600'000;
constexpr uint32_t kMaxPlanWaitMs = 60'000;
constexpr uint32_t kMaxEvaluateWaitMs = 3'600'000;
constexpr int kMaxModels = 16;
constexpr uint32_t kMaxDocuments = 1'000'000;
constexpr size_t kMostListed = 100;         // jobs of one page
constexpr size_t kMaxReplyBytes = 3 << 20;  // of what grows with time; messages have at most 4 MiB
/// Calls that may wait or stream at once. Each holds a thread, and the workers' calls need some of them too.
constexpr int kMaxWaiting = 256;

/// One place among them, for as long as it lives.
class Place {
 public:
  explicit Place(std::atomic<int>& taken) : taken_(taken), free_(++taken <= kMaxWaiting) {}
  ~Place() { --taken_; }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  Status status() const {
    if (free_) return OkStatus();
    return ResourceExhausted("{} calls wait here already; try again later", kMaxWaiting);
  }

 private:
  std::atomic<int>& taken_;
  const bool free_;
};

StatusOr<policy::SignedJob> JobOf(const pb::SubmitRequest& in) {
  if (in.job_file().empty() || in.job_file().size() > policy::kMaxJobFileBytes) {
    return InvalidArgument("job_file: expected 1 to {} bytes, got {}", policy::kMaxJobFileBytes,
                           in.job_file().size());
  }
  policy::SignedJob out;
  if (in.signature().size() != out.signature.size()) {
    return InvalidArgument("signature: expected {} bytes, got {}", out.signature.size(),
                           in.signature().size());
  }
  if (in.submitter_chain().size() > crypto::kMaxChainBytes) {
    return InvalidArgument("submitter_chain: expected at most {} bytes", crypto::kMaxChainBytes);
  }
  out.file = in.job_file();
  std::copy(in.signature().begin(), in.signature().end(), out.signature.begin());
  out.submitter_chain = in.submitter_chain();
  return out;
}

Millis WaitOf(uint32_t asked, uint32_t otherwise, uint32_t most) {
  return Millis(std::min(asked == 0 ? otherwise : asked, most));
}

}  // namespace

#define CALLER_OR_RETURN(name)                                                               \
  if (const concordat::Status gate = gate_.Check(*context); !gate.ok()) return ToPeer(gate); \
  const auto name = CallerOf(*context, hub_, Role::kOperator);                               \
  if (!name.ok()) return tls::ToGrpc(name.status())
#define PLACE_OR_RETURN()      \
  const Place place(waiting_); \
  if (!place.status().ok()) return tls::ToGrpc(place.status())
#define GRPC_ASSIGN(lhs, expr) \
  auto lhs = (expr);           \
  if (!lhs.ok()) return ToPeer(lhs.status())

pb::JobState JobsService::StateOf(const JobView& view, size_t most_rounds) {
  pb::JobState out = ToProto(view, most_rounds);
  for (auto& region : *out.mutable_regions()) {
    const auto id = SpiffeId::Parse(region.worker());
    if (!id.ok()) continue;
    const Traffic::Count count = hub_.traffic().Of(*id);
    region.set_bytes_up(count.up);
    region.set_bytes_down(count.down);
  }
  return out;
}

grpc::Status JobsService::Submit(grpc::ServerContext* context, const pb::SubmitRequest* request,
                                 pb::SubmitReply* reply) {
  CALLER_OR_RETURN(caller);
  PLACE_OR_RETURN();
  GRPC_ASSIGN(job, JobOf(*request));
  GRPC_ASSIGN(submitted, hub_.Submit(*job, caller->id));
  reply->set_job(wire::BytesOf(submitted->job));
  reply->set_existed(submitted->existed);
  return grpc::Status::OK;
}

grpc::Status JobsService::Plan(grpc::ServerContext* context, const pb::SubmitRequest* request,
                               pb::PlanReply* reply) {
  CALLER_OR_RETURN(caller);
  PLACE_OR_RETURN();
  GRPC_ASSIGN(job, JobOf(*request));
  GRPC_ASSIGN(plan, hub_.Plan(*job, WaitOf(request->wait_ms(), kPlanWaitMs, kMaxPlanWaitMs)));
  *reply = ToProto(*plan);
  return grpc::Status::OK;
}

grpc::Status JobsService::ListJobs(grpc::ServerContext* context, const pb::ListJobsRequest* request,
                                   pb::ListJobsReply* reply) {
  CALLER_OR_RETURN(caller);
  std::optional<JobId> before;
  if (!request->before().empty()) {
    GRPC_ASSIGN(job, wire::DigestFrom(request->before(), "before"));
    before = *job;
  }
  GRPC_ASSIGN(page, hub_.List(before, kMostListed));
  reply->set_earlier(page->earlier);
  // The oldest give way when the newest need the room.
  std::vector<pb::JobState> newest;
  size_t bytes = 0;
  for (auto view = page->jobs.rbegin(); view != page->jobs.rend(); ++view) {
    pb::JobState state = StateOf(*view, 1);
    bytes += state.ByteSizeLong();
    if (bytes > kMaxReplyBytes && !newest.empty()) {
      reply->set_earlier(true);
      break;
    }
    newest.push_back(std::move(state));
  }
  for (auto state = newest.rbegin(); state != newest.rend(); ++state) *reply->add_jobs() = std::move(*state);
  return grpc::Status::OK;
}

grpc::Status JobsService::Watch(grpc::ServerContext* context, const pb::WatchRequest* request,
                                grpc::ServerWriter<pb::JobState>* writer) {
  CALLER_OR_RETURN(caller);
  PLACE_OR_RETURN();
  GRPC_ASSIGN(job, wire::DigestFrom(request->job(), "job"));
  uint64_t seen = hub_.AwaitChange(*job, 0, Millis(0));
  for (;;) {
    GRPC_ASSIGN(view, hub_.View(*job));
    if (!writer->Write(StateOf(*view)) || HasEnded(view->phase)) return grpc::Status::OK;
    const auto written = std::chrono::steady_clock::now();
    uint64_t now = seen;
    while (now == seen) {
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
      if (hub_.stopping()) return tls::ToGrpc(Unavailable("the coordinator is shutting down"));
      now = hub_.AwaitChange(*job, seen, kWatchIdle);
    }
    // Changes come in bursts: what happens within the interval is shown once.
    std::this_thread::sleep_until(written + kWatchInterval);
    seen = hub_.AwaitChange(*job, now, Millis(0));
  }
}

grpc::Status JobsService::Cancel(grpc::ServerContext* context, const pb::CancelRequest* request,
                                 pb::JobState* reply) {
  CALLER_OR_RETURN(caller);
  GRPC_ASSIGN(job, wire::DigestFrom(request->job(), "job"));
  GRPC_ASSIGN(view, hub_.Cancel(*job, caller->id));
  *reply = StateOf(*view);
  return grpc::Status::OK;
}

grpc::Status JobsService::Fetch(grpc::ServerContext* context, const pb::FetchRequest* request,
                                grpc::ServerWriter<pb::FetchChunk>* writer) {
  CALLER_OR_RETURN(caller);
  PLACE_OR_RETURN();
  return ToPeer(StreamBlob<pb::FetchChunk>(hub_, caller->id, request->sha256(), request->offset(), *writer,
                                           [](uint64_t) {}));
}

grpc::Status JobsService::Evaluate(grpc::ServerContext* context, const pb::EvaluateRequest* request,
                                   pb::EvaluateReply* reply) {
  CALLER_OR_RETURN(caller);
  PLACE_OR_RETURN();
  EvaluationRequest out;
  GRPC_ASSIGN(job, wire::DigestFrom(request->job(), "job"));
  out.job = *job;
  if (request->adapters_size() < 1 || request->adapters_size() > kMaxModels) {
    return tls::ToGrpc(
        InvalidArgument("adapters: expected 1 to {}, got {}", kMaxModels, request->adapters_size()));
  }
  std::set<Digest> seen;
  for (const std::string& bytes : request->adapters()) {
    GRPC_ASSIGN(adapter, wire::DigestFrom(bytes, "adapters"));
    if (!seen.insert(*adapter).second) return tls::ToGrpc(InvalidArgument("adapters: one is named twice"));
    out.adapters.push_back(*adapter);
  }
  if (request->max_documents() > kMaxDocuments) {
    return tls::ToGrpc(InvalidArgument("max_documents: expected at most {}", kMaxDocuments));
  }
  out.max_documents = request->max_documents();
  GRPC_ASSIGN(outcome, hub_.Evaluate(out, WaitOf(request->wait_ms(), kEvaluateWaitMs, kMaxEvaluateWaitMs)));
  *reply = ToProto(*outcome);
  return grpc::Status::OK;
}

grpc::Status JobsService::Rounds(grpc::ServerContext* context, const pb::RoundsRequest* request,
                                 pb::RoundsReply* reply) {
  CALLER_OR_RETURN(caller);
  GRPC_ASSIGN(job, wire::DigestFrom(request->job(), "job"));
  GRPC_ASSIGN(view, hub_.View(*job));
  GRPC_ASSIGN(record, hub_.Record(*job));
  if (const concordat::Status may = hub_.CheckJobReader(*job, caller->id.jurisdiction()); !may.ok())
    return ToPeer(may);
  size_t bytes = 0;
  for (size_t i = request->from(); i < view->rounds.size(); ++i) {
    pb::RoundSummary round = ToProto(view->rounds[i]);
    bytes += round.ByteSizeLong();
    if (bytes > kMaxReplyBytes && reply->rounds_size() > 0) break;
    *reply->add_rounds() = std::move(round);
  }
  reply->set_total(static_cast<uint32_t>(view->rounds.size()));
  reply->set_job_file(record->signed_job.file);
  reply->set_initial_adapter(wire::BytesOf(record->initial_adapter));
  return grpc::Status::OK;
}

grpc::Status JobsService::Status(grpc::ServerContext* context, const pb::StatusRequest*,
                                 pb::StatusReply* reply) {
  CALLER_OR_RETURN(caller);
  GRPC_ASSIGN(connected, hub_.ConnectedWorkers());
  reply->set_version(std::string(kVersion));
  reply->set_protocol(kProtocolVersion);
  reply->set_charter(wire::BytesOf(hub_.charter().hash));
  for (const SpiffeId& id : *connected) reply->add_connected(id.ToString());
  return grpc::Status::OK;
}

#undef CALLER_OR_RETURN
#undef PLACE_OR_RETURN
#undef GRPC_ASSIGN

}  // namespace concordat::coordinator
