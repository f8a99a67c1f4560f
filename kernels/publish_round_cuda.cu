// One block; a thread a slot writes its record to host memory, then one thread publishes the round
// and decides whether the loop goes on. Bound by one posted write and one read across the bus.
#include <cuda_runtime.h>

#include "kernels/common/launch.cuh"
#include "kernels/publish_round.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};

__device__ void WriteRecord(const SlotControl& slot, SlotRecord* record) {
  SlotRecord r;
  r.round_start = slot.round_start;
  r.num_tokens = slot.num_tokens;
  r.num_drafted = slot.num_drafted;
  r.num_accepted = slot.num_accepted;
  r.finish = slot.finish;
  const int count = slot.num_tokens - slot.round_start;
#pragma unroll
  for (int k = 0; k <= kMaxDraft; ++k) {
    r.tokens[k] = k < count ? slot.tokens[slot.round_start + k] : 0;
  }
  *record = r;
}

__global__ void __launch_bounds__(kThreads)
    PublishRoundKernel(const __grid_constant__ PublishRoundParams params) {
  LaunchDependents();
  WaitForDependencies();
  const ControlBlock& control = params.control;
  const int64_t round = *params.num_published;
  SlotRecord* records = params.log.records + round % params.log.capacity * control.num_slots;
  int active = 0;
  for (int i = threadIdx.x; i < control.num_slots; i += kThreads) {
    WriteRecord(control.slots[i], records + i);
    active |= control.slots[i].active;
  }
  __threadfence_system();
  active = __syncthreads_or(active);
  if (threadIdx.x != 0) return;
  *params.num_published = round + 1;
  *static_cast<volatile int64_t*>(params.log.published) = round + 1;
  if (params.in_loop) {
    const int64_t limit = *static_cast<const volatile int64_t*>(params.log.limit);
    cudaGraphSetConditional(params.condition, active != 0 && round + 1 < limit);
  }
}

}  // namespace

CudaError LaunchPublishRound(CudaContext& ctx, const PublishRoundParams& params) {
  return LaunchKernel(ctx, PublishRoundKernel, {1, kThreads}, params);
}

}  // namespace sidewinder
