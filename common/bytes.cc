#include "common/bytes.h"

namespace concordat {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string ToHex(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (uint8_t b : bytes) {
    out.push_back(kDigits[b >> 4]);
    out.push_back(kDigits[b & 15]);
  }
  return out;
}

StatusOr<Bytes> FromHex(std::string_view hex) {
  if (hex.size() % 2 != 0)
    return InvalidArgument("expected an even number of hexadecimal digits, got {}", hex.size());
  Bytes out;
  out.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int hi = HexValue(hex[i]);
    const int lo = HexValue(hex[i + 1]);
    if (hi < 0 || lo < 0)
      return InvalidArgument("expected hexadecimal digits, got another character at {}", i);
    out.push_back(static_cast<uint8_t>(hi << 4 | lo));
  }
  return out;
}

StatusOr<Digest> Digest::From(ByteView view) {
  Digest digest;
  if (view.size() != digest.bytes.size()) {
    return InvalidArgument("expected a digest of 32 bytes, got {}", view.size());
  }
  std::memcpy(digest.bytes.data(), view.data(), view.size());
  return digest;
}

StatusOr<Digest> Digest::FromHexText(std::string_view hex) {
  ASSIGN_OR_RETURN(const Bytes bytes, FromHex(hex));
  return From(bytes);
}

}  // namespace concordat
