#include "runtime/cuda_driver.h"

#include <cuda_runtime_api.h>

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

const char* ErrorText(CudaError error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace sidewinder::cuda_driver
