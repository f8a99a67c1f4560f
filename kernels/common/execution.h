// Where an op runs. Every op takes an ExecutionContext first and only *enqueues* its work there:
// the CPU backend executes at once, the CUDA backend appends to a stream. An op never reads a
// result back.
#ifndef SIDEWINDER_KERNELS_COMMON_EXECUTION_H_
#define SIDEWINDER_KERNELS_COMMON_EXECUTION_H_

#include <cstddef>
#include <cstdint>

#include "kernels/common/thread_pool.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace sidewinder {

enum class DeviceType : uint8_t { kCpu, kCuda };

// Whether this build has the CUDA backend.
#ifdef SIDEWINDER_HAS_CUDA
inline constexpr bool kHasCuda{true};
#else
inline constexpr bool kHasCuda{false};
#endif

// A stream of one CUDA device and what launches on it need to know. Ops on one context run in
// order, so they may share its workspace.
struct CudaContext {
  CUstream_st* stream = nullptr;
  int32_t device_index = 0;
  int32_t compute_capability = 0;  // 10 * major + minor; lower if a test forces the generic path
  int32_t num_multiprocessors = 0;
  void* workspace = nullptr;  // device memory for partial results that live within one op; the
                              // first kWorkspaceCounterBytes are counters, zero between ops
  size_t workspace_bytes = 0;

  // The first op whose launch failed, and its cudaError_t; ops behind it are left out.
  const char* failed_op = nullptr;
  int32_t failure = 0;
};

inline constexpr size_t kWorkspaceCounterBytes{65536};

struct ExecutionContext {
  DeviceType device = DeviceType::kCpu;
  ThreadPool* pool = nullptr;   // CPU: never null; not owned. One context per pool at a time.
  CudaContext* cuda = nullptr;  // CUDA: never null; not owned
};

// Runs an op on the context's backend: cpu() at once, or cuda(CudaContext&), which launches and
// returns a cudaError_t. `cuda` is a generic lambda, so that builds without CUDA never look for the
// launcher it names.
template <class Cpu, class Cuda>
void Dispatch(ExecutionContext& ctx, const char* op, const Cpu& cpu, const Cuda& cuda) {
  if (ctx.device == DeviceType::kCpu) {
    cpu();
    return;
  }
  if constexpr (kHasCuda) {
    CudaContext& context = *ctx.cuda;
    if (context.failure != 0) return;
    context.failure = static_cast<int32_t>(cuda(context));
    if (context.failure != 0) context.failed_op = op;
  }
}

// What launchers return: a cudaError_t, spelled so that headers need no CUDA header.
using CudaError = int;

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_EXECUTION_H_
