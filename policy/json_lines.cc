#include "policy/json_lines.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>

namespace concordat::policy {

StatusOr<FileDescriptor> OpenLockedForAppend(const std::filesystem::path& path) {
  bool fresh = false;
  int raw = ::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
  if (raw < 0 && errno == ENOENT) {
    raw = ::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    fresh = raw >= 0;
  }
  FileDescriptor fd(raw);
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Unavailable("{}: another process has it open: a worker that runs? Stop it first", path.string());
    }
    return ErrnoStatus(errno, "cannot lock", path);
  }
  if (fresh) {
    // A file whose name is not on the disk is lost with the power, whatever was synced into it.
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    const FileDescriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid() || ::fsync(parent.get()) != 0)
      return ErrnoStatus(errno, "cannot sync folder", folder);
  }
  return fd;
}

StatusOr<std::string> ReadAll(int fd, const std::filesystem::path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, "cannot stat", path);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

Status AppendLine(int fd, std::string_view line, const std::filesystem::path& path) {
  struct stat before {};
  if (::fstat(fd, &before) != 0) return ErrnoStatus(errno, "cannot stat", path);
  std::string text(line);
  text += '\n';
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Status status = ErrnoStatus(errno, "cannot write", path);
      // Half a line would keep the file from being opened again, long after there is room on the disk. When
      // even cutting fails, whoever opens it next says what to do.
      if (done > 0 && (::ftruncate(fd, before.st_size) != 0 || ::fsync(fd) != 0))
        return DataLoss("{}; what was written of it could not be cut off", Message(status));
      return status;
    }
    done += static_cast<size_t>(n);
  }
  // Even for want of room: the line is in the file, and may or may not be on the disk.
  if (::fsync(fd) != 0) return DataLoss("{}", Message(ErrnoStatus(errno, "cannot sync", path)));
  return OkStatus();
}

StatusOr<std::vector<std::string_view>> SplitLines(std::string_view text, const std::filesystem::path& path) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      return DataLoss("{}: line {} is incomplete: it was cut, or the machine stopped while writing it",
                      path.string(), lines.size() + 1);
    }
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return lines;
}

StatusOr<crypto::Signature> SignatureFromHex(std::string_view hex) {
  crypto::Signature signature{};
  ASSIGN_OR_RETURN(const Bytes bytes, FromHex(hex));
  if (bytes.size() != signature.size()) return InvalidArgument("a signature of {} bytes", bytes.size());
  std::ranges::copy(bytes, signature.begin());
  return signature;
}

nlohmann::ordered_json NumberToJson(double value) {
  if (std::isinf(value)) return value > 0 ? "infinity" : "-infinity";
  return value;
}

const nlohmann::json* JsonFields::Find(const char* key) {
  if (!ok_) return nullptr;
  const auto it = object_.find(key);
  if (it == object_.end()) {
    ok_ = false;
    return nullptr;
  }
  return &*it;
}

std::string JsonFields::Text(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || !value->is_string()) {
    ok_ = false;
    return {};
  }
  return value->get<std::string>();
}

uint64_t JsonFields::Whole(const char* key, uint64_t max) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > max) {
    ok_ = false;
    return 0;
  }
  return value->get<uint64_t>();
}

double JsonFields::Number(const char* key) {
  const nlohmann::json* value = Find(key);
  if (value != nullptr && value->is_number()) return value->get<double>();
  if (value != nullptr && *value == "infinity") return std::numeric_limits<double>::infinity();
  ok_ = false;
  return 0;
}

Digest JsonFields::Hash(const char* key) {
  const auto digest = Digest::FromHexText(Text(key));
  if (!digest.ok()) {
    ok_ = false;
    return {};
  }
  return *digest;
}

const nlohmann::json& JsonFields::Child(const char* key) {
  static const nlohmann::json kNone;
  const nlohmann::json* value = Find(key);
  return value == nullptr ? kNone : *value;
}

}  // namespace concordat::policy
