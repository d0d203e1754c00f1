#ifndef CONCORDAT_POLICY_YAML_FIELDS_H_
#define CONCORDAT_POLICY_YAML_FIELDS_H_

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/ids.h"
#include "common/yaml_reader.h"

// Kinds of values that several files of this folder share. Mistakes are recorded in the map, as by YamlMap.
namespace concordat::policy {

inline Digest ReadDigest(YamlMap& map, std::string_view key) {
  return map.Parsed(key, Digest{}, [](const std::string& text) -> StatusOr<Digest> {
    auto digest = Digest::FromHexText(text);
    if (!digest.ok()) return InvalidArgument("expected a SHA-256 value in 64 hexadecimal digits");
    return digest;
  });
}

inline std::string ReadName(YamlMap& map, std::string_view key) {
  return map.Parsed(key, std::string(), [](const std::string& text) -> StatusOr<std::string> {
    if (!IsName(text)) {
      return InvalidArgument("expected 1 to 63 of a-z 0-9 . -, beginning and ending with a letter or digit");
    }
    return text;
  });
}

/// Names, each once.
inline std::vector<std::string> CheckNames(YamlMap& map, std::string_view key,
                                           std::vector<std::string> names) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (!IsName(names[i])) {
      map.Mistake(key, fmt::format("entry {}: expected 1 to 63 of a-z 0-9 . -, beginning and ending with a "
                                   "letter or digit",
                                   i + 1));
      return {};
    }
    if (std::find(names.begin(), names.begin() + static_cast<ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<ptrdiff_t>(i)) {
      map.Mistake(key, fmt::format("entry {}: '{}' is listed twice", i + 1, names[i]));
      return {};
    }
  }
  return names;
}

/// A list of texts, each read by `parse`, each once.
template <typename T, typename Parse>
std::vector<T> ReadList(YamlMap& map, std::string_view key, size_t min_count, size_t max_count, Parse parse) {
  std::vector<T> out;
  size_t i = 0;
  for (const std::string& text : map.Texts(key, min_count, max_count)) {
    ++i;
    StatusOr<T> value = parse(text);
    if (!value.ok()) {
      map.Mistake(key, fmt::format("entry {}: {}", i, Message(value.status())));
      return {};
    }
    if (std::find(out.begin(), out.end(), *value) != out.end()) {
      map.Mistake(key, fmt::format("entry {}: listed twice", i));
      return {};
    }
    out.push_back(*std::move(value));
  }
  return out;
}

/// A path; relative ones are taken from `folder`.
inline std::filesystem::path ReadPath(YamlMap& map, std::string_view key,
                                      const std::filesystem::path& folder) {
  const std::string text = map.Text(key);
  return text.empty() ? std::filesystem::path() : (folder / text).lexically_normal();
}
/// A path that may be absent; `fallback` is used as it is.
inline std::filesystem::path ReadPathOr(YamlMap& map, std::string_view key,
                                        const std::filesystem::path& folder,
                                        const std::filesystem::path& fallback) {
  const std::string text = map.TextOr(key, "");
  return text.empty() ? fallback : (folder / text).lexically_normal();
}

/// The folder of a file that was named on a command line, absolute.
inline std::filesystem::path FolderOf(const std::string& path) {
  return std::filesystem::absolute(path).parent_path().lexically_normal();
}

}  // namespace concordat::policy

#endif  // CONCORDAT_POLICY_YAML_FIELDS_H_
