#ifndef CONCORDAT_WORKER_MODEL_DATASET_H_
#define CONCORDAT_WORKER_MODEL_DATASET_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/secret.h"
#include "worker/model/chat.h"

namespace concordat::model {

/// What a record holds. One dataset has records of one kind only.
enum class DocumentKind : uint8_t { kText, kPromptCompletion, kMessages };
/// "text", "prompt+completion", "messages".
std::string_view DocumentKindName(DocumentKind kind);

/// One record: the unit that is split, trained on and counted.
struct Document {
  DocumentKind kind = DocumentKind::kText;
  std::string text;                // kText
  std::string prompt, completion;  // kPromptCompletion
  std::vector<Message> messages;   // kMessages
  std::string person_id;           // whom it is about, as the file says it; until SplitDataset only
  Digest digest;                   // keyed, set by SplitDataset
  Digest person;                   // keyed, set by SplitDataset; zero: the dataset names no persons

  /// The record's content in canonical form: the same whatever file, line or order of keys it came from.
  /// Without the person: one text of two persons is one record, told apart by `person` alone.
  Bytes Canonical() const;
};

/// What one dataset may be at most.
struct DatasetLimits {
  uint64_t max_line_bytes = 8u << 20;
  uint64_t max_file_bytes = 64u << 20;  // of a plain-text file
  uint64_t max_total_bytes = uint64_t{8} << 30;
};

struct Dataset {
  DocumentKind kind = DocumentKind::kText;
  std::vector<Document> documents;
  uint64_t bytes = 0;          // of content
  uint64_t skipped_empty = 0;  // records without text or completion
};

/// Reads a dataset: a *.jsonl file (each line an object with `text`, or `prompt` and `completion`, or
/// `messages` as a list of {role, content}; other members are ignored), one *.txt or *.md file, or a folder,
/// of which every
/// *.txt and *.md file within is a document, in order of their paths.
///
/// NotFound when there is nothing. InvalidArgument, with file and line but never with content: a line or file
/// over its limit (read no further than that), invalid UTF-8, not JSON, a wrong type, kinds mixed in one
/// record or dataset, an unknown role, a conversation without an assistant's turn, no record at all.
///
/// \param person_field member of each JSONL record that names its person: a non-empty string, or an integer,
/// which is the person of its decimal text (7 and "7" are one: to take two persons for one protects both, to
/// take one for two protects that one half as well). Otherwise strings are compared byte by byte. Empty:
/// persons are not told apart. InvalidArgument: a record without it (an empty one too), another type, plain
/// text, which names no persons.
StatusOr<Dataset> ReadDataset(const std::filesystem::path& path, const DatasetLimits& limits = {},
                              std::string_view person_field = {});

/// Train and held-out documents, each in order of their digests (of one digest: of their persons), so that
/// the order of files says nothing.
struct DatasetSplit {
  std::vector<Document> train;
  std::vector<Document> held_out;
};

/// Splits by HMAC-SHA-256 over each document's canonical bytes under a key that the region keeps. A document
/// is always on the same side, whatever else the dataset holds, and so are exact duplicates. Where documents
/// name persons, HMAC-SHA-256 over the person's id decides instead: all documents of a person are on one
/// side, and copies of one text by two persons may be on two. Nothing is merged. Sets `digest` and `person`,
/// wipes `person_id`.
/// \param held_out_permille expected share of the held-out side, 0 to 1000. InvalidArgument above.
StatusOr<DatasetSplit> SplitDataset(Dataset dataset, const Secret32& key, uint32_t held_out_permille);

}  // namespace concordat::model

#endif  // CONCORDAT_WORKER_MODEL_DATASET_H_
