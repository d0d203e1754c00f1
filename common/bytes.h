#ifndef CONCORDAT_COMMON_BYTES_H_
#define CONCORDAT_COMMON_BYTES_H_

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace concordat {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

/// The bytes of `text`; valid as long as `text`.
inline ByteView AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// `bytes` seen as text; valid as long as `bytes`.
inline std::string_view AsText(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Bytes ToBytes(ByteView v) { return Bytes(v.begin(), v.end()); }
inline std::string ToStringBytes(ByteView v) { return std::string(v.begin(), v.end()); }

/// Lower-case hexadecimal.
std::string ToHex(ByteView bytes);

/// Reads lower- or upper-case hexadecimal of an even length. InvalidArgument otherwise.
StatusOr<Bytes> FromHex(std::string_view hex);

/// A SHA-256 value: 32 bytes, ordered, usable as a key of a map.
struct Digest {
  std::array<uint8_t, 32> bytes{};

  ByteView view() const { return bytes; }
  std::string hex() const { return ToHex(bytes); }
  /// The first 12 hexadecimal digits, for people.
  std::string brief() const { return hex().substr(0, 12); }
  bool is_zero() const { return *this == Digest{}; }

  /// InvalidArgument unless `view` has 32 bytes.
  static StatusOr<Digest> From(ByteView view);
  /// InvalidArgument unless `hex` is 64 hexadecimal digits.
  static StatusOr<Digest> FromHexText(std::string_view hex);

  auto operator<=>(const Digest&) const = default;
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_BYTES_H_
