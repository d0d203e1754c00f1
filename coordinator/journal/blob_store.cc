#include "coordinator/journal/blob_store.h"

#include "privacy/crypto/hash.h"

namespace concordat::coordinator {

StatusOr<BlobStore> BlobStore::Open(std::filesystem::path folder) {
  RETURN_IF_ERROR(MakeFolder(folder, 0700));
  return BlobStore(std::move(folder));
}

std::filesystem::path BlobStore::PathOf(const Digest& name) const {
  const std::string hex = name.hex();
  return folder_ / hex.substr(0, 2) / hex;
}

bool BlobStore::Has(const Digest& name) const {
  std::error_code error;
  return std::filesystem::is_regular_file(PathOf(name), error);
}

StatusOr<Digest> BlobStore::Put(ByteView content) {
  const Digest name = crypto::Sha256(content);
  // A file that is there but damaged is replaced: its name says what it must hold.
  if (Has(name) && Get(name).ok()) return name;
  const std::filesystem::path path = PathOf(name);
  RETURN_IF_ERROR(MakeFolder(path.parent_path(), 0700));
  RETURN_IF_ERROR(WriteFileAtomically(path, content, 0600));
  return name;
}

StatusOr<std::unique_ptr<MappedFile>> BlobStore::Get(const Digest& name) const {
  ASSIGN_OR_RETURN(auto file, MappedFile::Open(PathOf(name)));
  if (const Digest found = crypto::Sha256(file->view()); found != name) {
    return DataLoss("blob {}: the file's hash is {}", name.brief(), found.brief());
  }
  return file;
}

uint64_t BlobStore::StateBytes() const {
  uint64_t bytes = 0;
  std::error_code error;
  for (auto it = std::filesystem::recursive_directory_iterator(folder_.parent_path(), error);
       !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (!it->is_regular_file(ignored)) continue;
    const uint64_t size = it->file_size(ignored);
    if (!ignored) bytes += size;
  }
  return bytes;
}

}  // namespace concordat::coordinator
