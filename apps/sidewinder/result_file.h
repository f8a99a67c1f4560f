// A file of results. It is created beside its place before the work begins, so that a wrong path
// fails at once, and moved there whole at the end.
#ifndef SIDEWINDER_APPS_SIDEWINDER_RESULT_FILE_H_
#define SIDEWINDER_APPS_SIDEWINDER_RESULT_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace sidewinder::cli {

class ResultFile {
 public:
  // Errors name the flag and the path. An empty path: nothing is ever written.
  static absl::StatusOr<ResultFile> Create(const std::string& flag, const std::string& path);
  ResultFile(ResultFile&& other) noexcept;
  ResultFile& operator=(ResultFile&&) = delete;
  ~ResultFile();  // leaves nothing behind unless it was finished

  bool wanted() const { return fd_ >= 0; }

  // Writes all of the file and puts it in its place.
  absl::Status Finish(absl::string_view text);

 private:
  ResultFile(std::string flag, std::string path) : flag_(std::move(flag)), path_(std::move(path)) {}
  absl::Status Error(int error, const char* action) const;

  std::string flag_;
  std::string path_;
  std::string temporary_path_;
  int fd_ = -1;
};

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_RESULT_FILE_H_
