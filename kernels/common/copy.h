// Moving bytes between the host and a context's device. On the CPU backend both are the same
// memory and these are memcpy and memset. Failures are recorded in the context like those of ops.
#ifndef SIDEWINDER_KERNELS_COMMON_COPY_H_
#define SIDEWINDER_KERNELS_COMMON_COPY_H_

#include <cstddef>

#include "kernels/common/execution.h"

namespace sidewinder {

// Device memory from host memory; `from` may be reused at once.
void CopyIn(ExecutionContext& ctx, void* to, const void* from, size_t bytes);
// Host memory from device memory; waits for everything enqueued before.
void CopyOut(ExecutionContext& ctx, void* to, const void* from, size_t bytes);
// Within device memory; must not overlap.
void CopyWithin(ExecutionContext& ctx, void* to, const void* from, size_t bytes);
void FillZero(ExecutionContext& ctx, void* to, size_t bytes);

CudaError LaunchCopyIn(CudaContext& ctx, void* to, const void* from, size_t bytes);
CudaError LaunchCopyOut(CudaContext& ctx, void* to, const void* from, size_t bytes);
CudaError LaunchCopyWithin(CudaContext& ctx, void* to, const void* from, size_t bytes);
CudaError LaunchFillZero(CudaContext& ctx, void* to, size_t bytes);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_COPY_H_
