#include "tests/support/relay/link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <exception>
#include <fstream>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

namespace concordat::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLargestPacket = 65536;
constexpr int kDeviceQueue = 20'000;  // packets: the kernel drops none before ours is full
constexpr int kReadsInARow = 64;

[[noreturn]] void Fail(const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

void LoopbackUp() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) Fail("cannot bring lo up");
  // Where there is IPv6, it would send packets of its own.
  std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << "1";
}

void SetAddress(int socket, ifreq request, unsigned long what, const std::string& address) {
  auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
  in->sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &in->sin_addr);
  if (::ioctl(socket, what, &request) != 0) Fail("cannot give a TUN device the address " + address);
}

/// A TUN device in the calling thread's network, with both addresses, up.
FileDescriptor OpenDevice(const std::string& name, const std::string& own, const std::string& other,
                          int mtu) {
  FileDescriptor device(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!device.valid()) Fail("cannot open /dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (::ioctl(device.get(), TUNSETIFF, &request) != 0) Fail("cannot make a TUN device");
  const FileDescriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  SetAddress(socket.get(), request, SIOCSIFADDR, own);
  SetAddress(socket.get(), request, SIOCSIFDSTADDR, other);
  request.ifr_mtu = mtu;
  if (::ioctl(socket.get(), SIOCSIFMTU, &request) != 0) Fail("cannot set the MTU");
  request.ifr_qlen = kDeviceQueue;
  if (::ioctl(socket.get(), SIOCSIFTXQLEN, &request) != 0) Fail("cannot set the queue's length");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) Fail("cannot bring a TUN device up");
  return device;
}

}  // namespace

// ---- Networks.

