#ifndef CONCORDAT_COORDINATOR_JOURNAL_JOURNAL_H_
#define CONCORDAT_COORDINATOR_JOURNAL_JOURNAL_H_

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "coordinator/core/records.h"

namespace concordat::coordinator {

/// The coordinator's memory: one SQLite file (WAL, synchronous FULL, foreign keys). Holds jobs, attempts,
/// finished rounds, and the log of each open attempt (signed messages; shares only as ciphertexts for other
/// sites), which is deleted with the attempt; never a key, an opened share or a vector.
///
/// What Apply has returned OK for is on the disk, whole or not at all, whatever dies afterwards. One thread.
class Journal {
 public:
  static constexpr int kSchemaVersion = 3;

  /// Opens or makes the file. DataLoss when it is damaged or its rounds do not form a chain;
  /// FailedPrecondition when another schema version wrote it, naming both, or another process has it open.
  static StatusOr<std::unique_ptr<Journal>> Open(const std::filesystem::path& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Writes all of `records` in one transaction. ResourceExhausted when the disk is full: nothing of them is
  /// written then, and the same call may be made again. AlreadyExists for an attempt, round or job that is
  /// there already.
  Status Apply(std::span<const JournalRecord> records);

  /// Every job, in the order in which it was registered. DataLoss when a stored value does not parse or a
  /// round's parent is not the adapter before it.
  StatusOr<std::vector<StoredJob>> Load();

 private:
  struct Database;
  explicit Journal(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_JOURNAL_H_
