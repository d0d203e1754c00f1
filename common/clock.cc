#include "common/clock.h"

#include <ctime>

namespace concordat {

Instant SystemClock::Now() const {
  return std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now());
}

std::string FormatInstant(Instant instant) {
  const int64_t millis = instant.time_since_epoch().count();
  const int64_t seconds = millis >= 0 ? millis / 1000 : -((-millis + 999) / 1000);
  const std::time_t t = static_cast<std::time_t>(seconds);
  std::tm tm{};
  gmtime_r(&t, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, millis - seconds * 1000);
}

StatusOr<Instant> ParseInstant(std::string_view text) {
  // 0 stands for a digit, anything else for itself: sscanf would take signs and blanks.
  static constexpr std::string_view kForm = "0000-00-00T00:00:00.000Z";
  bool good = text.size() == kForm.size();
  for (size_t i = 0; good && i < text.size(); ++i) {
    good = kForm[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == kForm[i];
  }
  if (!good) return InvalidArgument("expected a time like 2026-11-22T07:12:54.123Z");
  const auto number = [&](size_t begin, size_t size) {
    int value = 0;
    for (char c : text.substr(begin, size)) value = value * 10 + (c - '0');
    return value;
  };
  const std::chrono::year_month_day ymd{std::chrono::year(number(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (!ymd.ok() || hour > 23 || minute > 59 || second > 59) return InvalidArgument("no such date or time");
  return Instant(std::chrono::sys_days(ymd) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
                 std::chrono::seconds(second) + Millis(number(20, 3)));
}

}  // namespace concordat
