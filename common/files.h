#ifndef CONCORDAT_COMMON_FILES_H_
#define CONCORDAT_COMMON_FILES_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "common/bytes.h"

namespace concordat {

/// The whole file. NotFound when there is none; InvalidArgument when longer than `max_bytes`.
StatusOr<Bytes> ReadFile(const std::filesystem::path& path, uint64_t max_bytes = 64u << 20);
StatusOr<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes = 64u << 20);

/// Replaces `path` by `content` so that a crash leaves the old file or the new one: temporary file beside it,
/// fsync, rename, fsync of the folder. ResourceExhausted when the disk is full.
/// \param mode permission bits, e.g. 0600 for keys.
Status WriteFileAtomically(const std::filesystem::path& path, ByteView content, unsigned mode = 0644);
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view content, unsigned mode = 0644);
/// The same, but for a path that is there already, a link to nothing included: AlreadyExists, and it stays.
Status WriteNewFile(const std::filesystem::path& path, std::string_view content, unsigned mode = 0644);

/// Appends `content` and fsyncs. Creates the file with `mode`.
Status AppendFile(const std::filesystem::path& path, ByteView content, unsigned mode = 0600);

/// Makes `path` and its parents; the last one with `mode`.
Status MakeFolder(const std::filesystem::path& path, unsigned mode = 0755);

/// MakeFolder with mode 0700 for what only this process's user may change, like its state. PermissionDenied
/// when the folder is there and belongs to somebody else, or others may write in it, saying what to do.
Status MakePrivateFolder(const std::filesystem::path& path);

/// Makes names that were created or removed in `folder` durable.
Status SyncFolder(const std::filesystem::path& folder);

/// PermissionDenied when others may read `path`, a private key's file, saying what to do; NotFound.
Status CheckPrivateFile(const std::filesystem::path& path);

/// Turns errno into a status: ENOSPC, EDQUOT and EFBIG are ResourceExhausted, ENOENT NotFound, EACCES
/// PermissionDenied.
Status ErrnoStatus(int error, std::string_view what, const std::filesystem::path& path);

/// An owned file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release();

 private:
  int fd_ = -1;
};

/// A file mapped for reading. The view stays valid as long as the object; a file that is truncated by someone
/// else while mapped raises SIGBUS, so map only files that this process's user controls.
class MappedFile {
 public:
  static StatusOr<std::unique_ptr<MappedFile>> Open(const std::filesystem::path& path);
  /// Maps an open descriptor (a sealed memfd); does not close it.
  static StatusOr<std::unique_ptr<MappedFile>> FromDescriptor(int fd, std::string_view name);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ByteView view() const { return {data_, size_}; }

 private:
  MappedFile(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  const uint8_t* data_;
  size_t size_;
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_FILES_H_
