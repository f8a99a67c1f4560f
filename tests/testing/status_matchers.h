// EXPECT_THAT(status_or, IsOk());  EXPECT_THAT(x, StatusIs(absl::StatusCode::kNotFound,
// HasSubstr("config.json")));  SW_ASSERT_OK_AND_ASSIGN(auto value, FunctionReturningStatusOr());
#ifndef SIDEWINDER_TESTS_TESTING_STATUS_MATCHERS_H_
#define SIDEWINDER_TESTS_TESTING_STATUS_MATCHERS_H_

#include <ostream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/status_macros.h"

namespace sidewinder::testing {

inline const absl::Status& GetStatus(const absl::Status& status) { return status; }
template <class T>
const absl::Status& GetStatus(const absl::StatusOr<T>& value) {
  return value.status();
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  *result_listener << GetStatus(arg).ToString();
  return GetStatus(arg).ok();
}

// `message` matches the message, e.g. HasSubstr or AllOf.
MATCHER_P2(StatusIs, code, message,
           "has the code " + absl::StatusCodeToString(code) + " and a message that " +
               ::testing::DescribeMatcher<std::string>(message, negation)) {
  const absl::Status& status = GetStatus(arg);
  *result_listener << "which is " << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}

MATCHER_P(StatusIs, code, "has the code " + absl::StatusCodeToString(code)) {
  *result_listener << "which is " << GetStatus(arg).ToString();
  return GetStatus(arg).code() == code;
}

}  // namespace sidewinder::testing

#define SW_EXPECT_OK(expression) EXPECT_THAT(expression, ::sidewinder::testing::IsOk())
#define SW_ASSERT_OK(expression) ASSERT_THAT(expression, ::sidewinder::testing::IsOk())

#define SW_ASSERT_OK_AND_ASSIGN(lhs, expression) \
  SW_ASSERT_OK_AND_ASSIGN_IMPL(SW_CONCAT(sw_or_, __LINE__), lhs, expression)
#define SW_ASSERT_OK_AND_ASSIGN_IMPL(result, lhs, expression) \
  auto result = (expression);                                 \
  ASSERT_THAT(result, ::sidewinder::testing::IsOk());         \
  lhs = *std::move(result)

#endif  // SIDEWINDER_TESTS_TESTING_STATUS_MATCHERS_H_
