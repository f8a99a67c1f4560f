#include <benchmark/benchmark.h>

#include "kernels/common/thread_pool.h"

namespace sidewinder {
namespace {

// An empty region on all threads of the pool.
void BM_ForkJoin(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    pool.ParallelFor(pool.num_threads(), 1,
                     [](int64_t begin, int64_t, int) { benchmark::DoNotOptimize(begin); });
  }
}
BENCHMARK(BM_ForkJoin)->UseRealTime()->ArgName("threads")->Arg(1)->Arg(2)->Arg(4);

}  // namespace
}  // namespace sidewinder
