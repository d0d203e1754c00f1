#ifndef CONCORDAT_COMMON_ANCHOR_H_
#define CONCORDAT_COMMON_ANCHOR_H_

#include <cstdint>
#include <filesystem>
#include <optional>

#include "common/bytes.h"
#include "common/status.h"

namespace concordat {

/// How far an append-only, hash-chained file has come, remembered on another path: a file that was put back
/// from an older copy is shorter than its anchor, or another chain. Shows nothing when both are put back
/// together, or when the anchor is deleted with nobody looking.
///
/// Grammar: one line "concordat-anchor v1 COUNT HEAD\n", HEAD in hexadecimal. Replaced atomically, mode 0600.
struct AnchorPoint {
  uint64_t count = 0;  // records of the file
  Digest head;         // of the chain after the last of them
  bool operator==(const AnchorPoint&) const = default;
};

/// Nothing when there is no file; DataLoss when it is no anchor.
StatusOr<std::optional<AnchorPoint>> ReadAnchor(const std::filesystem::path& path);
/// Durable when it returns OK. ResourceExhausted when the disk is full.
Status WriteAnchor(const std::filesystem::path& path, const AnchorPoint& point);

}  // namespace concordat

#endif  // CONCORDAT_COMMON_ANCHOR_H_
