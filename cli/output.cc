#include <cmath>
#include <ostream>

#include "cli/context.h"

namespace concordat::cli {
namespace {

/// Columns that `text` takes on a terminal: code points, without escape sequences.
size_t Width(std::string_view text) {
  size_t width = 0;
  bool escape = false;
  for (char c : text) {
    if (c == '\x1b') escape = true;
    if (!escape && (static_cast<unsigned char>(c) & 0xC0) != 0x80) ++width;
    if (escape && c == 'm') escape = false;
  }
  return width;
}

}  // namespace

ExitCode ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return ExitCode::kDone;
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:  // a file or job that was named and is not there
      return ExitCode::kUsage;
    case StatusCode::kPermissionDenied:
      return ExitCode::kRefused;
    case StatusCode::kResourceExhausted:
      return ExitCode::kBudgetSpent;
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    default:
      return ExitCode::kFailed;
  }
}

void Output::Say(std::string_view line) {
  if (json_) return;
  out_ << line << "\n" << std::flush;
  drawn_ = 0;
}

void Output::Json(const nlohmann::ordered_json& object) {
  // JSON has no infinity: an epsilon without a guarantee is the string "infinity", by the makers of objects.
  if (json_)
    out_ << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n" << std::flush;
}

void Output::Table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows,
                   const std::vector<bool>& right) {
  if (json_) return;
  std::vector<size_t> widths;
  for (const auto& h : head) widths.push_back(Width(h));
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], Width(row[i]));
  }
  const auto line = [&](const std::vector<std::string>& cells, bool bold) {
    std::string text;
    for (size_t i = 0; i < cells.size() && i < widths.size(); ++i) {
      const std::string gap(widths[i] - Width(cells[i]), ' ');
      const bool to_right = i < right.size() && right[i];
      const std::string cell = bold ? Paint(cells[i], Style::kBold) : cells[i];
      text += (i == 0 ? "" : "  ") + (to_right ? gap + cell : i + 1 == cells.size() ? cell : cell + gap);
    }
    Say(text);
  };
  line(head, true);
  for (const auto& row : rows) line(row, false);
}

void Output::Error(const Status& status) {
  if (json_) {
    Json({{"error", std::string(Message(status))}, {"code", absl::StatusCodeToString(status.code())}});
    return;
  }
  const std::string word = terminal_ ? "\x1b[31merror:\x1b[0m " : "error: ";
  err_ << word << Message(status) << "\n" << std::flush;
}

std::string Output::Paint(std::string_view text, Style style) const {
  if (!terminal()) return std::string(text);
  static constexpr const char* kCodes[] = {"1", "32", "33", "31", "2"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<int>(style)], text);
}

void Output::Redraw(const std::vector<std::string>& lines) {
  if (json_) return;
  if (terminal_ && drawn_ > 0) out_ << "\x1b[" << drawn_ << "A\x1b[J";
  for (const auto& line : lines) out_ << line << "\n";
  out_ << std::flush;
  drawn_ = terminal_ ? lines.size() : 0;
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string HumanDuration(int64_t milliseconds) {
  if (milliseconds < 0) return "unknown";
  const int64_t s = milliseconds / 1000;
  if (s < 60) return fmt::format("{}.{}s", s, milliseconds % 1000 / 100);
  if (s < 3600) return fmt::format("{}m {:02}s", s / 60, s % 60);
  return fmt::format("{}h {:02}m", s / 3600, s % 3600 / 60);
}

std::string HumanEpsilon(double epsilon) {
  if (std::isinf(epsilon)) return "infinite (no guarantee)";
  return epsilon < 10000 ? fmt::format("{:.4g}", epsilon) : fmt::format("{:.2e}", epsilon);
}

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t i = 0; i < text.size() && out.size() < max_bytes; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // C1 controls are 0xC2 0x80..0x9F in UTF-8.
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) ++i;
    out += c < 0x20 || c == 0x7F || c1 ? '?' : text[i];
  }
  return out;
}

nlohmann::ordered_json NumberJson(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "infinity" : "-infinity";
  return value;
}

nlohmann::ordered_json InstantJson(int64_t milliseconds) {
  if (milliseconds == 0) return nullptr;
  return FormatInstant(Instant(Millis(milliseconds)));
}

}  // namespace concordat::cli
