// The yardstick of benchmarks that stream weights on a GPU.
#ifndef SIDEWINDER_BENCH_KERNELS_READ_BANDWIDTH_CUDA_H_
#define SIDEWINDER_BENCH_KERNELS_READ_BANDWIDTH_CUDA_H_

#include <cstddef>

struct CUstream_st;

namespace sidewinder {

// Bytes a second at which `bytes` of device memory (much more than the second-level cache holds)
// are read, the best of several times. `sink`: [1] device memory. Negative: a cudaError_t.
double MeasureDeviceReadBandwidth(CUstream_st* stream, const void* data, size_t bytes,
                                  unsigned* sink);

}  // namespace sidewinder

#endif  // SIDEWINDER_BENCH_KERNELS_READ_BANDWIDTH_CUDA_H_
