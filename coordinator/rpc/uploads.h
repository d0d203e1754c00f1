#ifndef CONCORDAT_COORDINATOR_RPC_UPLOADS_H_
#define CONCORDAT_COORDINATOR_RPC_UPLOADS_H_

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "coordinator/core/effects.h"
#include "coordinator/journal/spool.h"

namespace concordat::coordinator {

/// Which uploads are accepted now, and where they are. The loop opens and closes; gRPC threads append. A
/// chunk for an upload that is not open never touches the disk. Any thread.
class Uploads {
 public:
  /// Empties `folder`: uploads do not outlive the attempt, and no attempt outlives the process.
  static StatusOr<std::unique_ptr<Uploads>> Make(std::filesystem::path folder);

  void Open(const UploadSlot& slot);
  /// Forgets all slots of an attempt; their files go.
  void Close(const AttemptId& id);
  /// The slot's upload, out of the table; null when nothing was stored or it is not open.
  std::shared_ptr<Spool> Take(const AttemptId& id, const SpiffeId& worker);
  /// The same, left in the table.
  std::shared_ptr<Spool> Find(const AttemptId& id, const SpiffeId& worker) const;

  /// Stores one chunk and returns the bytes stored so far. FailedPrecondition when no upload of `worker` is
  /// open; InvalidArgument when `total` is not what the attempt's vector has; else as Spool::Append.
  StatusOr<uint64_t> Put(const AttemptId& id, const SpiffeId& worker, uint64_t offset, uint64_t total,
                         ByteView data);
  StatusOr<uint64_t> Stored(const AttemptId& id, const SpiffeId& worker) const;

 private:
  struct Slot {
    uint64_t bytes = 0;
    std::shared_ptr<Spool> spool;  // null before the first chunk
  };
  using Key = std::pair<AttemptId, SpiffeId>;
  explicit Uploads(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path folder_;
  mutable std::mutex mutex_;
  std::map<Key, Slot> slots_;  // guarded by mutex_
  uint64_t counter_ = 0;       // guarded by mutex_
};

/// Bytes that each worker sent and got, as payloads. Any thread.
class Traffic {
 public:
  struct Count {
    uint64_t up = 0;
    uint64_t down = 0;
  };
  void AddUp(const SpiffeId& worker, uint64_t bytes);
  void AddDown(const SpiffeId& worker, uint64_t bytes);
  Count Of(const SpiffeId& worker) const;
  /// Remembers where the roster's counts stand.
  void Begin(const AttemptBegan& attempt);
  /// What the roster sent and got since Begin.
  Count Since(const AttemptId& id) const;
  void Forget(const AttemptId& id);

 private:
  mutable std::mutex mutex_;
  std::map<SpiffeId, Count> counts_;                      // guarded by mutex_
  std::map<AttemptId, std::map<SpiffeId, Count>> begun_;  // guarded by mutex_
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_RPC_UPLOADS_H_
