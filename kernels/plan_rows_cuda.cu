// Row plans and cursors on a GPU; the rules are those of round_rules.h.
//
// PlanVerifyRows and PlanDraftRows run in one block, a tile of kThreads slots at a time. A thread
// works out the share of one slot; a scan over the block gives every share its first row, its place
// among the sequences and among the logits rows, in the order of the slots as on the CPU; the share
// waits in shared memory until the whole block has written the tile's rows, 16 threads a slot.
// Prefill plans one sequence and cuts its rows over blocks. Cursors move a thread a slot.
// Two barriers a tile beyond the scan's own. Bound: a launch and a chain of three or four loads.
#include <cub/block/block_scan.cuh>

#include "kernels/common/launch.cuh"
#include "kernels/plan_rows.h"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int kRowThreads{16};  // threads that write the rows of one slot
constexpr int kMaxPrefillBlocks{64};

// What a plan counts, up to some slot.
struct PlanCounts {
  int32_t rows;
  int32_t sequences;
  int32_t logit_rows;
};

struct AddCounts {
  __device__ PlanCounts operator()(const PlanCounts& a, const PlanCounts& b) const {
    return {a.rows + b.rows, a.sequences + b.sequences, a.logit_rows + b.logit_rows};
  }
};

// A share where it belongs in the plan.
struct PlacedShare {
  SequenceRows rows;
  int32_t num_logits;
  int32_t first_logit;
};

struct VerifyRows {
  __device__ RowShare Share(const SlotControl& slot, int32_t i, const StateCursor& cursor,
                            const CheckpointRule& rule) const {
    return VerifyShare(slot, i, cursor, rule);
  }
  __device__ int32_t Token(const SlotControl& slot, const SequenceRows&, int32_t row) const {
    return VerifyToken(slot, row);
  }
};

struct DraftRows {
  int32_t step;
  int32_t max_catch_up;
  __device__ RowShare Share(const SlotControl& slot, int32_t i, const StateCursor& cursor,
                            const CheckpointRule& rule) const {
    return DraftShare(slot, i, cursor, rule, step, max_catch_up);
  }
  __device__ int32_t Token(const SlotControl& slot, const SequenceRows& rows, int32_t row) const {
    return DraftToken(slot, rows.consumed, step, row);
  }
};

// Sixteen threads a slot: its share of the plan's tokens and logits rows.
template <class Rows>
__device__ void WriteRows(const PlanRowsParams& params, const Rows& kind, const PlacedShare& share,
                          int32_t lane) {
  const SequenceRows& rows = share.rows;
  const SlotControl& slot = params.control.slots[rows.slot];
  for (int32_t r = lane; r < rows.num_rows; r += kRowThreads) {
    params.plan.tokens[rows.first_row + r] = kind.Token(slot, rows, r);
  }
  const int32_t first_wanted = rows.first_row + rows.num_rows - share.num_logits;
  for (int32_t l = lane; l < share.num_logits; l += kRowThreads) {
    params.plan.logit_rows[share.first_logit + l] = first_wanted + l;
  }
}

template <class Rows>
__global__ void __launch_bounds__(kThreads)
    PlanRowsKernel(const __grid_constant__ PlanRowsParams params, const Rows kind) {
  using Scan = cub::BlockScan<PlanCounts, kThreads>;
  __shared__ typename Scan::TempStorage scan_storage;
  __shared__ PlacedShare shares[kThreads];
  LaunchDependents();
  WaitForDependencies();
  const int32_t thread = threadIdx.x;
  const int32_t num_slots = params.control.num_slots;
  PlanCounts total = {};
  for (int32_t base = 0; base < num_slots; base += kThreads) {
    const int32_t i = base + thread;
    RowShare share = {};
    if (i < num_slots) {
      share = kind.Share(params.control.slots[i], i, params.cursors[i], params.rule);
    }
    const PlanCounts own =
        share.takes_part ? PlanCounts{share.rows.num_rows, 1, share.num_logits} : PlanCounts{};
    PlanCounts before, tile;
    Scan(scan_storage).ExclusiveScan(own, before, PlanCounts{}, AddCounts(), tile);
    if (share.takes_part) {
      share.rows.first_row = total.rows + before.rows;
      params.plan.sequences[total.sequences + before.sequences] = share.rows;
      shares[before.sequences] = {share.rows, share.num_logits,
                                  total.logit_rows + before.logit_rows};
    }
    __syncthreads();
    for (int32_t s = thread / kRowThreads; s < tile.sequences; s += kThreads / kRowThreads) {
      WriteRows(params, kind, shares[s], thread % kRowThreads);
    }
    total = AddCounts()(total, tile);
    __syncthreads();  // the shares and the scan's memory are written again
  }
  if (thread == 0) {
    *params.plan.num_rows = total.rows;
    *params.plan.num_sequences = total.sequences;
    *params.plan.num_logit_rows = total.logit_rows;
    if (params.branch.recorded) cudaGraphSetConditional(params.branch.handle, total.rows > 0);
  }
}

