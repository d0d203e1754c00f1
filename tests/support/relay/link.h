#ifndef CONCORDAT_TESTS_SUPPORT_RELAY_LINK_H_
#define CONCORDAT_TESTS_SUPPORT_RELAY_LINK_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/files.h"

namespace concordat::testing {

/// How a link treats packets; each way for itself.
struct LinkShape {
  std::chrono::milliseconds delay{0};  // one way
  double loss = 0;                     // of each packet, in [0, 1)
  uint64_t bits_per_second = 0;        // of IP packets; 0: as fast as they come
  uint64_t queue_bytes = 1 << 20;      // that may wait for the wire; a packet that finds no room is dropped
};

/// What went one way.
struct LinkCount {
  uint64_t packets = 0, bytes = 0;  // delivered
  uint64_t lost = 0;                // packets, by chance
  uint64_t overflowed = 0;          // packets, no room in the queue
  uint64_t cut = 0;                 // packets, while the link was cut
};

/// A network of its own, in which nothing is but a loopback device: it goes with the last process in it.
class NetworkSpace {
 public:
  /// Throws std::runtime_error when the kernel or the rights do not do.
  NetworkSpace();
  /// For ChildProcess::Options::network.
  int fd() const { return fd_.get(); }
  /// Runs `work` on a thread in it; what that throws comes out here.
  void Run(const std::function<void()>& work) const;
  /// Moves the calling thread, and so the threads and processes that it starts from here on, into a new one.
  static void Enter();

 private:
  FileDescriptor fd_;
};

/// One direction of a Link: reads packets of one TUN device and writes them to another, late or never.
class LinkDirection {
 public:
  LinkDirection(int from, int to, uint64_t seed, LinkShape shape);
  ~LinkDirection();
  void Shape(const LinkShape& shape);
  void Cut(bool cut) { cut_ = cut; }
  LinkCount Count() const;

 private:
  struct State;
  void Run();

  const int from_, to_;
  const uint64_t seed_;
  FileDescriptor wake_;
  std::atomic<bool> stopping_{false}, cut_{false};
  mutable std::mutex mutex_;
  LinkShape shape_;  // guarded by mutex_
  std::atomic<uint64_t> shape_version_{0};
  std::atomic<uint64_t> packets_{0}, bytes_{0}, lost_{0}, overflowed_{0}, cut_packets_{0};
  std::thread thread_;
};

/// An IPv4 link between the network of the thread that makes it (near) and a new one (far), with IP packets
/// carried in user space between two TUN devices, so that it works on kernels without netem. Its chances come
/// from a seed; its times are the machine's. What it is told holds from the next packet on. Any thread.
class Link {
 public:
  struct Options {
    LinkShape shape;
    uint64_t seed = 1;
    int mtu = 1500;
    uint8_t number = 1;              // links of one near network differ in it
    std::string congestion_control;  // of TCP at the far end; empty: the kernel's own
  };
  /// What this machine lacks for one; empty: nothing.
  static std::string Missing();
  /// Throws std::runtime_error.
  explicit Link(Options options);

  const NetworkSpace& far() const { return far_; }
  std::string near_address() const;
  std::string far_address() const;

  void Shape(const LinkShape& shape);
  /// From here on nothing passes, not even what is under way.
  void Cut();
  void Mend();
  LinkCount Up() const { return up_->Count(); }      // far to near
  LinkCount Down() const { return down_->Count(); }  // near to far

 private:
  const Options options_;
  NetworkSpace far_;
  FileDescriptor near_device_, far_device_;
  std::unique_ptr<LinkDirection> up_, down_;
};

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_RELAY_LINK_H_
