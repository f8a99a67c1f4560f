// SW_CHECK for broken invariants (our bugs, never a user's): prints the condition and what is
// streamed into it, then aborts.
#ifndef SIDEWINDER_KERNELS_COMMON_CHECK_H_
#define SIDEWINDER_KERNELS_COMMON_CHECK_H_

#include <cstdlib>
#include <iostream>
#include <sstream>

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

#endif  // SIDEWINDER_KERNELS_COMMON_CHECK_H_
