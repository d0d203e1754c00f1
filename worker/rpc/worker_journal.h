#ifndef CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_
#define CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "common/files.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// The worker's memory of what it must not do twice: an append-only file of mode 0600.
///
/// Grammar: "CNCWJNL1", then records: u32 little-endian length of the body, body, the first 8 bytes of
/// TaggedHash("concordat/v1/worker-journal", body). Body: u8 kind, then the fields of Record in canonical
/// form. It holds no secret.
class WorkerJournal {
 public:
  /// Opens or creates, and reads what is there. A record that was cut off at the very end was never
  /// acknowledged and is removed; anything else that does not verify is DataLoss naming the byte.
  static StatusOr<std::unique_ptr<WorkerJournal>> Open(const std::filesystem::path& path);

  /// What was there when it was opened, in order.
  const std::vector<Record>& records() const { return records_; }

  /// Appends and fsyncs. ResourceExhausted when the disk is full: then nothing was appended. After any other
  /// failure every later call fails (DataLoss): what is on the disk is not known.
  Status Append(std::span<const Record> records);

 private:
  WorkerJournal() = default;
  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t size_ = 0;
  std::vector<Record> records_;
  bool broken_ = false;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_
