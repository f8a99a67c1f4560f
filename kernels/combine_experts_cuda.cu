// CombineExperts on CUDA: a thread an element, which adds what a row's experts give in their order.
// Grid: (kThreads elements, row). No shared memory, no barrier. Bound: num_chosen + 1 (+ 1 if
// accumulated) floats an element / bandwidth of the second-level cache; for few rows latency.
#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/experts.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};
constexpr int64_t kMaxRowBlocks{65535};

__global__ void __launch_bounds__(kThreads)
    CombineExpertsKernel(const __grid_constant__ CombineExpertsParams p) {
  LaunchDependents();
  WaitForDependencies();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int num_rows = __ldcg(p.num_rows), num_chosen = static_cast<int>(p.choices.num_chosen);
  if (i >= p.dim) return;
  for (int64_t r = blockIdx.y; r < num_rows; r += gridDim.y) {
    const float* weights = p.choices.weights + r * num_chosen;
    const float* in = p.input + r * num_chosen * p.dim + i;
    float* out = p.output + r * p.output_stride + i;
    const float old = p.accumulate ? __ldcg(out) : 0.0f;
    float sum = 0;
#pragma unroll 4
    for (int j = 0; j < num_chosen; ++j) {
      sum = __fmaf_rn(__ldcg(weights + j), __ldcg(in + j * p.dim), sum);
    }
    if (p.scale != nullptr) sum = __fmul_rn(sum, __ldcg(p.scale));
    *out = p.accumulate ? __fadd_rn(sum, old) : sum;
  }
}

}  // namespace

CudaError LaunchCombineExperts(CudaContext& ctx, const CombineExpertsParams& p) {
  if (p.max_rows <= 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>((p.dim + kThreads - 1) / kThreads),
                  static_cast<unsigned>(Smaller(int64_t{p.max_rows}, kMaxRowBlocks)));
  return LaunchKernel(ctx, CombineExpertsKernel, {grid, kThreads}, p);
}

}  // namespace sidewinder
