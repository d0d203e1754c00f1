#include "worker/rpc/chunk_sender.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "privacy/crypto/hash.h"
#include "proto/tls.h"
#include "proto/wire.h"
#include "worker/rpc/retry.h"

namespace concordat::worker {
namespace {

using std::chrono::steady_clock;

/// Fewer bytes are not worth another connection.
constexpr uint64_t kWorthAConnection = 256 << 10;
constexpr uint64_t kReportBytes = 1 << 20;
constexpr Millis kFirstRest{200};
constexpr Millis kLongestRest{5'000};
/// A connection with something under way that is silent for so long gets no more: if the link is down, what
/// another one lost must not be lost here too.
constexpr std::chrono::seconds kSilence{3};
/// How long a cancelled upload may go unnoticed, and a chunk that was made while answers are awaited.
constexpr Millis kLook{100};
constexpr Millis kShortLook{5};

size_t MostLanes(uint64_t total) {
  return static_cast<size_t>(std::clamp<uint64_t>(total / kWorthAConnection, 1, ChunkSender::kConnections));
}

size_t FirstLanes(uint64_t total, uint32_t sites) {
  return std::clamp<size_t>(ChunkSender::kConnectionsOfAll / std::max(1u, sites), 1, MostLanes(total));
}

/// The coordinator's answer to an upload. Its full disk is not ours: that is worth another try.
Status Theirs(const grpc::Status& answer) {
  const Status status = tls::FromGrpc(answer);
  if (status.ok() || IsTransient(status)) return status;
  if (status.code() == StatusCode::kResourceExhausted)
    return Unavailable("the coordinator: {}", Message(status));
  return FailedPrecondition("the coordinator does not take it: {}", Message(status));
}

}  // namespace

/// One connection.
struct ChunkSender::Lane {
  enum class State { kResting, kAsking, kOpen };
  explicit Lane(std::shared_ptr<grpc::Channel> channel) : stub(pb::Federation::NewStub(std::move(channel))) {}

