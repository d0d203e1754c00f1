#ifndef CONCORDAT_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define CONCORDAT_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace concordat::testing {

inline const Status& StatusOf(const Status& status) { return status; }
template <typename T>
const Status& StatusOf(const StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, "is OK") {
  const Status& status = StatusOf(arg);
  if (status.ok()) return true;
  *result_listener << status.ToString();
  return false;
}

/// The code, and a message that contains `text`.
MATCHER_P2(HasStatus, code, text, "has that code and a message with that text") {
  const Status& status = StatusOf(arg);
  *result_listener << status.ToString();
  return status.code() == code && std::string(Message(status)).find(text) != std::string::npos;
}

}  // namespace concordat::testing

#define ASSERT_OK(expr) ASSERT_THAT((expr), ::concordat::testing::IsOk())
#define EXPECT_OK(expr) EXPECT_THAT((expr), ::concordat::testing::IsOk())

/// `lhs = value of expr`, or fails the test.
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_INNER(CONCORDAT_CONCAT(test_value_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_INNER(tmp, lhs, expr)                         \
  auto tmp = (expr);                                                       \
  ASSERT_TRUE(tmp.ok()) << ::concordat::testing::StatusOf(tmp).ToString(); \
  lhs = std::move(tmp).value()

#endif  // CONCORDAT_TESTS_SUPPORT_STATUS_MATCHERS_H_
