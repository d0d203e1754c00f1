#include "coordinator/journal/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/canonical.h"

namespace concordat::coordinator {
namespace {

constexpr uint64_t kReadBytes = 1 << 18;
constexpr size_t kPartBytes = 48;
/// Our worker's smallest piece is 64 KiB. One that sends bytes one by one must not fill the disk with notes.
uint64_t MostParts(uint64_t total_bytes) { return 4096 + total_bytes / (16 << 10); }

FileDescriptor OpenParts(const std::filesystem::path& path) {
  return FileDescriptor(::open(Spool::PartsOf(path).c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
}

}  // namespace

StatusOr<std::unique_ptr<Spool>> Spool::Create(std::filesystem::path path, uint64_t total_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    if (errno == EEXIST) return AlreadyExists("spool {} exists", path.string());
    return ErrnoStatus(errno, "cannot create", path);
  }
  ::unlink(PartsOf(path).c_str());  // of a file that is gone
  auto spool = std::unique_ptr<Spool>(new Spool(std::move(path), std::move(fd), total_bytes));
  spool->parts_ = OpenParts(spool->path_);
  return spool;
}

StatusOr<std::unique_ptr<Spool>> Spool::Resume(std::filesystem::path path, uint64_t total_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) return Create(std::move(path), total_bytes);
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  const auto parts = ReadFile(PartsOf(path), MostParts(total_bytes) * kPartBytes);
  auto spool = std::unique_ptr<Spool>(new Spool(std::move(path), std::move(fd), total_bytes));
  const std::lock_guard lock(spool->mutex_);
  if (parts.ok()) RETURN_IF_ERROR(spool->TakeParts(*parts));
  RETURN_IF_ERROR(spool->CatchUp());
  RETURN_IF_ERROR(spool->SyncIfWhole());
  spool->parts_ = OpenParts(spool->path_);
  return spool;
}

/// Believes each part whose bytes are still in the file.
Status Spool::TakeParts(ByteView parts) {
  Bytes block;
  for (; parts.size() >= kPartBytes; parts = parts.subspan(kPartBytes), ++noted_) {
    CanonicalReader in(parts.first(kPartBytes));
    const uint64_t offset = in.U64(), size = in.U64();
    const Digest sha256 = in.Hash();
    if (size > total_ || offset > total_ - size || size > kWindowBytes) continue;  // no part of this upload
    if (beyond_.size() >= kMaxPieces) break;
    const Pieces missing = Missing(offset, offset + size);
    if (missing.empty()) continue;
    block.resize(size);
    if (!Read(offset, block).ok() || crypto::Sha256(block) != sha256) continue;
    Keep(missing);
    RETURN_IF_ERROR(CatchUp());
  }
  return OkStatus();
}

/// Losing a note costs sending the chunk again, after a restart.
void Spool::Note(uint64_t offset, uint64_t size, const Digest& sha256) {
  if (!parts_.valid() || noted_ >= MostParts(total_)) return;
  CanonicalWriter out;
  out.U64(offset);
  out.U64(size);
  out.Put(sha256);
  if (::write(parts_.get(), out.bytes().data(), out.bytes().size()) != ssize_t{kPartBytes})
    parts_ = FileDescriptor();  // half a note: what follows it could not be read
  ++noted_;
}

StatusOr<std::unique_ptr<Spool>> Spool::Reopen(std::filesystem::path path, uint64_t total_bytes,
                                               const Digest& sha256) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return DataLoss("spool {} is not there", path.string());
  auto spool = std::unique_ptr<Spool>(new Spool(std::move(path), std::move(fd), total_bytes));
  const std::lock_guard lock(spool->mutex_);
  spool->kept_ = spool->synced_ = true;
  spool->beyond_.emplace(0, total_bytes);
  if (const Status status = spool->CatchUp(); !status.ok()) return status;
  if (spool->digest_.Current() != sha256)
    return DataLoss("spool {} is not what was accepted", spool->path_.string());
  return spool;
}

Spool::~Spool() {
  if (!kept_) ::unlink(path_.c_str());
  if (!kept_ || synced_) ::unlink(PartsOf(path_).c_str());
}

void Spool::Keep() {
  const std::lock_guard lock(mutex_);
  kept_ = true;
}

