// GatherColumns on CUDA: a thread an element. Grid: (kThreads elements, row). No shared memory, no
// barrier. Bound: 8 bytes an element, and the columns, which rows share; for few rows latency.
#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/gather_columns.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};
constexpr int64_t kMaxRowBlocks{65535};

__global__ void __launch_bounds__(kThreads)
    GatherColumnsKernel(const __grid_constant__ GatherColumnsParams p) {
  LaunchDependents();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t column = i < p.dim ? __ldg(p.column + i) : 0;  // a constant
  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  if (i >= p.dim) return;
  for (int64_t r = blockIdx.y; r < num_rows; r += gridDim.y) {
    p.output[r * p.output_stride + i] = __ldcg(p.input + r * p.input_stride + column);
  }
}

}  // namespace

CudaError LaunchGatherColumns(CudaContext& ctx, const GatherColumnsParams& p) {
  if (p.max_rows <= 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((p.dim + kThreads - 1) / kThreads),
                  static_cast<unsigned>(Smaller(int64_t{p.max_rows}, kMaxRowBlocks)));
  return LaunchKernel(ctx, GatherColumnsKernel, {grid, kThreads}, p);
}

}  // namespace sidewinder
