#include "apps/sidewinder/bench/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"

namespace sidewinder::cli {
namespace {

constexpr int64_t kLines{20};  // where there is no terminal

}  // namespace

Progress::Progress(int64_t total, std::string what)
    : total_(total),
      what_(std::move(what)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::Step(const std::string& text) {
  const int64_t before = done_++;
  const bool shown =
      terminal_ || done_ >= total_ || done_ * kLines / total_ != before * kLines / total_;
  if (!shown) return;
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double left = elapsed / static_cast<double>(done_) *
                      static_cast<double>(std::max<int64_t>(total_ - done_, 0));
  // A terminal's line is cleared first: the text may be shorter than the one before.
  std::fprintf(
      stderr, "%s%s%s", terminal_ ? "\r\033[K" : "",
      absl::StrFormat("%d of %d %s, %s left: %s", done_, total_, what_, DurationText(left), text)
          .c_str(),
      terminal_ ? "" : "\n");
  line_open_ = terminal_;
}

std::string DurationText(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return absl::StrFormat("%d s", whole);
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %d min", whole / 3600, whole % 3600 / 60);
}

}  // namespace sidewinder::cli
