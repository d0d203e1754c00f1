#include "common/yaml_reader.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

#include "common/files.h"

namespace concordat {

namespace {

constexpr size_t kMaxShownWord = 40;
constexpr size_t kMaxShownPath = 200;
constexpr size_t kMaxWhat = 1000;

/// At most so many bytes of a text, no character cut in two.
std::string Cut(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "…";
}

/// Whether a word of the file may stand in a message. A file named by mistake may be anything, a record or a
/// list of accounts: only what could be a key or a setting is repeated.
bool IsShowable(std::string_view word) {
  return !word.empty() && word.size() <= kMaxShownWord && std::ranges::all_of(word, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  });
}

/// What yaml-cpp says, without what it quotes of the file: that follows a colon.
std::string ParserWords(const YAML::Exception& e) { return e.msg.substr(0, e.msg.find(": ")); }

}  // namespace

struct YamlMap::Entry {
  YAML::Node node;  // a mapping, or undefined when the map is absent
  std::string path;
  bool present = false;
  std::map<std::string, YAML::Node, std::less<>> values;
  std::map<std::string, YAML::Mark, std::less<>> marks;
  std::set<std::string, std::less<>> known;
};

struct YamlMap::State {
  std::string name;
  std::shared_ptr<Entry> root;
  std::vector<std::shared_ptr<Entry>> maps;
  std::vector<std::pair<std::pair<int, int>, std::string>> mistakes;
  size_t more = 0;  // mistakes that were not kept
  bool last_failed = false;

  void Add(const YAML::Mark& mark, std::string_view where, std::string_view why) {
    last_failed = true;
    if (mistakes.size() >= YamlFile::kMaxMistakes) {
      ++more;
      return;
    }
    const std::string path = Cut(where, kMaxShownPath), what = Cut(why, kMaxWhat);
    mistakes.push_back({{mark.line, mark.column},
                        fmt::format("{}:{}:{}: {}{}{}", name, mark.line + 1, mark.column + 1, path,
                                    path.empty() ? "" : ": ", what)});
  }

  std::shared_ptr<Entry> Open(const YAML::Node& node, std::string path) {
    auto entry = std::make_shared<Entry>();
    entry->node = node;
    entry->path = std::move(path);
    entry->present = true;
    for (const auto& pair : node) {
      const std::string prefix = entry->path.empty() ? "" : entry->path + ".";
      if (!pair.first.IsScalar()) {
        Add(pair.first.Mark(), entry->path, "expected a plain key");
        continue;
      }
      const std::string key = pair.first.Scalar();
      if (entry->values.contains(key)) {
        Add(pair.first.Mark(), IsShowable(key) ? prefix + key : entry->path,
            fmt::format("duplicate key, first given in line {}", entry->marks[key].line + 1));
        continue;
      }
      entry->values.emplace(key, pair.second);
      entry->marks.emplace(key, pair.first.Mark());
    }
    maps.push_back(entry);
    return entry;
  }
};

namespace {

std::string Shown(const YAML::Node& node) {
  if (node.IsNull()) return "nothing";
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  if (IsShowable(node.Scalar())) return "'" + node.Scalar() + "'";
  return fmt::format("text of {} bytes", node.Scalar().size());
}

std::string Join(const std::string& path, std::string_view key) {
  const std::string shown = IsShowable(key) ? std::string(key) : "(a name)";
  return path.empty() ? shown : path + "." + shown;
}

bool ParseDouble(const std::string& text, double* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(*out);
}

bool ParseInteger(const std::string& text, int64_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

/// In the largest unit that says it whole.
std::string DurationText(int64_t millis) {
  static constexpr std::pair<int64_t, const char*> kUnits[] = {
      {24 * 3600 * 1000, "d"}, {3600 * 1000, "h"}, {60 * 1000, "m"}, {1000, "s"}};
  for (const auto& [size, name] : kUnits)
    if (millis >= size && millis % size == 0) return fmt::format("{}{}", millis / size, name);
  return fmt::format("{}ms", millis);
}

bool ParseDuration(const std::string& text, int64_t* out) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0 || value > (int64_t{1} << 40)) return false;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  int64_t factor = 0;
  if (unit == "ms") factor = 1;
  if (unit == "s") factor = 1000;
  if (unit == "m") factor = 60 * 1000;
  if (unit == "h") factor = 3600 * 1000;
  if (unit == "d") factor = 24 * 3600 * 1000;
  *out = value * factor;
  return factor != 0;
}

