#ifndef CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_
#define CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "common/anchor.h"
#include "common/files.h"
#include "worker/core/effects.h"

namespace concordat::worker {

/// The worker's memory of what it must not do twice: an append-only file of mode 0600.
///
/// Grammar: "CNCWJNL1", then records: u32 little-endian length of the body, body, the first 8 bytes of
/// TaggedHash("concordat/v1/worker-journal", body). Body: u8 kind, then the fields of Record in canonical
/// form. It holds no secret. The records form a chain: head_0 is zero, head_n =
/// TaggedHash("concordat/v1/worker-journal-chain", head_{n-1} ‖ body_n). The anchor keeps how far it has
/// come.
class WorkerJournal {
 public:
  /// Opens or creates, and reads what is there. A record that was cut off at the very end was never
  /// acknowledged and is removed; anything else that does not verify is DataLoss naming the byte.
  /// FailedPrecondition when the file is older than its anchor, saying what to do, unless `accept_rollback`:
  /// then the anchor starts again from what is there, and rolled_back() says so.
  /// \param anchor on another path, best on another disk
  static StatusOr<std::unique_ptr<WorkerJournal>> Open(const std::filesystem::path& path,
                                                       const std::filesystem::path& anchor,
                                                       bool accept_rollback = false);

  /// What was there when it was opened, in order.
  const std::vector<Record>& records() const { return records_; }

  /// The file was put back from an older copy, and that was accepted.
  bool rolled_back() const { return rolled_back_; }

  /// Appends and fsyncs, then moves the anchor. ResourceExhausted when the disk is full: then nothing was
  /// appended. After any other failure every later call fails (DataLoss): what is on the disk is not known.
  Status Append(std::span<const Record> records);

 private:
  WorkerJournal() = default;
  Status ReadAll(ByteView content, uint64_t anchored, Digest* head_there);
  Status CheckAnchor(const std::optional<AnchorPoint>& anchor, const Digest& head_there, bool accept);

  std::filesystem::path path_, anchor_path_;
  AnchorPoint end_;  // of the chain
  bool rolled_back_ = false;
  FileDescriptor file_;
  uint64_t size_ = 0;
  std::vector<Record> records_;
  bool broken_ = false;
};

}  // namespace concordat::worker

#endif  // CONCORDAT_WORKER_RPC_WORKER_JOURNAL_H_
