#include "worker/model/dataset.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "aggregation/strict_json.h"
#include "common/canonical.h"
#include "common/files.h"
#include "privacy/crypto/hash.h"
#include "worker/model/utf8.h"

namespace concordat::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Hands out the lines of a file, holding no more than one line and one buffer of it.
class LineReader {
 public:
  LineReader(FileDescriptor fd, uint64_t max_line_bytes)
      : fd_(std::move(fd)), max_(max_line_bytes), buffer_(1 << 16) {}

  /// The next line without its end; false at the end of the file.
  StatusOr<bool> Next(std::string& line) {
    line.clear();
    for (;;) {
      if (position_ == filled_) {
        ssize_t n = 0;
        do {
          n = ::read(fd_.get(), buffer_.data(), buffer_.size());
        } while (n < 0 && errno == EINTR);
        if (n < 0) return Unavailable("cannot read (errno {})", errno);
        position_ = 0;
        filled_ = static_cast<size_t>(n);
        if (n == 0) return std::exchange(open_, false) && !line.empty();
      }
      const char* begin = buffer_.data() + position_;
      const auto* end = static_cast<const char*>(memchr(begin, '\n', filled_ - position_));
      const size_t n = end == nullptr ? filled_ - position_ : static_cast<size_t>(end - begin);
      if (line.size() + n > max_) return InvalidArgument("longer than {} bytes", max_);
      line.append(begin, n);
      position_ += n;
      if (end != nullptr) {
        ++position_;
        return true;
      }
    }
  }

 private:
  FileDescriptor fd_;
  uint64_t max_;
  std::vector<char> buffer_;
  size_t position_ = 0;
  size_t filled_ = 0;
  bool open_ = true;
};

/// Member `key` of a record as text.
StatusOr<std::string> TextMember(const json& record, const char* key) {
  const auto it = record.find(key);
  if (it == record.end()) return InvalidArgument("{}: missing", key);
  if (!it->is_string()) return InvalidArgument("{}: expected a string", key);
  return it->get<std::string>();
}

Status ReadMessages(const json& list, Document& out) {
  if (!list.is_array() || list.empty()) return InvalidArgument("messages: expected a list of turns");
  bool answered = false;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_object()) return InvalidArgument("messages: turn {}: expected an object", i);
    Message m;
    auto role = TextMember(list[i], "role");
    if (!role.ok()) return Annotate(role.status(), fmt::format("messages: turn {}", i));
    auto content = TextMember(list[i], "content");
    if (!content.ok()) return Annotate(content.status(), fmt::format("messages: turn {}", i));
    if (*role != "system" && *role != "user" && *role != "assistant" && *role != "tool") {
      return InvalidArgument("messages: turn {}: role: expected system, user, assistant or tool", i);
    }
    if (*role == "system" && i > 0)
      return InvalidArgument("messages: turn {}: role: system is expected first only", i);
    answered = answered || (*role == "assistant" && !content->empty());
    out.messages.push_back({*std::move(role), *std::move(content)});
  }
  if (!answered) return InvalidArgument("messages: expected a turn of the assistant");
  return OkStatus();
}

/// Who a record is about; see ReadDataset.
StatusOr<std::string> ReadPerson(const json& record, std::string_view field) {
  const auto it = record.find(std::string(field));
  if (it == record.end()) {
    return InvalidArgument("field '{}' is missing: a privacy budget for persons needs it in every record",
                           field);
  }
  if (it->is_number_unsigned()) return std::to_string(it->get<uint64_t>());
  if (it->is_number_integer()) return std::to_string(it->get<int64_t>());
  if (!it->is_string() || it->get_ref<const std::string&>().empty()) {
    return InvalidArgument("field '{}': expected a string that is not empty, or an integer, to name a person",
                           field);
  }
  return it->get<std::string>();
}

