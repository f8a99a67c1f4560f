// The block that finishes what several blocks of a launch began, without a second launch.
#ifndef SIDEWINDER_KERNELS_COMMON_LAST_BLOCK_CUH_
#define SIDEWINDER_KERNELS_COMMON_LAST_BLOCK_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace sidewinder {

// Whether this block is the last of `expected` to come here; a barrier, the same for all its
// threads. What thread 0 of the others wrote before is then in memory; read it with __ldcg.
// `counter` is one of the workspace's: zero before, and zero again once all have come.
__device__ inline bool ArrivesLast(uint32_t* counter, uint32_t expected, bool* shared_flag) {
  if (threadIdx.x == 0) {
    __threadfence();
    const bool last = atomicAdd(counter, 1u) + 1 == expected;
    if (last) *counter = 0;
    __threadfence();
    *shared_flag = last;
  }
  __syncthreads();
  return *shared_flag;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_LAST_BLOCK_CUH_
