// The yardstick of everything that streams weights.
#ifndef SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_
#define SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_

#include <cstdint>

#include "kernels/common/thread_pool.h"

namespace sidewinder {

// Bytes per second at which the threads of `pool` read a buffer of `bytes` over and over, each its
// own share: the best pass of those that fit in about a fifth of a second. The time floor of a
// decode step is the bytes of its weights over this figure at that working-set size.
double MeasureReadBandwidth(ThreadPool& pool, int64_t bytes);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_MEMORY_BANDWIDTH_H_
