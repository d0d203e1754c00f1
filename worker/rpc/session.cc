#include "worker/rpc/session.h"

#include <algorithm>

#include "common/version.h"
#include "proto/wire.h"

namespace concordat::worker {
namespace {

constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMaxMessageBytes = 16 << 20;
/// Messages that may wait for a coordinator that does not read; then the stream is ended.
constexpr size_t kMaxWaiting = 1024;
constexpr std::chrono::seconds kHelloPatience{30};
constexpr std::chrono::seconds kEndPatience{5};
constexpr std::chrono::milliseconds kSlice{200};

/// After a cut the next try to connect comes soon: a lost SYN is only sent again after 1, 3 and 7 seconds.
constexpr int kBulkConnectMs = 10'000;
constexpr int kBulkLongestBackoffMs = 3'000;

grpc::ChannelArguments ArgumentsFor(const SessionOptions& options) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  // On Linux gRPC makes this TCP's own limit too: so long may sent bytes stay without an acknowledgement.
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(options.first_backoff.count()));
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  if (!options.proxy.empty()) args.SetString(GRPC_ARG_HTTP_PROXY, "http://" + options.proxy);
  return args;
}

std::shared_ptr<grpc::Channel> Open(const SessionOptions& options, const Clock& clock,
                                    const grpc::ChannelArguments& args) {
  return grpc::CreateCustomChannel(
      options.address, tls::ClientCredentials(options.identity, options.coordinator, clock), args);
}

}  // namespace

std::shared_ptr<grpc::Channel> OpenChannel(const SessionOptions& options, const Clock& clock) {
  grpc::ChannelArguments args = ArgumentsFor(options);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(options.longest_backoff.count()));
  return Open(options, clock, args);
}

std::shared_ptr<grpc::Channel> OpenBulkChannel(const SessionOptions& options, const Clock& clock) {
  grpc::ChannelArguments args = ArgumentsFor(options);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kBulkLongestBackoffMs);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kBulkConnectMs);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return Open(options, clock, args);
}

Session::Session(SessionOptions options, std::shared_ptr<grpc::Channel> channel, Handlers handlers)
    : options_(std::move(options)),
      channel_(std::move(channel)),
      stub_(pb::Federation::NewStub(channel_)),
      handlers_(std::move(handlers)),
      jitter_(std::random_device{}()) {}

Session::~Session() { Stop(Millis(0)); }

void Session::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Session::Stop(Millis flush) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, flush, [this] { return !open_ || (outbox_.empty() && !writing_); });
    stopping_ = true;
    open_ = false;
    if (context_ != nullptr) context_->TryCancel();
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Session::Send(const ToCoordinator& message) {
  pb::WorkerMessage wire = ToWire(message);
  const std::lock_guard lock(mutex_);
  if (!open_) return;
  if (outbox_.size() >= kMaxWaiting) {
    if (context_ != nullptr) context_->TryCancel();
    return;
  }
  outbox_.push_back(std::move(wire));
  changed_.notify_all();
}

bool Session::Pause(Millis time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopping_; });
}

void Session::Run() {
  Millis backoff = options_.first_backoff;
  DisplacedBackoff displaced_backoff(options_);
  for (;;) {
    bool greeted = false;
    const Status end = Serve(&greeted);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    const bool displaced = greeted && end.code() == StatusCode::kAlreadyExists;
    const bool refused = !greeted && (end.code() == StatusCode::kFailedPrecondition ||
                                      end.code() == StatusCode::kPermissionDenied);
    if (greeted) backoff = options_.first_backoff;
    Millis base = refused ? options_.refused_backoff : backoff;
    if (displaced) {
      base = displaced_backoff.Next();
      handlers_.down(fmt::format(
          "another worker with this identity has taken its place: end one of the two; back in about {} s",
          std::chrono::duration_cast<std::chrono::seconds>(base).count()));
    } else if (greeted) {
      displaced_backoff.Reset();
      handlers_.down(std::string(Message(end)));
    } else {
      handlers_.trouble(fmt::format("coordinator at {}: {}", options_.address, Message(end)));
    }
    // Half to one and a half times: workers that lost the same coordinator do not all come back at once.
    const Millis wait(
        std::uniform_int_distribution<int64_t>(base.count() / 2, base.count() * 3 / 2)(jitter_));
    if (!Pause(wait)) return;
    backoff = std::min(backoff * 2, options_.longest_backoff);
  }
}

