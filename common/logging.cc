#include "common/logging.h"

#include <fcntl.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/files.h"

namespace concordat {
namespace {

/// How many bytes the UTF-8 character at the start of `text` has, and its number; 0 when there is none.
size_t CharacterAt(std::string_view text, uint32_t* point) {
  const auto first = static_cast<uint8_t>(text[0]);
  const size_t size = first < 0x80   ? 1
                      : first < 0xc2 ? 0
                      : first < 0xe0 ? 2
                      : first < 0xf0 ? 3
                      : first < 0xf5 ? 4
                                     : 0;
  if (size == 0 || size > text.size()) return 0;
  *point = size == 1 ? first : first & (0x7fu >> size);
  for (size_t i = 1; i < size; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if ((next & 0xc0) != 0x80) return 0;
    *point = *point << 6 | (next & 0x3f);
  }
  const bool surrogate = *point >= 0xd800 && *point <= 0xdfff;
  const bool too_long = (size == 3 && *point < 0x800) || (size == 4 && *point < 0x10000);
  return surrogate || too_long || *point > 0x10ffff ? 0 : size;
}

/// Ends a line, moves a cursor, or shows text in another order than it has.
bool Misleads(uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e ||
         point == 0x200f || (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) ||
         point == 0xfeff;
}

class TextFlag : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = LogText({message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<TextFlag>(); }
};

}  // namespace

std::string LogText(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    uint32_t point = 0;
    const size_t size = CharacterAt(text.substr(i), &point);
    std::string shown;
    if (size == 0 || Misleads(point)) {
      for (const char c : text.substr(i, std::max<size_t>(size, 1))) {
        shown += c == '\n' ? "\\n" : c == '\t' ? "\\t" : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
      }
    } else {
      shown = text.substr(i, size);
    }
    if (out.size() + shown.size() > max_bytes)
      return out + fmt::format(" ... ({} bytes more)", text.size() - i);
    out += shown;
    i += std::max<size_t>(size, 1);
  }
  return out;
}

Status StartLogging(std::string_view program, const std::filesystem::path& file, bool verbose) {
  std::vector<spdlog::sink_ptr> sinks{std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  if (!file.empty()) {
    // The folder of a daemon that starts for the first time may not be there yet.
    if (file.has_parent_path() && !std::filesystem::exists(file.parent_path()))
      RETURN_IF_ERROR(MakeFolder(file.parent_path(), 0700));
    // Created here first so that it is never readable by others, not even for a moment.
    const FileDescriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!fd.valid()) return ErrnoStatus(errno, "cannot open the log", file);
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(file.string(), 16u << 20, 4));
    } catch (const spdlog::spdlog_ex& e) {
      return PermissionDenied("cannot open the log {}: {}", file.string(), e.what());
    }
  }
  auto logger = std::make_shared<spdlog::logger>(std::string(program), sinks.begin(), sinks.end());
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<TextFlag>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %n: %*");
  logger->set_formatter(std::move(formatter));
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return OkStatus();
}

}  // namespace concordat
