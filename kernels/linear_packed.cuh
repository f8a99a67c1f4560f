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

// values[0 .. 3], zeros from `left` on. What other ops write is read past the first-level cache,
// which a kernel that started early may share with one that read the old values.
template <bool kWide>
__device__ __forceinline__ float4 LoadInputs(const float* values, int left) {
  float4 result = {0, 0, 0, 0};
  if constexpr (kWide) {
    if (left > 0) result = __ldcg(reinterpret_cast<const float4*>(values));
  } else {
    if (left > 0) result.x = __ldcg(values);
    if (left > 1) result.y = __ldcg(values + 1);
    if (left > 2) result.z = __ldcg(values + 2);
    if (left > 3) result.w = __ldcg(values + 3);
  }
  return result;
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

// Four consecutive inputs a lane of a 16 x 8 tile to operand B of the tensor cores. A lane holds
// inputs 4j .. 4j+3 (j = lane % 4) of row lane / 4; what it gets is lane `owner`'s of the operand.
template <DType kDType>
__device__ __forceinline__ uint2 ToOperand(float4 v, int lane, int* owner) {
  const int j = lane & 3;
  const unsigned first = PackInputs<kDType>({v.x, v.y}), second = PackInputs<kDType>({v.z, v.w});
  const unsigned other = __shfl_xor_sync(0xffffffffu, j < 2 ? second : first, 2);
  *owner = (lane & ~3) + (j < 2 ? 2 * j : 2 * j - 3);
  return j < 2 ? make_uint2(first, other) : make_uint2(other, second);
}

// A warp turns a slice of 8 rows into operand B: k-steps [begin, end) of rows
// [8 row_tile, 8 row_tile + 8), zeros beyond num_rows. norm_weight(k) gives four weights of the
// norm; store(k_step, lane of the operand, its 8 bytes). Returns the sum of squares of the lane's
// row, lane / 4, over the slice. With a norm the rows are not yet scaled: FinishOutput does that to
// the sums, so that nothing waits for the squares.
template <DType kDType, InputKind kKind, bool kWide, class NormWeight, class Store>
__device__ __forceinline__ float PackSlice(const PackedLinear& p, int row_tile, int num_rows,
                                           int begin, int end, const NormWeight& norm_weight,
                                           const Store& store) {
  constexpr bool kGated{kKind == InputKind::kGated};
  constexpr int kBatch{kGated ? 5 : 10};  // loads in flight
  const int lane = threadIdx.x % kWarpSize;
  const int row = row_tile * kTokenTile + lane / 4;
  int64_t from = row < num_rows ? row : 0;
  if (p.row_index != nullptr && row < num_rows) from = __ldcg(p.row_index + row);
  const float* input = p.input + from * p.input_stride;
  const float* gate = kGated ? p.gate + from * p.gate_stride : nullptr;
  const int in_dim = row < num_rows ? p.in_dim : 0;
  float squares = 0;
  for (int batch = begin; batch < end; batch += kBatch) {
    float4 inputs[kBatch], gates[kGated ? kBatch : 1];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int k = (batch + i) * static_cast<int>(kPackedTile) + lane % 4 * 4;
      const int left = batch + i < end ? in_dim - k : 0;
      inputs[i] = LoadInputs<kWide>(input + k, left);
      if constexpr (kGated) gates[i] = LoadInputs<kWide>(gate + k, left);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int step = batch + i;
      if (step >= end) break;
      float4 v = inputs[i];
      if constexpr (kGated) {
        const float4 z = gates[i];
        v = Times(v, {Silu(z.x), Silu(z.y), Silu(z.z), Silu(z.w)});
      }
      if constexpr (kKind != InputKind::kPlain) {
        squares = AddSquares(v, squares);
        v = Times(v, norm_weight(step * static_cast<int>(kPackedTile) + lane % 4 * 4));
      }
      int owner;
      const uint2 operand = ToOperand<kDType>(v, lane, &owner);
      store(step, owner, operand);
    }
  }
  squares = __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 1));
  return __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 2));
}

template <DType kDType, InputKind kKind, class NormWeight, class Store>
__device__ __forceinline__ float PackSlice(const PackedLinear& p, int row_tile, int num_rows,
                                           int begin, int end, const NormWeight& norm_weight,
                                           const Store& store) {
  return p.wide_loads
             ? PackSlice<kDType, kKind, true>(p, row_tile, num_rows, begin, end, norm_weight, store)
             : PackSlice<kDType, kKind, false>(p, row_tile, num_rows, begin, end, norm_weight,
                                               store);
}

// For one thread, behind a barrier of all that wrote a part's sums; another barrier lets them read
// those of the others if this was the last part to come. The counter is then zero for the next op.
__device__ __forceinline__ bool IsLastPart(const PackedLinear& p, uint32_t* counter) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(counter)
               : "memory");
  if (before != static_cast<uint32_t>(p.parts) - 1) return false;
  *counter = 0;
  return true;
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
