// Copies from global to shared memory that pass no registers, barriers in shared memory, and hints
// to the second-level cache.
#ifndef SIDEWINDER_KERNELS_COMMON_ASYNC_COPY_CUH_
#define SIDEWINDER_KERNELS_COMMON_ASYNC_COPY_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace sidewinder {

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// For data that is read once: its lines are the first to leave the cache.
__device__ __forceinline__ uint64_t EvictFirstPolicy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// 16 bytes; past the first-level cache.
__device__ __forceinline__ void CopyAsync16(uint32_t to, const void* from, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "l"(policy)
               : "memory");
}

__device__ __forceinline__ void CopyAsync16(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// 16 bytes, or zeros unless `wanted`; `from` must be an address even then.
__device__ __forceinline__ void CopyAsync16OrZero(uint32_t to, const void* from, bool wanted) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(wanted ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void CommitCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// All but the thread's last `kPending` groups of copies have arrived.
template <int kPending>
__device__ __forceinline__ void WaitForCopyGroups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Brings memory into the second-level cache; one thread, 16-byte units. Nothing on architectures
// that cannot do it in one instruction.
__device__ __forceinline__ void PrefetchToL2([[maybe_unused]] const void* from,
                                             [[maybe_unused]] uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

// A barrier object in shared memory. Phases alternate in parity, beginning with 0; waiting for the
// parity of the phase before the first one returns at once.
__device__ __forceinline__ void InitBarrier(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals)
               : "memory");
}

__device__ __forceinline__ void ArriveAtBarrier(uint64_t* barrier) {
  asm volatile(
      "{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(SharedAddress(barrier))
      : "memory");
}

__device__ __forceinline__ void WaitForBarrier(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
#if __CUDA_ARCH__ >= 900  // sleeps instead of spinning
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
        "selp.u32 %0, 1, 0, p; }"
#else
        "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
#endif
        : "=r"(done)
        : "r"(SharedAddress(barrier)), "r"(parity)
        : "memory");
  } while (done == 0);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_ASYNC_COPY_CUH_
