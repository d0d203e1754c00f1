#ifndef CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_
#define CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_

#include <filesystem>
#include <memory>
#include <mutex>
#include <span>

#include "common/files.h"
#include "privacy/crypto/hash.h"

namespace concordat::coordinator {

/// One site's upload of one attempt while it arrives: a masked vector, never opened here. The file is not
/// synced (a restart abandons the attempt) and is deleted with the object. Any thread.
class Spool {
 public:
  /// Makes an empty file of mode 0600. AlreadyExists when there is one.
  /// \param total_bytes what the upload will have in the end
  static StatusOr<std::unique_ptr<Spool>> Create(std::filesystem::path path, uint64_t total_bytes);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  /// Takes `data` at `offset` and returns the bytes stored so far. What lies within the stored prefix is
  /// skipped, so that a chunk may be sent again; a gap is FailedPrecondition, naming what is stored; bytes
  /// past the end are InvalidArgument. ResourceExhausted when the disk is full: nothing of the chunk counts
  /// then.
  StatusOr<uint64_t> Append(uint64_t offset, ByteView data);
  /// The digest of all bytes. FailedPrecondition while bytes are missing.
  StatusOr<Digest> Complete() const;
  /// Fills `out` from `offset`. DataLoss when the file is shorter than what was stored.
  Status Read(uint64_t offset, std::span<uint8_t> out) const;

  uint64_t stored() const;
  uint64_t total() const { return total_; }

 private:
  Spool(std::filesystem::path path, FileDescriptor fd, uint64_t total)
      : path_(std::move(path)), fd_(std::move(fd)), total_(total) {}

  const std::filesystem::path path_;
  const FileDescriptor fd_;
  const uint64_t total_;
  mutable std::mutex mutex_;
  uint64_t stored_ = 0;          // guarded by mutex_
  crypto::Sha256Stream digest_;  // guarded by mutex_
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_
