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

// values[k .. k + 3], zeros from in_dim on. What other ops write is read past the first-level
// cache, which a kernel that started early may share with one that read the old values.
template <bool kWide>
__device__ __forceinline__ float4 LoadItem(const float* values, int k, int in_dim) {
  float4 v = {0, 0, 0, 0};
  if constexpr (kWide) {
    if (k < in_dim) v = __ldcg(reinterpret_cast<const float4*>(values + k));
  } else {
    if (k < in_dim) v.x = __ldcg(values + k);
    if (k + 1 < in_dim) v.y = __ldcg(values + k + 1);
    if (k + 2 < in_dim) v.z = __ldcg(values + k + 2);
    if (k + 3 < in_dim) v.w = __ldcg(values + k + 3);
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

// A warp turns a slice of 8 rows into operand B of the tensor cores, a chunk of 8 k-steps at a
// time: of each row a lane takes the item of four inputs of k-step lane / 4 of the chunk that
// begins at 4 (lane % 4). The lane's part of a row's sum of squares takes its items in order;
// SumOverWarp adds the parts. With a norm the rows are not yet scaled: FinishOutput does that to
// the sums, so that nothing waits for the squares.
inline constexpr int kChunkSteps{8};

// 32-bit words of operand B of a k-step: lane 4 row + t holds inputs 2t, 2t+1 (word 0) and 2t+8,
// 2t+9 (word 1). The lane's item is two of them; the second one lies two words behind the first.
__device__ __forceinline__ int FirstWordOfItem(int row) {
  const int j = threadIdx.x % 4;
  return (row * 4 + j % 2 * 2) * 2 + j / 2;
}

// The rows of a token tile: which input rows they are.
class TokenRows {
 public:
  // `limit`: rows from it on do not exist.
  __device__ TokenRows(const PackedLinear& p, int row_tile, int limit)
      : count_(limit - row_tile * kTokenTile), from_(row_tile * kTokenTile) {
    const int lane = threadIdx.x % kWarpSize;
    from_ += lane;
    if (p.row_index != nullptr && lane < count_ && lane < kTokenTile) {
      from_ = __ldcg(p.row_index + from_);
    }
  }
  __device__ bool Has(int row) const { return row < count_; }
  __device__ int64_t From(int row) const { return __shfl_sync(0xffffffffu, from_, row); }

 private:
  int count_, from_;
};

// The lane's items of a chunk.
template <InputKind kKind, int kRows>
struct Chunk {
  static constexpr bool kGated{kKind == InputKind::kGated};
  float4 inputs[kRows];
  float4 gates[kGated ? kRows : 1];

  // `k`: the lane's first input, in_dim or more if there is none.
  template <bool kWide>
  __device__ __forceinline__ void Load(const PackedLinear& p, const TokenRows& rows, int k) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t from = rows.From(r);
      const int in_dim = rows.Has(r) ? p.in_dim : 0;
      inputs[r] = LoadItem<kWide>(p.input + from * p.input_stride, k, in_dim);
      if constexpr (kGated) {
        gates[r] = LoadItem<kWide>(p.gate + from * p.gate_stride, k, in_dim);
      }
    }
  }

  // Calls store(row, first word, second word).
  template <DType kDType, class Store>
  __device__ __forceinline__ void Pack(const float4& norm_weight, float (&squares)[kRows],
                                       const Store& store) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float4 v = inputs[r];
      if constexpr (kGated) {
        const float4 z = gates[r];
        v = Times(v, {Silu(z.x), Silu(z.y), Silu(z.z), Silu(z.w)});
      }
      if constexpr (kKind != InputKind::kPlain) {
        squares[r] = AddSquares(v, squares[r]);
        v = Times(v, norm_weight);
      }
      store(r, PackInputs<kDType>({v.x, v.y}), PackInputs<kDType>({v.z, v.w}));
    }
  }
};

// The lane's weights of the norm; ones if there are none.
template <bool kWide>
__device__ __forceinline__ float4 LoadNormWeight(const PackedLinear& p, int k) {
  if (p.norm_weight == nullptr) return {1, 1, 1, 1};
  return LoadItem<kWide>(p.norm_weight, k, p.in_dim);
}

// The first input of the lane's item in a chunk that begins at `step` of a slice [begin, begin +
// steps); in_dim if it lies behind the slice.
__device__ __forceinline__ int ItemOfLane(const PackedLinear& p, int begin, int steps, int step) {
  const int lane = threadIdx.x % kWarpSize;
  const int at = step + lane / 4;
  return at < steps ? (begin + at) * static_cast<int>(kPackedTile) + lane % 4 * 4 : p.in_dim;
}

__device__ __forceinline__ float SumOverWarp(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = __fadd_rn(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

// A whole slice, chunk by chunk. Calls store(k-step of the slice, row, first word, second word) of
// items that lie in it; the sum of squares of row r comes back in lane r. kAhead: the next chunk is
// loaded while one is packed, which takes registers for two.
template <DType kDType, InputKind kKind, bool kWide, bool kAhead, class Store>
__device__ __forceinline__ float PackSlice(const PackedLinear& p, const TokenRows& rows, int begin,
                                           int steps, const Store& store) {
  const int lane = threadIdx.x % kWarpSize;
  float squares[kTokenTile] = {};
  struct {
    Chunk<kKind, kTokenTile> chunk;
    float4 norm_weight = {1, 1, 1, 1};
  } next;
  const auto load_next = [&](int step) {
    const int k = ItemOfLane(p, begin, steps, step);
    if constexpr (kKind != InputKind::kPlain) next.norm_weight = LoadNormWeight<kWide>(p, k);
    next.chunk.template Load<kWide>(p, rows, k);
  };
  if constexpr (kAhead) load_next(0);
  for (int step = 0; step < steps; step += kChunkSteps) {
    if constexpr (!kAhead) load_next(step);
    const auto loaded = next;
    if (kAhead && step + kChunkSteps < steps) load_next(step + kChunkSteps);
    loaded.chunk.template Pack<kDType>(loaded.norm_weight, squares,
                                       [&](int r, unsigned first, unsigned second) {
                                         const int at = step + lane / 4;
                                         if (at < steps) store(at, r, first, second);
                                       });
  }
  float sum = 0;
  if constexpr (kKind != InputKind::kPlain) {
#pragma unroll
    for (int r = 0; r < kTokenTile; ++r) {
      const float of_row = SumOverWarp(squares[r]);
      if (lane == r) sum = of_row;
    }
  }
  return sum;
}

// The factor of a normed row.
__device__ __forceinline__ float RowScale(const PackedLinear& p, float squares) {
  const float mean = __fdiv_rn(squares, static_cast<float>(p.in_dim));
  return __frcp_rn(__fsqrt_rn(__fadd_rn(mean, p.eps)));
}

// From a complete sum to what output[row][o] becomes.
template <InputKind kKind>
__device__ __forceinline__ float FinishOutput(const PackedLinear& p, float sum, float row_scale,
                                              int o, float old) {
  if constexpr (kKind != InputKind::kPlain) sum = __fmul_rn(sum, row_scale);
  if (p.bias != nullptr) sum = __fadd_rn(sum, p.bias[o]);
  if (p.scale != nullptr) sum = __fmul_rn(sum, p.scale[o]);
  return p.accumulate ? __fadd_rn(sum, old) : sum;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_PACKED_CUH_
