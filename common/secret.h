#ifndef CONCORDAT_COMMON_SECRET_H_
#define CONCORDAT_COMMON_SECRET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "common/bytes.h"

namespace concordat {

/// Overwrites `bytes` with zeros in a way the compiler may not remove.
void Wipe(std::span<uint8_t> bytes);

/// True when both have the same size and content; takes the same time wherever they differ.
bool ConstantTimeEqual(ByteView a, ByteView b);

/// N secret bytes: a private key, a seed, a share.
///
/// Wiped on destruction, on assignment and when moved from. Compared in constant time. Not printable, not
/// hashable, no conversion to text: what needs the bytes says `view()`, which is easy to search for.
/// Copies are allowed because shares are collected in containers; each copy wipes itself.
/// Does not protect against a swapped page, a core dump or someone who reads this process's memory: daemons
/// turn core dumps off (common/process.h).
template <size_t N>
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::span<const uint8_t, N> bytes) { std::memcpy(bytes_.data(), bytes.data(), N); }
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  Secret(Secret&& other) noexcept : bytes_(other.bytes_) { Wipe(other.bytes_); }
  Secret& operator=(Secret&& other) noexcept {
    if (this != &other) {
      bytes_ = other.bytes_;
      Wipe(other.bytes_);
    }
    return *this;
  }
  ~Secret() { Wipe(bytes_); }

  static constexpr size_t size() { return N; }
  std::span<const uint8_t, N> view() const { return bytes_; }
  std::span<uint8_t, N> mutable_view() { return bytes_; }
  bool operator==(const Secret& other) const { return ConstantTimeEqual(bytes_, other.bytes_); }

  /// InvalidArgument unless `view` has N bytes; the message gives sizes only.
  static StatusOr<Secret> From(ByteView view) {
    if (view.size() != N) return InvalidArgument("expected {} secret bytes, got {}", N, view.size());
    return Secret(view.template first<N>());
  }

 private:
  std::array<uint8_t, N> bytes_{};
};

using Secret32 = Secret<32>;

}  // namespace concordat

#endif  // CONCORDAT_COMMON_SECRET_H_
