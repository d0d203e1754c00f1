#include "coordinator/rpc/session.h"

#include <algorithm>
#include <deque>
#include <mutex>

#include "common/logging.h"
#include "common/version.h"
#include "proto/tls.h"
#include "proto/wire.h"

namespace concordat::coordinator {
namespace {

/// Messages that may wait for a slow worker; more means that it does not read.
constexpr size_t kMaxQueued = 1024;
constexpr size_t kMaxVersionText = 64;

grpc::ByteBuffer Serialised(const pb::CoordinatorMessage& message) {
  grpc::ByteBuffer out;
  bool own = false;
  const grpc::Status status =
      grpc::SerializationTraits<pb::CoordinatorMessage>::Serialize(message, &out, &own);
  if (!status.ok()) spdlog::critical("a message does not serialise: {}", status.error_message());
  return out;
}

class Session;

/// What the hub holds: outlives the reactor, which is gone once gRPC is done with it.
class Link final : public SessionLink {
 public:
  explicit Link(Session* session) : session_(session) {}
  void Send(std::shared_ptr<const ToWorkerMessage> message) override;
  void Close(const Status& why) override;
  void Taken() override;
  void Detach() {
    const std::lock_guard lock(mutex_);
    session_ = nullptr;
  }

 private:
  std::mutex mutex_;
  Session* session_;  // guarded by mutex_
};

class Session final : public SessionReactor {
 public:
  Session(Hub& hub, grpc::CallbackServerContext* context)
      : hub_(hub), context_(context), link_(std::make_shared<Link>(this)) {
    auto peer = CallerOf(*context, hub, Role::kWorker);
    auto chain = tls::PeerChainOf(*context);
    if (!peer.ok() || !chain.ok()) {
      const Status& why = peer.ok() ? chain.status() : peer.status();
      spdlog::warn("a session was refused: {}", Message(why));
      End(why);
      return;
    }
    worker_ = {peer->id, peer->key_hash, std::move(*chain)};
    StartRead(&in_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      End(OkStatus());
      return;
    }
    bool handed = false;
    if (const Status status = OnMessage(&handed); !status.ok()) {
      if (asked_)
        spdlog::info(
            "{}: asked whether this coordinator answers and under which charter (concordat doctor); "
            "its worker's session is not touched",
            worker_.id.Brief());
      else
        spdlog::warn("{}: session ended: {}", worker_.id.Brief(), Message(status));
      End(status);
      return;
    }
    // The hub asks for the next one when it has dealt with this: no queue that a worker could fill.
    if (!handed) ReadNext();
  }

  void ReadNext() {
    const std::lock_guard lock(mutex_);
    if (!ended_) StartRead(&in_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!queue_.empty()) queue_.pop_front();
    if (!ok || ended_) {
      ended_ = true;
      FinishOnce();
      return;
    }
    WriteNext();
  }

  void OnCancel() override { End(Unavailable("the stream was cancelled")); }

  void OnDone() override {
    if (greeted_) hub_.Lost(worker_.id, link_.get());
    link_->Detach();
    delete this;
  }

  void Queue(grpc::ByteBuffer message) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    if (queue_.size() >= kMaxQueued) {
      why_ = ResourceExhausted("{} messages wait for a worker that does not read", queue_.size());
      ended_ = true;
      context_->TryCancel();
      return;
    }
    hub_.traffic().AddDown(worker_.id, message.Length());
    queue_.push_back(std::move(message));
    WriteNext();
  }

  void End(const Status& why) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    why_ = why;
    FinishOnce();
  }

 private:
  /// One write at a time. \pre mutex_
  void WriteNext() {
    if (writing_ || ended_ || queue_.empty()) return;
    writing_ = true;
    StartWrite(&queue_.front());
  }
  /// The status goes out behind a write that is under way. \pre mutex_
  void FinishOnce() {
    if (finished_ || writing_) return;
    finished_ = true;
    Finish(tls::ToGrpc(why_));
  }

