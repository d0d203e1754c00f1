#ifndef CONCORDAT_TESTS_SUPPORT_FAKE_CLOCK_H_
#define CONCORDAT_TESTS_SUPPORT_FAKE_CLOCK_H_

#include "common/clock.h"

namespace concordat::testing {

/// A clock that stands still until told to move. Not thread-safe.
class FakeClock final : public Clock {
 public:
  Instant Now() const override { return now_; }
  void Advance(Millis by) { now_ += by; }
  void Set(Instant now) { now_ = now; }

 private:
  Instant now_ = Instant(Millis(1'790'000'000'000));  // 2026-09-21
};

}  // namespace concordat::testing

#endif  // CONCORDAT_TESTS_SUPPORT_FAKE_CLOCK_H_
