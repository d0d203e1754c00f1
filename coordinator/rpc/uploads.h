#ifndef CONCORDAT_COORDINATOR_RPC_UPLOADS_H_
#define CONCORDAT_COORDINATOR_RPC_UPLOADS_H_

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "coordinator/core/effects.h"
#include "coordinator/journal/spool.h"

namespace concordat::coordinator {

/// Which uploads are accepted now, and where they are. The loop opens and closes; gRPC threads append. A
/// chunk for an upload that is not open never touches the disk. The files of accepted uploads stay until
/// their attempt is dropped, so that a restarted coordinator can sum them. Any thread.
class Uploads {
 public:
  static StatusOr<std::unique_ptr<Uploads>> Make(std::filesystem::path folder);

  ~Uploads();

  /// Deletes what an earlier process left in the folder, but for `accepted`, and for `open`, which Open will
  /// go on with. Call once, before all others.
  void Retain(const std::vector<UploadSlot>& accepted, const std::vector<UploadSlot>& open);
  void Open(const UploadSlot& slot);
  /// Forgets all open slots of an attempt; their files go.
  void Close(const AttemptId& id);
  /// The attempt is over: its accepted uploads go too.
  void Drop(const AttemptId& id);
  /// An accepted upload, out of the table; one that an earlier process accepted is opened again. Its file
  /// stays until Drop. DataLoss when it is not there, or not what was accepted.
  StatusOr<std::shared_ptr<Spool>> Accept(const UploadSlot& slot);
  /// Deletes an open slot's upload unread.
  void Discard(const AttemptId& id, const SpiffeId& worker);
  /// The open slot's upload; null when nothing was stored or it is not open.
  std::shared_ptr<Spool> Find(const AttemptId& id, const SpiffeId& worker);
  /// How many words the open slot's whole upload has; 0 when it is not open.
  uint64_t ElementsOf(const AttemptId& id, const SpiffeId& worker) const;

  /// Stores one chunk and returns the bytes stored so far. FailedPrecondition when no upload of `worker` is
  /// open; InvalidArgument when `total` is not what the attempt's vector has; else as Spool::Append.
  /// \param sha256 of `data`, verified
  StatusOr<uint64_t> Put(const AttemptId& id, const SpiffeId& worker, uint64_t offset, uint64_t total,
                         ByteView data, const Digest& sha256);
  StatusOr<uint64_t> Stored(const AttemptId& id, const SpiffeId& worker);

 private:
  struct Slot {
    uint64_t bytes = 0;
    uint32_t modulus_bits = kPlainBits;
    std::shared_ptr<Spool> spool;      // null before the first chunk
    bool begun = false;                // by an earlier process: its file is there
    std::shared_ptr<std::mutex> gate;  // held while the spool is made: reading a long file takes a while
  };
  using Key = std::pair<AttemptId, SpiffeId>;
  explicit Uploads(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path PathOf(const AttemptId& id, const SpiffeId& worker) const;
  StatusOr<std::shared_ptr<Spool>> SpoolOf(const Key& key, bool make);
  void RemoveLeftovers(const Key& key, const Slot& slot) const;

  const std::filesystem::path folder_;
  mutable std::mutex mutex_;
  std::map<Key, Slot> slots_;                                     // guarded by mutex_
  std::set<std::filesystem::path> begun_;                         // guarded by mutex_
  std::map<AttemptId, std::vector<std::filesystem::path>> kept_;  // guarded by mutex_
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