/// Anchors, aliases and tags make a file mean what it does not show.
void RefuseTricks(const YAML::Node& node, int depth,
                  const std::function<void(const YAML::Mark&, std::string_view)>& add) {
  if (depth > 32) return add(node.Mark(), "nested deeper than 32 levels");
  const std::string& tag = node.Tag();
  if (!tag.empty() && tag != "?" && tag != "!") add(node.Mark(), "expected no tag");
  if (node.IsMap()) {
    for (const auto& pair : node) RefuseTricks(pair.second, depth + 1, add);
  } else if (node.IsSequence()) {
    for (const auto& item : node) RefuseTricks(item, depth + 1, add);
  }
}

/// yaml-cpp resolves aliases silently: count anchors and aliases in the event stream instead.
class TrickFinder : public YAML::EventHandler {
 public:
  std::optional<YAML::Mark> found;
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& m, YAML::anchor_t a) override { See(m, a); }
  void OnAlias(const YAML::Mark& m, YAML::anchor_t) override { See(m, 1); }
  void OnScalar(const YAML::Mark& m, const std::string&, YAML::anchor_t a, const std::string&) override {
    See(m, a);
  }
  void OnSequenceStart(const YAML::Mark& m, const std::string&, YAML::anchor_t a,
                       YAML::EmitterStyle::value) override {
    See(m, a);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& m, const std::string&, YAML::anchor_t a,
                  YAML::EmitterStyle::value) override {
    See(m, a);
  }
  void OnMapEnd() override {}

 private:
  void See(const YAML::Mark& m, YAML::anchor_t a) {
    if (a != 0 && !found) found = m;
  }
};

/// RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF.
bool IsUtf8(std::string_view s) {
  size_t i = 0;
  while (i < s.size()) {
    const auto c = static_cast<unsigned char>(s[i]);
    const size_t n = c < 0x80 ? 1 : (c >> 5) == 6 ? 2 : (c >> 4) == 14 ? 3 : (c >> 3) == 30 ? 4 : 0;
    if (n == 0 || i + n > s.size()) return false;
    uint32_t point = n == 1 ? c : c & (0x7fu >> n);
    for (size_t k = 1; k < n; ++k) {
      const auto next = static_cast<unsigned char>(s[i + k]);
      if ((next >> 6) != 2) return false;
      point = point << 6 | (next & 0x3f);
    }
    static constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < kSmallest[n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
    i += n;
  }
  return true;
}

}  // namespace

StatusOr<YamlFile> YamlFile::Parse(std::string_view text, std::string_view name) {
  if (text.size() > (1u << 20))
    return InvalidArgument("{}: expected at most 1 MiB, got {} bytes", name, text.size());
  if (!IsUtf8(text)) return InvalidArgument("{}: expected UTF-8 text", name);
  auto state = std::make_shared<YamlMap::State>();
  state->name = name;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TrickFinder finder;
    int documents = 0;
    // Two are refused, so no more are counted: on a stray "," the parser gives documents without end.
    while (documents < 2 && parser.HandleNextDocument(finder)) ++documents;
    if (documents > 1) return InvalidArgument("{}: expected one YAML document, got more", name);
    if (finder.found) {
      return InvalidArgument("{}:{}:{}: expected no anchor or alias", name, finder.found->line + 1,
                             finder.found->column + 1);
    }
    const YAML::Node root = YAML::Load(std::string(text));
    if (!root.IsMap()) return InvalidArgument("{}:1:1: expected a mapping of keys", name);
    RefuseTricks(root, 0, [&](const YAML::Mark& m, std::string_view what) { state->Add(m, "", what); });
    state->root = state->Open(root, "");
  } catch (const YAML::ParserException& e) {
    return InvalidArgument("{}:{}:{}: not YAML: {}", name, e.mark.line + 1, e.mark.column + 1,
                           ParserWords(e));
  } catch (const YAML::Exception& e) {
    return InvalidArgument("{}: not YAML: {}", name, ParserWords(e));
  }
  return YamlFile(std::move(state));
}

StatusOr<YamlFile> YamlFile::Load(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, 1u << 20));
  return Parse(text, path);
}

bool YamlFile::clean() const { return state_->mistakes.empty(); }

YamlMap YamlFile::root() { return YamlMap(state_, state_->root); }

