// Hopper's bulk copies into shared memory, whose bytes a barrier object counts, and clusters of
// blocks that read each other's shared memory.
#ifndef SIDEWINDER_KERNELS_COMMON_BULK_COPY_CUH_
#define SIDEWINDER_KERNELS_COMMON_BULK_COPY_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/async_copy.cuh"

namespace sidewinder {

// The second-level cache treats data as it likes.
__device__ __forceinline__ uint64_t EvictNormalPolicy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Barriers that this thread made can be used by copies and by other blocks of the cluster.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives at a barrier that `bytes` more bytes must reach.
__device__ __forceinline__ void ArriveAndExpectBytes(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}

// One thread; addresses and size in units of 16 bytes.
__device__ __forceinline__ void CopyBulk(uint32_t to, const void* from, uint32_t bytes,
                                         uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// All threads of a cluster; what they wrote to shared memory before they arrived can be read
// after the wait.
__device__ __forceinline__ void ArriveAtCluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
__device__ __forceinline__ void WaitForCluster() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// From where `address` is in the shared memory of block `rank` of the cluster.
__device__ __forceinline__ float4 LoadFromCluster(uint32_t address, int rank) {
  uint32_t remote;
  float4 v;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(remote)
               : "memory");
  return v;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_BULK_COPY_CUH_
