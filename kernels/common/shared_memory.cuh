// Shared memory: the dynamic part, and copies into it that need no registers on the way.
#ifndef SIDEWINDER_KERNELS_COMMON_SHARED_MEMORY_CUH_
#define SIDEWINDER_KERNELS_COMMON_SHARED_MEMORY_CUH_

#include <cuda_runtime.h>

namespace sidewinder {

__device__ __forceinline__ float* DynamicShared() {
  extern __shared__ float4 sidewinder_dynamic_shared[];
  return reinterpret_cast<float*>(sidewinder_dynamic_shared);
}

// Copies an element from global to shared memory; the element arrives by WaitForCopies.
__device__ __forceinline__ void CopyAsync(float* to, const float* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
}

// The thread's own copies have arrived; a barrier makes them visible to the block.
__device__ __forceinline__ void WaitForCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_SHARED_MEMORY_CUH_