NetworkSpace::NetworkSpace() {
  std::exception_ptr failed;
  std::thread([&] {
    try {
      Enter();
      fd_ = FileDescriptor(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
      if (!fd_.valid()) Fail("cannot open the new network");
    } catch (...) {
      failed = std::current_exception();
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
}

void NetworkSpace::Enter() {
  if (::unshare(CLONE_NEWNET) != 0) Fail("cannot make a network");
  LoopbackUp();
}

void NetworkSpace::Run(const std::function<void()>& work) const {
  std::exception_ptr failed;
  std::thread([&] {
    try {
      if (::setns(fd_.get(), CLONE_NEWNET) != 0) Fail("cannot enter a network");
      work();
    } catch (...) {
      failed = std::current_exception();
    }
  }).join();
  if (failed) std::rethrow_exception(failed);
}

// ---- One direction.

namespace {

struct Packet {
  Clock::time_point due;
  std::vector<uint8_t> bytes;
};

}  // namespace

/// What the thread of one direction works with.
struct LinkDirection::State {
  explicit State(uint64_t seed) : random(seed) {}

  std::mt19937_64 random;
  LinkShape shape;
  uint64_t version = ~uint64_t{0};
  Clock::time_point wire_free;  // the last byte that was taken has left by then
  std::deque<Packet> flying;
  std::vector<std::vector<uint8_t>> spare;

  /// When a packet of that size arrives; nothing when it is dropped.
  std::optional<Clock::time_point> Place(size_t bytes, Clock::time_point now) {
    wire_free = std::max(wire_free, now);
    if (shape.bits_per_second > 0) {
      const double rate = static_cast<double>(shape.bits_per_second) / 8;
      const double waiting = std::chrono::duration<double>(wire_free - now).count() * rate;
      if (waiting + static_cast<double>(bytes) > static_cast<double>(shape.queue_bytes)) return {};
      wire_free += std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(static_cast<double>(bytes) / rate));
    }
    return wire_free + shape.delay;
  }
  bool Lose() { return shape.loss > 0 && std::uniform_real_distribution<double>(0, 1)(random) < shape.loss; }
  void Push(Clock::time_point due, const uint8_t* data, size_t size) {
    std::vector<uint8_t> bytes;
    if (!spare.empty()) {
      bytes = std::move(spare.back());
      spare.pop_back();
    }
    bytes.assign(data, data + size);
    flying.push_back({due, std::move(bytes)});
  }
};

LinkDirection::LinkDirection(int from, int to, uint64_t seed, LinkShape shape)
    : from_(from), to_(to), seed_(seed), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), shape_(shape) {
  thread_ = std::thread([this] { Run(); });
}

LinkDirection::~LinkDirection() {
  stopping_ = true;
  (void)::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void LinkDirection::Shape(const LinkShape& shape) {
  const std::lock_guard lock(mutex_);
  shape_ = shape;
  ++shape_version_;
}

LinkCount LinkDirection::Count() const { return {packets_, bytes_, lost_, overflowed_, cut_packets_}; }

void LinkDirection::Run() {
  State state(seed_);
  std::vector<uint8_t> buffer(kLargestPacket);
  while (!stopping_) {
    if (state.version != shape_version_) {
      const std::lock_guard lock(mutex_);
      state.version = shape_version_;
      state.shape = shape_;
    }
    bool more = true;
    for (int i = 0; i < kReadsInARow && more; ++i) {
      const ssize_t n = ::read(from_, buffer.data(), buffer.size());
      if (n <= 0) {
        more = false;
        break;
      }
      // An order that makes the chances the same whatever else befalls a packet.
      const bool lost = state.Lose();
      if (cut_) {
        ++cut_packets_;
      } else if (lost) {
        ++lost_;
      } else if (const auto due = state.Place(static_cast<size_t>(n), Clock::now())) {
        state.Push(*due, buffer.data(), static_cast<size_t>(n));
      } else {
        ++overflowed_;
      }
    }
    const auto now = Clock::now();
    while (!state.flying.empty() && state.flying.front().due <= now) {
      Packet& packet = state.flying.front();
      if (cut_) {
        ++cut_packets_;
      } else if (::write(to_, packet.bytes.data(), packet.bytes.size()) > 0) {
        ++packets_;
        bytes_ += packet.bytes.size();
      }
      state.spare.push_back(std::move(packet.bytes));
      state.flying.pop_front();
    }
    if (more) continue;
    pollfd waiting[] = {{from_, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    timespec time{0, 100'000'000};
    if (!state.flying.empty()) {
      const auto left = std::max(Clock::duration(0), state.flying.front().due - Clock::now());
      time = {0, std::min<long>(100'000'000, std::chrono::nanoseconds(left).count())};
    }
    ::ppoll(waiting, 2, &time, nullptr);
  }
}

// ---- Both.

namespace {

/// In this thread's namespace.
void SetCongestionControl(const std::string& name) {
  constexpr const char* kFile = "/proc/sys/net/ipv4/tcp_congestion_control";
  std::ofstream(kFile) << name << std::flush;
  std::string now;
  std::ifstream(kFile) >> now;
  if (now != name) throw std::runtime_error("TCP " + name);
}

}  // namespace

std::string Link::Missing() {
  if (::geteuid() != 0) return "root's rights";
  if (::access("/dev/net/tun", R_OK | W_OK) != 0) return "/dev/net/tun";
  try {
    const NetworkSpace space;
    space.Run([] {
      OpenDevice("probe", "198.18.255.1", "198.18.255.2", 1500);
      SetCongestionControl("reno");
    });
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

std::string Link::near_address() const { return fmt::format("198.18.{}.1", options_.number); }
std::string Link::far_address() const { return fmt::format("198.18.{}.2", options_.number); }

Link::Link(Options options) : options_(std::move(options)) {
  const std::string name = fmt::format("link{}", options_.number);
  near_device_ = OpenDevice(name, near_address(), far_address(), options_.mtu);
  far_.Run([&] {
    far_device_ = OpenDevice(name, far_address(), near_address(), options_.mtu);
    if (!options_.congestion_control.empty()) SetCongestionControl(options_.congestion_control);
  });
  up_ = std::make_unique<LinkDirection>(far_device_.get(), near_device_.get(), options_.seed, options_.shape);
  down_ = std::make_unique<LinkDirection>(near_device_.get(), far_device_.get(), options_.seed ^ ~uint64_t{0},
                                          options_.shape);
}

void Link::Shape(const LinkShape& shape) {
  up_->Shape(shape);
  down_->Shape(shape);
}
void Link::Cut() {
  up_->Cut(true);
  down_->Cut(true);
}
void Link::Mend() {
  up_->Cut(false);
  down_->Cut(false);
}

}  // namespace concordat::testing
