#include "runtime/cuda_driver.h"

#include <cuda_runtime_api.h>

#include <cstring>

namespace sidewinder::cuda_driver {

CudaError CountDevices(int* count) { return cudaGetDeviceCount(count); }

CudaError DescribeDevice(int index, DeviceFacts* facts) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) return error;
  facts->name = properties.name;
  facts->compute_capability = 10 * properties.major + properties.minor;
  facts->num_multiprocessors = properties.multiProcessorCount;
  return cudaSuccess;
}

CudaError Allocate(int index, size_t bytes, void** data) {
  if (const cudaError_t error = cudaSetDevice(index); error != cudaSuccess) return error;
  if (const cudaError_t error = cudaMalloc(data, bytes); error != cudaSuccess) {
    cudaGetLastError();  // an allocation that failed is no error of the launches behind it
    return error;
  }
  if (const cudaError_t error = cudaMemset(*data, 0, bytes); error != cudaSuccess) return error;
  return cudaDeviceSynchronize();
}

void Free(int index, void* data) {
  cudaSetDevice(index);
  cudaFree(data);
}

CudaError AllocatePinned(int index, size_t bytes, void** data) {
  if (const cudaError_t error = cudaSetDevice(index); error != cudaSuccess) return error;
  const cudaError_t error = cudaHostAlloc(data, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return error;
  }
  std::memset(*data, 0, bytes);
  return cudaSuccess;
}

void FreePinned(int index, void* data) {
  cudaSetDevice(index);
  cudaFreeHost(data);
}

CudaError FreeMemory(int index, size_t* bytes) {
  if (const cudaError_t error = cudaSetDevice(index); error != cudaSuccess) return error;
  size_t total = 0;
  return cudaMemGetInfo(bytes, &total);
}

CudaError CreateStream(int index, CUstream_st** stream) {
  if (const cudaError_t error = cudaSetDevice(index); error != cudaSuccess) return error;
  return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
}

void DestroyStream(int index, CUstream_st* stream) {
  cudaSetDevice(index);
  cudaStreamDestroy(stream);
}

CudaError Synchronize(CUstream_st* stream) { return cudaStreamSynchronize(stream); }

CudaError QueryStream(CUstream_st* stream, bool* done) {
  const cudaError_t state = cudaStreamQuery(stream);
  *done = state == cudaSuccess;
  return state == cudaErrorNotReady ? cudaSuccess : state;
}

CudaError BeginLoop(CUstream_st* stream, Loop* loop) {
  cudaGraph_t graph;
  if (const cudaError_t error = cudaGraphCreate(&graph, 0); error != cudaSuccess) return error;
  loop->graph = graph;
  cudaGraphConditionalHandle condition;
  if (const cudaError_t error =
          cudaGraphConditionalHandleCreate(&condition, graph, 1, cudaGraphCondAssignDefault);
      error != cudaSuccess) {
    return error;
  }
  loop->condition = condition;
  cudaGraphNodeParams params = {};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = condition;
  params.conditional.type = cudaGraphCondTypeWhile;
  params.conditional.size = 1;
  cudaGraphNode_t node;
  if (const cudaError_t error = cudaGraphAddNode(&node, graph, nullptr, nullptr, 0, &params);
      error != cudaSuccess) {
    return error;
  }
  return cudaStreamBeginCaptureToGraph(stream, params.conditional.phGraph_out[0], nullptr, nullptr,
                                       0, cudaStreamCaptureModeThreadLocal);
}

CudaError EndLoop(CUstream_st* stream, Loop* loop) {
  cudaGraph_t body;
  if (const cudaError_t error = cudaStreamEndCapture(stream, &body); error != cudaSuccess) {
    return error;
  }
  cudaGraphExec_t executable;
  const cudaError_t error =
      cudaGraphInstantiate(&executable, static_cast<cudaGraph_t>(loop->graph), 0);
  if (error == cudaSuccess) loop->executable = executable;
  return error;
}

CudaError LaunchLoop(CUstream_st* stream, const Loop& loop) {
  return cudaGraphLaunch(static_cast<cudaGraphExec_t>(loop.executable), stream);
}

void DestroyLoop(Loop* loop) {
  if (loop->executable != nullptr) {
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(loop->executable));
  }
  if (loop->graph != nullptr) cudaGraphDestroy(static_cast<cudaGraph_t>(loop->graph));
  *loop = {};
}

CudaError CreateBranch(CUstream_st* stream, bool* recorded, uint64_t* condition) {
  cudaStreamCaptureStatus status;
  cudaGraph_t graph = nullptr;
  const cudaError_t error =
      cudaStreamGetCaptureInfo(stream, &status, nullptr, &graph, nullptr, nullptr, nullptr);
  *recorded = error == cudaSuccess && status == cudaStreamCaptureStatusActive;
  if (!*recorded) return error;
  cudaGraphConditionalHandle handle;
  const cudaError_t created =
      cudaGraphConditionalHandleCreate(&handle, graph, 0, cudaGraphCondAssignDefault);
  *condition = handle;
  return created;
}

CudaError BeginBranch(CUstream_st* stream, uint64_t condition, CUstream_st* body_stream) {
  cudaStreamCaptureStatus status;
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t* dependencies = nullptr;
  const cudaGraphEdgeData* edges = nullptr;
  size_t count = 0;
  if (const cudaError_t error =
          cudaStreamGetCaptureInfo(stream, &status, nullptr, &graph, &dependencies, &edges, &count);
      error != cudaSuccess) {
    return error;
  }
  cudaGraphNodeParams params = {};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = condition;
  params.conditional.type = cudaGraphCondTypeIf;
  params.conditional.size = 1;
  cudaGraphNode_t node;
  if (const cudaError_t error = cudaGraphAddNode(&node, graph, dependencies, edges, count, &params);
      error != cudaSuccess) {
    return error;
  }
  if (const cudaError_t error = cudaStreamUpdateCaptureDependencies(
          stream, &node, nullptr, 1, cudaStreamSetCaptureDependencies);
      error != cudaSuccess) {
    return error;
  }
  return cudaStreamBeginCaptureToGraph(body_stream, params.conditional.phGraph_out[0], nullptr,
                                       nullptr, 0, cudaStreamCaptureModeThreadLocal);
}

CudaError EndBranch(CUstream_st* body_stream) {
  cudaGraph_t body;
  return cudaStreamEndCapture(body_stream, &body);
}

const char* ErrorText(CudaError error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace sidewinder::cuda_driver
