// The yardstick of everything that streams weights.
#ifndef SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_
#define SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/common/thread_pool.h"

namespace sidewinder {

// Bytes per second at which the threads of `pool` read a buffer of `bytes` over and over, each its
// own share: the best pass of those that fit in about a fifth of a second. The time floor of a
// decode step is the bytes of its weights over this figure at that working-set size.
double MeasureReadBandwidth(ThreadPool& pool, int64_t bytes);

// The same on a GPU, over `bytes` bytes at `data`, a multiple of kBandwidthUnit in device memory.
// Waits for the stream; not an op.
inline constexpr int64_t kBandwidthUnit{16384};
CudaError MeasureReadBandwidthCuda(CudaContext& ctx, const void* data, int64_t bytes,
                                   double* bytes_per_second);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_
