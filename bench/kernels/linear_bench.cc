// All matrices of a model as one sweep, as a decode step reads them: what one sweep takes, against
// the bandwidth at which this machine reads as many bytes.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "kernels/common/memory_bandwidth.h"
#include "kernels/linear.h"
#include "tests/testing/random_values.h"

namespace sidewinder {
namespace {

struct Matrix {
  int64_t out_dim, in_dim;
};

// A verifier of 10M parameters (Mamba-2, hidden 320, 11 layers, 8192 tokens) and its draft.
std::vector<Matrix> Verifier() {
  std::vector<Matrix> matrices;
  for (int layer = 0; layer < 11; ++layer) {
    matrices.push_back({1418, 320});
    matrices.push_back({320, 640});
  }
  matrices.push_back({8192, 320});
  return matrices;
}
std::vector<Matrix> Draft() {
  std::vector<Matrix> matrices;
  for (int layer = 0; layer < 3; ++layer) {
    matrices.push_back({580, 128});
    matrices.push_back({128, 256});
  }
  matrices.push_back({8192, 128});
  return matrices;
}
std::vector<Matrix> DraftHead() { return {{8192, 128}}; }

double Bandwidth(ThreadPool& pool, int64_t bytes) {
  static std::map<std::pair<int, int64_t>, double> measured;
  double& value = measured[{pool.num_threads(), bytes}];
  if (value == 0) value = MeasureReadBandwidth(pool, bytes);
  return value;
}

void BM_Linear(benchmark::State& state, std::vector<Matrix> (*model)(), DType dtype) {
  const std::vector<Matrix> matrices = model();
  const int32_t rows = static_cast<int32_t>(state.range(0));
  ThreadPool pool(static_cast<int>(state.range(1)));
  ExecutionContext ctx{.device = DeviceType::kCpu, .pool = &pool};
  int64_t elements = 0, max_in = 0, max_out = 0;
  for (const Matrix& m : matrices) {
    elements += m.out_dim * m.in_dim;
    max_in = std::max(max_in, m.in_dim);
    max_out = std::max(max_out, m.out_dim);
  }
  const std::vector<char> weights = testing::RandomWeights(elements, dtype, 1);
  const std::vector<float> input = testing::RandomValues(rows * max_in, 2);
  std::vector<float> output(rows * max_out);
  // The best sweep goes into the counters, as the best pass is the limit: on a machine with other
  // load both then mean the same.
  using Clock = std::chrono::steady_clock;
  double best_seconds = 1e30;
  for (auto _ : state) {
    const Clock::time_point start = Clock::now();
    const char* weight = weights.data();
    for (const Matrix& m : matrices) {
      Linear(ctx, {.weight = weight,
                   .weight_dtype = dtype,
                   .bias = nullptr,
                   .input = input.data(),
                   .row_index = nullptr,
                   .output = output.data(),
                   .in_dim = m.in_dim,
                   .out_dim = m.out_dim,
                   .input_stride = m.in_dim,
                   .output_stride = m.out_dim,
                   .accumulate = false,
                   .num_rows = &rows});
      weight += m.out_dim * m.in_dim * SizeOf(dtype);
    }
    benchmark::ClobberMemory();
    best_seconds =
        std::min(best_seconds, std::chrono::duration<double>(Clock::now() - start).count());
  }
  const double bytes = static_cast<double>(elements) * SizeOf(dtype);
  const double limit = Bandwidth(pool, static_cast<int64_t>(bytes));
  state.counters["best_us"] = best_seconds * 1e6;
  state.counters["bytes/s"] = bytes / best_seconds;
  state.counters["limit"] = limit;
  state.counters["of_limit"] = bytes / best_seconds / limit;
  state.counters["flops/s"] = 2.0 * static_cast<double>(elements) * rows / best_seconds;
}

void BM_ReadBandwidth(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(1)));
  double best = 0;
  for (auto _ : state) {
    best = MeasureReadBandwidth(pool, state.range(0) << 10);
    state.SetIterationTime(static_cast<double>(state.range(0) << 10) / best);
  }
  state.counters["bytes/s"] = best;
}
BENCHMARK(BM_ReadBandwidth)
    ->UseManualTime()
    ->Iterations(1)
    ->ArgNames({"kib", "threads"})
    ->ArgsProduct({{512, 2048, 4096, 20480, 262144}, {1, 2}});

void Rows(benchmark::internal::Benchmark* b) {
  b->UseRealTime()->Unit(benchmark::kMicrosecond)->ArgNames({"rows", "threads"});
  for (int threads : {1, 2}) {
    for (int rows : {1, 2, 3, 4, 5, 6, 8, 16, 64, 256}) b->Args({rows, threads});
  }
}
BENCHMARK_CAPTURE(BM_Linear, verifier_bfloat16, Verifier, DType::kBFloat16)->Apply(Rows);
BENCHMARK_CAPTURE(BM_Linear, draft_bfloat16, Draft, DType::kBFloat16)->Apply(Rows);
BENCHMARK_CAPTURE(BM_Linear, draft_head_bfloat16, DraftHead, DType::kBFloat16)->Apply(Rows);
BENCHMARK_CAPTURE(BM_Linear, verifier_float32, Verifier, DType::kFloat32)->Apply(Rows);
BENCHMARK_CAPTURE(BM_Linear, verifier_float16, Verifier, DType::kFloat16)->Apply(Rows);

}  // namespace
}  // namespace sidewinder
