#ifndef CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_
#define CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_

#include <filesystem>
#include <memory>

#include "common/bytes.h"
#include "common/files.h"

namespace concordat::coordinator {

/// Files named by their SHA-256: adapters and published sums. `<folder>/ab/abcdef…`. What is in here may be
/// read by every member of the charter. Any thread, several at once.
class BlobStore {
 public:
  /// Makes the folder when it is absent.
  static StatusOr<BlobStore> Open(std::filesystem::path folder);

  /// Stores `content` so that a crash leaves the whole file or none, and returns its name. A blob that is
  /// there already is left alone. ResourceExhausted when the disk is full.
  StatusOr<Digest> Put(ByteView content);
  /// The blob, mapped, after its content was compared with its name. NotFound; DataLoss when the file is not
  /// what its name says.
  StatusOr<std::unique_ptr<MappedFile>> Get(const Digest& name) const;
  bool Has(const Digest& name) const;
  /// Bytes of all files under the folder's parent: what max_state_bytes bounds.
  uint64_t StateBytes() const;

 private:
  explicit BlobStore(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path PathOf(const Digest& name) const;
  std::filesystem::path folder_;
};

}  // namespace concordat::coordinator

#endif  // CONCORDAT_COORDINATOR_JOURNAL_BLOB_STORE_H_
