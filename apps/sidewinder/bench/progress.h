// How far a run is: a line on standard error that is written over on a terminal, about twenty lines
// elsewhere.
#ifndef SIDEWINDER_APPS_SIDEWINDER_BENCH_PROGRESS_H_
#define SIDEWINDER_APPS_SIDEWINDER_BENCH_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace sidewinder::cli {

class Progress {
 public:
  // `total` steps, of which `what` are counted ("runs").
  Progress(int64_t total, std::string what);
  ~Progress();  // ends the line

  // One more is done; `text` says what the run looks like.
  void Step(const std::string& text);

 private:
  int64_t total_;
  std::string what_;
  int64_t done_ = 0;
  bool terminal_;
  bool line_open_ = false;
  std::chrono::steady_clock::time_point start_;
};

// "4 s", "3 min 20 s", "2 h 5 min".
std::string DurationText(double seconds);

}  // namespace sidewinder::cli

#endif  // SIDEWINDER_APPS_SIDEWINDER_BENCH_PROGRESS_H_
