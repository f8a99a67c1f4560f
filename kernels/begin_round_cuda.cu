// BeginRound on a GPU: one thread a slot, no slot knows of another. OpenRound of round_rules.h is
// all there is to it; the time is that of a launch and of two dependent loads.
#include "kernels/begin_round.h"
#include "kernels/common/launch.cuh"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};

__global__ void BeginRoundKernel(const __grid_constant__ BeginRoundParams params) {
  LaunchDependents();
  WaitForDependencies();
  const int32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= params.control.num_slots) return;
  OpenRound(params.control.slots[i], params.control.max_draft, params.row_cost, params.draft_cost);
}

}  // namespace

CudaError LaunchBeginRound(CudaContext& ctx, const BeginRoundParams& params) {
  const unsigned blocks = (params.control.num_slots + kThreads - 1) / kThreads;
  if (blocks == 0) return cudaSuccess;
  return LaunchKernel(ctx, BeginRoundKernel, {blocks, kThreads}, params);
}

}  // namespace sidewinder