  /// \param handed whether the hub has the message, and will say when it wants the next
  Status OnMessage(bool* handed) {
    hub_.traffic().AddUp(worker_.id, in_.Length());
    pb::WorkerMessage wire;
    if (!grpc::SerializationTraits<pb::WorkerMessage>::Deserialize(&in_, &wire).ok())
      return InvalidArgument("a message that does not parse");
    if (!greeted_) return OnHello(wire);
    ASSIGN_OR_RETURN(FromWorker message, FromProto(wire));
    if (auto* event = std::get_if<WorkerEvent>(&message)) {
      *handed = true;
      hub_.Event(worker_.id, link_, std::move(*event));
    } else if (auto* header = std::get_if<secagg::Signed<secagg::InputHeader>>(&message)) {
      *handed = true;
      hub_.Header(worker_.id, link_, std::move(*header));
    }
    return OkStatus();
  }

  Status OnHello(const pb::WorkerMessage& first) {
    if (first.kind_case() != pb::WorkerMessage::kHello) return FailedPrecondition("expected a hello first");
    const pb::WorkerHello& hello = first.hello();
    // It goes into the log and into answers to people.
    const auto plain = [](char c) { return c > ' ' && c < 0x7f; };
    if (hello.version().size() > kMaxVersionText ||
        !std::all_of(hello.version().begin(), hello.version().end(), plain)) {
      return InvalidArgument("hello.version: expected at most {} printable ASCII characters without spaces",
                             kMaxVersionText);
    }
    if (hello.protocol() != kProtocolVersion) {
      return FailedPrecondition("protocol: this coordinator ({}) speaks {}, the worker ({}) speaks {}",
                                kVersion, kProtocolVersion, hello.version(), hello.protocol());
    }
    ASSIGN_OR_RETURN(const Digest charter, wire::DigestFrom(hello.charter(), "hello.charter"));
    asked_ = charter.is_zero();
    if (charter != hub_.charter().hash) {
      return FailedPrecondition("charter: this coordinator pins {}, the worker pins {}",
                                hub_.charter().hash.hex(), charter.hex());
    }
    greeted_ = true;
    pb::CoordinatorMessage answer;
    answer.mutable_hello()->set_protocol(kProtocolVersion);
    answer.mutable_hello()->set_version(std::string(kVersion));
    answer.mutable_hello()->set_charter(wire::BytesOf(hub_.charter().hash));
    Queue(Serialised(answer));
    hub_.Connected(worker_, link_);
    return OkStatus();
  }

  Hub& hub_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<Link> link_;
  WorkerInfo worker_;
  grpc::ByteBuffer in_;
  bool asked_ = false;    // the hello named no charter: a question, no session
  bool greeted_ = false;  // reads come one after the other
  std::mutex mutex_;
  std::deque<grpc::ByteBuffer> queue_;  // guarded by mutex_; the front is being written
  bool writing_ = false;                // guarded by mutex_
  bool ended_ = false;                  // guarded by mutex_
  bool finished_ = false;               // guarded by mutex_
  Status why_;                          // guarded by mutex_
};

void Link::Send(std::shared_ptr<const ToWorkerMessage> message) {
  grpc::ByteBuffer out = Serialised(ToProto(*message));
  const std::lock_guard lock(mutex_);
  if (session_ != nullptr) session_->Queue(std::move(out));
}

void Link::Close(const Status& why) {
  const std::lock_guard lock(mutex_);
  if (session_ != nullptr) session_->End(why);
}

void Link::Taken() {
  const std::lock_guard lock(mutex_);
  if (session_ != nullptr) session_->ReadNext();
}

}  // namespace

SessionReactor* StartSession(Hub& hub, grpc::CallbackServerContext* context) {
  return new Session(hub, context);
}

}  // namespace concordat::coordinator
