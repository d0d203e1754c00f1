#include "cli/client.h"

#include <algorithm>

#include "common/files.h"
#include "common/process.h"
#include "common/version.h"
#include "privacy/crypto/x509.h"
#include "proto/tls.h"

namespace concordat::cli {
namespace {

constexpr size_t kMostPages = 1000;  // of one list: an end, whatever the coordinator says
constexpr Millis kShortCall{20'000};
// On top of what a call asks the coordinator to wait for.
constexpr Millis kSlack{10'000};
constexpr int kFetchAttempts = 8;

grpc::ChannelArguments ChannelOptions() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // A host that vanished sends no reset. More often than every five minutes servers take for abuse.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 310'000);
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return arguments;
}

StatusOr<std::shared_ptr<grpc::Channel>> DialTls(const Operator& me, const Clock& clock) {
  const policy::CharterCoordinator& coordinator = me.charter.charter.coordinator;
  const auto credentials = tls::ClientCredentials(
      {me.chain, me.key_pem}, {coordinator.root_pem, coordinator.id, coordinator.key_hash()}, clock);
  return grpc::CreateCustomChannel(me.address, credentials, ChannelOptions());
}

void SetDeadline(grpc::ClientContext& context, Millis deadline) {
  context.set_deadline(std::chrono::system_clock::now() + deadline);
}

bool IsHex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

}  // namespace

Digest DigestOf(const std::string& bytes) {
  const auto digest = Digest::From(AsBytes(bytes));
  return digest.ok() ? *digest : Digest{};
}

std::string BriefWorker(const std::string& spiffe_id) {
  const auto id = SpiffeId::Parse(spiffe_id);
  if (id.ok()) return id->Brief();
  static constexpr std::string_view kScheme = "spiffe://";
  const std::string text = Printable(spiffe_id, 140);
  return text.starts_with(kScheme) ? text.substr(kScheme.size()) : text;
}

StatusOr<Operator> Operator::Load(const Context& context) {
  if (context.config.empty()) {
    return InvalidArgument(
        "who are you? Give --config operator.yaml, or set CONCORDAT_CONFIG (concordat region init writes "
        "one)");
  }
  Operator me;
  ASSIGN_OR_RETURN(me.config, policy::LoadOperatorConfig(context.config));
  ASSIGN_OR_RETURN(me.charter,
                   policy::LoadPinnedCharter(me.config.charter.file.string(), me.config.charter.hash));
  ASSIGN_OR_RETURN(me.chain, ReadTextFile(me.config.certificate, crypto::kMaxChainBytes));
  RETURN_IF_ERROR(OfOwnFile(CheckPrivateFile(me.config.key)));
  ASSIGN_OR_RETURN(me.key_pem, ReadTextFile(me.config.key, 64 << 10));
  auto peer = policy::CheckPeer(me.charter.charter, me.chain, context.clock().Now());
  if (!peer.ok()) {
    return Annotate(peer.status(),
                    fmt::format("your certificate {} (concordat region renew makes a fresh one)",
                                me.config.certificate.string()));
  }
  if (peer->id.role() != Role::kOperator) {
    return PermissionDenied("{} is {}: expected an operator's certificate", me.config.certificate.string(),
                            peer->id.ToString());
  }
  me.self = peer->id;
  me.address = me.config.coordinator_address.empty() ? me.charter.charter.coordinator.address
                                                     : me.config.coordinator_address;
  return me;
}

StatusOr<policy::SignedJob> Operator::Sign(std::string_view job_file) const {
  ASSIGN_OR_RETURN(const crypto::SigningKey signing, crypto::SigningKey::FromPem(AsBytes(key_pem)));
  return policy::SignJob(job_file, signing, chain);
}

StatusOr<std::unique_ptr<Client>> Client::Connect(const Context& context) {
  auto client = std::unique_ptr<Client>(new Client());
  ASSIGN_OR_RETURN(client->operator_, Operator::Load(context));
  const Operator& me = client->operator_;
  if (context.surroundings.dial) {
    ASSIGN_OR_RETURN(client->channel_, context.surroundings.dial(me.config, me.charter));
  } else {
    ASSIGN_OR_RETURN(client->channel_, DialTls(me, context.clock()));
  }
  client->stub_ = pb::Jobs::NewStub(client->channel_);
  ASSIGN_OR_RETURN(client->status_, client->Call(&pb::Jobs::Stub::Status, pb::StatusRequest(), kShortCall));
  const pb::StatusReply& status = client->status_;
  if (status.protocol() != kProtocolVersion) {
    return FailedPrecondition(
        "the coordinator at {} speaks protocol {} (version {}), this command protocol {} (version {}): use "
        "the "
        "same release",
        me.address, status.protocol(), Printable(status.version(), 40), kProtocolVersion, kVersion);
  }
  if (const Digest theirs = DigestOf(status.charter()); theirs != me.charter.hash) {
    return PermissionDenied("the coordinator at {} runs under charter {}, you pin {}: concordat charter show",
                            me.address, theirs.brief(), me.charter.hash.brief());
  }
  return client;
}

Status Client::Explain(const grpc::Status& status) const {
  const std::string text = Printable(status.error_message(), 1000);
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return OkStatus();
    case grpc::StatusCode::UNAVAILABLE:
      return Unavailable("the coordinator at {} does not answer ({}). Next: concordat doctor",
                         operator_.address, text);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Unavailable("the coordinator at {} did not answer in time. Next: concordat doctor",
                         operator_.address);
    default:
      return MakeStatus(tls::FromGrpc(status).code(), text);
  }
}

template <typename Request, typename Reply>
StatusOr<Reply> Client::Call(grpc::Status (pb::Jobs::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                    Reply*),
                             const Request& request, Millis deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  Reply reply;
  RETURN_IF_ERROR(Explain((stub_.get()->*method)(&context, request, &reply)));
  return reply;
}

StatusOr<JobId> Client::FindJob(const std::string& text) {
  if (const auto full = Digest::FromHexText(text); full.ok()) return *full;
  std::error_code error;
  if (std::filesystem::is_regular_file(text, error)) {
    ASSIGN_OR_RETURN(const std::string file, ReadTextFile(text, policy::kMaxJobFileBytes));
    return policy::JobIdOf(file, operator_.self);
  }
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  ASSIGN_OR_RETURN(const auto jobs, ListJobs());
  std::vector<const pb::JobState*> found;
  for (const auto& job : jobs) {
    const bool by_prefix = IsHex(lower) && DigestOf(job.job()).hex().starts_with(lower);
    if (by_prefix || job.name() == text) found.push_back(&job);
  }
  if (found.empty()) return NotFound("no job '{}' at the coordinator: concordat jobs lists them", text);
  if (found.size() == 1) return DigestOf(found.front()->job());
  std::string names;
  for (const auto* job : found) names += (names.empty() ? "" : ", ") + DigestOf(job->job()).brief();
  return InvalidArgument("'{}' names {} jobs: {}. Give more digits", text, found.size(), names);
}

StatusOr<pb::SubmitReply> Client::Submit(const policy::SignedJob& job) {
  pb::SubmitRequest request;
  request.set_job_file(job.file);
  request.set_signature(job.signature.data(), job.signature.size());
  request.set_submitter_chain(job.submitter_chain);
  return Call(&pb::Jobs::Stub::Submit, request, kShortCall);
}

StatusOr<pb::PlanReply> Client::Plan(const policy::SignedJob& job, Millis wait) {
  pb::SubmitRequest request;
  request.set_job_file(job.file);
  request.set_signature(job.signature.data(), job.signature.size());
  request.set_submitter_chain(job.submitter_chain);
  request.set_wait_ms(static_cast<uint32_t>(wait.count()));
  return Call(&pb::Jobs::Stub::Plan, request, wait + kSlack);
}

StatusOr<std::vector<pb::JobState>> Client::ListJobs() {
  pb::ListJobsRequest request;
  std::vector<pb::JobState> out;
  for (size_t page = 0; page < kMostPages; ++page) {
    ASSIGN_OR_RETURN(const auto reply, Call(&pb::Jobs::Stub::ListJobs, request, kShortCall));
    out.insert(out.begin(), reply.jobs().begin(), reply.jobs().end());
    if (!reply.earlier() || reply.jobs().empty()) break;
    request.set_before(reply.jobs(0).job());
  }
  return out;
}

StatusOr<pb::JobState> Client::State(const JobId& job) {
  StatusOr<pb::JobState> state = NotFound("the coordinator knows no job {}", job.brief());
  RETURN_IF_ERROR(Watch(job, [&state](const pb::JobState& now) {
    state = now;
    return false;
  }));
  return state;
}

Status Client::Watch(const JobId& job, const std::function<bool(const pb::JobState&)>& on_state) {
  pb::WatchRequest request;
  request.set_job(job.bytes.data(), job.bytes.size());
  grpc::ClientContext context;
  const auto reader = stub_->Watch(&context, request);
  pb::JobState state;
  bool stopped = false;
  while (!stopped && reader->Read(&state)) stopped = !on_state(state);
  if (stopped) context.TryCancel();
  const grpc::Status end = reader->Finish();
  return stopped ? OkStatus() : Explain(end);
}

StatusOr<pb::JobState> Client::Cancel(const JobId& job) {
  pb::CancelRequest request;
  request.set_job(job.bytes.data(), job.bytes.size());
  return Call(&pb::Jobs::Stub::Cancel, request, kShortCall);
}

StatusOr<pb::RoundsReply> Client::Rounds(const JobId& job) {
  pb::RoundsRequest request;
  request.set_job(job.bytes.data(), job.bytes.size());
  ASSIGN_OR_RETURN(pb::RoundsReply out, Call(&pb::Jobs::Stub::Rounds, request, kShortCall));
  for (size_t page = 1; page < kMostPages && static_cast<uint32_t>(out.rounds_size()) < out.total(); ++page) {
    request.set_from(static_cast<uint32_t>(out.rounds_size()));
    ASSIGN_OR_RETURN(const pb::RoundsReply more, Call(&pb::Jobs::Stub::Rounds, request, kShortCall));
    if (more.rounds().empty()) break;
    out.mutable_rounds()->MergeFrom(more.rounds());
  }
  return out;
}

StatusOr<pb::EvaluateReply> Client::Evaluate(const JobId& job, const std::vector<Digest>& adapters,
                                             uint32_t max_documents, Millis wait) {
  pb::EvaluateRequest request;
  request.set_job(job.bytes.data(), job.bytes.size());
  for (const Digest& adapter : adapters) request.add_adapters(adapter.bytes.data(), adapter.bytes.size());
  request.set_max_documents(max_documents);
  request.set_wait_ms(static_cast<uint32_t>(wait.count()));
  return Call(&pb::Jobs::Stub::Evaluate, request, wait + kSlack);
}

Status Client::FetchFrom(const Digest& sha256, uint64_t offset, uint64_t max_bytes,
                         const std::function<Status(ByteView)>& sink) {
  pb::FetchRequest request;
  request.set_sha256(sha256.bytes.data(), sha256.bytes.size());
  request.set_offset(offset);
  grpc::ClientContext context;
  const auto reader = stub_->Fetch(&context, request);
  pb::FetchChunk chunk;
  Status result = OkStatus();
  uint64_t total = 0;
  while (result.ok() && reader->Read(&chunk)) {
    total = chunk.total();
    if (chunk.offset() != offset || chunk.total() > max_bytes ||
        offset + chunk.data().size() > chunk.total()) {
      result = DataLoss("{}: the coordinator sent bytes {} to {} of {}, expected them from {} and at most {}",
                        sha256.brief(), chunk.offset(), chunk.offset() + chunk.data().size(), chunk.total(),
                        offset, max_bytes);
      break;
    }
    result = sink(AsBytes(chunk.data()));
    offset += chunk.data().size();
  }
  if (!result.ok()) {
    context.TryCancel();
    (void)reader->Finish();
    return result;
  }
  RETURN_IF_ERROR(Explain(reader->Finish()));
  if (offset != total) {
    return Unavailable("{}: the transfer stopped after {} of {} bytes", sha256.brief(), offset, total);
  }
  return OkStatus();
}

StatusOr<Bytes> Client::Fetch(const Digest& sha256, const std::filesystem::path& partial,
                              uint64_t max_bytes) {
  Bytes bytes;
  if (!partial.empty()) {
    auto before = ReadFile(partial, max_bytes);
    if (before.ok()) bytes = *std::move(before);
    if (crypto::Sha256(bytes) == sha256) {
      std::error_code ignored;
      std::filesystem::remove(partial, ignored);
      return bytes;
    }
  }
  Status status = OkStatus();
  for (int attempt = 0; attempt < kFetchAttempts; ++attempt) {
    const uint64_t start = bytes.size();
    status = FetchFrom(sha256, start, max_bytes, [&](ByteView data) {
      bytes.insert(bytes.end(), data.begin(), data.end());
      return partial.empty() ? OkStatus() : AppendFile(partial, data, 0644);
    });
    // A break in the middle is worth another try only when the last one brought something.
    if (status.ok() || status.code() != StatusCode::kUnavailable || bytes.size() == start) break;
  }
  if (status.ok() && crypto::Sha256(bytes) != sha256) {
    status = DataLoss("{}: what the coordinator sent has another hash, {}", sha256.brief(),
                      crypto::Sha256(bytes).brief());
  }
  std::error_code ignored;
  // A file that is complete or wrong is no use for going on.
  if (!partial.empty() && (status.ok() || status.code() == StatusCode::kDataLoss)) {
    std::filesystem::remove(partial, ignored);
  }
  RETURN_IF_ERROR(status);
  return bytes;
}

}  // namespace concordat::cli
