// Matrix products on CUDA. 16-bit weights are packed and go to the tensor cores
// (linear_few_rows.cuh, linear_many_rows_cuda.cu). float32 weights are the path of tests and tiny
// models: one warp an output and 4 rows, lanes stride over the inputs, then add up in a fixed tree.
// Grid: (8 outputs, 4 rows). No shared memory, no barriers. Bound: the bytes of W, read once for
// every 4 rows.
#include <cub/warp/warp_reduce.cuh>

#include "kernels/linear_async_ring.cuh"
#include "kernels/linear_few_rows.cuh"
#include "kernels/linear_packed.h"

namespace sidewinder {
namespace {

constexpr int kFloatRows{4};
constexpr int kFloatWarps{8};
constexpr int64_t kMaxGridY{65535};

__global__ void __launch_bounds__(kFloatWarps* kWarpSize)
    FloatLinearKernel(const __grid_constant__ LinearParams p) {
  using Reduce = cub::WarpReduce<float>;
  __shared__ typename Reduce::TempStorage storage[kFloatWarps];
  LaunchDependents();
  WaitForDependencies();
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int64_t o = static_cast<int64_t>(blockIdx.x) * kFloatWarps + warp;
  const int num_rows = __ldcg(p.num_rows);
  if (o >= p.out_dim) return;
  const float* weight = static_cast<const float*>(p.weight) + o * p.in_dim;
  for (int first = blockIdx.y * kFloatRows; first < num_rows; first += gridDim.y * kFloatRows) {
    const float* inputs[kFloatRows];
    float sums[kFloatRows] = {};
#pragma unroll
    for (int r = 0; r < kFloatRows; ++r) {
      const int row = min(first + r, num_rows - 1);
      const int64_t from = p.row_index != nullptr ? __ldcg(p.row_index + row) : row;
      inputs[r] = p.input + from * p.input_stride;
    }
    for (int64_t k = lane; k < p.in_dim; k += kWarpSize) {
      const float w = weight[k];
#pragma unroll
      for (int r = 0; r < kFloatRows; ++r) sums[r] = __fmaf_rn(w, __ldcg(inputs[r] + k), sums[r]);
    }
#pragma unroll
    for (int r = 0; r < kFloatRows; ++r) {
      float sum = Reduce(storage[warp]).Sum(sums[r]);
      __syncwarp();
      if (lane != 0 || first + r >= num_rows) continue;
      float* to = p.output + (first + r) * p.output_stride + o;
      if (p.bias != nullptr) sum = __fadd_rn(sum, p.bias[o]);
      if (p.scale != nullptr) sum = __fmul_rn(sum, p.scale[o]);
      *to = p.accumulate ? __fadd_rn(sum, __ldcg(to)) : sum;
    }
  }
}

cudaError_t LaunchFloatLinear(const CudaContext& ctx, const LinearParams& params) {
  const int64_t row_groups = (params.max_rows + kFloatRows - 1) / kFloatRows;
  const dim3 grid(static_cast<unsigned>((params.out_dim + kFloatWarps - 1) / kFloatWarps),
                  static_cast<unsigned>(std::min(row_groups, kMaxGridY)));
  return LaunchKernel(ctx, FloatLinearKernel, {.grid = grid, .block = kFloatWarps * kWarpSize},
                      params);
}

bool IsWide(const float* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % 4 == 0;
}

PackedLinear ToArgs(const RmsNormParams* norm, const LinearParams& linear) {
  PackedLinear args = {};
  args.weight = linear.weight;
  args.bias = linear.bias;
  args.scale = linear.scale;
  args.input = norm != nullptr ? norm->input : linear.input;
  args.input_stride = norm != nullptr ? norm->input_stride : linear.input_stride;
  if (norm != nullptr) {
    args.gate = norm->gate;
    args.gate_stride = norm->gate_stride;
    args.norm_weight = norm->weight;
    args.eps = norm->eps;
  }
  args.row_index = linear.row_index;
  args.output = linear.output;
  args.output_stride = linear.output_stride;
  args.num_rows = linear.num_rows;
  args.in_dim = static_cast<int32_t>(linear.in_dim);
  args.out_dim = static_cast<int32_t>(linear.out_dim);
  args.k_steps = static_cast<int32_t>(PackedTiles(linear.in_dim));
  args.tiles = static_cast<int32_t>(PackedTiles(linear.out_dim));
  args.max_rows = linear.max_rows;
  args.accumulate = linear.accumulate;
  args.wide_loads = linear.in_dim % 4 == 0 && IsWide(args.input, args.input_stride) &&
                    IsWide(args.gate, args.gate_stride) && IsWide(args.norm_weight, 0);
  return args;
}

InputKind KindOf(const RmsNormParams* norm) {
  if (norm == nullptr) return InputKind::kPlain;
  return norm->gate == nullptr ? InputKind::kNorm : InputKind::kGated;
}

}  // namespace

CudaError LaunchFewRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args) {
  return DispatchFewRows<AsyncRing, AsyncRing>(ctx, dtype, kind, args);
}

