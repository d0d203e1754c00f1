#ifndef CONCORDAT_WORKER_RPC_EVENT_LOOP_H_
#define CONCORDAT_WORKER_RPC_EVENT_LOOP_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "common/clock.h"

namespace concordat::worker {

/// The queue in front of the one thread that owns the core. Post from any thread; Run on one.
class EventLoop {
 public:
  using Event = std::function<void()>;

  /// Queues `event`; dropped once the loop has ended.
  void Post(Event event) {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    events_.push_back(std::move(event));
    ready_.notify_one();
  }

  /// Post, once fewer than `most` events are queued: waits until then, or until the loop has ended. Not from
  /// the loop's own thread.
  void PostWhenShort(Event event, size_t most) {
    std::unique_lock lock(mutex_);
    shorter_.wait(lock, [&] { return ended_ || events_.size() < most; });
    if (ended_) return;
    events_.push_back(std::move(event));
    ready_.notify_one();
  }

  /// The next event, or nothing when `until` has come first. Only the loop's thread.
  std::optional<Event> Next(const std::optional<Instant>& until) {
    std::unique_lock lock(mutex_);
    const auto any = [this] { return !events_.empty(); };
    if (until)
      ready_.wait_until(lock, *until, any);
    else
      ready_.wait(lock, any);
    if (events_.empty()) return std::nullopt;
    Event event = std::move(events_.front());
    events_.pop_front();
    shorter_.notify_all();
    return event;
  }

  /// Drops what is queued and what comes later.
  void End() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    events_.clear();
    shorter_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::condition_variable shorter_;
  std::deque<Event> events_;  // guarded by mutex_
  bool ended_ = false;        // guarded by mutex_
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_EVENT_LOOP_H_
