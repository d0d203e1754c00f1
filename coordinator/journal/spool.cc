#include "coordinator/journal/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace concordat::coordinator {

StatusOr<std::unique_ptr<Spool>> Spool::Create(std::filesystem::path path, uint64_t total_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    if (errno == EEXIST) return AlreadyExists("spool {} exists", path.string());
    return ErrnoStatus(errno, "cannot create", path);
  }
  return std::unique_ptr<Spool>(new Spool(std::move(path), std::move(fd), total_bytes));
}

Spool::~Spool() { ::unlink(path_.c_str()); }

StatusOr<uint64_t> Spool::Append(uint64_t offset, ByteView data) {
  const std::lock_guard lock(mutex_);
  if (offset > stored_) {
    return FailedPrecondition("expected a chunk at offset {} or before, got {}", stored_, offset);
  }
  if (data.size() > total_ || offset > total_ - data.size()) {
    return InvalidArgument("expected at most {} bytes, got a chunk from {} to {}", total_, offset,
                           offset + data.size());
  }
  const uint64_t known = stored_ - offset;
  if (known >= data.size()) return stored_;
  data = data.subspan(known);
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n =
        ::pwrite(fd_.get(), data.data() + done, data.size() - done, static_cast<off_t>(stored_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : ENOSPC;
      // Part of the chunk may be in the file; it does not count, and the next try overwrites it.
      return ErrnoStatus(error, "cannot write", path_);
    }
    done += static_cast<size_t>(n);
  }
  digest_.Update(data);
  stored_ += data.size();
  return stored_;
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
