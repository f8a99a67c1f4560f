#include "apps/sidewinder/output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace sidewinder::cli {
namespace {

constexpr size_t kBufferBytes{1 << 16};

}  // namespace

absl::Status Output::Write(absl::string_view text) {
  buffer_.append(text.data(), text.size());
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status Output::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = write(STDOUT_FILENO, buffer_.data() + done, buffer_.size() - done);
    if (n >= 0) {
      done += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      const int error = errno;
      buffer_.clear();
      return absl::UnavailableError(
          absl::StrCat("cannot write to standard output: ", std::strerror(error)));
    }
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status PrintText(absl::string_view text) {
  Output output;
  if (absl::Status status = output.Write(text); !status.ok()) return status;
  return output.Flush();
}

std::string DumpJson(const OrderedJson& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace);
}

absl::Status PrintJson(const OrderedJson& json, int indent) {
  return PrintText(DumpJson(json, indent) + "\n");
}

absl::Status CheckReplaceable(const std::string& flag, const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0 || S_ISREG(facts.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " is not a regular file"));
}

bool UseColor(ColorMode mode) {
  if (mode != ColorMode::kAuto) return mode == ColorMode::kAlways;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0') &&
         (term == nullptr || std::strcmp(term, "dumb") != 0);
}

}  // namespace sidewinder::cli
