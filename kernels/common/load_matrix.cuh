// Operands of tensor cores out of shared memory: 8 x 8 matrices of 16-bit elements, of each of
// which lane l gets elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4. Transposed: of column l / 4.
// Row r of matrix m begins at the address that lane 8 m + r gives, a multiple of 16.
#ifndef SIDEWINDER_KERNELS_COMMON_LOAD_MATRIX_CUH_
#define SIDEWINDER_KERNELS_COMMON_LOAD_MATRIX_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace sidewinder {

__device__ __forceinline__ uint4 LoadMatrices4(uint32_t row) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(row)
               : "memory");
  return v;
}

__device__ __forceinline__ uint4 LoadMatrices4Transposed(uint32_t row) {
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(row)
               : "memory");
  return v;
}

// Two matrices, for which lanes 0 to 15 give the addresses.
__device__ __forceinline__ uint2 LoadMatrices2(uint32_t row) {
  uint2 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "r"(row)
               : "memory");
  return v;
}

__device__ __forceinline__ uint2 LoadMatrices2Transposed(uint32_t row) {
  uint2 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "r"(row)
               : "memory");
  return v;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_LOAD_MATRIX_CUH_
