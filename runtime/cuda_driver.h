// The few calls of the CUDA runtime that device.cc makes, spelled without its headers so that
// builds without CUDA have nothing to leave out. Codes are cudaError_t; 0 is success.
#ifndef SIDEWINDER_RUNTIME_CUDA_DRIVER_H_
#define SIDEWINDER_RUNTIME_CUDA_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/common/execution.h"

namespace sidewinder::cuda_driver {

struct DeviceFacts {
  std::string name;
  int32_t compute_capability = 0;
  int32_t num_multiprocessors = 0;
};

CudaError CountDevices(int* count);
CudaError DescribeDevice(int index, DeviceFacts* facts);
CudaError Allocate(int index, size_t bytes, void** data);  // zeroed
void Free(int index, void* data);
CudaError AllocatePinned(int index, size_t bytes, void** data);  // zeroed, mapped into the device
void FreePinned(int index, void* data);
CudaError FreeMemory(int index, size_t* bytes);
CudaError CreateStream(int index, CUstream_st** stream);
void DestroyStream(int index, CUstream_st* stream);
CudaError Synchronize(CUstream_st* stream);
CudaError QueryStream(CUstream_st* stream, bool* done);

// A graph whose one node repeats its body while a condition holds; the condition is 1 at launch.
// BeginLoop starts capturing the stream into the body; EndLoop ends it and makes it executable.
struct Loop {
  void* graph = nullptr;       // cudaGraph_t
  void* executable = nullptr;  // cudaGraphExec_t
  uint64_t condition = 0;      // cudaGraphConditionalHandle
};
CudaError BeginLoop(CUstream_st* stream, Loop* loop);
CudaError EndLoop(CUstream_st* stream, Loop* loop);
CudaError LaunchLoop(CUstream_st* stream, const Loop& loop);
void DestroyLoop(Loop* loop);

// A branch of what is being captured: a node whose body runs if its condition is not 0.
// CreateBranch makes a condition, to be set by what is captured next; `recorded` is false if
// nothing is being captured. BeginBranch adds the node and starts capturing `body_stream` into it.
CudaError CreateBranch(CUstream_st* stream, bool* recorded, uint64_t* condition);
CudaError BeginBranch(CUstream_st* stream, uint64_t condition, CUstream_st* body_stream);
CudaError EndBranch(CUstream_st* body_stream);
const char* ErrorText(CudaError error);

}  // namespace sidewinder::cuda_driver

#endif  // SIDEWINDER_RUNTIME_CUDA_DRIVER_H_
