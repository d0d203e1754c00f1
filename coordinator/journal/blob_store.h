#ifndef CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_
#define CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "common/bytes.h"
#include "common/files.h"

namespace concordat::coordinator {

/// Files named by their SHA-256: adapters and published sums. `<folder>/ab/abcdef…`. Who may read one is not
/// decided here. Any thread, several at once. Errors name blobs, never paths: peers read them.
class BlobStore {
 public:
  /// Makes the folder when it is absent.
  static StatusOr<BlobStore> Open(std::filesystem::path folder);

  /// Stores `content` so that a crash leaves the whole file or none, and returns its name. A blob that is
  /// there already is left alone. ResourceExhausted when the disk is full.
  StatusOr<Digest> Put(ByteView content);
  /// The blob, mapped. Its content is compared with its name when it is first read and whenever the file has
  /// been changed since: not each time, because a reader may ask often. NotFound; DataLoss when the file is
  /// not what its name says.
  StatusOr<std::unique_ptr<MappedFile>> Get(const Digest& name) const;
  bool Has(const Digest& name) const;
  /// Deletes a blob that nothing refers to any more; nothing happens when it is not there.
  void Remove(const Digest& name);
  /// Deletes all but `kept`, and what a crash left half-written. Call once, before all others.
  void Retain(const std::set<Digest>& kept);
  /// Bytes of all files under the folder's parent: what max_state_bytes bounds.
  uint64_t StateBytes() const;

 private:
  /// What tells that a file is the one that was hashed.
  struct Stamp {
    uint64_t inode = 0;
    int64_t size = 0;
    int64_t changed_ns = 0;  // its modification
    bool operator==(const Stamp&) const = default;
  };
  struct Checked {
    std::mutex mutex;
    std::map<Digest, Stamp> stamps;  // guarded by mutex
  };
  explicit BlobStore(std::filesystem::path folder)
      : folder_(std::move(folder)), checked_(std::make_unique<Checked>()) {}
  std::filesystem::path PathOf(const Digest& name) const;
  static Stamp StampOf(const std::filesystem::path& path);
  std::filesystem::path folder_;
  std::unique_ptr<Checked> checked_;  // apart, so that a store can be moved
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_
