#include "apps/sidewinder/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {
namespace {

constexpr size_t kPieceBytes{1 << 16};

absl::Status FileError(int error, const std::string& name) {
  return absl::ErrnoToStatus(error, name);
}

// ErrnoToStatus joins "name: reason"; a directory opens for reading and only fails later.
absl::Status CheckReadable(int fd, const std::string& name) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) return FileError(errno, name);
  if (S_ISDIR(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": is a directory, not a file"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Input> Input::Open(const std::string& path) {
  if (path == "-") return Input(STDIN_FILENO, "standard input");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, path);
  Input input(fd, path);
  SW_RETURN_IF_ERROR(CheckReadable(fd, path));
  return input;
}

Input::Input(Input&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)) {}

Input::~Input() {
  if (fd_ > STDERR_FILENO) close(fd_);
}

absl::StatusOr<bool> Input::Read(std::string& text) {
  const size_t size = text.size();
  text.resize(size + kPieceBytes);
  ssize_t n = 0;
  do {
    n = read(fd_, text.data() + size, kPieceBytes);
  } while (n < 0 && errno == EINTR);
  const int error = errno;
  text.resize(size + static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (n < 0) return FileError(error, name_);
  return n > 0;
}

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  SW_ASSIGN_OR_RETURN(Input input, Input::Open(path));
  std::string text;
  while (true) {
    SW_ASSIGN_OR_RETURN(const bool more, input.Read(text));
    if (!more) return text;
  }
}

absl::Status ForEachLine(Input& input,
                         const std::function<absl::Status(int64_t, const std::string&)>& on_line,
                         const std::function<absl::Status()>& before_wait) {
  std::string pending;
  int64_t number = 0;
  for (bool more = true; more;) {
    if (before_wait != nullptr) SW_RETURN_IF_ERROR(before_wait());
    const size_t searched = pending.size();
    SW_ASSIGN_OR_RETURN(more, input.Read(pending));
    size_t begin = 0;
    for (size_t end = pending.find('\n', searched); end != std::string::npos;
         end = pending.find('\n', begin)) {
      SW_RETURN_IF_ERROR(on_line(++number, pending.substr(begin, end - begin)));
      begin = end + 1;
    }
    pending.erase(0, begin);
  }
  return pending.empty() ? absl::OkStatus() : on_line(++number, pending);
}

}  // namespace sidewinder::cli