__global__ void __launch_bounds__(kThreads)
    PlanPrefillRowsKernel(const __grid_constant__ PlanPrefillParams params) {
  LaunchDependents();
  WaitForDependencies();
  const StateCursor cursor = params.cursors[params.slot];
  const int32_t first = blockIdx.x * kThreads + threadIdx.x;
  if (first == 0) {
    *params.plan.num_rows = params.num_rows;
    *params.plan.num_sequences = 1;
    *params.plan.num_logit_rows = params.logits ? params.num_rows : 0;
    params.plan.sequences[0] = PrefillShare(params.slot, cursor, params.rule, params.num_rows);
  }
  for (int32_t r = first; r < params.num_rows; r += gridDim.x * kThreads) {
    params.plan.tokens[r] = params.tokens[cursor.consumed + r];
    if (params.logits) params.plan.logit_rows[r] = r;
  }
}

__global__ void __launch_bounds__(kThreads)
    AdvanceCursorsKernel(const __grid_constant__ RowPlan plan, StateCursor* cursors) {
  LaunchDependents();
  WaitForDependencies();
  const int32_t s = blockIdx.x * kThreads + threadIdx.x;
  if (s >= plan.max_sequences) return;
  const SequenceRows sequence = plan.sequences[s];  // not a sequence of this pass if s is too large
  if (s < *plan.num_sequences) cursors[sequence.slot] = Advanced(sequence);
}

__global__ void __launch_bounds__(kThreads)
    RollBackCursorsKernel(const __grid_constant__ ControlBlock control, StateCursor* cursors) {
  LaunchDependents();
  WaitForDependencies();
  const int32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < control.num_slots) RollBack(control.slots[i], cursors[i]);
}

unsigned BlocksFor(int32_t count) { return (count + kThreads - 1) / kThreads; }

}  // namespace

CudaError LaunchPlanVerifyRows(CudaContext& ctx, const PlanRowsParams& params) {
  return LaunchKernel(ctx, PlanRowsKernel<VerifyRows>, {1, kThreads}, params, VerifyRows{});
}

CudaError LaunchPlanDraftRows(CudaContext& ctx, const PlanRowsParams& params, int32_t step,
                              int32_t max_catch_up) {
  return LaunchKernel(ctx, PlanRowsKernel<DraftRows>, {1, kThreads}, params,
                      DraftRows{step, max_catch_up});
}

CudaError LaunchPlanPrefillRows(CudaContext& ctx, const PlanPrefillParams& params) {
  const unsigned blocks = BlocksFor(Larger(params.num_rows, 1));
  return LaunchKernel(ctx, PlanPrefillRowsKernel,
                      {Smaller(blocks, unsigned{kMaxPrefillBlocks}), kThreads}, params);
}

CudaError LaunchAdvanceCursors(CudaContext& ctx, const RowPlan& plan, StateCursor* cursors) {
  if (plan.max_sequences == 0) return cudaSuccess;
  return LaunchKernel(ctx, AdvanceCursorsKernel, {BlocksFor(plan.max_sequences), kThreads}, plan,
                      cursors);
}

CudaError LaunchRollBackCursors(CudaContext& ctx, const ControlBlock& control,
                                StateCursor* cursors) {
  if (control.num_slots == 0) return cudaSuccess;
  return LaunchKernel(ctx, RollBackCursorsKernel, {BlocksFor(control.num_slots), kThreads}, control,
                      cursors);
}

}  // namespace sidewinder
