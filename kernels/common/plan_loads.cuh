// Reading the plan behind the wait for earlier kernels, where every load's latency counts.
#ifndef SIDEWINDER_KERNELS_COMMON_PLAN_LOADS_CUH_
#define SIDEWINDER_KERNELS_COMMON_PLAN_LOADS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/row_plan.h"

namespace sidewinder {

// A load that is issued where it stands. The compiler moves plain ones behind branches that they
// need not precede, and so behind the loads that the branches wait for.
__device__ __forceinline__ int LoadNow(const int32_t* from) {
#ifdef __CUDA_ARCH__
  int value;
  asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
#else
  return *from;
#endif
}

// There is memory for max_sequences entries, if not as many sequences.
__device__ __forceinline__ SequenceRows LoadSequence(const RowPlan& plan, int sequence) {
  const SequenceRows* from = plan.sequences + sequence;
  return {.slot = LoadNow(&from->slot),
          .first_row = LoadNow(&from->first_row),
          .num_rows = LoadNow(&from->num_rows),
          .checkpoint = LoadNow(&from->checkpoint),
          .consumed = LoadNow(&from->consumed),
          .new_checkpoint = LoadNow(&from->new_checkpoint)};
}

// Rows of a sequence that may be loaded. With room for one sequence they are the first of the pass,
// and there is memory for `max_rows` of them, however many there are: loads need not wait for the
// plan. With more sequences `count` is 0 where there is no sequence.
struct EarlyRows {
  __device__ __forceinline__ EarlyRows(const RowPlan& plan, int sequence)
      : first_row(0), count(plan.max_rows) {
    if (plan.max_sequences == 1) return;
    // Loads of their own: if they were LoadSequence's, the first case would wait for them too.
    first_row = LoadNow(&plan.sequences[sequence].first_row);
    const int num_rows = LoadNow(&plan.sequences[sequence].num_rows);
    count = sequence < LoadNow(plan.num_sequences) ? num_rows : 0;
  }

  int first_row, count;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_PLAN_LOADS_CUH_
