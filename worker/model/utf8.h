#ifndef CONCORDAT_WORKER_MODEL_UTF8_H_
#define CONCORDAT_WORKER_MODEL_UTF8_H_

#include <string>
#include <string_view>

#include "common/status.h"

namespace concordat::model {

/// True for well-formed UTF-8 (no surrogates, no overlong forms, nothing above U+10FFFF). NUL is allowed.
bool IsValidUtf8(std::string_view text);

/// Unicode normalisation form C of valid UTF-8.
StatusOr<std::string> NormalizeNfc(std::string_view text);

/// Appends `code_point` (below 0x800) as UTF-8.
void AppendUtf8(char32_t code_point, std::string& out);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_UTF8_H_
