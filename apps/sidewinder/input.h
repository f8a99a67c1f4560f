// Files and standard input.
#ifndef SIDEWINDER_APPS_SIDEWINDER_INPUT_H_
#define SIDEWINDER_APPS_SIDEWINDER_INPUT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sidewinder::cli {

// A file, or standard input if `path` is "-", read piece by piece.
class Input {
 public:
  // NotFound, PermissionDenied or InvalidArgument (a directory), with the path.
  static absl::StatusOr<Input> Open(const std::string& path);
  Input(Input&& other) noexcept;
  Input& operator=(Input&&) = delete;
  ~Input();

  const std::string& name() const { return name_; }  // the path, or "standard input"

  // Appends what is there to `text`, waiting for at least one byte. False at the end.
  absl::StatusOr<bool> Read(std::string& text);

 private:
  Input(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  int fd_;
  std::string name_;
};

// All of a file, or of standard input if `path` is "-".
absl::StatusOr<std::string> ReadAll(const std::string& path);

// Calls `on_line(number, line)` for each line (from 1, without its line break; the last one may
// lack it) and `before_wait` (may be null) whenever more input has to be waited for.
absl::Status ForEachLine(
    Input& input,
    const std::function<absl::Status(int64_t number, const std::string& line)>& on_line,
    const std::function<absl::Status()>& before_wait = nullptr);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_INPUT_H_
