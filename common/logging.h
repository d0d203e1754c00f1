#ifndef CONCORDAT_COMMON_LOGGING_H_
#define CONCORDAT_COMMON_LOGGING_H_

#include <spdlog/spdlog.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "common/status.h"

// Logs are written by shells only, and stay where they are written. A line holds names, counts, codes and
// times; never a record, text, key, share or unmasked value.
namespace concordat {

/// What of a text goes into the log: bytes that are longer than this are cut off.
inline constexpr size_t kMaxLogText = 2048;

/// `text` as one line that shows what it holds: control characters (C0, C1, DEL), line and paragraph
/// separators, characters that turn the direction of writing and bytes that are no UTF-8 become \n, \t or
/// \xNN, byte by byte; a backslash stays. Cut at `max_bytes` of what comes out, saying how many bytes are
/// left out. Texts of peers, files and libraries come into the log: none of them may add a line or move a
/// cursor.
std::string LogText(std::string_view text, size_t max_bytes = kMaxLogText);

/// Sends this process's log to stderr and, when `file` is not empty, to that file (0600, appended, rotated at
/// 16 MiB, 4 kept). Lines: "2026-11-22T07:12:54.123Z info program: text", the text as LogText makes it,
/// whoever logs.
Status StartLogging(std::string_view program, const std::filesystem::path& file, bool verbose);

}  // namespace concordat

#endif  // CONCORDAT_COMMON_LOGGING_H_
