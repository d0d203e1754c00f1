#ifndef CONCORDAT_TESTS_SUPPORT_FREE_PORT_H_
#define CONCORDAT_TESTS_SUPPORT_FREE_PORT_H_

#include <cstdint>

namespace concordat::testing {

/// A TCP port of the loopback that nobody listens on now, below the range from which the kernel takes ports
/// for outgoing connections: nobody takes it by chance. std::runtime_error when there is none.
uint16_t FreePort();

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_FREE_PORT_H_
