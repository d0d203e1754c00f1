#ifndef CONCORDAT_COMMON_VERSION_H_
#define CONCORDAT_COMMON_VERSION_H_

#include <cstdint>
#include <string_view>

namespace concordat {

inline constexpr std::string_view kVersion = "0.1.0";
/// Version of the wire protocol. Nodes that differ refuse each other at connect, naming both.
inline constexpr uint32_t kProtocolVersion = 1;

}  // namespace concordat

#endif  // CONCORDAT_COMMON_VERSION_H_
