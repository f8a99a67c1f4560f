// The rows of a sequence that a block may load before it knows the sequence's entry of the plan.
#ifndef SIDEWINDER_KERNELS_COMMON_EARLY_ROWS_CUH_
#define SIDEWINDER_KERNELS_COMMON_EARLY_ROWS_CUH_

#include <cuda_runtime.h>

#include "kernels/row_plan.h"

namespace sidewinder {

// With room for one sequence its rows are the first of the pass, and there is memory for `max_rows`
// of them, however many there are: loads of them need not wait for the plan. With more sequences
// `count` is 0 where there is no sequence.
struct EarlyRows {
  __device__ EarlyRows(const RowPlan& plan, int sequence) : first_row(0), count(plan.max_rows) {
    if (plan.max_sequences == 1) return;
    // Reads of their own: else the first case would wait for them too.
    const volatile SequenceRows& rows = plan.sequences[sequence];
    first_row = rows.first_row;
    const int num_rows = rows.num_rows;
    count = sequence < *const_cast<const volatile int32_t*>(plan.num_sequences) ? num_rows : 0;
  }

  int first_row, count;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_EARLY_ROWS_CUH_
