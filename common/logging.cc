#include "common/logging.h"

#include <fcntl.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/files.h"

namespace concordat {

Status StartLogging(std::string_view program, const std::filesystem::path& file, bool verbose) {
  std::vector<spdlog::sink_ptr> sinks{std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  if (!file.empty()) {
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
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %n: %v", spdlog::pattern_time_type::utc);
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return OkStatus();
}

}  // namespace concordat
