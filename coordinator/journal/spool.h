#ifndef CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_
#define CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "common/files.h"
#include "privacy/crypto/hash.h"

namespace concordat::coordinator {

/// One site's upload of one attempt while it arrives: a masked vector, never opened here. Chunks may overtake
/// each other by a bounded span, since a site sends over several connections. What is stored is never written
/// again, so the digest is that of the file. It is synced once it is whole, and deleted with the object
/// unless Keep was called. Any thread.
///
/// Beside the file, until it is whole, lies NAME.parts: 48 bytes for each chunk that was taken, offset and
/// length (u64 little endian) and SHA-256. A later process believes what still has its digest, so that
/// nothing has to be synced on the way: what a killed process had stored is all there, and what the power
/// took is sent again.
class Spool {
 public:
  /// How far past the stored prefix a chunk may end: a little more than our own worker goes.
  static constexpr uint64_t kWindowBytes = 64 << 20;
  /// Pieces that may lie past the prefix with gaps between them: 64 bytes of memory each.
  static constexpr size_t kMaxPieces = 2048;
  /// Where the parts of `path` lie.
  static std::filesystem::path PartsOf(const std::filesystem::path& path) { return path.string() + ".parts"; }

  /// Makes an empty file of mode 0600. AlreadyExists when there is one.
  /// \param total_bytes what the upload will have in the end
  static StatusOr<std::unique_ptr<Spool>> Create(std::filesystem::path path, uint64_t total_bytes);
  /// Goes on with an upload that an earlier process had begun, from what its parts say and its file still
  /// holds. Where there is neither, as Create.
  static StatusOr<std::unique_ptr<Spool>> Resume(std::filesystem::path path, uint64_t total_bytes);
  /// A whole upload that an earlier process kept. DataLoss when it is not there, or not `sha256`.
  static StatusOr<std::unique_ptr<Spool>> Reopen(std::filesystem::path path, uint64_t total_bytes,
                                                 const Digest& sha256);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  /// Takes `data` at `offset` and returns the length of the prefix that is stored without a gap. OK says that
  /// all of `data` is stored, in the prefix or past it. What is stored already is skipped, so that a chunk
  /// may be sent again. FailedPrecondition, naming the prefix, for a chunk that ends past the window or that
  /// leaves too many gaps; InvalidArgument for bytes past the end. ResourceExhausted when the disk is full:
  /// nothing of the chunk counts then.
  /// \param sha256 of `data`, as the caller has verified it
  StatusOr<uint64_t> Append(uint64_t offset, ByteView data, const Digest& sha256);
  StatusOr<uint64_t> Append(uint64_t offset, ByteView data) {
    return Append(offset, data, crypto::Sha256(data));
  }
  /// Leaves the file where it is, and its parts while it is not whole: another process may need them.
  void Keep();
  /// The digest of all bytes. FailedPrecondition while bytes are missing.
  StatusOr<Digest> Complete() const;
  /// Fills `out` from `offset`. DataLoss when the file is shorter than what was stored.
  Status Read(uint64_t offset, std::span<uint8_t> out) const;

  /// Length of the prefix that is stored without a gap.
  uint64_t stored() const;
  uint64_t total() const { return total_; }

 private:
  Spool(std::filesystem::path path, FileDescriptor fd, uint64_t total)
      : path_(std::move(path)), fd_(std::move(fd)), total_(total) {}

  using Pieces = std::map<uint64_t, uint64_t>;  // begin, end

  Status CheckPlace(uint64_t offset, uint64_t size) const;
  Pieces Missing(uint64_t begin, uint64_t end) const;
  Status Write(uint64_t offset, ByteView data) const;
  void Keep(const Pieces& written);
  Status CatchUp();
  Status SyncIfWhole();
  void Note(uint64_t offset, uint64_t size, const Digest& sha256);
  Status TakeParts(ByteView parts);

  const std::filesystem::path path_;
  const FileDescriptor fd_;
  FileDescriptor parts_;  // not valid: nothing more is noted
  const uint64_t total_;
  mutable std::mutex mutex_;
  uint64_t stored_ = 0;          // guarded by mutex_
  Pieces beyond_;                // guarded by mutex_; past stored_, apart from each other
  crypto::Sha256Stream digest_;  // guarded by mutex_; of the first stored_ bytes
  uint64_t noted_ = 0;           // guarded by mutex_; parts on record
  bool synced_ = false;          // guarded by mutex_
  bool kept_ = false;            // guarded by mutex_
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_SPOOL_H_
