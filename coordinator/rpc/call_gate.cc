#include "coordinator/rpc/call_gate.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <vector>

#include "common/logging.h"

namespace concordat::coordinator {
namespace {

constexpr size_t kLeastOfJurisdiction = 24;
constexpr size_t kLeastOfIdentity = 12;
constexpr size_t kMostOfIdentity = 32;
/// One chunk for each of a worker's connections.
constexpr size_t kLeastOfUpload = 4;
/// Besides an upload's chunks: questions what is stored, downloads, calls whose end is not counted yet.
constexpr size_t kBesideUpload = 4;
constexpr std::string_view kSession = "/Session";  // holds no thread

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// Cancelled at twice the share, so that half of what there is for a member is where refusals begin.
CallCounts::CallCounts(size_t threads, size_t members)
    : most_of_jurisdiction_(std::max(kLeastOfJurisdiction, threads / (2 * std::max<size_t>(1, members)))),
      most_of_identity_(std::clamp(most_of_jurisdiction_ / 2, kLeastOfIdentity, kMostOfIdentity)),
      most_of_upload_(std::clamp(threads / std::max<size_t>(1, members), kLeastOfUpload,
                                 most_of_identity_ - kBesideUpload)) {}

CallCounts::Verdict CallCounts::Begin(const SpiffeId& caller) {
  const size_t own = ++identities_[caller];
  const size_t all = ++jurisdictions_[caller.jurisdiction()];
  if (own > 2 * most_of_identity_ || all > 2 * most_of_jurisdiction_) return Verdict::kCancelled;
  if (own > most_of_identity_ || all > most_of_jurisdiction_) return Verdict::kRefused;
  return Verdict::kTaken;
}

void CallCounts::End(const SpiffeId& caller) {
  const auto own = identities_.find(caller);
  if (own != identities_.end() && --own->second == 0) identities_.erase(own);
  const auto all = jurisdictions_.find(caller.jurisdiction());
  if (all != jurisdictions_.end() && --all->second == 0) jurisdictions_.erase(all);
}

/// One call, from its first hook until gRPC is done with it.
class CallGate::Call final : public grpc::experimental::Interceptor {
 public:
  Call(CallGate& gate, grpc::experimental::ServerRpcInfo* info) : gate_(gate), info_(info) {}
  ~Call() override {
    const std::lock_guard lock(gate_.mutex_);
    gate_.calls_.erase(this);
    gate_.refused_.erase(info_->server_context());
    if (caller_) gate_.counts_.End(*caller_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    const auto at = [methods](Point point) { return methods->QueryInterceptionHookPoint(point); };
    // The reply's last batch has no end that is told here: the call's end is.
    if (at(Point::PRE_SEND_INITIAL_METADATA) || at(Point::PRE_SEND_MESSAGE) || at(Point::PRE_SEND_STATUS)) {
      writing_since_ = NowMs();
    }
    if (at(Point::POST_SEND_MESSAGE)) writing_since_ = 0;
    if (at(Point::POST_RECV_INITIAL_METADATA)) Begin();
    methods->Proceed();
  }

  /// \pre the gate's mutex_: the destructor waits for it, so the context is there.
  void CancelIfStuck(int64_t now, int64_t patience_ms) {
    const int64_t since = writing_since_;
    if (since == 0 || now - since < patience_ms || cancelled_) return;
    cancelled_ = true;
    spdlog::warn("{}: {}: cancelled: nobody reads the reply", caller_ ? caller_->Brief() : "a stranger",
                 info_->method());
    info_->server_context()->TryCancel();
  }

 private:
  void Begin() {
    // Only here the connection is known: the interceptor is made before.
    auto caller = gate_.identify_(*info_->server_context());
    bool cancel = false;
    {
      const std::lock_guard lock(gate_.mutex_);
      gate_.calls_.insert(this);
      // An unknown one gets a refusal without a body, which no window can hold up.
      if (!caller.ok()) return;
      caller_ = std::move(*caller);
      const CallCounts::Verdict verdict = gate_.counts_.Begin(*caller_);
      if (verdict == CallCounts::Verdict::kTaken) return;
      gate_.refused_.insert(info_->server_context());
      cancel = verdict == CallCounts::Verdict::kCancelled;
    }
    if (cancel) info_->server_context()->TryCancel();
  }

  CallGate& gate_;
  grpc::experimental::ServerRpcInfo* const info_;
  std::optional<SpiffeId> caller_;          // guarded by the gate's mutex_
  bool cancelled_ = false;                  // guarded by the gate's mutex_
  std::atomic<int64_t> writing_since_ = 0;  // 0: it is not
};

class CallGate::Factory_ final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory_(CallGate& gate) : gate_(gate) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    if (std::string_view(info->method()).ends_with(kSession)) return nullptr;
    return new Call(gate_, info);
  }

 private:
  CallGate& gate_;
};

CallGate::CallGate(Identify identify, size_t threads, size_t members, Millis patience)
    : identify_(std::move(identify)),
      patience_(patience),
      counts_(threads, members),
      most_of_upload_(counts_.most_of_upload()) {
  thread_ = std::thread([this] { Watch(); });
}

CallGate::~CallGate() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CallGate::Factory() {
  return std::make_unique<Factory_>(*this);
}

Status CallGate::Check(const grpc::ServerContextBase& context) {
  if (context.IsCancelled()) return MakeStatus(StatusCode::kCancelled, "the caller is gone");
  const std::lock_guard lock(mutex_);
  if (!refused_.contains(&context)) return OkStatus();
  return ResourceExhausted("you or your jurisdiction have too many calls under way: at most {} and {}",
                           counts_.most_of_identity(), counts_.most_of_jurisdiction());
}

void CallGate::Watch() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, std::max(Millis(10), patience_ / 4), [this] { return stopping_; })) {
    for (Call* call : calls_) call->CancelIfStuck(NowMs(), patience_.count());
  }
}

}  // namespace concordat::coordinator
