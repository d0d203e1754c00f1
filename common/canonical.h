#ifndef CONCORDAT_COMMON_CANONICAL_H_
#define CONCORDAT_COMMON_CANONICAL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "common/bytes.h"

namespace concordat {

/// Writes the one byte string that a value has: what is hashed, signed, sealed or sent between our own two
/// processes. Integers little-endian of fixed width, doubles by their IEEE-754 bits, byte strings after a u32
/// length, lists after a u32 count. There is no optional field: two different values never give the same
/// bytes.
class CanonicalWriter {
 public:
  /// Room for `bytes`, so that no outgrown copy of a secret stays behind.
  void Reserve(size_t bytes) { out_.reserve(bytes); }
  void U8(uint8_t v) { out_.push_back(v); }
  void U16(uint16_t v) { Integer(v); }
  void U32(uint32_t v) { Integer(v); }
  void U64(uint64_t v) { Integer(v); }
  void I64(int64_t v) { Integer(static_cast<uint64_t>(v)); }
  void F64(double v);
  void Bool(bool v) { U8(v ? 1 : 0); }
  /// Fixed-size bytes, without a length.
  void Raw(ByteView v) { out_.insert(out_.end(), v.begin(), v.end()); }
  void Put(const Digest& v) { Raw(v.view()); }
  /// u32 length, then the bytes.
  void Blob(ByteView v);
  void Text(std::string_view v) { Blob(AsBytes(v)); }
  /// u32 count that a list of that many elements follows.
  void Count(size_t n) { U32(static_cast<uint32_t>(n)); }

  const Bytes& bytes() const { return out_; }
  Bytes Take() { return std::move(out_); }

 private:
  template <typename T>
  void Integer(T v) {
    for (size_t i = 0; i < sizeof(T); ++i) out_.push_back(static_cast<uint8_t>(v >> (8 * i)));
  }
  Bytes out_;
};

/// Reads what CanonicalWriter wrote. After the first failure every read gives zero or empty and `status()`
/// says where it failed; check it once at the end with `Finish()`, which also refuses bytes left over. Never
/// reads past the end, never reserves more than the input holds.
class CanonicalReader {
 public:
  explicit CanonicalReader(ByteView in) : in_(in) {}

  uint8_t U8() { return Integer<uint8_t>(); }
  uint16_t U16() { return Integer<uint16_t>(); }
  uint32_t U32() { return Integer<uint32_t>(); }
  uint64_t U64() { return Integer<uint64_t>(); }
  int64_t I64() { return static_cast<int64_t>(Integer<uint64_t>()); }
  double F64();
  /// Refuses any value but 0 and 1.
  bool Bool();
  /// `n` bytes, valid as long as the input.
  ByteView Raw(size_t n);
  Digest Hash();
  /// u32 length, then the bytes; refuses a length over `max`.
  ByteView Blob(size_t max);
  std::string Text(size_t max) { return ToStringBytes(Blob(max)); }
  /// u32 count; refuses more than `max`, and more than the bytes left could hold.
  size_t Count(size_t max);

  /// Marks the input as malformed; the first failure stands.
  void Fail(std::string_view what);
  const Status& status() const { return status_; }
  size_t left() const { return in_.size() - position_; }
  /// InvalidArgument when anything failed or bytes are left over.
  Status Finish();

 private:
  template <typename T>
  T Integer() {
    const ByteView b = Raw(sizeof(T));
    T v = 0;
    for (size_t i = 0; i < b.size(); ++i)
      v = static_cast<T>(v | static_cast<T>(static_cast<T>(b[i]) << (8 * i)));
    return v;
  }
  ByteView in_;
  size_t position_ = 0;
  Status status_;
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_CANONICAL_H_
