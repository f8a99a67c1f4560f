#include <cuda_runtime.h>

#include "kernels/common/copy.h"

namespace sidewinder {

CudaError LaunchCopyIn(CudaContext& ctx, void* to, const void* from, size_t bytes) {
  // Pageable memory is staged before the call returns; pinned memory would not be.
  const cudaError_t copied = cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, ctx.stream);
  return copied != cudaSuccess ? copied : cudaStreamSynchronize(ctx.stream);
}

CudaError LaunchCopyOut(CudaContext& ctx, void* to, const void* from, size_t bytes) {
  const cudaError_t copied = cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, ctx.stream);
  return copied != cudaSuccess ? copied : cudaStreamSynchronize(ctx.stream);
}

CudaError LaunchCopyWithin(CudaContext& ctx, void* to, const void* from, size_t bytes) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, ctx.stream);
}

CudaError LaunchFillZero(CudaContext& ctx, void* to, size_t bytes) {
  return cudaMemsetAsync(to, 0, bytes, ctx.stream);
}

}  // namespace sidewinder
