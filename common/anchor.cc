#include "common/anchor.h"

#include <charconv>

#include "common/files.h"

namespace concordat {
namespace {

constexpr std::string_view kStart = "concordat-anchor v1 ";
constexpr size_t kMaxBytes = 256;

}  // namespace

StatusOr<std::optional<AnchorPoint>> ReadAnchor(const std::filesystem::path& path) {
  const auto text = ReadTextFile(path, kMaxBytes);
  if (text.status().code() == StatusCode::kNotFound) return std::optional<AnchorPoint>();
  if (!text.ok()) return text.status();
  const auto bad = [&] { return DataLoss("{}: no anchor", path.string()); };
  std::string_view rest = *text;
  if (!rest.starts_with(kStart) || !rest.ends_with('\n')) return bad();
  rest.remove_prefix(kStart.size());
  rest.remove_suffix(1);
  const size_t space = rest.find(' ');
  if (space == std::string_view::npos) return bad();
  AnchorPoint point;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + space, point.count);
  auto head = Digest::FromHexText(rest.substr(space + 1));
  if (error != std::errc() || end != rest.data() + space || !head.ok()) return bad();
  point.head = *head;
  return std::optional<AnchorPoint>(point);
}

Status WriteAnchor(const std::filesystem::path& path, const AnchorPoint& point) {
  return WriteFileAtomically(path, fmt::format("{}{} {}\n", kStart, point.count, point.head.hex()), 0600);
}

}  // namespace concordat
