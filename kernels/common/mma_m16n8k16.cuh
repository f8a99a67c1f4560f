// The tensor cores' product of a 16 x 16 tile of 16-bit weights, packed as in pack_weights.h, and
// 16 x 8 inputs, added to float32 sums. A column of the result depends on that column of the input
// alone.
//
// With g = lane / 4 and t = lane % 4 a lane holds of the inputs rows 2t, 2t+1 (low) and 2t+8, 2t+9
// (high) of column g, and of the sums (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1).
#ifndef SIDEWINDER_KERNELS_COMMON_MMA_M16N8K16_CUH_
#define SIDEWINDER_KERNELS_COMMON_MMA_M16N8K16_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/common/dtype.h"

namespace sidewinder {

// Two inputs rounded to the weights' type, `first` in the lower half.
template <DType kWeight>
__device__ __forceinline__ unsigned PackInputs(float2 inputs) {
  if constexpr (kWeight == DType::kBFloat16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(inputs.x, inputs.y);
    return *reinterpret_cast<const unsigned*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(inputs.x, inputs.y);
    return *reinterpret_cast<const unsigned*>(&pair);
  }
}

template <DType kWeight>
__device__ __forceinline__ void MultiplyAdd(float (&sums)[4], uint4 weights, unsigned low,
                                            unsigned high) {
  if constexpr (kWeight == DType::kBFloat16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(weights.x), "r"(weights.y), "r"(weights.z), "r"(weights.w), "r"(low), "r"(high));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(weights.x), "r"(weights.y), "r"(weights.z), "r"(weights.w), "r"(low), "r"(high));
  }
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_MMA_M16N8K16_CUH_
