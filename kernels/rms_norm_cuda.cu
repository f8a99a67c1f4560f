// RMSNorm of one group of one row a block, plain, of a sum, or gated; see rms_norm.h for the
// formulas.
//
// Grid: (row, group). Thread t of kThreads owns elements 4t..4t+3 of every 4 * kThreads, adds their
// squares up in that order, and the block adds the threads' sums in a fixed tree: the order depends
// on group_dim alone. A first gate and an addend are applied twice, once for the sum and once for
// the output, rather than kept; what is read twice comes from the first-level cache the second
// time. Loads and stores are 16 bytes wide where the addresses allow it, which changes nothing
// about who owns what. Shared memory: the reduction's; three barriers. Bound: 8 bytes an element,
// 12 with a gate or an addend.
#include <cub/block/block_reduce.cuh>

#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/rms_norm.h"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int64_t kMaxRowBlocks{65536};

// values[i .. i + 3] of an array of `size`; zeros beyond it.
template <bool kWide>
__device__ float4 LoadFour(const float* values, int64_t i, int64_t size) {
  if constexpr (kWide) {
    return *reinterpret_cast<const float4*>(values + i);
  } else {
    return {values[i], i + 1 < size ? values[i + 1] : 0.0f, i + 2 < size ? values[i + 2] : 0.0f,
            i + 3 < size ? values[i + 3] : 0.0f};
  }
}

template <bool kWide>
__device__ void StoreFour(float* values, int64_t i, int64_t size, float4 four) {
  if constexpr (kWide) {
    *reinterpret_cast<float4*>(values + i) = four;
  } else {
    values[i] = four.x;
    if (i + 1 < size) values[i + 1] = four.y;
    if (i + 2 < size) values[i + 2] = four.z;
    if (i + 3 < size) values[i + 3] = four.w;
  }
}

__device__ float Silu(float z) { return z / (1.0f + expf(-z)); }

__device__ float4 Times(float4 a, float4 b) {
  return {__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y), __fmul_rn(a.z, b.z), __fmul_rn(a.w, b.w)};
}

__device__ float4 Plus(float4 a, float4 b) {
  return {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
}

__device__ float4 Silu(float4 z) { return {Silu(z.x), Silu(z.y), Silu(z.z), Silu(z.w)}; }

// One group of one row; what is not used is null.
struct Group {
  const float* input;
  const float* addend;
  const float* gate_first;
  const float* gate_last;
  int64_t size;

  __device__ Group(const RmsNormParams& p, int64_t r, int64_t first)
      : input(p.input + r * p.input_stride + first),
        addend(p.addend != nullptr ? p.addend + r * p.addend_stride + first : nullptr),
        gate_first(nullptr),
        gate_last(nullptr),
        size(p.group_dim) {
    if (p.gate == nullptr) return;
    (p.gate_last ? gate_last : gate_first) = p.gate + r * p.gate_stride + first;
  }

  // What the mean is of.
  template <bool kWide>
  __device__ float4 Normed(int64_t i) const {
    float4 x = LoadFour<kWide>(input, i, size);
    if (addend != nullptr) x = Plus(x, LoadFour<kWide>(addend, i, size));
    if (gate_first != nullptr) x = Times(x, Silu(LoadFour<kWide>(gate_first, i, size)));
    return x;
  }
};

// The group that begins at `first`, of every row of the block.
template <bool kWide>
__device__ void NormGroup(const RmsNormParams& p, int64_t first, int32_t num_rows) {
  using Reduce = cub::BlockReduce<float, kThreads>;
  __shared__ typename Reduce::TempStorage storage;
  __shared__ float shared_scale;
  for (int64_t r = blockIdx.x; r < num_rows; r += gridDim.x) {
    const Group group(p, r, first);
    float sum = 0.0f;
    for (int64_t i = 4 * threadIdx.x; i < p.group_dim; i += 4 * kThreads) {
      const float4 x = group.Normed<kWide>(i);
      sum = fmaf(x.x, x.x, sum);
      sum = fmaf(x.y, x.y, sum);
      sum = fmaf(x.z, x.z, sum);
      sum = fmaf(x.w, x.w, sum);
    }
    sum = Reduce(storage).Sum(sum);
    if (threadIdx.x == 0) {
      shared_scale = 1.0f / sqrtf(sum / static_cast<float>(p.group_dim) + p.eps);
    }
    __syncthreads();
    const float scale = shared_scale;
    float* output = p.output + r * p.output_stride + first;
    for (int64_t i = 4 * threadIdx.x; i < p.group_dim; i += 4 * kThreads) {
      float4 x = Times(group.Normed<kWide>(i), {scale, scale, scale, scale});
      if (p.weight != nullptr) {
        x = Times(x, LoadFour<kWide>(p.weight + first, i, p.group_dim));
      }
      if (group.gate_last != nullptr) {
        x = Times(x, Silu(LoadFour<kWide>(group.gate_last, i, p.group_dim)));
      }
      StoreFour<kWide>(output, i, p.group_dim, x);
    }
    __syncthreads();  // the scale and the reduction's memory are written again
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(const __grid_constant__ RmsNormParams p) {
  LaunchDependents();
  WaitForDependencies();
  NormGroup<kWide>(p, blockIdx.y * p.group_dim, *p.num_rows);
}

// Grid: (row, which of the norms).
template <bool kWide>
__global__ void __launch_bounds__(kThreads)
    RmsNorm3Kernel(const __grid_constant__ RmsNorm3Params p) {
  LaunchDependents();
  WaitForDependencies();
  NormGroup<kWide>(p.norms[blockIdx.y], 0, *p.norms[0].num_rows);
}

bool IsWide(const float* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % 4 == 0;
}

bool IsWide(const RmsNormParams& p) {
  return p.group_dim % 4 == 0 && IsWide(p.input, p.input_stride) &&
         IsWide(p.output, p.output_stride) && IsWide(p.weight, 0) &&
         (p.gate == nullptr || IsWide(p.gate, p.gate_stride)) &&
         (p.addend == nullptr || IsWide(p.addend, p.addend_stride));
}

}  // namespace

CudaError LaunchRmsNorm(CudaContext& ctx, const RmsNormParams& p) {
  if (p.max_rows == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(Smaller(int64_t{p.max_rows}, kMaxRowBlocks)),
                  static_cast<unsigned>(p.dim / p.group_dim));
  return LaunchKernel(ctx, IsWide(p) ? RmsNormKernel<true> : RmsNormKernel<false>, {grid, kThreads},
                      p);
}

CudaError LaunchRmsNorm3(CudaContext& ctx, const RmsNorm3Params& p) {
  const int32_t max_rows = p.norms[0].max_rows;
  if (max_rows == 0) return cudaSuccess;
  bool wide = true;
  for (const RmsNormParams& norm : p.norms) wide = wide && IsWide(norm);
  const dim3 grid(static_cast<unsigned>(Smaller(int64_t{max_rows}, kMaxRowBlocks)), 3);
  return LaunchKernel(ctx, wide ? RmsNorm3Kernel<true> : RmsNorm3Kernel<false>, {grid, kThreads},
                      p);
}

}  // namespace sidewinder
