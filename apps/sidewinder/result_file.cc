#include "apps/sidewinder/result_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/sidewinder/output.h"
#include "runtime/status_macros.h"

namespace sidewinder::cli {

absl::StatusOr<ResultFile> ResultFile::Create(const std::string& flag, const std::string& path) {
  ResultFile file(flag, path);
  if (path.empty()) return file;
  SW_RETURN_IF_ERROR(CheckReplaceable(flag, path));
  file.temporary_path_ = absl::StrCat(path, ".", getpid(), ".tmp");
  file.fd_ = open(file.temporary_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.fd_ < 0) return file.Error(errno, "cannot create a file beside it");
  return file;
}

ResultFile::ResultFile(ResultFile&& other) noexcept
    : flag_(std::move(other.flag_)),
      path_(std::move(other.path_)),
      temporary_path_(std::move(other.temporary_path_)),
      fd_(std::exchange(other.fd_, -1)) {}

ResultFile::~ResultFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_path_.c_str());
}

absl::Status ResultFile::Error(int error, const char* action) const {
  return absl::ErrnoToStatus(error, absl::StrCat(flag_, ": ", path_, ": ", action));
}

absl::Status ResultFile::Finish(absl::string_view text) {
  if (fd_ < 0) return absl::OkStatus();
  while (!text.empty()) {
    const ssize_t written = write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error(errno, "cannot write");
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(fd_) != 0) return Error(errno, "cannot write");
  if (std::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return Error(errno, "cannot put it in its place");
  }
  close(std::exchange(fd_, -1));
  return absl::OkStatus();
}

}  // namespace sidewinder::cli
