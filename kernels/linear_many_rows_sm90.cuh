// What Hopper's kernels for many rows share (linear_warp_tiles.cuh, linear_warpgroup_tiles.cuh).
#ifndef SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_SM90_CUH_
#define SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_SM90_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/linear_many_rows.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {

inline constexpr int kMostStages{8};
inline constexpr int kMostRows{640};  // a multiple of the rows of every tile

// What a multiprocessor has, and what it sets aside for every block.
inline constexpr int kMultiprocessorBytes{228 << 10};
inline constexpr int kReservedBytes{1 << 10};

struct ManyRows {
  PackedLinear linear;
  int32_t row_blocks;
  int32_t pitch;  // of the squares
  bool normed;

  // The factor of a row of the chunk.
  __device__ float ScaleOf(int row) const {
    return normed ? RowScale(linear, RowSquares(linear, row, pitch)) : 1.0f;
  }
};

__device__ __forceinline__ float4 Plus(float4 a, float4 b) {
  return {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
}
__device__ __forceinline__ float4 ToFloat4(const float* v) { return {v[0], v[1], v[2], v[3]}; }

// What lane `lane` writes of 16 outputs: of every 8 rows four values (mma_m16n8k16.cuh). As
// FinishOutput; what there is not is a factor of 1 or a term of -0, which change no bit of a sum.
class TileOutputs {
 public:
  // `scales`: of the block's rows, the first of which is `first_row`.
  __device__ __forceinline__ TileOutputs(const PackedLinear& p, const float* scales, int tile,
                                         int first_row, int lane, int num_rows)
      : stride_(p.output_stride), accumulate_(p.accumulate) {
    const int row = lane % 4 * 2, o = tile * static_cast<int>(kPackedTile) + lane / 4;
    scales_ = scales + row;
    output_ = p.output + (first_row + row) * stride_ + o;
    rows_left_ = num_rows - first_row - row;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      has_[i] = o + i * 8 < p.out_dim;
      bias_[i] = has_[i] && p.bias != nullptr ? p.bias[o + i * 8] : -0.0f;
      factor_[i] = has_[i] && p.scale != nullptr ? p.scale[o + i * 8] : 1.0f;
    }
  }

  // What rows [8 row_tile, 8 row_tile + 8) of the block hold, if it is to be added to.
  __device__ __forceinline__ float4 Old(int row_tile) const {
    float old[4] = {-0.0f, -0.0f, -0.0f, -0.0f};
    if (accumulate_) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (Has(row_tile, i)) old[i] = __ldcg(At(row_tile, i));
      }
    }
    return ToFloat4(old);
  }

  __device__ __forceinline__ void Write(int row_tile, float4 sums, float4 old) const {
    const float2 scales = *reinterpret_cast<const float2*>(scales_ + row_tile * kTokenTile);
    Write(row_tile, 0, sums.x, scales.x, old.x);
    Write(row_tile, 1, sums.y, scales.y, old.y);
    Write(row_tile, 2, sums.z, scales.x, old.z);
    Write(row_tile, 3, sums.w, scales.y, old.w);
  }

 private:
  __device__ __forceinline__ bool Has(int row_tile, int i) const {
    return has_[i / 2] && row_tile * kTokenTile + i % 2 < rows_left_;
  }
  __device__ __forceinline__ float* At(int row_tile, int i) const {
    return output_ + (row_tile * kTokenTile + i % 2) * stride_ + i / 2 * 8;
  }
  __device__ __forceinline__ void Write(int row_tile, int i, float sum, float scale,
                                        float old) const {
    sum = __fadd_rn(__fmul_rn(sum, scale), bias_[i / 2]);
    sum = __fadd_rn(__fmul_rn(sum, factor_[i / 2]), old);
    if (Has(row_tile, i)) *At(row_tile, i) = sum;
  }

  int64_t stride_;
  bool accumulate_;
  const float* scales_;
  float* output_;
  int rows_left_;
  bool has_[2];
  float bias_[2], factor_[2];
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_SM90_CUH_
