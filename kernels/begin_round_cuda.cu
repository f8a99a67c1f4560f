// BeginRound on a GPU: one block, since slots that share a pass choose together. Its threads take
// turns over the slots; what is summed over slots is summed in integers in shared memory, so that
// the order does not matter, and a slot's own estimates are computed anew where they are needed
// instead of being kept. Three barriers, five in a batch. Bound by latency: a launch, dependent
// loads, and some hundred operations a slot one after another, divisions among them.
#include "kernels/begin_round.h"
#include "kernels/common/launch.cuh"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

constexpr int kThreads{128};

static_assert(kThreads >= kMaxDraft);

__device__ void AtomicAdd(TokenSum& to, TokenSum value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(&to), static_cast<unsigned long long>(value));
}

struct Batch {
  int32_t num_active;
  int32_t num_together;
  int32_t catch_up_passes;  // of the slot that needs most
  int32_t reached[kMaxDraft];
  int32_t accepted_of_reached[kMaxDraft];
  TokenSum sums[kMaxDraft + 1];
  TokenSum gains[kMaxDraft + 1];
  CommonLength common;
};

__device__ int32_t Passes(const BeginRoundParams& params, int32_t i) {
  const StateCursor* cursor = params.draft_cursors == nullptr ? nullptr : params.draft_cursors + i;
  return CatchUpPasses(params.control.slots[i], cursor, params.max_catch_up);
}

// What the last round showed, for all requests, and who takes part in this one.
__device__ void Count(const BeginRoundParams& params, Batch& batch) {
  for (int32_t i = threadIdx.x; i < params.control.num_slots; i += kThreads) {
    const SlotControl& slot = params.control.slots[i];
    const int32_t accepted = slot.num_accepted;
    const int32_t reached = Smaller(slot.num_drafted, accepted + 1);
    for (int32_t j = 0; j < reached; ++j) {
      atomicAdd(&batch.reached[j], 1);
      if (j < accepted) atomicAdd(&batch.accepted_of_reached[j], 1);
    }
    if (slot.active) atomicAdd(&batch.num_active, 1);
    if (!DecidesTogether(slot)) continue;
    atomicAdd(&batch.num_together, 1);
    atomicMax(&batch.catch_up_passes, Passes(params, i));
  }
}

__device__ int32_t Wanted(const BeginRoundParams& params, const Batch& batch,
                          const RoundCosts& costs, int32_t i) {
  const ControlBlock& control = params.control;
  SlotControl& slot = control.slots[i];
  const int32_t passes = Passes(params, i);
  if (DecidesAlone(slot)) {
    const RoundCosts& own = CostsFor(*control.drafting, control.num_slots);
    const int32_t length = LengthAlone(slot, own, control.max_draft, passes);
    return WithProbes(slot, own, length, slot.rounds, control.max_draft, passes);
  }
  int32_t length = batch.common.length;
  if (batch.num_together > 1) {
    WalkOwnLengths(slot, *control.drafting, costs, batch.common.tokens_per_us, control.max_draft,
                   passes, [&](int32_t k, int32_t own, float) {
                     if (k == batch.common.length) length = own;
                   });
  }
  return WithProbes(slot, costs, length, control.drafting->rounds, control.max_draft, passes);
}

// Slots that choose among themselves how much of the pass is theirs.
__device__ void ChooseInBatch(const BeginRoundParams& params, Batch& batch,
                              const RoundCosts& costs) {
  const ControlBlock& control = params.control;
  for (int32_t i = threadIdx.x; i < control.num_slots; i += kThreads) {
    const SlotControl& slot = control.slots[i];
    if (!DecidesTogether(slot)) continue;
    WalkOwnLengths(slot, *control.drafting, costs, batch.common.tokens_per_us, control.max_draft,
                   Passes(params, i), [&](int32_t k, int32_t, float gain) {
                     AtomicAdd(batch.gains[k], ToTokenSum(gain));
                   });
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    batch.common.length = BestLongest(batch.gains, costs, batch.common.tokens_per_us,
                                      batch.num_active, control.max_draft);
  }
  __syncthreads();
}

__device__ void ChooseAutomatically(const BeginRoundParams& params, Batch& batch) {
  const ControlBlock& control = params.control;
  DraftControl& drafting = *control.drafting;
  for (int32_t w = threadIdx.x; w < static_cast<int32_t>(sizeof(Batch) / 4); w += kThreads) {
    reinterpret_cast<int32_t*>(&batch)[w] = 0;
  }
  __syncthreads();
  Count(params, batch);
  __syncthreads();
  if (threadIdx.x < kMaxDraft) {
    const int32_t j = threadIdx.x;
    drafting.reached[j] += batch.reached[j];
    drafting.accepted_of_reached[j] += batch.accepted_of_reached[j];
    ForgetShared(drafting, j);
  }
  if (threadIdx.x == 0) ++drafting.rounds;
  __syncthreads();
  const RoundCosts& costs = CostsFor(drafting, batch.num_active);
  if (batch.num_together > 0) {
    for (int32_t i = threadIdx.x; i < control.num_slots; i += kThreads) {
      const SlotControl& slot = control.slots[i];
      if (!DecidesTogether(slot)) continue;
      AddExpectedTokens(slot, drafting, control.max_draft,
                        [&](int32_t k, TokenSum tokens) { AtomicAdd(batch.sums[k], tokens); });
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      batch.common = BestCommonLength(batch.sums, costs, control.max_draft, batch.catch_up_passes);
    }
    __syncthreads();
  }
  if (batch.num_together > 1) ChooseInBatch(params, batch, costs);
  for (int32_t i = threadIdx.x; i < control.num_slots; i += kThreads) {
    SlotControl& slot = control.slots[i];
    const bool automatic = slot.active && slot.draft_tokens == kAutoDraft;
    OpenRound(slot, control.max_draft,
              automatic ? Wanted(params, batch, costs, i) : slot.draft_tokens);
  }
}

__global__ void __launch_bounds__(kThreads)
    BeginRoundKernel(const __grid_constant__ BeginRoundParams params) {
  __shared__ Batch batch;
  LaunchDependents();
  WaitForDependencies();
  const ControlBlock& control = params.control;
  if (control.drafting != nullptr) {
    ChooseAutomatically(params, batch);
    return;
  }
  for (int32_t i = threadIdx.x; i < control.num_slots; i += kThreads) {
    SlotControl& slot = control.slots[i];
    OpenRound(slot, control.max_draft, slot.draft_tokens);
  }
}

}  // namespace

CudaError LaunchBeginRound(CudaContext& ctx, const BeginRoundParams& params) {
  if (params.control.num_slots == 0) return cudaSuccess;
  return LaunchKernel(ctx, BeginRoundKernel, {1, kThreads}, params);
}

}  // namespace sidewinder
