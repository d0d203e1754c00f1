#ifndef CONCORDAT_TESTS_FUZZ_CHOICES_H_
#define CONCORDAT_TESTS_FUZZ_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/bytes.h"

// What every fuzzer needs: an input read as a list of choices, and laws whose breach ends the process.
namespace concordat::fuzz {

/// Ends the process, naming the law, unless it holds.
inline void Must(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", law);
  std::abort();
}

/// A fuzzer's input as a list of choices, one byte each. Past its end every choice is 0.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : left_(data, size) {}
  bool done() const { return left_.empty(); }
  /// The next byte, which stays the next.
  uint8_t Peek() const { return left_.empty() ? 0 : left_.front(); }
  uint8_t Byte() {
    if (left_.empty()) return 0;
    const uint8_t byte = left_.front();
    left_ = left_.subspan(1);
    return byte;
  }
  /// 0 to n − 1; 0 when n is 0. Beyond 256 two bytes, the low one first.
  size_t Below(size_t n) {
    size_t value = Byte();
    if (n > 256) value |= size_t{Byte()} << 8;
    return n == 0 ? 0 : value % n;
  }
  /// The next `n` bytes, or as many as there are.
  ByteView Take(size_t n) {
    const ByteView out = left_.first(n < left_.size() ? n : left_.size());
    left_ = left_.subspan(out.size());
    return out;
  }
  ByteView Rest() { return Take(left_.size()); }

 private:
  ByteView left_;
};

/// Changes one chosen byte.
inline void Flip(Choices& c, std::span<uint8_t> bytes) {
  if (bytes.empty()) return;
  const size_t at = c.Below(bytes.size());
  bytes[at] ^= c.Byte();
}
/// Changes one chosen byte of a plain object.
template <typename T>
void FlipIn(Choices& c, T& object) {
  static_assert(std::is_trivially_copyable_v<T>);
  Flip(c, {reinterpret_cast<uint8_t*>(&object), sizeof object});
}

/// Drops, repeats or swaps a chosen item. Nothing when there is none.
template <typename T>
void EditList(Choices& c, std::vector<T>& list) {
  if (list.empty()) return;
  const size_t at = c.Below(list.size());
  const auto here = list.begin() + static_cast<std::ptrdiff_t>(at);
  switch (c.Below(3)) {
    case 0:
      list.erase(here);
      return;
    case 1: {
      T copy = list[at];
      list.insert(here, std::move(copy));
      return;
    }
    default:
      std::swap(list[at], list[c.Below(list.size())]);
  }
}

}  // namespace concordat::fuzz

#endif  // CONCORDAT_TESTS_FUZZ_CHOICES_H_
