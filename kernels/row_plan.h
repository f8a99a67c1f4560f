// Which rows one forward pass evaluates. A row is one token of one sequence; the rows of a sequence
// are consecutive, and sequences of different lengths lie one behind the other without padding.
// The whole plan lives in device memory and is written by PlanRows ops, never by the host, so that
// a recorded pass serves any raggedness up to its maxima.
#ifndef SIDEWINDER_KERNELS_ROW_PLAN_H_
#define SIDEWINDER_KERNELS_ROW_PLAN_H_

#include <cstdint>

namespace sidewinder {

// Where a sequence's recurrent state stands, per model. Position p is the p-th token of the
// sequence, counted from 0. The state after positions [0, consumed) is the checkpoint (the state
// after [0, checkpoint)) followed by the log rows of [checkpoint, consumed). Rolling back is
// lowering `consumed`; it may not go below `checkpoint`.
struct StateCursor {
  int32_t checkpoint = 0;
  int32_t consumed = 0;
};

// One sequence's share of a pass.
struct SequenceRows {
  int32_t slot;            // which sequence of the state store
  int32_t first_row;       // index of its first row
  int32_t num_rows;        // >= 0; 0 with new_checkpoint = consumed settles a sequence: its log
                           // is folded into the checkpoint and nothing is decoded
  int32_t checkpoint;      // position of the stored checkpoint before the pass
  int32_t consumed;        // positions consumed before the pass = position of the first row
  int32_t new_checkpoint;  // position the checkpoint is moved to by this pass:
                           // checkpoint <= new_checkpoint <= consumed + num_rows.
                           // Equal to `checkpoint`: it is not written. Rows at positions
                           // < new_checkpoint are not appended to the log (they are in the state).
};

// Positions [k * kScanChunk, (k + 1) * kScanChunk) of a text are a chunk. Some recurrences have a
// form for whole chunks of a prompt (multistep.h).
inline constexpr int32_t kScanChunk{64};

struct RowPlan {
  int32_t* num_rows;        // [1]
  int32_t* num_sequences;   // [1]
  int32_t* num_logit_rows;  // [1] rows whose logits are wanted
  int32_t* tokens;          // [max_rows] token id of each row
  SequenceRows* sequences;  // [max_sequences]
  int32_t* logit_rows;      // [max_rows] row index of each wanted logits row, ascending
  int32_t max_rows;         // bounds of the counts above for the pass at hand, known to the host:
  int32_t max_sequences;    // they size launches
  bool prefill = false;     // rows of prompts: whole chunks among them may be evaluated as such
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_ROW_PLAN_H_
