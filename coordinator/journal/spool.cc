#include "coordinator/journal/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace concordat::coordinator {
namespace {

constexpr uint64_t kReadBytes = 1 << 18;

}  // namespace

StatusOr<std::unique_ptr<Spool>> Spool::Create(std::filesystem::path path, uint64_t total_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    if (errno == EEXIST) return AlreadyExists("spool {} exists", path.string());
    return ErrnoStatus(errno, "cannot create", path);
  }
  return std::unique_ptr<Spool>(new Spool(std::move(path), std::move(fd), total_bytes));
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
}

void Spool::Keep() {
  const std::lock_guard lock(mutex_);
  kept_ = true;
}

StatusOr<uint64_t> Spool::Append(uint64_t offset, ByteView data) {
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
  if (stored_ == total_ && !synced_) {
    // Before anybody is told that it is here: a header that is journaled stands for the whole upload.
    if (::fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync", path_);
    RETURN_IF_ERROR(SyncFolder(path_.parent_path()));
    synced_ = true;
  }
  return stored_;
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
