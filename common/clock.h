#ifndef CONCORDAT_COMMON_CLOCK_H_
#define CONCORDAT_COMMON_CLOCK_H_

#include <chrono>
#include <string>

#include "common/status.h"

namespace concordat {

/// A point in civil time, UTC, to the millisecond. Cores receive it with each event and never ask for it.
using Instant = std::chrono::sys_time<std::chrono::milliseconds>;
using Millis = std::chrono::milliseconds;

/// Source of time for shells. Cores have none. Any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;
};

/// The machine's clock.
class SystemClock final : public Clock {
 public:
  Instant Now() const override;
};

/// "2026-11-22T07:12:54.123Z".
std::string FormatInstant(Instant instant);
/// Reads what FormatInstant writes. InvalidArgument otherwise.
StatusOr<Instant> ParseInstant(std::string_view text);

}  // namespace concordat

#endif  // CONCORDAT_COMMON_CLOCK_H_
