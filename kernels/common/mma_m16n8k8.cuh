// The tensor cores' product of 16 x 8 and 8 x 8 TF32 numbers added to float32 sums, and float32
// products made of it. A column of the result depends on that column of the second operand alone.
//
// With g = lane / 4 and t = lane % 4 a lane holds of the first operand (g, t) (g+8, t) (g, t+4)
// (g+8, t+4), of the second (t, g) (t+4, g), and of the sums (g, 2t) (g, 2t+1) (g+8, 2t)
// (g+8, 2t+1).
#ifndef SIDEWINDER_KERNELS_COMMON_MMA_M16N8K8_CUH_
#define SIDEWINDER_KERNELS_COMMON_MMA_M16N8K8_CUH_

#include <cuda_runtime.h>

namespace sidewinder {

// Float32 numbers as sums of two of TF32, which has 11 bits of significand: the first 11 bits, and
// what is left. Of that the tensor cores, which ignore the last 13 bits of an operand, take the
// first 11 again, so that less than 2^-20 of a number is lost.
template <int kCount>
struct SplitOperand {
  template <class... Values>
  __device__ __forceinline__ explicit SplitOperand(Values... values) {
    const float whole[kCount]{values...};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      high[i] = __float_as_uint(whole[i]) & 0xffffe000u;
      low[i] = __float_as_uint(__fsub_rn(whole[i], __uint_as_float(high[i])));
    }
  }

  unsigned high[kCount], low[kCount];
};
using RowOperand = SplitOperand<4>;     // 16 x 8
using ColumnOperand = SplitOperand<2>;  // 8 x 8

__device__ __forceinline__ void MultiplyAddTf32(float (&sums)[4], const unsigned (&rows)[4],
                                                const unsigned (&columns)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(rows[0]), "r"(rows[1]), "r"(rows[2]), "r"(rows[3]), "r"(columns[0]), "r"(columns[1]));
}

// Three products; what is left out is below 2^-20 of the product's magnitude.
__device__ __forceinline__ void MultiplyAddSplit(float (&sums)[4], const RowOperand& rows,
                                                 const ColumnOperand& columns) {
  MultiplyAddTf32(sums, rows.low, columns.high);
  MultiplyAddTf32(sums, rows.high, columns.low);
  MultiplyAddTf32(sums, rows.high, columns.high);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_MMA_M16N8K8_CUH_
