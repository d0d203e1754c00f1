#ifndef CONCORDAT_COMMON_CIVIL_RANGE_H_
#define CONCORDAT_COMMON_CIVIL_RANGE_H_

#include "common/clock.h"

namespace concordat {

/// Whether `instant` lies between 1970 and the end of 9999. What is read from a file and does not was never
/// written by a clock, and a duration added to it might overflow.
constexpr bool InCivilRange(Instant instant) {
  return instant >= Instant() && instant <= Instant(Millis(253'402'300'799'999));
}

}  // namespace concordat

#endif  // CONCORDAT_COMMON_CIVIL_RANGE_H_
