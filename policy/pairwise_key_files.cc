#include "policy/pairwise_key_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "common/files.h"
#include "privacy/crypto/hash.h"

namespace concordat::policy {
namespace {

using std::filesystem::path;

constexpr std::string_view kHead = "concordat pairwise key 1";
constexpr size_t kLines = 4;
constexpr uint64_t kMaxBytes = 1024;

/// Bytes that are wiped when they go.
struct Wiped {
  Bytes bytes;
  explicit Wiped(Bytes content) : bytes(std::move(content)) {}
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  ~Wiped() { Wipe(bytes); }
};

Status CheckKeyFolder(const path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return ErrnoStatus(errno, "cannot open folder", folder);
  if (!S_ISDIR(info.st_mode)) return InvalidArgument("{}: expected a folder", folder.string());
  if (info.st_uid != ::geteuid())
    return PermissionDenied("{}: belongs to user {}, this program runs as user {}: chown it", folder.string(),
                            info.st_uid, ::geteuid());
  if ((info.st_mode & 077) != 0)
    return PermissionDenied("{}: its mode is {:04o}, others may enter it: chmod 700 it", folder.string(),
                            info.st_mode & 07777);
  return OkStatus();
}

template <typename... Args>
Status Bad(const path& file, size_t line, fmt::format_string<Args...> format, Args&&... args) {
  return InvalidArgument("{}:{}: {}", file.string(), line, fmt::format(format, std::forward<Args>(args)...));
}

/// Exactly kLines lines, each with its end.
StatusOr<std::array<std::string_view, kLines>> SplitLines(const path& file, std::string_view text) {
  std::array<std::string_view, kLines> lines;
  for (size_t i = 0; i < kLines; ++i) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos)
      return Bad(file, i + 1, "expected {} lines, each with its end", kLines);
    lines[i] = text.substr(0, end);
    text.remove_prefix(end + 1);
  }
  if (!text.empty()) return Bad(file, kLines + 1, "expected nothing more");
  return lines;
}

StatusOr<SpiffeId> ReadWorker(const path& file, size_t line, std::string_view text) {
  auto id = SpiffeId::Parse(text);
  if (!id.ok() || id->role() != Role::kWorker)
    return Bad(file, line, "expected spiffe://<jurisdiction>/worker/<name>");
  return id;
}

StatusOr<Secret32> ReadKeyLine(const path& file, std::string_view text) {
  const Status bad = Bad(file, kLines, "expected 64 hexadecimal digits");
  auto decoded = text.size() == 2 * Secret32::size() ? FromHex(text) : StatusOr<Bytes>(bad);
  if (!decoded.ok()) return bad;
  const Wiped bytes(*std::move(decoded));
  ASSIGN_OR_RETURN(Secret32 key, Secret32::From(bytes.bytes));
  if (key == Secret32()) return Bad(file, kLines, "expected a random key, got zeros");
  return key;
}

struct KeyFile {
  SpiffeId peer;
  Secret32 key;
};

StatusOr<KeyFile> ReadKeyFile(const path& file, const SpiffeId& self) {
  RETURN_IF_ERROR(CheckPrivateFile(file));
  ASSIGN_OR_RETURN(Bytes content, ReadFile(file, kMaxBytes));
  const Wiped text(std::move(content));
  ASSIGN_OR_RETURN(const auto lines, SplitLines(file, AsText(text.bytes)));
  if (lines[0] != kHead) return Bad(file, 1, "expected \"{}\"", kHead);
  ASSIGN_OR_RETURN(const SpiffeId one, ReadWorker(file, 2, lines[1]));
  ASSIGN_OR_RETURN(const SpiffeId other, ReadWorker(file, 3, lines[2]));
  if (one == other) return Bad(file, 3, "expected two different workers");
  if (one != self && other != self) return Bad(file, 2, "expected a key of {}", self.ToString());
  ASSIGN_OR_RETURN(Secret32 key, ReadKeyLine(file, lines[3]));
  return KeyFile{one == self ? other : one, std::move(key)};
}

}  // namespace

StatusOr<Secret32> MakePairwiseKeyFile(const path& file, const SpiffeId& one, const SpiffeId& other,
                                       RandomSource& random) {
  if (one == other || one.role() != Role::kWorker || other.role() != Role::kWorker)
    return InvalidArgument("expected two different workers, got {} and {}", one.ToString(), other.ToString());
  Secret32 key = random.Seed();
  std::string hex = ToHex(key.view());
  const auto& [first, second] = std::minmax(one, other);
  std::string text = fmt::format("{}\n{}\n{}\n", kHead, first.ToString(), second.ToString());
  text.reserve(text.size() + hex.size() + 1);  // no outgrown copy of the key stays behind
  text += hex;
  text += '\n';
  Status written = WriteNewFile(file, text, 0600);
  if (written.code() == StatusCode::kAlreadyExists)
    written = AlreadyExists("{}; remove it first if nobody uses it any more", Message(written));
  for (std::string* secret : {&hex, &text})
    Wipe({reinterpret_cast<uint8_t*>(secret->data()), secret->size()});
  RETURN_IF_ERROR(written);
  return key;
}

StatusOr<secagg::PairwiseKeys> LoadPairwiseKeys(const path& folder, const SpiffeId& self) {
  RETURN_IF_ERROR(CheckKeyFolder(folder));
  std::error_code error;
  std::vector<path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().filename().string().ends_with(kPairwiseKeySuffix)) files.push_back(entry.path());
  if (error) return ErrnoStatus(error.value(), "cannot read folder", folder);
  std::sort(files.begin(), files.end());  // the same message about the same folder
  secagg::PairwiseKeys keys;
  for (const path& file : files) {
    ASSIGN_OR_RETURN(KeyFile read, ReadKeyFile(file, self));
    for (const auto& [peer, key] : keys) {
      if (peer == read.peer) return Bad(file, 2, "another file has a key with {} already", peer.ToString());
      if (key == read.key)
        return Bad(file, kLines, "the key with {} again: each pair needs its own", peer.ToString());
    }
    keys.emplace(std::move(read.peer), std::move(read.key));
  }
  return keys;
}

std::string PairwiseKeyCheck(const Secret32& key) {
  return crypto::TaggedHash("concordat/v1/pairwise-check", key.view()).brief();
}

}  // namespace concordat::policy
