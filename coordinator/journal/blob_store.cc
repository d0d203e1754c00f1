#include "coordinator/journal/blob_store.h"

#include <sys/stat.h>

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
  const std::lock_guard lock(checked_->mutex);
  checked_->stamps[name] = StampOf(path);
  return name;
}

BlobStore::Stamp BlobStore::StampOf(const std::filesystem::path& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) return {};
  return {about.st_ino, about.st_size, int64_t{about.st_mtim.tv_sec} * 1'000'000'000 + about.st_mtim.tv_nsec};
}

StatusOr<std::unique_ptr<MappedFile>> BlobStore::Get(const Digest& name) const {
  const std::filesystem::path path = PathOf(name);
  // Before the file is opened: a change in between is found the next time.
  const Stamp stamp = StampOf(path);
  auto file = MappedFile::Open(path);
  if (!file.ok()) {
    const bool absent = file.status().code() == StatusCode::kNotFound;
    return absent ? NotFound("no blob {}", name.brief())
                  : MakeStatus(file.status().code(), fmt::format("blob {} cannot be read", name.brief()));
  }
  {
    const std::lock_guard lock(checked_->mutex);
    const auto it = checked_->stamps.find(name);
    if (it != checked_->stamps.end() && it->second == stamp) return file;
  }
  if (const Digest found = crypto::Sha256((*file)->view()); found != name) {
    return DataLoss("blob {}: the file's hash is {}", name.brief(), found.brief());
  }
  const std::lock_guard lock(checked_->mutex);
  checked_->stamps[name] = stamp;
  return file;
}

void BlobStore::Remove(const Digest& name) {
  std::error_code error;
  std::filesystem::remove(PathOf(name), error);
  const std::lock_guard lock(checked_->mutex);
  checked_->stamps.erase(name);
}

void BlobStore::Retain(const std::set<Digest>& kept) {
  std::set<std::filesystem::path> needed;
  for (const Digest& name : kept) needed.insert(PathOf(name));
  std::vector<std::filesystem::path> others;
  std::error_code error;
  for (auto it = std::filesystem::recursive_directory_iterator(folder_, error);
       !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->is_regular_file(ignored) && !needed.contains(it->path())) others.push_back(it->path());
  }
  for (const auto& path : others) std::filesystem::remove(path, error);
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
