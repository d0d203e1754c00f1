#ifndef CONCORDAT_WORKER_RPC_SESSION_H_
#define CONCORDAT_WORKER_RPC_SESSION_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "concordat/v1/federation.grpc.pb.h"
#include "proto/tls.h"
#include "worker/core/messages.h"
#include "worker/rpc/convert.h"

namespace concordat::worker {

struct SessionOptions {
  std::string address;  // host:port
  std::string proxy;  // host:port of an HTTPS proxy; empty: what the environment says (https_proxy, no_proxy)
  tls::Identity identity;
  tls::Expected coordinator;
  Digest charter;
  Millis first_backoff{500};
  Millis longest_backoff{30'000};
  Millis refused_backoff{60'000};   // after a version or charter that does not match
  Millis displaced_backoff{2'000};  // after another worker with this identity took its place: the first time
  Millis longest_displaced{60'000};
};

/// How long a worker waits that another one with its identity displaces, again and again: two of them must
/// not take turns every second. Grows with each time; a session that was not displaced starts it anew.
class DisplacedBackoff {
 public:
  explicit DisplacedBackoff(const SessionOptions& options)
      : first_(options.displaced_backoff), longest_(options.longest_displaced) {}
  Millis Next() {
    wait_ = std::clamp(wait_ * 2, first_, longest_);
    return wait_;
  }
  void Reset() { wait_ = Millis(0); }

 private:
  Millis first_, longest_, wait_{0};
};

/// A channel to the charter's coordinator and no one else; outbound only.
std::shared_ptr<grpc::Channel> OpenChannel(const SessionOptions& options, const Clock& clock);
/// The same for bulk data: a TCP connection that no other channel shares, given up sooner when it does not
/// come about and tried again sooner.
std::shared_ptr<grpc::Channel> OpenBulkChannel(const SessionOptions& options, const Clock& clock);

/// The worker's one standing stream: says Hello, compares versions and charters, then passes messages both
/// ways; comes back after a loss with exponential backoff and jitter. Send from any thread.
class Session {
 public:
  struct Handlers {
    std::function<void()> up;                       // Hello was answered
    std::function<void(std::string why)> down;      // once for each up
    std::function<void(FromCoordinator)> message;   // only between up and down
    std::function<void(std::string text)> trouble;  // could not connect, or was refused: for the log
  };
  /// Handlers are called on the session's own thread.
  Session(SessionOptions options, std::shared_ptr<grpc::Channel> channel, Handlers handlers);
  ~Session();

  void Start();
  /// Waits a little for what is queued to leave, then closes. No handler is called afterwards.
  void Stop(Millis flush);
  /// Queues a message; dropped while the stream is down.
  void Send(const ToCoordinator& message);

 private:
  using Stream = grpc::ClientReaderWriter<pb::WorkerMessage, pb::CoordinatorMessage>;
  void Run();
  /// One connection, from Hello to its end.
  Status Serve(bool* greeted);
  void WaitForChannel();
  Status GreetInTime(Stream& stream, grpc::ClientContext& context);
  /// Does `work`; cancels the call when it takes longer than `patience`. True when it did not.
  static bool InTime(grpc::ClientContext& context, std::chrono::seconds patience,
                     const std::function<void()>& work);
  Status Greet(Stream& stream);
  void WriteLoop(Stream& stream);
  void EndWriting();
  bool Pause(Millis time);

  SessionOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::Federation::Stub> stub_;
  Handlers handlers_;
  std::thread thread_;
  std::minstd_rand jitter_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<pb::WorkerMessage> outbox_;    // guarded by mutex_
  grpc::ClientContext* context_ = nullptr;  // guarded by mutex_
  bool open_ = false;                       // guarded by mutex_: messages may be queued
  bool writing_ = false;                    // guarded by mutex_
  bool stopping_ = false;                   // guarded by mutex_
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_SESSION_H_
