#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/rms_norm.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

void BM_RmsNorm(benchmark::State& state, bool gated) {
  const int32_t rows = static_cast<int32_t>(state.range(0));
  const int64_t dim = state.range(1);
  ThreadPool pool(1);
  ExecutionContext ctx{.device = DeviceType::kCpu, .pool = &pool};
  const std::vector<float> input = testing::RandomValues(rows * dim, 1);
  const std::vector<float> gate = testing::RandomValues(rows * dim, 2);
  const std::vector<float> weight = testing::RandomValues(dim, 3);
  std::vector<float> output(rows * dim);
  for (auto _ : state) {
    RmsNorm(ctx, {.input = input.data(),
                  .gate = gated ? gate.data() : nullptr,
                  .weight = weight.data(),
                  .output = output.data(),
                  .dim = dim,
                  .group_dim = dim,
                  .input_stride = dim,
                  .gate_stride = dim,
                  .output_stride = dim,
                  .eps = 1e-5f,
                  .num_rows = &rows});
    benchmark::ClobberMemory();
  }
}
BENCHMARK_CAPTURE(BM_RmsNorm, plain, false)
    ->ArgNames({"rows", "dim"})
    ->Args({1, 320})
    ->Args({5, 320});
BENCHMARK_CAPTURE(BM_RmsNorm, gated, true)
    ->ArgNames({"rows", "dim"})
    ->Args({1, 640})
    ->Args({5, 640});

}  // namespace
}  // namespace sidewinder
