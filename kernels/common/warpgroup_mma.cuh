// Hopper's products of a warpgroup: 64 x 16 weights in registers and 16 x kRows inputs in shared
// memory, added to float32 sums. Bit by bit what mma_m16n8k16.cuh gives (linear_cuda_test compares
// them): warp w of the four has weights and sums of the 16 x 16 tile w as there, of the sums four
// for each 8 rows.
//
// Inputs lie in 8 x 8 matrices of 128 bytes, a row of 8 inputs behind the other: the lower and the
// upper 8 inputs of 8 rows are neighbours, and the next 8 rows follow.
#ifndef SIDEWINDER_KERNELS_COMMON_WARPGROUP_MMA_CUH_
#define SIDEWINDER_KERNELS_COMMON_WARPGROUP_MMA_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/dtype.h"

namespace sidewinder {

inline constexpr int kWarpgroupSize{128};

// What the instruction takes for the inputs at `address` in shared memory, a multiple of 16.
__device__ __forceinline__ uint64_t InputsDescriptor(uint32_t address) {
  constexpr uint64_t kAlongInputs{128 >> 4}, kAlongRows{256 >> 4};
  return (address >> 4) | kAlongInputs << 16 | kAlongRows << 32;
}

// A warpgroup's registers a thread, from here on: fewer, more.
template <int kCount>
__device__ __forceinline__ void GiveUpRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// Registers may be used by products from here on, and are back after the wait.
__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// All but the last kPending commits are done.
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The sums as operands of the instruction.
#define SW_SUMS8(i)                                                                          \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SW_SUMS16(i) SW_SUMS8(i), SW_SUMS8(i + 8)
#define SW_SUMS32(i) SW_SUMS16(i), SW_SUMS16(i + 16)
#define SW_NAMES16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define SW_NAMES32 \
  SW_NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SW_NAMES64                                                                     \
  SW_NAMES32                                                                           \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SW_NAMES80 \
  SW_NAMES64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define SW_MULTIPLY(rows, type, names, weights_and_inputs, ...)                                \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #rows "k16.f32." #type "." #type " {" names \
               "}, " weights_and_inputs ", 1, 1, 1, 0;"                                        \
               : __VA_ARGS__                                                                   \
               : "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w), "l"(inputs))
#define SW_MULTIPLY_TYPES(rows, names, weights_and_inputs, ...)      \
  if constexpr (kDType == DType::kBFloat16) {                        \
    SW_MULTIPLY(rows, bf16, names, weights_and_inputs, __VA_ARGS__); \
  } else {                                                           \
    SW_MULTIPLY(rows, f16, names, weights_and_inputs, __VA_ARGS__);  \
  }

// Starts sums += weights x inputs.
template <DType kDType, int kRows>
__device__ __forceinline__ void StartProduct(float (&sums)[kRows / 2], uint4 w, uint64_t inputs) {
  static_assert(kRows == 32 || kRows == 64 || kRows == 128 || kRows == 160);
  if constexpr (kRows == 32) {
    SW_MULTIPLY_TYPES(32, SW_NAMES16, "{%16, %17, %18, %19}, %20", SW_SUMS16(0));
  } else if constexpr (kRows == 64) {
    SW_MULTIPLY_TYPES(64, SW_NAMES32, "{%32, %33, %34, %35}, %36", SW_SUMS32(0));
  } else if constexpr (kRows == 128) {
    SW_MULTIPLY_TYPES(128, SW_NAMES64, "{%64, %65, %66, %67}, %68", SW_SUMS32(0), SW_SUMS32(32));
  } else {
    SW_MULTIPLY_TYPES(160, SW_NAMES80, "{%80, %81, %82, %83}, %84", SW_SUMS32(0), SW_SUMS32(32),
                      SW_SUMS16(64));
  }
}

#undef SW_SUMS8
#undef SW_SUMS16
#undef SW_SUMS32
#undef SW_NAMES16
#undef SW_NAMES32
#undef SW_NAMES64
#undef SW_NAMES80
#undef SW_MULTIPLY
#undef SW_MULTIPLY_TYPES

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_WARPGROUP_MMA_CUH_
