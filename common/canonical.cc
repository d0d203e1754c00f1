#include "common/canonical.h"

#include <bit>

namespace concordat {

void CanonicalWriter::F64(double v) { U64(std::bit_cast<uint64_t>(v)); }

void CanonicalWriter::Blob(ByteView v) {
  U32(static_cast<uint32_t>(v.size()));
  Raw(v);
}

double CanonicalReader::F64() { return std::bit_cast<double>(U64()); }

bool CanonicalReader::Bool() {
  const uint8_t v = U8();
  if (v > 1) Fail("a flag that is neither 0 nor 1");
  return v == 1;
}

ByteView CanonicalReader::Raw(size_t n) {
  if (!status_.ok()) return {};
  if (n > left()) {
    Fail("the end came too early");
    return {};
  }
  const ByteView out = in_.subspan(position_, n);
  position_ += n;
  return out;
}

Digest CanonicalReader::Hash() {
  Digest digest;
  const ByteView v = Raw(digest.bytes.size());
  if (v.size() == digest.bytes.size()) std::memcpy(digest.bytes.data(), v.data(), v.size());
  return digest;
}

ByteView CanonicalReader::Blob(size_t max) {
  const size_t n = U32();
  if (n > max) {
    Fail("a byte string longer than allowed");
    return {};
  }
  return Raw(n);
}

size_t CanonicalReader::Count(size_t max) {
  const size_t n = U32();
  if (n > max || n > left()) {
    Fail("a list longer than allowed");
    return 0;
  }
  return n;
}

void CanonicalReader::Fail(std::string_view what) {
  if (status_.ok()) status_ = InvalidArgument("malformed at byte {} of {}: {}", position_, in_.size(), what);
}

Status CanonicalReader::Finish() {
  if (status_.ok() && left() != 0) Fail("bytes after the end");
  return status_;
}

}  // namespace concordat