Status YamlFile::Finish() {
  for (const auto& map : state_->maps) {
    std::string expected;
    for (const auto& k : map->known) {
      expected += (expected.empty() ? "" : ", ") + k;
      if (expected.size() > kMaxWhat) break;
    }
    for (const auto& [key, mark] : map->marks) {
      if (map->known.contains(key)) continue;
      if (IsShowable(key))
        state_->Add(mark, Join(map->path, key), fmt::format("unknown key; expected one of: {}", expected));
      else
        state_->Add(mark, map->path,
                    fmt::format("no key that this file knows; expected one of: {}", expected));
    }
  }
  if (state_->mistakes.empty()) return OkStatus();
  auto mistakes = state_->mistakes;
  std::stable_sort(mistakes.begin(), mistakes.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string all;
  for (const auto& m : mistakes) all += (all.empty() ? "" : "\n") + m.second;
  if (state_->more > 0) all += fmt::format("\nand {} more", state_->more);
  return MakeStatus(StatusCode::kInvalidArgument, all);
}

const YAML::Node* YamlMap::Find(std::string_view key, bool required, std::string_view expected) {
  state_->last_failed = false;
  entry_->known.emplace(key);
  const auto it = entry_->values.find(key);
  if (it == entry_->values.end()) {
    if (required && entry_->present) {
      state_->Add(entry_->node.Mark(), Join(entry_->path, key),
                  fmt::format("missing; expected {}", expected));
    }
    if (required) state_->last_failed = true;
    return nullptr;
  }
  return &it->second;
}

bool YamlMap::LastFailed() const { return state_->last_failed; }
bool YamlMap::Has(std::string_view key) const { return entry_->values.find(key) != entry_->values.end(); }
bool YamlMap::present() const { return entry_->present; }

std::vector<std::string> YamlMap::Keys() {
  std::vector<std::string> keys;
  if (!entry_->present) return keys;
  for (const auto& pair : entry_->node) {
    if (!pair.first.IsScalar()) continue;
    if (entry_->known.emplace(pair.first.Scalar()).second) keys.push_back(pair.first.Scalar());
  }
  return keys;
}

void YamlMap::Mistake(std::string_view key, std::string_view what) {
  const auto it = entry_->values.find(key);
  const YAML::Mark mark = it != entry_->values.end() ? it->second.Mark() : entry_->node.Mark();
  state_->Add(mark, Join(entry_->path, key), what);
}

std::string YamlMap::Text(std::string_view key, size_t max_length) {
  const YAML::Node* node = Find(key, true, "text");
  if (node == nullptr) return {};
  if (!node->IsScalar() || node->Scalar().empty() || node->Scalar().size() > max_length) {
    Mistake(key, fmt::format("expected text of 1 to {} bytes, got {}", max_length, Shown(*node)));
    return {};
  }
  return node->Scalar();
}

std::string YamlMap::TextOr(std::string_view key, std::string_view fallback, size_t max_length) {
  if (Find(key, false, "") == nullptr) return std::string(fallback);
  return Text(key, max_length);
}

int64_t YamlMap::Integer(std::string_view key, int64_t min, int64_t max) {
  const std::string expected = fmt::format("a whole number from {} to {}", min, max);
  const YAML::Node* node = Find(key, true, expected);
  if (node == nullptr) return min;
  int64_t value = 0;
  if (!node->IsScalar() || !ParseInteger(node->Scalar(), &value) || value < min || value > max) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    return min;
  }
  return value;
}

int64_t YamlMap::IntegerOr(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  if (Find(key, false, "") == nullptr) return fallback;
  return Integer(key, min, max);
}

double YamlMap::Number(std::string_view key, double min, double max) {
  const std::string expected = fmt::format("a number from {} to {}", min, max);
  const YAML::Node* node = Find(key, true, expected);
  if (node == nullptr) return min;
  double value = 0;
  if (!node->IsScalar() || !ParseDouble(node->Scalar(), &value) || value < min || value > max) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    return min;
  }
  return value;
}

double YamlMap::NumberOr(std::string_view key, double fallback, double min, double max) {
  if (Find(key, false, "") == nullptr) return fallback;
  return Number(key, min, max);
}

double YamlMap::Probability(std::string_view key, bool certain) {
  const std::string_view expected =
      certain ? "a probability of more than 0, at most 1" : "a probability between 0 and 1, neither of them";
  const YAML::Node* node = Find(key, true, expected);
  if (node == nullptr) return 1;
  double value = 0;
  if (!node->IsScalar() || !ParseDouble(node->Scalar(), &value) || !(value > 0) || value > 1 ||
      (value == 1 && !certain)) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    return 1;
  }
  return value;
}