StatusOr<uint64_t> Spool::Append(uint64_t offset, ByteView data, const Digest& sha256) {
  const std::lock_guard lock(mutex_);
  RETURN_IF_ERROR(CheckPlace(offset, data.size()));
  const Pieces missing = Missing(offset, offset + data.size());
  // Part of the chunk may be in the file when this fails; it does not count, and the next try overwrites it.
  for (const auto& [begin, end] : missing)
    RETURN_IF_ERROR(Write(begin, data.subspan(begin - offset, end - begin)));
  if (const auto first = missing.begin(); first != missing.end() && first->first == stored_) {
    // The usual case: in order, and hashed from memory.
    digest_.Update(data.subspan(stored_ - offset, first->second - stored_));
    stored_ = first->second;
    Keep({std::next(first), missing.end()});
  } else {
    Keep(missing);
  }
  RETURN_IF_ERROR(CatchUp());
  if (!missing.empty()) Note(offset, data.size(), sha256);
  RETURN_IF_ERROR(SyncIfWhole());
  return stored_;
}

/// Before anybody is told that it is here: a header that is journaled stands for the whole upload.
Status Spool::SyncIfWhole() {
  if (stored_ != total_ || synced_) return OkStatus();
  if (::fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync", path_);
  RETURN_IF_ERROR(SyncFolder(path_.parent_path()));
  synced_ = true;
  return OkStatus();
}

Status Spool::CheckPlace(uint64_t offset, uint64_t size) const {
  if (offset > stored_ && (size > kWindowBytes || offset - stored_ > kWindowBytes - size)) {
    return FailedPrecondition("expected a chunk that ends within {} bytes past {}, got one at {}",
                              kWindowBytes, stored_, offset);
  }
  if (size > total_ || offset > total_ - size) {
    return InvalidArgument("expected at most {} bytes, got a chunk from {} to {}", total_, offset,
                           offset + size);
  }
  if (offset > stored_ && beyond_.size() >= kMaxPieces) {
    return FailedPrecondition("expected a chunk at offset {}: {} pieces lie past it already", stored_,
                              beyond_.size());
  }
  return OkStatus();
}

/// What is not stored yet of [begin, end).
Spool::Pieces Spool::Missing(uint64_t begin, uint64_t end) const {
  Pieces out;
  uint64_t at = std::max(begin, stored_);
  auto it = beyond_.upper_bound(at);
  if (it != beyond_.begin()) at = std::max(at, std::prev(it)->second);
  while (at < end) {
    const uint64_t until = it == beyond_.end() ? end : std::min(end, it->first);
    if (at < until) out.emplace(at, until);
    if (it == beyond_.end()) break;
    at = it->second;
    ++it;
  }
  return out;
}

Status Spool::Write(uint64_t offset, ByteView data) const {
  for (size_t done = 0; done < data.size();) {
    const ssize_t n =
        ::pwrite(fd_.get(), data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return ErrnoStatus(n < 0 ? errno : ENOSPC, "cannot write", path_);
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

/// Adds pieces that touch none of those that are there but at their ends.
void Spool::Keep(const Pieces& written) {
  for (auto [begin, end] : written) {
    auto next = beyond_.lower_bound(begin);
    if (next != beyond_.end() && next->first == end) {
      end = next->second;
      next = beyond_.erase(next);
    }
    if (next != beyond_.begin() && std::prev(next)->second == begin) {
      std::prev(next)->second = end;
    } else {
      beyond_.emplace(begin, end);
    }
  }
}

/// Takes the pieces that the prefix has reached into it, hashing what the file holds.
Status Spool::CatchUp() {
  Bytes block;
  while (!beyond_.empty() && beyond_.begin()->first == stored_) {
    const uint64_t end = beyond_.begin()->second;
    beyond_.erase(beyond_.begin());
    while (stored_ < end) {
      block.resize(std::min(kReadBytes, end - stored_));
      if (const Status status = Read(stored_, block); !status.ok()) {
        beyond_.emplace(stored_, end);  // the next chunk tries again
        return status;
      }
      digest_.Update(block);
      stored_ += block.size();
    }
  }
  return OkStatus();
}

StatusOr<Digest> Spool::Complete() const {
  const std::lock_guard lock(mutex_);
  if (stored_ != total_) return FailedPrecondition("expected {} bytes of upload, have {}", total_, stored_);
  return digest_.Current();
}

uint64_t Spool::stored() const {
  const std::lock_guard lock(mutex_);
  return stored_;
}

Status Spool::Read(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read", path_);
    if (n == 0) return DataLoss("the spool ends at {} of {} bytes", offset + done, total_);
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

}  // namespace concordat::coordinator
