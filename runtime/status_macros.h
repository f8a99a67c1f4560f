// Error propagation for absl::Status, and SW_CHECK for broken invariants (our bugs, never a
// user's).
#ifndef SIDEWINDER_RUNTIME_STATUS_MACROS_H_
#define SIDEWINDER_RUNTIME_STATUS_MACROS_H_

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SW_RETURN_IF_ERROR(expr)                            \
  do {                                                      \
    if (absl::Status sw_status = (expr); !sw_status.ok()) { \
      return sw_status;                                     \
    }                                                       \
  } while (false)

#define SW_CONCAT_INNER(a, b) a##b
#define SW_CONCAT(a, b) SW_CONCAT_INNER(a, b)

// SW_ASSIGN_OR_RETURN(auto value, FunctionReturningStatusOr());
#define SW_ASSIGN_OR_RETURN(lhs, expr) \
  SW_ASSIGN_OR_RETURN_IMPL(SW_CONCAT(sw_or_, __LINE__), lhs, expr)
#define SW_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                             \
  if (!result.ok()) return result.status();         \
  lhs = *std::move(result)

namespace sidewinder::internal {

class CheckFailure {
 public:
  CheckFailure(const char* condition, const char* file, int line) {
    stream_ << "sidewinder: " << file << ":" << line << ": check failed: " << condition << " ";
  }
  [[noreturn]] ~CheckFailure() {
    std::cerr << stream_.str() << std::endl;
    std::abort();
  }
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

}  // namespace sidewinder::internal

#define SW_CHECK(condition)   \
  if (condition) [[likely]] { \
  } else                      \
    ::sidewinder::internal::CheckFailure(#condition, __FILE__, __LINE__).stream()

#endif  // SIDEWINDER_RUNTIME_STATUS_MACROS_H_
