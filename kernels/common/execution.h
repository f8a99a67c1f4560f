// Where an op runs. Every op takes an ExecutionContext first and only *enqueues* its work there:
// the CPU backend executes at once, a CUDA backend appends to a stream. An op never reads a result
// back.
#ifndef SIDEWINDER_KERNELS_COMMON_EXECUTION_H_
#define SIDEWINDER_KERNELS_COMMON_EXECUTION_H_

#include <cstdint>

#include "kernels/common/thread_pool.h"

namespace sidewinder {

enum class DeviceType : uint8_t { kCpu, kCuda };

struct ExecutionContext {
  DeviceType device = DeviceType::kCpu;
  ThreadPool* pool = nullptr;  // CPU: never null; not owned. One context per pool at a time.
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_EXECUTION_H_
