#include "kernels/common/memory_bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/common/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/common/memory_bandwidth.cc"
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace sidewinder {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Exclusive-or of all elements; size is a multiple of 8 vectors.
uint64_t ReadAll(const uint64_t* data, size_t size) {
  const hn::ScalableTag<uint64_t> d;
  const size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (size_t i = 0; i < size; i += 8 * lanes) {
    hwy::Prefetch(data + i + 64 * lanes);
    a = hn::Xor(a, hn::Xor(hn::Load(d, data + i), hn::Load(d, data + i + lanes)));
    hwy::Prefetch(data + i + 66 * lanes);
    b = hn::Xor(b, hn::Xor(hn::Load(d, data + i + 2 * lanes), hn::Load(d, data + i + 3 * lanes)));
    hwy::Prefetch(data + i + 68 * lanes);
    c = hn::Xor(c, hn::Xor(hn::Load(d, data + i + 4 * lanes), hn::Load(d, data + i + 5 * lanes)));
    hwy::Prefetch(data + i + 70 * lanes);
    e = hn::Xor(e, hn::Xor(hn::Load(d, data + i + 6 * lanes), hn::Load(d, data + i + 7 * lanes)));
  }
  return hn::GetLane(hn::Xor(hn::Xor(a, b), hn::Xor(c, e)));
}

}  // namespace HWY_NAMESPACE
}  // namespace sidewinder
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sidewinder {

HWY_EXPORT(ReadAll);

double MeasureReadBandwidth(ThreadPool& pool, int64_t bytes) {
  // A multiple of what ReadAll reads at once with any instruction set: HWY_MAX_BYTES is that of the
  // set compiled last, not of the one chosen at run time.
  constexpr int64_t kLargestVectorBytes{256};
  constexpr int64_t kUnit{8 * kLargestVectorBytes / sizeof(uint64_t)};
  const int64_t units = std::max<int64_t>(1, bytes / (kUnit * sizeof(uint64_t)));
  auto data = hwy::AllocateAligned<uint64_t>(units * kUnit);
  std::fill_n(data.get(), units * kUnit, 1);
  const auto read = HWY_DYNAMIC_DISPATCH(ReadAll);
  std::vector<uint64_t> sums(pool.num_threads() * 16);
  const int64_t grain = std::max<int64_t>(1, units / pool.num_threads() / 64);
  // Short working sets are read several times a pass, so that the fork does not count.
  const int repeats = static_cast<int>(std::max<int64_t>(1, (int64_t{8} << 20) / bytes));
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(200);
  double best_seconds = 1e30;
  for (int pass = 0; pass < 3 || Clock::now() < deadline; ++pass) {
    const Clock::time_point start = Clock::now();
    pool.ParallelFor(units, grain, [&](int64_t begin, int64_t end, int thread_idx) {
      for (int i = 0; i < repeats; ++i) {
        sums[thread_idx * 16] ^= read(data.get() + begin * kUnit, (end - begin) * kUnit);
      }
    });
    const std::chrono::duration<double> seconds = Clock::now() - start;
    if (pass > 0) best_seconds = std::min(best_seconds, seconds.count());  // the first one warms up
  }
  return static_cast<double>(units * kUnit * sizeof(uint64_t)) * repeats / best_seconds;
}

}  // namespace sidewinder
#endif  // HWY_ONCE
