// The largest of many floats and the lowest index of equals, as one 64-bit number to be maximised:
// the result does not depend on who looks at which part in which order.
#ifndef SIDEWINDER_KERNELS_COMMON_ARG_MAX_CUH_
#define SIDEWINDER_KERNELS_COMMON_ARG_MAX_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/host_device.h"

namespace sidewinder {

// Above it the value in the order of unsigned numbers, -0 as +0; below it the complement of the
// index. 0 is less than the key of any value.
__device__ inline uint64_t ArgMaxKey(float value, int32_t index) {
  const uint32_t bits = __float_as_uint(__fadd_rn(value, 0.0f));
  const uint32_t ordered = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{ordered} << 32 | ~static_cast<uint32_t>(index);
}

// 0 if there was nothing but NaN and -infinity, which count for nothing.
__device__ inline int32_t ArgMaxIndex(uint64_t key) {
  return key == 0 ? 0 : static_cast<int32_t>(~static_cast<uint32_t>(key));
}

// The best of one thread: indices must come in ascending order.
struct ThreadArgMax {
  float value = -INFINITY;
  int32_t index = -1;

  __device__ void Add(float candidate, int32_t candidate_index) {
    if (candidate > value) {  // false for NaN
      value = candidate;
      index = candidate_index;
    }
  }
  __device__ uint64_t Key() const { return index < 0 ? 0 : ArgMaxKey(value, index); }
};

// The maximum over the calling warp, for all its lanes.
__device__ inline uint64_t WarpMax(uint64_t key) {
  const uint32_t own_high = static_cast<uint32_t>(key >> 32);
  const uint32_t high = __reduce_max_sync(~0u, own_high);
  const uint32_t low =
      __reduce_max_sync(~0u, own_high == high ? static_cast<uint32_t>(key) : uint32_t{0});
  return uint64_t{high} << 32 | low;
}

// The maximum over a block of kThreads, for all of them; `shared` has one entry a warp.
template <int kThreads>
__device__ uint64_t BlockMax(uint64_t key, uint64_t (&shared)[kThreads / 32]) {
  const int lane = threadIdx.x % 32;
  key = WarpMax(key);
  __syncthreads();  // of an earlier call
  if (lane == 0) shared[threadIdx.x / 32] = key;
  __syncthreads();
  return WarpMax(lane < kThreads / 32 ? shared[lane] : 0);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_ARG_MAX_CUH_
