// Read bandwidth of a GPU's memory: every 16-byte word of a large buffer is loaded once a sweep.
// A block walks the buffer in strides of the grid, 16 KB at a time; each of its 256 threads has
// four loads in flight, 64 KB to 128 KB a multiprocessor, more than the latency of memory needs.
// There are several times more blocks than fit at once, so that multiprocessors that memory serves
// faster take more of them. Sweeps read what no op writes, so one may begin while the one before
// ends. Bound: bytes of the buffer over the bandwidth of memory.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/launch.cuh"
#include "kernels/common/memory_bandwidth.h"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int kLoads{4};  // in flight, a thread
constexpr int kBlocksPerMultiprocessor{32};
constexpr int kPasses{12};
constexpr int64_t kPassBytes{int64_t{8} << 30};  // a few milliseconds: launch and events vanish

static_assert(kBandwidthUnit == kThreads * kLoads * sizeof(uint4));

// `sink` is never written: no buffer of zeros adds up to the value that would be. The compiler does
// not know that.
__global__ void __launch_bounds__(kThreads)
    ReadKernel(const uint4* data, int64_t num_units, uint32_t* sink) {
  LaunchDependents();
  uint32_t sum = 0;
  for (int64_t unit = blockIdx.x; unit < num_units; unit += gridDim.x) {
    const uint4* words = data + unit * (kThreads * kLoads) + threadIdx.x;
    uint4 loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) loaded[i] = words[i * kThreads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) sum ^= loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
  }
  WaitForDependencies();
  if (sum == 0x9e3779b9u) *sink = sum;
}

cudaError_t Sweep(const CudaContext& ctx, const void* data, int64_t num_units) {
  const int64_t blocks =
      std::min<int64_t>(num_units, int64_t{ctx.num_multiprocessors} * kBlocksPerMultiprocessor);
  return LaunchKernel(ctx, ReadKernel, {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)},
                      static_cast<const uint4*>(data), num_units,
                      static_cast<uint32_t*>(ctx.workspace));
}

// Milliseconds of `sweeps` sweeps.
cudaError_t TimePass(const CudaContext& ctx, const void* data, int64_t num_units, int sweeps,
                     cudaEvent_t begin, cudaEvent_t end, float* milliseconds) {
  if (const cudaError_t error = cudaEventRecord(begin, ctx.stream); error != cudaSuccess) {
    return error;
  }
  for (int i = 0; i < sweeps; ++i) {
    if (const cudaError_t error = Sweep(ctx, data, num_units); error != cudaSuccess) return error;
  }
  if (const cudaError_t error = cudaEventRecord(end, ctx.stream); error != cudaSuccess) {
    return error;
  }
  if (const cudaError_t error = cudaEventSynchronize(end); error != cudaSuccess) return error;
  return cudaEventElapsedTime(milliseconds, begin, end);
}

}  // namespace

CudaError MeasureReadBandwidthCuda(CudaContext& ctx, const void* data, int64_t bytes,
                                   double* bytes_per_second) {
  const int64_t num_units = bytes / kBandwidthUnit;
  const int sweeps = static_cast<int>(std::max<int64_t>(1, kPassBytes / bytes));
  cudaError_t error = cudaSetDevice(ctx.device_index);
  cudaEvent_t events[2] = {};
  for (int i = 0; i < 2 && error == cudaSuccess; ++i) error = cudaEventCreate(&events[i]);
  float best = 0.0f;
  for (int pass = 0; pass < kPasses && error == cudaSuccess; ++pass) {
    float milliseconds = 0.0f;
    error = TimePass(ctx, data, num_units, sweeps, events[0], events[1], &milliseconds);
    if (pass == 0 || milliseconds < best) best = milliseconds;
  }
  for (const cudaEvent_t event : events) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (error == cudaSuccess) {
    *bytes_per_second = static_cast<double>(num_units * kBandwidthUnit) * sweeps / (best * 1e-3);
  }
  return error;
}

}  // namespace sidewinder
