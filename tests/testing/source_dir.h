// Where the tests find their data.
#ifndef SIDEWINDER_TESTS_TESTING_SOURCE_DIR_H_
#define SIDEWINDER_TESTS_TESTING_SOURCE_DIR_H_

#include <cstdlib>
#include <string>

namespace sidewinder::testing {

// The root of the repository: SIDEWINDER_SOURCE_DIR for binaries that run on another machine than
// they were built on, else where they were built.
inline std::string SourceDir() {
  const char* const folder = std::getenv("SIDEWINDER_SOURCE_DIR");
  return folder != nullptr && *folder != '\0' ? folder : SW_SOURCE_DIR;
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_SOURCE_DIR_H_
