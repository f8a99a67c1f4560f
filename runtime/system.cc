#include "sidewinder/system.h"

#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/common/memory_bandwidth.h"
#include "kernels/common/simd_targets.h"
#include "kernels/common/thread_pool.h"
// After simd_targets.h, which says what the ops are compiled for.
#include "hwy/highway.h"

namespace sidewinder {
namespace {

// The first "model name" of /proc/cpuinfo; Arm machines have none there.
std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos) {
      return std::string(absl::StripAsciiWhitespace(absl::string_view(line).substr(colon + 1)));
    }
  }
  return "unknown processor";
}

}  // namespace

int AvailableCores() {
  static const int cores = ThreadPool(0).num_threads();
  return cores;
}

std::string CpuDescription() {
  const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return absl::StrCat(ProcessorName(), ", ", hwy::TargetName(targets & -targets));  // lowest: best
}

double MeasureReadBandwidth(int64_t bytes, int num_threads) {
  ThreadPool pool(num_threads);
  return MeasureReadBandwidth(pool, bytes);
}

}  // namespace sidewinder