StatusOr<Document> ReadRecord(const std::string& line, std::string_view person_field) {
  ASSIGN_OR_RETURN(const json record, ParseStrictJson(line, "record"));
  if (!record.is_object()) return InvalidArgument("expected a JSON object");
  const bool text = record.contains("text"), messages = record.contains("messages");
  const bool prompt = record.contains("prompt") || record.contains("completion");
  if (text + messages + prompt != 1) {
    return InvalidArgument("expected exactly one of: text; prompt and completion; messages");
  }
  Document out;
  if (!person_field.empty()) {
    ASSIGN_OR_RETURN(out.person_id, ReadPerson(record, person_field));
  }
  if (text) {
    ASSIGN_OR_RETURN(out.text, TextMember(record, "text"));
  } else if (prompt) {
    out.kind = DocumentKind::kPromptCompletion;
    ASSIGN_OR_RETURN(out.prompt, TextMember(record, "prompt"));
    ASSIGN_OR_RETURN(out.completion, TextMember(record, "completion"));
  } else {
    out.kind = DocumentKind::kMessages;
    RETURN_IF_ERROR(ReadMessages(record["messages"], out));
  }
  return out;
}

/// Collects documents and holds them to one kind and the limits.
class Collector {
 public:
  explicit Collector(const DatasetLimits& limits) : limits_(limits) {}

  Status Add(Document document) {
    if (!kind_) kind_ = document.kind;
    if (document.kind != *kind_) {
      return InvalidArgument("a record of kind {} among records of kind {}", DocumentKindName(document.kind),
                             DocumentKindName(*kind_));
    }
    uint64_t bytes = document.text.size() + document.prompt.size() + document.completion.size();
    for (const Message& m : document.messages) bytes += m.content.size();
    const bool empty = document.kind == DocumentKind::kText               ? document.text.empty()
                       : document.kind == DocumentKind::kPromptCompletion ? document.completion.empty()
                                                                          : false;
    if (empty) {
      ++out_.skipped_empty;
      return OkStatus();
    }
    out_.bytes += bytes;
    if (out_.bytes > limits_.max_total_bytes) {
      return InvalidArgument("the dataset is larger than {} bytes", limits_.max_total_bytes);
    }
    out_.documents.push_back(std::move(document));
    return OkStatus();
  }

  StatusOr<Dataset> Finish(const fs::path& path) {
    if (out_.documents.empty()) {
      return InvalidArgument("{}: the dataset is empty ({} records without text)", path.string(),
                             out_.skipped_empty);
    }
    out_.kind = *kind_;
    return std::move(out_);
  }

 private:
  DatasetLimits limits_;
  std::optional<DocumentKind> kind_;
  Dataset out_;
};

StatusOr<FileDescriptor> OpenForReading(const fs::path& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot open", path);
  return fd;
}

Status ReadJsonl(const fs::path& path, const DatasetLimits& limits, std::string_view person_field,
                 Collector& out) {
  ASSIGN_OR_RETURN(FileDescriptor fd, OpenForReading(path));
  LineReader reader(std::move(fd), limits.max_line_bytes);
  std::string line;
  for (uint64_t number = 1;; ++number) {
    const std::string where = fmt::format("{}:{}", path.string(), number);
    const auto more = reader.Next(line);
    if (!more.ok()) return Annotate(more.status(), where);
    if (!*more) return OkStatus();
    if (!IsValidUtf8(line)) return InvalidArgument("{}: not valid UTF-8", where);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    auto document = ReadRecord(line, person_field);
    if (!document.ok()) return Annotate(document.status(), where);
    if (const Status s = out.Add(*std::move(document)); !s.ok()) return Annotate(s, where);
  }
}

Status ReadPlainText(const fs::path& path, const DatasetLimits& limits, Collector& out) {
  ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, limits.max_file_bytes));
  if (!IsValidUtf8(text)) {
    // The line helps whoever has to repair the file.
    size_t start = 0, number = 1;
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start), ++number) {
      if (!IsValidUtf8(std::string_view(text).substr(start, end - start))) break;
      start = end + 1;
    }
    return InvalidArgument("{}:{}: not valid UTF-8", path.string(), number);
  }
  Document document;
  document.text = std::move(text);
  if (const Status s = out.Add(std::move(document)); !s.ok()) return Annotate(s, path.string());
  return OkStatus();
}

bool IsPlainText(const fs::path& path) { return path.extension() == ".txt" || path.extension() == ".md"; }

