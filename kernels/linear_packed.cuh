// What the kernels for few and for many rows must do alike for a row to have the same bits in both.
#ifndef SIDEWINDER_KERNELS_LINEAR_PACKED_CUH_
#define SIDEWINDER_KERNELS_LINEAR_PACKED_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/math.cuh"
#include "kernels/common/mma_m16n8k16.cuh"
#include "kernels/linear_packed.h"

namespace sidewinder {

inline constexpr int kWarpSize{32};
inline constexpr int kTokenTile{8};  // columns of an mma

// What a lane holds of 16 values of a k-step as operand B: values k, k+1, k+8 and k+9 with
// k = 16 step + 2 (lane % 4), zeros from in_dim on. What other ops write is read past the
// first-level cache, which a kernel that started early may share with one that read the old values.
template <bool kWide>
__device__ __forceinline__ float4 LoadOperand(const float* values, int k, int in_dim) {
  float4 v = {0, 0, 0, 0};
  if constexpr (kWide) {
    if (k < in_dim) {
      const float2 low = __ldcg(reinterpret_cast<const float2*>(values + k));
      v.x = low.x;
      v.y = low.y;
    }
    if (k + 8 < in_dim) {
      const float2 high = __ldcg(reinterpret_cast<const float2*>(values + k + 8));
      v.z = high.x;
      v.w = high.y;
    }
  } else {
    if (k < in_dim) v.x = __ldcg(values + k);
    if (k + 1 < in_dim) v.y = __ldcg(values + k + 1);
    if (k + 8 < in_dim) v.z = __ldcg(values + k + 8);
    if (k + 9 < in_dim) v.w = __ldcg(values + k + 9);
  }
  return v;
}

__device__ __forceinline__ float4 Times(float4 a, float4 b) {
  return {__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y), __fmul_rn(a.z, b.z), __fmul_rn(a.w, b.w)};
}

__device__ __forceinline__ float AddSquares(float4 v, float sum) {
  sum = __fmaf_rn(v.x, v.x, sum);
  sum = __fmaf_rn(v.y, v.y, sum);
  sum = __fmaf_rn(v.z, v.z, sum);
  return __fmaf_rn(v.w, v.w, sum);
}

// The row of a token tile that a lane reads as operand B, lane / 4, and where in it.
struct OperandRow {
  const float* input;
  const float* gate;
  int in_dim;  // 0 for a row that does not exist

  __device__ __forceinline__ OperandRow(const PackedLinear& p, int row_tile, int num_rows) {
    const int row = row_tile * kTokenTile + threadIdx.x % kWarpSize / 4;
    int64_t from = row < num_rows ? row : 0;
    if (p.row_index != nullptr && row < num_rows) from = __ldcg(p.row_index + row);
    input = p.input + from * p.input_stride;
    gate = p.gate + from * p.gate_stride;
    in_dim = row < num_rows ? p.in_dim : 0;
  }
};

// A warp turns k-steps [begin, begin + steps) of a row tile into operand B: calls
// store(i, the lane's 8 bytes) for i in [0, steps). Returns the sum of squares of the lane's row
// over these k-steps. With a norm the rows are not yet scaled: FinishOutput does that to the sums,
// so that nothing waits for the squares. kMaxSteps >= steps, unrolled if kUnroll.
template <DType kDType, InputKind kKind, bool kWide, int kBatch, class Store>
__device__ __forceinline__ float PackSlice(const PackedLinear& p, const OperandRow& row, int begin,
                                           int steps, int max_steps, const Store& store) {
  constexpr bool kGated{kKind == InputKind::kGated}, kNormed{kKind != InputKind::kPlain};
  const int first = begin * static_cast<int>(kPackedTile) + threadIdx.x % 4 * 2;
  float squares = 0;
#pragma unroll
  for (int batch = 0; batch < max_steps; batch += kBatch) {
    float4 inputs[kBatch], gates[kGated ? kBatch : 1];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int k = first + (batch + i) * static_cast<int>(kPackedTile);
      const int in_dim = batch + i < steps ? row.in_dim : 0;
      inputs[i] = LoadOperand<kWide>(row.input, k, in_dim);
      if constexpr (kGated) gates[i] = LoadOperand<kWide>(row.gate, k, in_dim);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (batch + i >= max_steps) break;
      float4 v = inputs[i];
      if constexpr (kGated) {
        const float4 z = gates[i];
        v = Times(v, {Silu(z.x), Silu(z.y), Silu(z.z), Silu(z.w)});
      }
      if constexpr (kNormed) {
        squares = AddSquares(v, squares);
        if (p.norm_weight != nullptr) {
          const int k = first + (batch + i) * static_cast<int>(kPackedTile);
          v = Times(v, LoadOperand<kWide>(p.norm_weight, k, batch + i < steps ? p.in_dim : 0));
        }
      }
      store(batch + i, make_uint2(PackInputs<kDType>({v.x, v.y}), PackInputs<kDType>({v.z, v.w})));
    }
  }
  squares = __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 1));
  return __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 2));
}

// The factor of a normed row.
__device__ __forceinline__ float RowScale(const PackedLinear& p, float squares) {
  const float mean = __fdiv_rn(squares, static_cast<float>(p.in_dim));
  return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, p.eps)));
}

// From a complete sum to what output[row][o] becomes.
template <InputKind kKind>
__device__ __forceinline__ float FinishOutput(float sum, float row_scale, const float* bias, int o,
                                              float old, bool accumulate) {
  if constexpr (kKind != InputKind::kPlain) sum = __fmul_rn(sum, row_scale);
  if (bias != nullptr) sum = __fadd_rn(sum, bias[o]);
  return accumulate ? __fadd_rn(sum, old) : sum;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_PACKED_CUH_
