// An error in how the program was called, not in what it was given: it exits with status 2.
#ifndef SIDEWINDER_APPS_SIDEWINDER_USAGE_ERROR_H_
#define SIDEWINDER_APPS_SIDEWINDER_USAGE_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace sidewinder::cli {

inline constexpr char kUsageErrorUrl[]{"sidewinder/usage-error"};

inline absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageErrorUrl, absl::Cord());
  return status;
}

inline bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsageErrorUrl).has_value();
}

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_USAGE_ERROR_H_
