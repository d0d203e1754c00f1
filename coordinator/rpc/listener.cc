#include "coordinator/rpc/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "common/logging.h"
#include "policy/node_config.h"

namespace concordat::coordinator {
namespace {

constexpr int kBacklog = 512;
constexpr rlim_t kReserve = 256;  // descriptors left for the journal, uploads and adapters
constexpr rlim_t kMost = 16'384;  // connections cost memory before they are known
constexpr std::chrono::milliseconds kPause{50};
constexpr std::chrono::seconds kLogInterval{10};

/// Descriptors from this number on are not for connections.
int FirstReserved() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 512;
  return static_cast<int>(std::min(kMost, limit.rlim_cur - std::min(kReserve, limit.rlim_cur / 4)));
}

std::string KeyOf(const sockaddr_storage& peer) {
  if (peer.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(peer);
    return {reinterpret_cast<const char*>(&v4.sin_addr), 4};
  }
  if (peer.ss_family != AF_INET6) return {};
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr;
  const auto* bytes = reinterpret_cast<const char*>(&v6);
  return IN6_IS_ADDR_V4MAPPED(&v6) ? std::string(bytes + 12, 4) : std::string(bytes, 8);
}

ino_t SocketInode(int fd) {
  struct stat about {};
  return ::fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode) ? about.st_ino : 0;
}

StatusOr<FileDescriptor> ListenOn(const addrinfo& where, uint16_t port) {
  FileDescriptor fd(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Unavailable("socket: {}", std::strerror(errno));
  const int on = 1, off = 0;
  // Connections of an earlier process may linger; a socket that still listens is refused all the same.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // connections inherit it
  sockaddr_storage address{};
  std::memcpy(&address, where.ai_addr, where.ai_addrlen);
  if (where.ai_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), where.ai_addrlen) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE)
      return Unavailable("another program listens there: stop it, or set another port in `listen`");
    if (errno == EADDRNOTAVAIL)
      return InvalidArgument("this machine has no such address: set one that it has in `listen`");
    if (errno == EACCES)
      return InvalidArgument("this user may not listen there: set a port from 1024 in `listen`");
    return Unavailable("{}", std::strerror(errno));
  }
  return fd;
}

StatusOr<uint16_t> PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return Unavailable("getsockname: {}", std::strerror(errno));
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

StatusOr<std::unique_ptr<Listener>> Listener::Open(const std::string& address, size_t most_of_one_address) {
  const size_t colon = address.rfind(':');
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  // Port 0 is no port to dial, which is what ParseHostPort is about.
  uint16_t port = 0;
  if (colon == std::string::npos || address.substr(colon) != ":0") {
    ASSIGN_OR_RETURN(const policy::HostPort parsed, policy::ParseHostPort(address));
    host = parsed.host;
    port = parsed.port;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  auto out = std::unique_ptr<Listener>(new Listener());
  out->most_of_one_address_ = most_of_one_address;
  if (const Status status = out->Bind(host, port); !status.ok()) {
    return MakeStatus(status.code(), fmt::format("cannot listen on {}: {}", address, Message(status)));
  }
  out->wake_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!out->wake_.valid()) return Unavailable("eventfd: {}", std::strerror(errno));
  return out;
}

Status Listener::Bind(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0)
    return InvalidArgument("{}", ::gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, ::freeaddrinfo);
  // A name may stand for several addresses. One is enough: "localhost" has an IPv6 one where none is set up.
  Status last = Unavailable("no address");
  port_ = port;
  for (const addrinfo* each = all.get(); each != nullptr; each = each->ai_next) {
    if (each->ai_family != AF_INET && each->ai_family != AF_INET6) continue;
    auto fd = ListenOn(*each, port_);
    if (!fd.ok()) {
      last = fd.status();
      continue;
    }
    if (port_ == 0) {
      ASSIGN_OR_RETURN(port_, PortOf(fd->get()));
    }
    sockets_.push_back(std::move(*fd));
  }
  return sockets_.empty() ? last : OkStatus();
}

Listener::~Listener() { Stop(); }

void Listener::Start(std::function<void(int fd)> take) {
  take_ = std::move(take);
  thread_ = std::thread([this] { Run(); });
}

void Listener::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
  }
  sockets_.clear();
}

void Listener::Run() {
  std::vector<pollfd> all{{wake_.get(), POLLIN, 0}};
  for (const FileDescriptor& socket : sockets_) all.push_back({socket.get(), POLLIN, 0});
  for (;;) {
    if (::poll(all.data(), all.size(), -1) < 0 && errno != EINTR) {
      // Only a shortage of memory is left as a reason: it passes, and a listener that is gone does not.
      std::this_thread::sleep_for(kPause);
      continue;
    }
    if (all[0].revents != 0) return;
    for (size_t i = 1; i < all.size(); ++i)
      if (all[i].revents != 0) Accept(all[i].fd);
  }
}

void Listener::Accept(int listening) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  const int fd =
      ::accept4(listening, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    if (Admit(fd, peer)) {
      take_(fd);
    } else {
      ::close(fd);
    }
    return;
  }
  if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    Refused(std::strerror(errno));
    pollfd stop{wake_.get(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(kPause.count()));
  }
  // All else is about that one connection, which is gone (accept(2), "Error handling").
}

bool Listener::Admit(int fd, const sockaddr_storage& peer) {
  const int most = FirstReserved();
  if (fd >= most) {
    Refused("too few file descriptors are left");
    return false;
  }
  // Nobody says here when a connection ends: numbers whose socket is another one by now are gone.
  const auto gone = [](const Held& held) { return SocketInode(held.fd) != held.inode; };
  if (held_count_ >= 2 * static_cast<size_t>(most)) {
    held_count_ = 0;
    for (auto it = held_.begin(); it != held_.end();) {
      std::erase_if(it->second, gone);
      held_count_ += it->second.size();
      it = it->second.empty() ? held_.erase(it) : std::next(it);
    }
  }
  std::vector<Held>& same = held_[KeyOf(peer)];
  if (same.size() >= most_of_one_address_) held_count_ -= std::erase_if(same, gone);
  if (same.size() >= most_of_one_address_) {
    Refused("one address has the most that it may have");
    return false;
  }
  same.push_back({fd, SocketInode(fd)});
  ++held_count_;
  return true;
}

void Listener::Refused(const char* why) {
  ++refused_;
  const auto now = std::chrono::steady_clock::now();
  if (told_ != std::chrono::steady_clock::time_point() && now - told_ < kLogInterval) return;
  spdlog::warn("{} connections were not taken: {}", refused_, why);
  told_ = now;
  refused_ = 0;
}

}  // namespace concordat::coordinator