  std::unique_ptr<pb::Federation::Stub> stub;
  State state = State::kResting;
  Time rest_until;
  Millis rest = kFirstRest;
  uint64_t flying = 0;
  Time heard;             // the last answer, or when it had nothing under way
  bool answered = false;  // ever
};

struct ChunkSender::Call {
  Lane* lane = nullptr;
  std::optional<SendWindow::Piece> piece;  // none: a question what is stored
  uint64_t known = 0;                      // what was known to be stored when it was asked
  Time begun;
  grpc::ClientContext context;
  pb::PutChunkReply reply;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<pb::PutChunkReply>> reader;
};

ChunkSender::ChunkSender(const AttemptId& id, uint64_t total_bytes, uint32_t sites, Dial dial,
                         ChunkSource& source)
    : id_(id), total_(total_bytes), dial_(std::move(dial)), source_(source), window_(total_bytes) {
  while (lanes_.size() < FirstLanes(total_, sites)) AddLane();
}

void ChunkSender::AddLane() {
  lanes_.push_back(std::make_unique<Lane>(dial_()));
  window_.SetConnections(lanes_.size());
}

ChunkSender::~ChunkSender() {
  Drain();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

Status ChunkSender::Run() {
  const Status status = Loop();
  Drain();
  return status;
}

Status ChunkSender::Loop() {
  while (!window_.done()) {
    ASSIGN_OR_RETURN(const uint64_t made, source_.Made());
    const Time now = steady_clock::now();
    if (lanes_.size() < MostLanes(total_) && window_.Slow(made, now)) AddLane();
    for (const auto& lane : lanes_)
      if (lane->state == Lane::State::kResting && lane->rest_until <= now) Ask(*lane);
    RETURN_IF_ERROR(Fill(made, now));
    if (Lane* lane = Freest(now); lane != nullptr && window_.Stuck() && calls_.empty()) Ask(*lane);
    RETURN_IF_ERROR(Await(made, now));
  }
  return OkStatus();
}

/// The open lane with the least under way; null when none takes more now.
ChunkSender::Lane* ChunkSender::Freest(Time now) {
  Lane* best = nullptr;
  for (const auto& lane : lanes_) {
    if (lane->flying == 0) lane->heard = now;
    if (lane->state != Lane::State::kOpen || now - lane->heard > kSilence) continue;
    if (best == nullptr || lane->flying < best->flying) best = lane.get();
  }
  return best;
}

Status ChunkSender::Fill(uint64_t made, Time now) {
  while (Lane* lane = Freest(now)) {
    const auto piece = window_.Next(made, now);
    if (!piece) break;
    RETURN_IF_ERROR(Send(*lane, *piece));
  }
  return OkStatus();
}

ChunkSender::Call& ChunkSender::Begin(Lane& lane) {
  Call& call = *calls_.emplace_back(std::make_unique<Call>());
  call.lane = &lane;
  call.begun = steady_clock::now();
  return call;
}

void ChunkSender::Ask(Lane& lane) {
  pb::UploadStateRequest request;
  wire::ToProto(id_, request.mutable_id());
  Call& call = Begin(lane);
  call.known = window_.stored();
  call.reader = lane.stub->AsyncUploadState(&call.context, request, &queue_);
  call.reader->Finish(&call.reply, &call.status, &call);
  lane.state = Lane::State::kAsking;
}

Status ChunkSender::Send(Lane& lane, const SendWindow::Piece& piece) {
  std::string& data = *request_.mutable_data();
  data.resize(piece.bytes);
  RETURN_IF_ERROR(source_.Read(piece.offset, &data));
  wire::ToProto(id_, request_.mutable_id());
  request_.set_offset(piece.offset);
  request_.set_total(total_);
  request_.set_sha256(wire::BytesOf(crypto::Sha256(AsBytes(data))));
  Call& call = Begin(lane);
  call.piece = piece;
  call.reader = lane.stub->AsyncPutChunk(&call.context, request_, &queue_);
  call.reader->Finish(&call.reply, &call.status, &call);
  lane.flying += piece.bytes;
  return OkStatus();
}

Status ChunkSender::Await(uint64_t made, Time now) {
  if (calls_.empty()) {
    Time until = now + kLook;
    for (const auto& lane : lanes_)
      if (lane->state == Lane::State::kResting) until = std::min(until, lane->rest_until);
    const auto rest = std::chrono::ceil<Millis>(until - now);
    source_.AwaitMore(Freest(now) == nullptr ? total_ : made, std::max(Millis(1), rest));
    return OkStatus();
  }
  const bool starving = made < total_ && window_.flying() < window_.size();
  const auto until = std::chrono::system_clock::now() + (starving ? kShortLook : kLook);
  void* tag = nullptr;
  bool ok = false;
  if (queue_.AsyncNext(&tag, &ok, until) != grpc::CompletionQueue::GOT_EVENT) return OkStatus();
  return Finish(*static_cast<Call*>(tag));
}

Status ChunkSender::Finish(Call& call) {
  if (call.piece) call.lane->flying -= call.piece->bytes;
  const Time now = steady_clock::now();
  const Status theirs = Theirs(call.status);
  const Status status = theirs.ok() ? OnAnswer(call, now) : OnFailure(call, theirs, now);
  calls_.remove_if([&](const auto& other) { return other.get() == &call; });
  return status;
}

Status ChunkSender::OnAnswer(Call& call, Time now) {
  Lane& lane = *call.lane;
  lane.rest = kFirstRest;
  lane.heard = now;
  if (call.piece) {
    RETURN_IF_ERROR(window_.Acknowledged(*call.piece, call.reply.stored(), now));
  } else {
    lane.state = Lane::State::kOpen;
    if (call.reply.chunks() > 0) window_.LimitPieces(call.reply.chunks());
    if (!std::exchange(lane.answered, true)) {
      first_answer_ = std::min(first_answer_, std::chrono::ceil<Millis>(now - call.begun));
      window_.SetPatience(first_answer_);
    }
    RETURN_IF_ERROR(window_.Told(call.reply.stored(), call.known));
    if (window_.Stuck()) RETURN_IF_ERROR(window_.BeginAgain());
  }
  if (window_.done() || window_.stored() >= reported_ + kReportBytes) {
    reported_ = window_.stored();
    source_.OnStored(reported_);
  }
  return OkStatus();
}

Status ChunkSender::OnFailure(Call& call, const Status& why, Time now) {
  Lane& lane = *call.lane;
  if (call.piece) window_.Lost(*call.piece);
  if (!IsTransient(why)) return why;
  // The others of a lane that broke fail with it: that is one loss, not many.
  if (lane.state == Lane::State::kResting || (lane.state == Lane::State::kAsking && call.piece))
    return OkStatus();
  lane.state = Lane::State::kResting;
  lane.rest_until = now + lane.rest;
  lane.rest = std::min(2 * lane.rest, kLongestRest);
  return OkStatus();
}

/// Nothing is under way when it returns.
void ChunkSender::Drain() {
  for (const auto& call : calls_) call->context.TryCancel();
  while (!calls_.empty()) {
    void* tag = nullptr;
    bool ok = false;
    if (!queue_.Next(&tag, &ok)) return;
    calls_.remove_if([&](const auto& call) { return call.get() == tag; });
  }
}

}  // namespace concordat::worker
