// Error propagation for absl::Status, and SW_CHECK for broken invariants (our bugs, never a
// user's).
#ifndef SIDEWINDER_RUNTIME_STATUS_MACROS_H_
#define SIDEWINDER_RUNTIME_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/common/check.h"  // IWYU pragma: export

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

#endif  // SIDEWINDER_RUNTIME_STATUS_MACROS_H_