namespace {

CudaError LaunchFew(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args) {
  const auto launch = ctx.compute_capability == 90 ? LaunchFewRowsSm90 : LaunchFewRows;
  return launch(ctx, dtype, kind, args);
}

}  // namespace

CudaError LaunchPackedLinear(CudaContext& ctx, const RmsNormParams* norm,
                             const LinearParams& linear) {
  const PackedLinear args = ToArgs(norm, linear);
  const InputKind kind = KindOf(norm);
  if (linear.max_rows <= kMaxFewRows) {
    const CudaError error = LaunchFew(ctx, linear.weight_dtype, kind, args);
    if (error != cudaErrorNotSupported) return error;
  }
  return LaunchManyRows(ctx, linear.weight_dtype, kind, args);
}

CudaError LaunchPackedLinearConv(CudaContext& ctx, const RmsNormParams& norm,
                                 const LinearParams& linear, const CausalConvParams& conv) {
  if (linear.max_rows > kMaxFewRows || conv.plan.max_sequences != 1 ||
      conv.width != kFusedConvWidth || conv.dim % kPackedTile != 0) {
    return cudaErrorNotSupported;
  }
  PackedLinear args = ToArgs(&norm, linear);
  args.conv = conv;
  return LaunchFew(ctx, linear.weight_dtype, KindOf(&norm), args);
}

CudaError LaunchPackedLinearConvLinear(CudaContext& ctx, const RmsNormParams& norm,
                                       const LinearParams& in_proj, const CausalConvParams& conv,
                                       const LinearParams& linear) {
  const int64_t convolved = conv.dim, rest = in_proj.out_dim - conv.dim;
  if (ctx.compute_capability != 90 || in_proj.max_rows > kTokenTile || rest <= 0 ||
      norm.gate != nullptr || convolved % kPackedTile != 0 ||
      linear.weight_dtype != DType::kBFloat16 || linear.input != conv.output ||
      linear.row_index != nullptr) {
    return cudaErrorNotSupported;
  }
  LinearParams behind = in_proj;
  behind.weight = static_cast<const char*>(in_proj.weight) + PackedBytes(convolved, in_proj.in_dim);
  if (behind.bias != nullptr) behind.bias += convolved;
  if (behind.scale != nullptr) behind.scale += convolved;
  behind.output += convolved;
  behind.out_dim = rest;
  // Asked first, because the first launch cannot be taken back.
  const PackedLinear normed = ToArgs(&norm, behind), plain = ToArgs(nullptr, linear);
  if (!IsFewRowsPairSm90(ctx, normed, plain)) return cudaErrorNotSupported;
  LinearParams front = in_proj;
  front.out_dim = convolved;
  const CudaError error = LaunchPackedLinearConv(ctx, norm, front, conv);
  return error != cudaSuccess ? error : LaunchFewRowsPairSm90(ctx, normed, plain);
}

CudaError LaunchLinear(CudaContext& ctx, const LinearParams& params) {
  if (params.max_rows <= 0) return cudaSuccess;
  if (params.weight_dtype == DType::kFloat32) return LaunchFloatLinear(ctx, params);
  return LaunchPackedLinear(ctx, nullptr, params);
}

}  // namespace sidewinder
