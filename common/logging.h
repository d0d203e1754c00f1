#ifndef CONCORDAT_COMMON_LOGGING_H_
#define CONCORDAT_COMMON_LOGGING_H_

#include <spdlog/spdlog.h>

#include <filesystem>
#include <string_view>

#include "common/status.h"

// Logs are written by shells only, and stay where they are written. A line holds names, counts, codes and
// times; never a record, text, key, share or unmasked value.
namespace concordat {

/// Sends this process's log to stderr and, when `file` is not empty, to that file (0600, appended, rotated at
/// 16 MiB, 4 kept). Lines: "2026-11-22T07:12:54.123Z info program: text".
Status StartLogging(std::string_view program, const std::filesystem::path& file, bool verbose);

}  // namespace concordat

#endif  // CONCORDAT_COMMON_LOGGING_H_