StatusOr<std::vector<fs::path>> ListPlainText(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  // Links to folders are not followed: they could lead in circles.
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (IsPlainText(it->path()) && it->is_regular_file(ignored)) out.push_back(it->path());
  }
  if (error) return ErrnoStatus(error.value(), "cannot list", folder);
  std::sort(out.begin(), out.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return out;
}

/// Under the documents' key: the label keeps it apart from every document's canonical bytes.
Digest PersonDigest(const Secret32& key, std::string_view id) {
  CanonicalWriter w;
  w.Text("concordat/person/v1");
  w.Text(id);
  Bytes bytes = w.Take();
  const Digest digest = crypto::HmacSha256(key.view(), bytes);
  Wipe(bytes);
  return digest;
}

/// 0 to 999 from a keyed digest, uniform to within 2^-54.
uint32_t Permille(const Digest& digest) {
  uint64_t v = 0;
  for (size_t i = 0; i < 8; ++i) v = v << 8 | digest.bytes[i];
  return static_cast<uint32_t>(static_cast<unsigned __int128>(v) * 1000 >> 64);
}

}  // namespace

std::string_view DocumentKindName(DocumentKind kind) {
  switch (kind) {
    case DocumentKind::kText:
      return "text";
    case DocumentKind::kPromptCompletion:
      return "prompt+completion";
    case DocumentKind::kMessages:
      return "messages";
  }
  return "?";
}

Bytes Document::Canonical() const {
  CanonicalWriter w;
  w.Text("concordat/document/v1");
  w.U8(static_cast<uint8_t>(kind));
  w.Text(text);
  w.Text(prompt);
  w.Text(completion);
  w.Count(messages.size());
  for (const Message& m : messages) {
    w.Text(m.role);
    w.Text(m.content);
  }
  return w.Take();
}

StatusOr<Dataset> ReadDataset(const fs::path& path, const DatasetLimits& limits,
                              std::string_view person_field) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return NotFound("{}: no such dataset", path.string());
  if (!person_field.empty() && (fs::is_directory(status) || IsPlainText(path))) {
    return InvalidArgument("{}: field '{}' cannot name persons here: plain text names no persons",
                           path.string(), person_field);
  }
  Collector collector(limits);
  if (fs::is_directory(status)) {
    ASSIGN_OR_RETURN(const std::vector<fs::path> files, ListPlainText(path));
    for (const fs::path& file : files) RETURN_IF_ERROR(ReadPlainText(file, limits, collector));
  } else if (fs::is_regular_file(status) && path.extension() == ".jsonl") {
    RETURN_IF_ERROR(ReadJsonl(path, limits, person_field, collector));
  } else if (fs::is_regular_file(status) && IsPlainText(path)) {
    RETURN_IF_ERROR(ReadPlainText(path, limits, collector));
  } else {
    return InvalidArgument("{}: expected a folder, or a file that ends in .jsonl, .txt or .md",
                           path.string());
  }
  return collector.Finish(path);
}

StatusOr<DatasetSplit> SplitDataset(Dataset dataset, const Secret32& key, uint32_t held_out_permille) {
  if (held_out_permille > 1000) {
    return InvalidArgument("held-out share: expected at most 1000 permille, got {}", held_out_permille);
  }
  DatasetSplit out;
  for (Document& d : dataset.documents) {
    d.digest = crypto::HmacSha256(key.view(), d.Canonical());
    const bool named = !d.person_id.empty();
    if (named) {
      d.person = PersonDigest(key, d.person_id);
      Wipe({reinterpret_cast<uint8_t*>(d.person_id.data()), d.person_id.size()});
      d.person_id = {};
    }
    const bool held_out = Permille(named ? d.person : d.digest) < held_out_permille;
    (held_out ? out.held_out : out.train).push_back(std::move(d));
  }
  const auto by_digest = [](const Document& a, const Document& b) {
    return a.digest != b.digest ? a.digest < b.digest : a.person < b.person;
  };
  std::sort(out.train.begin(), out.train.end(), by_digest);
  std::sort(out.held_out.begin(), out.held_out.end(), by_digest);
  return out;
}

}  // namespace concordat::model
