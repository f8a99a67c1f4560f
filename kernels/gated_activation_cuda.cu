// GatedActivation on CUDA: a thread an element, so that it may be done in place. Grid: (kThreads
// elements, row). No shared memory, no barrier. Bound: 12 bytes an element, 8 without `up`; for few
// rows latency.
#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/gated_activation.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};
constexpr int64_t kMaxRowBlocks{65535};

__device__ float Activate(Activation activation, float a) {
  switch (activation) {
    case Activation::kSilu:
      return Silu(a);
    case Activation::kGelu: {
      const float erf = erff(__fmul_rn(a, 0.707106781f));
      return __fmul_rn(__fmul_rn(a, 0.5f), __fadd_rn(1.0f, erf));
    }
    case Activation::kRelu2: {
      const float positive = a < 0 ? 0.0f : a;  // NaN stays
      return __fmul_rn(positive, positive);
    }
    case Activation::kSigmoid:
      return __frcp_rn(__fadd_rn(1.0f, Exp(-a)));
  }
  return NAN;
}

__global__ void __launch_bounds__(kThreads)
    GatedActivationKernel(const __grid_constant__ GatedActivationParams p) {
  LaunchDependents();
  WaitForDependencies();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t rows = int64_t{__ldcg(p.num_rows)} * p.rows_factor;
  if (i >= p.dim) return;
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const float up = p.up != nullptr ? __ldcg(p.up + r * p.up_stride + i) : 1.0f;
    const float gate = __ldcg(p.gate + r * p.gate_stride + i);
    p.output[r * p.output_stride + i] = __fmul_rn(Activate(p.activation, gate), up);
  }
}

}  // namespace

CudaError LaunchGatedActivation(CudaContext& ctx, const GatedActivationParams& p) {
  if (p.max_rows <= 0) return cudaSuccess;
  const dim3 grid(
      static_cast<unsigned>((p.dim + kThreads - 1) / kThreads),
      static_cast<unsigned>(Smaller(int64_t{p.max_rows} * p.rows_factor, kMaxRowBlocks)));
  return LaunchKernel(ctx, GatedActivationKernel, {grid, kThreads}, p);
}

}  // namespace sidewinder
