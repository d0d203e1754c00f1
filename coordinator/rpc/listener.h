#ifndef CONCORDAT_COORDINATOR_RPC_LISTENER_H_
#define CONCORDAT_COORDINATOR_RPC_LISTENER_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/files.h"

namespace concordat::coordinator {

/// The listening sockets, and a thread that accepts and hands connections on.
///
/// gRPC 1.51 closes its listener for good when accept says that there are no file descriptors left, so that
/// anybody who can open enough connections would shut it until a restart. Here a shortage is waited out, and
/// does not come about by connections alone: descriptors are given out lowest first, so a connection whose
/// number is beyond `most` is closed at once, and the rest is left for files. One address may hold
/// `most_of_one_address` of them (an IPv6 address counts as its /64).
///
/// Not protected against: many addresses at once. They can keep newcomers out for as long as they go on;
/// connections that are there stay.
class Listener {
 public:
  /// \param address "host:port"; port 0 is any free one. "[::]" takes IPv4 as well.
  /// \param most_of_one_address open connections, those of the coordinator's peers included
  /// InvalidArgument for another form or a name that is not known; Unavailable when it cannot be listened on.
  static StatusOr<std::unique_ptr<Listener>> Open(const std::string& address, size_t most_of_one_address);
  ~Listener();

  uint16_t port() const { return port_; }
  /// \param take owns the descriptor from then on; called on this object's thread
  void Start(std::function<void(int fd)> take);
  /// Closes the sockets. Nothing is handed on once it has returned.
  void Stop();

 private:
  struct Held {
    int fd = -1;
    ino_t inode = 0;  // of the socket: the number may be another file's by now
  };
  Listener() = default;
  Status Bind(const std::string& host, uint16_t port);
  void Run();
  void Accept(int listening);
  bool Admit(int fd, const sockaddr_storage& peer);
  void Refused(const char* why);

  std::vector<FileDescriptor> sockets_;
  FileDescriptor wake_;
  uint16_t port_ = 0;
  size_t most_of_one_address_ = 0;
  std::function<void(int)> take_;
  std::map<std::string, std::vector<Held>> held_;  // of each address, some gone already; the thread's
  size_t held_count_ = 0;                          // the thread's
  uint64_t refused_ = 0;                           // since the last line in the log; the thread's
  std::chrono::steady_clock::time_point told_;     // the thread's
  std::thread thread_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_LISTENER_H_