bool YamlMap::Flag(std::string_view key) {
  const YAML::Node* node = Find(key, true, "true or false");
  if (node == nullptr) return false;
  if (!node->IsScalar() || (node->Scalar() != "true" && node->Scalar() != "false")) {
    Mistake(key, fmt::format("expected true or false, got {}", Shown(*node)));
    return false;
  }
  return node->Scalar() == "true";
}

bool YamlMap::FlagOr(std::string_view key, bool fallback) {
  if (Find(key, false, "") == nullptr) return fallback;
  return Flag(key);
}

size_t YamlMap::Choice(std::string_view key, const std::vector<std::string_view>& choices) {
  std::string expected = "one of: ";
  for (size_t i = 0; i < choices.size(); ++i) expected += (i == 0 ? "" : ", ") + std::string(choices[i]);
  const YAML::Node* node = Find(key, true, expected);
  if (node == nullptr) return 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (node->IsScalar() && node->Scalar() == choices[i]) return i;
  }
  Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
  return 0;
}

size_t YamlMap::ChoiceOr(std::string_view key, size_t fallback,
                         const std::vector<std::string_view>& choices) {
  if (Find(key, false, "") == nullptr) return fallback;
  return Choice(key, choices);
}

std::vector<std::string> YamlMap::Texts(std::string_view key, size_t min_count, size_t max_count) {
  const std::string expected = fmt::format("a list of {} to {} texts", min_count, max_count);
  const YAML::Node* node = Find(key, true, expected);
  std::vector<std::string> out;
  if (node == nullptr) return out;
  bool good = node->IsSequence() && node->size() >= min_count && node->size() <= max_count;
  if (good) {
    for (const auto& item : *node) {
      good = good && item.IsScalar() && !item.Scalar().empty();
      if (good) out.push_back(item.Scalar());
    }
  }
  if (!good) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    out.clear();
  }
  return out;
}

std::vector<std::string> YamlMap::TextsOr(std::string_view key, size_t min_count, size_t max_count) {
  if (Find(key, false, "") == nullptr) return {};
  return Texts(key, min_count, max_count);
}

int64_t YamlMap::DurationMillis(std::string_view key, int64_t min, int64_t max) {
  const std::string expected = fmt::format("a duration from {} to {}, like 250ms, 30s, 5m, 2h or 7d",
                                           DurationText(min), DurationText(max));
  const YAML::Node* node = Find(key, true, expected);
  if (node == nullptr) return min;
  int64_t value = 0;
  if (!node->IsScalar() || !ParseDuration(node->Scalar(), &value) || value < min || value > max) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    return min;
  }
  return value;
}

int64_t YamlMap::DurationMillisOr(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  if (Find(key, false, "") == nullptr) return fallback;
  return DurationMillis(key, min, max);
}

YamlMap YamlMap::Map(std::string_view key) {
  const YAML::Node* node = Find(key, true, "a mapping");
  if (node != nullptr && node->IsMap()) return YamlMap(state_, state_->Open(*node, Join(entry_->path, key)));
  if (node != nullptr) Mistake(key, fmt::format("expected a mapping, got {}", Shown(*node)));
  auto absent = std::make_shared<Entry>();
  absent->path = Join(entry_->path, key);
  return YamlMap(state_, absent);
}

YamlMap YamlMap::MapOr(std::string_view key) {
  if (Find(key, false, "") != nullptr) return Map(key);
  auto absent = std::make_shared<Entry>();
  absent->path = Join(entry_->path, key);
  return YamlMap(state_, absent);
}

std::vector<YamlMap> YamlMap::Maps(std::string_view key, size_t min_count, size_t max_count) {
  const std::string expected = fmt::format("a list of {} to {} mappings", min_count, max_count);
  const YAML::Node* node = Find(key, true, expected);
  std::vector<YamlMap> out;
  if (node == nullptr) return out;
  if (!node->IsSequence() || node->size() < min_count || node->size() > max_count) {
    Mistake(key, fmt::format("expected {}, got {}", expected, Shown(*node)));
    return out;
  }
  size_t i = 0;
  for (const auto& item : *node) {
    const std::string path = fmt::format("{}[{}]", Join(entry_->path, key), i++);
    if (!item.IsMap()) {
      state_->Add(item.Mark(), path, fmt::format("expected a mapping, got {}", Shown(item)));
      continue;
    }
    out.push_back(YamlMap(state_, state_->Open(item, path)));
  }
  return out;
}

}  // namespace concordat
