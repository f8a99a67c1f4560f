// A folder of its own for a test, removed with everything in it at the end.
#ifndef SIDEWINDER_TESTS_TESTING_TEMP_FOLDER_H_
#define SIDEWINDER_TESTS_TESTING_TEMP_FOLDER_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "gtest/gtest.h"
#include "runtime/status_macros.h"

namespace sidewinder::testing {

class TempFolder {
 public:
  TempFolder() : path_(::testing::TempDir() + "sidewinder.XXXXXX") {
    SW_CHECK(mkdtemp(path_.data()) != nullptr) << path_;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& file) const { return path_ + "/" + file; }

  // Returns the path of the file.
  std::string Write(const std::string& file, const std::string& bytes) const {
    const std::string path = *this / file;
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    SW_CHECK(out.good()) << path;
    return path;
  }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  SW_CHECK(file.good()) << path;
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

}  // namespace sidewinder::testing

#endif  // SIDEWINDER_TESTS_TESTING_TEMP_FOLDER_H_
