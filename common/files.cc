#include "common/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace concordat {
namespace {

Status WriteAll(int fd, ByteView content, const std::filesystem::path& path) {
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = ::write(fd, content.data() + done, content.size() - done);
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "cannot write", path);
    }
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

}  // namespace

Status SyncFolder(const std::filesystem::path& folder) {
  const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open folder", folder);
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "cannot sync folder", folder);
  return OkStatus();
}

Status ErrnoStatus(int error, std::string_view what, const std::filesystem::path& path) {
  StatusCode code = StatusCode::kInternal;
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) code = StatusCode::kResourceExhausted;
  if (error == ENOENT || error == ENOTDIR) code = StatusCode::kNotFound;
  if (error == EISDIR) code = StatusCode::kInvalidArgument;  // a folder was named where a file belongs
  if (error == EACCES || error == EPERM || error == EROFS) code = StatusCode::kPermissionDenied;
  char buffer[128];
  return MakeStatus(code,
                    fmt::format("{} {}: {}", what, path.string(), strerror_r(error, buffer, sizeof buffer)));
}

Status CheckPrivateFile(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot open", path);
  if ((info.st_mode & 077) != 0)
    return PermissionDenied("{}: others may read this key: chmod 600 it", path.string());
  return OkStatus();
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.Release();
  }
  return *this;
}
FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}
int FileDescriptor::Release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

StatusOr<Bytes> ReadFile(const std::filesystem::path& path, uint64_t max_bytes) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  Bytes out;
  Bytes buffer(1 << 16);
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "cannot read", path);
    }
    if (n == 0) return out;
    if (out.size() + static_cast<uint64_t>(n) > max_bytes) {
      return InvalidArgument("{}: expected at most {} bytes", path.string(), max_bytes);
    }
    out.insert(out.end(), buffer.begin(), buffer.begin() + n);
  }
}

StatusOr<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(const Bytes bytes, ReadFile(path, max_bytes));
  return ToStringBytes(bytes);
}

namespace {

/// What gives the finished file its name: rename(2), or link(2), which replaces nothing.
enum class Naming { kReplace, kNew };

Status Name(const std::string& temporary, const std::filesystem::path& path, Naming naming) {
  if (naming == Naming::kReplace)
    return ::rename(temporary.c_str(), path.c_str()) == 0 ? OkStatus()
                                                          : ErrnoStatus(errno, "cannot rename to", path);
  if (::link(temporary.c_str(), path.c_str()) != 0) {
    if (errno == EEXIST) return AlreadyExists("{}: is there already", path.string());
    return ErrnoStatus(errno, "cannot create", path);
  }
  ::unlink(temporary.c_str());
  return OkStatus();
}

Status WriteWhole(const std::filesystem::path& path, ByteView content, unsigned mode, Naming naming) {
  std::string temporary = path.string() + ".XXXXXX";
  FileDescriptor fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create a file beside", path);
  Status status = WriteAll(fd.get(), content, path);
  if (status.ok() && ::fchmod(fd.get(), mode) != 0)
    status = ErrnoStatus(errno, "cannot set the mode of", path);
  if (status.ok() && ::fsync(fd.get()) != 0) status = ErrnoStatus(errno, "cannot sync", path);
  if (status.ok()) status = Name(temporary, path, naming);
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncFolder(path.has_parent_path() ? path.parent_path() : ".");
}

}  // namespace

Status WriteFileAtomically(const std::filesystem::path& path, ByteView content, unsigned mode) {
  return WriteWhole(path, content, mode, Naming::kReplace);
}

Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content, unsigned mode) {
  return WriteFileAtomically(path, AsBytes(content), mode);
}
Status WriteNewFile(const std::filesystem::path& path, std::string_view content, unsigned mode) {
  return WriteWhole(path, AsBytes(content), mode, Naming::kNew);
}

Status AppendFile(const std::filesystem::path& path, ByteView content, unsigned mode) {
  const FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, mode));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  RETURN_IF_ERROR(WriteAll(fd.get(), content, path));
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "cannot sync", path);
  return OkStatus();
}

Status MakeFolder(const std::filesystem::path& path, unsigned mode) {
  std::error_code error;
  if (path.has_parent_path() && !path.parent_path().empty()) {
    std::filesystem::create_directories(path.parent_path(), error);
    if (error) return ErrnoStatus(error.value(), "cannot make folder", path.parent_path());
  }
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, "cannot make folder", path);
  if (!std::filesystem::is_directory(path, error)) {
    return FailedPrecondition("{}: expected a folder, found something else", path.string());
  }
  return OkStatus();
}

Status MakePrivateFolder(const std::filesystem::path& path) {
  RETURN_IF_ERROR(MakeFolder(path, 0700));
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot look at folder", path);
  if (info.st_uid != ::geteuid())
    return PermissionDenied(
        "{}: belongs to user {}, this program runs as user {}: chown it, or choose another", path.string(),
        info.st_uid, ::geteuid());
  if ((info.st_mode & 022) != 0)
    return PermissionDenied("{}: its mode is {:04o}, others may write in it: chmod 700 it", path.string(),
                            info.st_mode & 07777);
  return OkStatus();
}

StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::filesystem::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  return FromDescriptor(fd.get(), path.string());
}

StatusOr<std::unique_ptr<MappedFile>> MappedFile::FromDescriptor(int fd, std::string_view name) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "cannot stat", std::string(name));
  if (!S_ISREG(info.st_mode)) return InvalidArgument("{}: expected a regular file", name);
  const size_t size = static_cast<size_t>(info.st_size);
  if (size == 0) return std::unique_ptr<MappedFile>(new MappedFile(nullptr, 0));
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return ErrnoStatus(errno, "cannot map", std::string(name));
  return std::unique_ptr<MappedFile>(new MappedFile(static_cast<const uint8_t*>(data), size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace concordat
