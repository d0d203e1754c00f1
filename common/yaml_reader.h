#ifndef CONCORDAT_COMMON_YAML_READER_H_
#define CONCORDAT_COMMON_YAML_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace YAML {
class Node;
}

namespace concordat {

/// One mapping of a YAML file, read strictly. Each getter names a key once; `YamlFile::Finish` then reports
/// the mistakes of the file at once (the first kMaxMistakes, and how many more), one line each, as
/// `file:line:column: key: expected …, got …`. Unknown, missing, duplicate and out-of-range keys are
/// mistakes; so are anchors, aliases, tags and a second document. After a mistake a getter returns a harmless
/// value, so that reading goes on. Messages repeat a key or a value of the file only when it is a word of at
/// most 40 bytes of [A-Za-z0-9_.-]: a file named by mistake may hold what nobody may see. Not thread-safe.
class YamlMap {
 public:
  std::string Text(std::string_view key, size_t max_length = 4096);
  std::string TextOr(std::string_view key, std::string_view fallback, size_t max_length = 4096);
  int64_t Integer(std::string_view key, int64_t min, int64_t max);
  int64_t IntegerOr(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  /// A finite number.
  double Number(std::string_view key, double min, double max);
  double NumberOr(std::string_view key, double fallback, double min, double max);
  /// Between 0 and 1, neither of them; with `certain` at most 1.
  double Probability(std::string_view key, bool certain = false);
  bool Flag(std::string_view key);
  bool FlagOr(std::string_view key, bool fallback);
  /// One of `choices`; returns its index.
  size_t Choice(std::string_view key, const std::vector<std::string_view>& choices);
  size_t ChoiceOr(std::string_view key, size_t fallback, const std::vector<std::string_view>& choices);
  std::vector<std::string> Texts(std::string_view key, size_t min_count, size_t max_count);
  std::vector<std::string> TextsOr(std::string_view key, size_t min_count, size_t max_count);
  /// A duration like "30s", "5m", "2h", "250ms"; in milliseconds.
  int64_t DurationMillis(std::string_view key, int64_t min, int64_t max);
  int64_t DurationMillisOr(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  YamlMap Map(std::string_view key);
  /// A map that may be absent: `present()` is false then and every getter gives harmless values without
  /// errors.
  YamlMap MapOr(std::string_view key);
  std::vector<YamlMap> Maps(std::string_view key, size_t min_count, size_t max_count);

  bool Has(std::string_view key) const;
  bool present() const;
  /// Every key of this mapping, all counted as known: for mappings whose keys are names. In file order.
  std::vector<std::string> Keys();
  /// Records a mistake at `key` (or at the mapping when the key is absent): "`expected`".
  void Mistake(std::string_view key, std::string_view what);
  /// Parses the text at `key` with `parse`, whose error message becomes the mistake.
  template <typename T, typename Parse>
  T Parsed(std::string_view key, T fallback, Parse parse, size_t max_length = 4096) {
    const std::string text = Text(key, max_length);
    if (!Has(key) || LastFailed()) return fallback;
    auto value = parse(text);
    if (!value.ok()) {
      Mistake(key, Message(value.status()));
      return fallback;
    }
    return std::move(value).value();
  }

 private:
  friend class YamlFile;
  struct State;
  struct Entry;
  YamlMap(std::shared_ptr<State> state, std::shared_ptr<Entry> entry) : state_(state), entry_(entry) {}
  const YAML::Node* Find(std::string_view key, bool required, std::string_view expected);
  bool LastFailed() const;
  std::shared_ptr<State> state_;
  std::shared_ptr<Entry> entry_;
};

/// A YAML file read strictly; see YamlMap.
class YamlFile {
 public:
  /// \param name what messages call the file. InvalidArgument with line and column when it is not YAML, not
  /// one mapping, not UTF-8, or larger than 1 MiB.
  static StatusOr<YamlFile> Parse(std::string_view text, std::string_view name);
  static StatusOr<YamlFile> Load(const std::string& path);
  YamlMap root();
  /// Whether no mistake was found so far: checks of one value against another make sense only then.
  bool clean() const;
  /// InvalidArgument with the mistakes found, one a line, and after the first kMaxMistakes of them how many
  /// more there are; call once all keys were read.
  Status Finish();
  static constexpr size_t kMaxMistakes = 20;

 private:
  explicit YamlFile(std::shared_ptr<YamlMap::State> state) : state_(std::move(state)) {}
  std::shared_ptr<YamlMap::State> state_;
};

}  // namespace concordat

#endif  // CONCORDAT_COMMON_YAML_READER_H_
