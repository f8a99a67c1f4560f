// Position -> entry of a ring, without a division where it matters.
#ifndef SIDEWINDER_KERNELS_COMMON_RING_CUH_
#define SIDEWINDER_KERNELS_COMMON_RING_CUH_

#include <cuda_runtime.h>

#include <cstdint>

namespace sidewinder {

// Made ahead of the wait for earlier kernels, from the number of entries; used behind it.
struct Ring {
  __device__ explicit Ring(int64_t num_rows)
      : rows(static_cast<uint32_t>(num_rows)), inverse(num_rows > 0 ? 0xffffffffu / rows : 0) {}

  // position % rows. The quotient by the rounded inverse is exact or one short, since a position is
  // below 2^31.
  __device__ __forceinline__ uint32_t Entry(int position) const {
    const uint32_t p = static_cast<uint32_t>(position);
    const uint32_t rest = p - __umulhi(p, inverse) * rows;
    return rest >= rows ? rest - rows : rest;
  }

  uint32_t rows;
  uint32_t inverse;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_RING_CUH_
