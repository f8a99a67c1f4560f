// Launching kernels that overlap with the kernel before them (programmatic dependent launch), and
// what their device code must do for it.
//
// The rule for every kernel of this project: each block calls LaunchDependents() first, so that the
// next kernel may move in, and every thread calls WaitForDependencies() before it reads or writes
// anything that an op before it may touch. Before the wait it may only read weights and other
// memory that no op writes. A kernel completes only after its own wait, so the wait orders a kernel
// behind all that were launched before it, not only behind the last one.
#ifndef SIDEWINDER_KERNELS_COMMON_LAUNCH_CUH_
#define SIDEWINDER_KERNELS_COMMON_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/common/execution.h"

namespace sidewinder {

__device__ __forceinline__ void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void WaitForDependencies() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;     // blocks of a cluster along x
};

// Launches on the context's stream with programmatic dependent launch; code for architectures
// without it just runs in order. All kernels ask for the same split of first-level cache and shared
// memory: a multiprocessor must be idle to change it, so kernels that differ could not overlap.
template <class... Params, class... Args>
cudaError_t LaunchKernel(const CudaContext& ctx, void (*kernel)(Params...),
                         const LaunchShape& shape, const Args&... args) {
  constexpr size_t kDefaultSharedBytes{48 << 10};
  if (shape.shared_bytes > kDefaultSharedBytes) {
    const cudaError_t raised = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
    if (raised != cudaSuccess) return raised;
  }
  cudaLaunchAttribute attributes[3];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  attributes[2].id = cudaLaunchAttributeClusterDimension;
  attributes[2].val.clusterDim.x = shape.cluster;
  attributes[2].val.clusterDim.y = 1;
  attributes[2].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = ctx.stream;
  config.attrs = attributes;
  config.numAttrs = shape.cluster > 1 ? 3 : 2;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_LAUNCH_CUH_
