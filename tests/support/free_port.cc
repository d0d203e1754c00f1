#include "tests/support/free_port.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

#include "common/files.h"

namespace concordat::testing {

uint16_t FreePort() {
  for (uint32_t i = 0; i < 2000; ++i) {
    const auto port =
        static_cast<uint16_t>(20'000 + (static_cast<uint32_t>(::getpid()) * 7 + i * 13) % 12'000);
    const FileDescriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return port;
  }
  throw std::runtime_error("no free port");
}

}  // namespace concordat::testing
