// How the benchmarks of CUDA ops measure: launches recorded as one graph, as decoding records a
// round, and timed by events.
#ifndef SIDEWINDER_BENCH_KERNELS_TIME_GRAPH_H_
#define SIDEWINDER_BENCH_KERNELS_TIME_GRAPH_H_

#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <functional>

#include "kernels/common/check.h"
#include "kernels/common/execution.h"

namespace sidewinder {

inline void CheckCuda(cudaError_t error) {
  SW_CHECK(error == cudaSuccess) << cudaGetErrorString(error);
}

// Records what `enqueue` enqueues on the context and launches it until `state` has enough, after
// three launches that do not count. An iteration's time is that of a launch over `parts`; returns
// the seconds of the fastest whole launch.
inline double TimeGraph(benchmark::State& state, const CudaContext& ctx, int64_t parts,
                        const std::function<void()>& enqueue) {
  constexpr int kWarmUp{3};
  const cudaStream_t stream = ctx.stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaEvent_t begin, end;
  CheckCuda(cudaStreamSynchronize(stream));
  CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  enqueue();
  SW_CHECK(ctx.failure == 0) << ctx.failed_op << ": " << ctx.failure;
  CheckCuda(cudaStreamEndCapture(stream, &graph));
  CheckCuda(cudaGraphInstantiate(&executable, graph, 0));
  CheckCuda(cudaEventCreate(&begin));
  CheckCuda(cudaEventCreate(&end));
  for (int i = 0; i < kWarmUp; ++i) CheckCuda(cudaGraphLaunch(executable, stream));
  double best = 1e30;
  for (auto _ : state) {
    CheckCuda(cudaEventRecord(begin, stream));
    CheckCuda(cudaGraphLaunch(executable, stream));
    CheckCuda(cudaEventRecord(end, stream));
    CheckCuda(cudaEventSynchronize(end));
    float milliseconds = 0;
    CheckCuda(cudaEventElapsedTime(&milliseconds, begin, end));
    const double seconds = milliseconds * 1e-3;
    state.SetIterationTime(seconds / static_cast<double>(parts));
    best = std::min(best, seconds);
  }
  CheckCuda(cudaEventDestroy(begin));
  CheckCuda(cudaEventDestroy(end));
  CheckCuda(cudaGraphExecDestroy(executable));
  CheckCuda(cudaGraphDestroy(graph));
  return best;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_BENCH_KERNELS_TIME_GRAPH_H_