/// Gives the channel time to connect; a call on one that cannot says why.
void Session::WaitForChannel() {
  const auto until = std::chrono::steady_clock::now() + kHelloPatience;
  while (std::chrono::steady_clock::now() < until) {
    if (channel_->WaitForConnected(std::chrono::system_clock::now() + kSlice)) return;
    if (channel_->GetState(true) == GRPC_CHANNEL_TRANSIENT_FAILURE) return;
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
}

bool Session::InTime(grpc::ClientContext& context, std::chrono::seconds patience,
                     const std::function<void()>& work) {
  std::mutex mutex;
  std::condition_variable over;
  bool done = false, late = false;
  // A call's deadline would end the stream too, which has none.
  std::thread watch([&] {
    std::unique_lock lock(mutex);
    if (over.wait_for(lock, patience, [&] { return done; })) return;
    late = true;
    context.TryCancel();
  });
  work();
  {
    const std::lock_guard lock(mutex);
    done = true;
    over.notify_all();
  }
  watch.join();
  return !late;
}

Status Session::GreetInTime(Stream& stream, grpc::ClientContext& context) {
  Status status;
  if (InTime(context, kHelloPatience, [&] { status = Greet(stream); })) return status;
  return Unavailable("no answer to hello in {} s", kHelloPatience.count());
}

Status Session::Greet(Stream& stream) {
  pb::WorkerMessage message;
  auto* hello = message.mutable_hello();
  hello->set_protocol(kProtocolVersion);
  hello->set_version(std::string(kVersion));
  hello->set_charter(wire::BytesOf(options_.charter));
  pb::CoordinatorMessage answer;
  if (!stream.Write(message) || !stream.Read(&answer)) return Unavailable("no answer to hello");
  if (answer.kind_case() != pb::CoordinatorMessage::kHello)
    return FailedPrecondition("its first message is no hello");
  const auto& theirs = answer.hello();
  if (theirs.protocol() != kProtocolVersion)
    return FailedPrecondition("it speaks protocol {} (version {}), this worker {} (version {})",
                              theirs.protocol(), theirs.version().substr(0, 32), kProtocolVersion, kVersion);
  ASSIGN_OR_RETURN(const Digest charter, wire::DigestFrom(theirs.charter(), "charter"));
  if (charter != options_.charter)
    return FailedPrecondition("it is under charter {}, this worker pins {}", charter.brief(),
                              options_.charter.brief());
  return OkStatus();
}

void Session::WriteLoop(Stream& stream) {
  for (;;) {
    pb::WorkerMessage message;
    {
      std::unique_lock lock(mutex_);
      writing_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !open_ || !outbox_.empty(); });
      if (!open_) return;
      message = std::move(outbox_.front());
      outbox_.pop_front();
      writing_ = true;
    }
    if (!stream.Write(message)) {
      EndWriting();
      return;
    }
  }
}

void Session::EndWriting() {
  const std::lock_guard lock(mutex_);
  open_ = false;
  writing_ = false;
  outbox_.clear();
  changed_.notify_all();
}

Status Session::Serve(bool* greeted) {
  grpc::ClientContext context;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Unavailable("stopping");
    context_ = &context;
  }
  const auto forget = [this] {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  };
  WaitForChannel();
  const auto stream = stub_->Session(&context);
  const Status hello = GreetInTime(*stream, context);
  if (!hello.ok()) {
    const bool spoken = hello.code() != StatusCode::kUnavailable;
    if (spoken) context.TryCancel();
    const Status finish = tls::FromGrpc(stream->Finish());
    forget();
    return spoken || finish.ok() ? hello : finish;
  }
  *greeted = true;
  {
    const std::lock_guard lock(mutex_);
    outbox_.clear();
    open_ = !stopping_;
  }
  handlers_.up();
  std::thread writer([&] { WriteLoop(*stream); });
  pb::CoordinatorMessage in;
  Status broken;
  bool stopped = false;
  while (stream->Read(&in)) {
    auto message = FromWire(in);
    if (!message.ok()) {
      broken = Annotate(message.status(), "the coordinator sent a malformed message");
      break;
    }
    {
      const std::lock_guard lock(mutex_);
      stopped = stopping_;
    }
    if (stopped) break;
    handlers_.message(*std::move(message));
  }
  EndWriting();
  // Of a stream that the other side has ended its reason is still to be read. One that ends here is
  // cancelled: nothing more is read from it, and Finish would wait for the other side.
  if (!broken.ok() || stopped) context.TryCancel();
  grpc::Status finish;
  InTime(context, kEndPatience, [&] {
    writer.join();
    finish = stream->Finish();
  });
  forget();
  if (!broken.ok()) return broken;
  return finish.ok() ? Unavailable("the coordinator closed the stream") : tls::FromGrpc(finish);
}

}  // namespace concordat::worker
