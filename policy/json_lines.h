#ifndef CONCORDAT_POLICY_JSON_LINES_H_
#define CONCORDAT_POLICY_JSON_LINES_H_

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/files.h"
#include "privacy/crypto/signature.h"

// Append-only files of JSON lines: the ledger's and the receipts'.
namespace concordat::policy {

/// Opens or creates `path` with mode 0600 for appending and locks it (flock) for this process. Unavailable
/// when another holds it.
StatusOr<FileDescriptor> OpenLockedForAppend(const std::filesystem::path& path);

/// The whole text of an open file.
StatusOr<std::string> ReadAll(int fd, const std::filesystem::path& path);

/// Appends `line` and a newline, then fsyncs. ResourceExhausted when the disk is full: nothing was appended,
/// and a later call may succeed. After any other error what is on the disk is not known.
Status AppendLine(int fd, std::string_view line, const std::filesystem::path& path);

/// The lines of `text` without their newlines. DataLoss when the last one is incomplete; what
/// that means, and what to do, is the caller's to add.
StatusOr<std::vector<std::string_view>> SplitLines(std::string_view text, const std::filesystem::path& path);

/// A number as JSON: "infinity" where JSON has none.
nlohmann::ordered_json NumberToJson(double value);

/// A signature as these files write it. InvalidArgument when `hex` is none.
StatusOr<crypto::Signature> SignatureFromHex(std::string_view hex);

/// Fields of a JSON object by name. After the first failure the rest give harmless values; see `ok`.
class JsonFields {
 public:
  explicit JsonFields(const nlohmann::json& object) : object_(object) { ok_ = object.is_object(); }
  std::string Text(const char* key);
  uint64_t Whole(const char* key, uint64_t max = UINT64_MAX);
  double Number(const char* key);
  Digest Hash(const char* key);
  const nlohmann::json& Child(const char* key);
  void Fail() { ok_ = false; }
  bool ok() const { return ok_; }

 private:
  const nlohmann::json* Find(const char* key);
  const nlohmann::json& object_;
  bool ok_ = true;
};

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_JSON_LINES_H_
