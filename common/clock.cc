#include "common/clock.h"

#include <cstdio>
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
  int year, month, day, hour, minute, second, milli, end = 0;
  const std::string copy(text);
  if (std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute,
                  &second, &milli, &end) != 7 ||
      end != static_cast<int>(copy.size()) || copy.size() != 24) {
    return InvalidArgument("expected a time like 2026-11-22T07:12:54.123Z");
  }
  const std::chrono::year_month_day ymd{std::chrono::year(year), std::chrono::month(month),
                                        std::chrono::day(day)};
  if (!ymd.ok() || hour > 23 || minute > 59 || second > 60) return InvalidArgument("no such date or time");
  return Instant(std::chrono::sys_days(ymd) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
                 std::chrono::seconds(second) + Millis(milli));
}

}  // namespace concordat
