#include "worker/model/utf8.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/utf8.h>

namespace concordat::model {

bool IsValidUtf8(std::string_view text) {
  // In pieces that the macro's 32-bit index can count; each begins at a lead byte.
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t start = 0;
  while (start < text.size()) {
    const auto length = static_cast<int32_t>(std::min<size_t>(text.size() - start, 1 << 30));
    const bool last = start + static_cast<size_t>(length) == text.size();
    int32_t i = 0;
    while (i < length && (last || i < length - 4)) {
      UChar32 c = 0;
      U8_NEXT(bytes + start, i, length, c);
      if (c < 0) return false;
    }
    start += static_cast<size_t>(i);
  }
  return true;
}

StatusOr<std::string> NormalizeNfc(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  if (text.size() > INT32_MAX) return InvalidArgument("text of {} bytes is too long", text.size());
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  if (U_SUCCESS(error)) {
    nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr,
                       error);
  }
  if (U_FAILURE(error)) return Internal("Unicode normalisation: {}", u_errorName(error));
  return out;
}

void AppendUtf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else {
    out.push_back(static_cast<char>(0xc0 | c >> 6));
    out.push_back(static_cast<char>(0x80 | (c & 0x3f)));
  }
}

}  // namespace concordat::model
