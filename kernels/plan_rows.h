// Ops that write row plans and move state cursors (row_plan.h), for both models of a round.
#ifndef SIDEWINDER_KERNELS_PLAN_ROWS_H_
#define SIDEWINDER_KERNELS_PLAN_ROWS_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/control_block.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// When the checkpoint moves. See docs/state-management.md.
struct CheckpointRule {
  int32_t every_round;  // 1: behind the last committed token, every round
  int32_t stride;       // else: to a multiple of this, when the log has no room for the round
  int32_t log_rows;     // capacity of the log ring
  int32_t max_rows;     // most rows one round appends
};

// Where an op says whether the work behind it is needed, if that work was recorded as a branch
// (runtime/recorded_branch.h).
struct BranchCondition {
  bool recorded = false;
  uint64_t handle = 0;  // cudaGraphConditionalHandle
};

struct PlanRowsParams {
  ControlBlock control;
  StateCursor* cursors;  // [num_slots] of the model that the plan is for
  CheckpointRule rule;
  RowPlan plan;
  BranchCondition branch = {};  // PlanDraftRows: whether the plan has any rows
};

// The verifier's pass: the pending token and all proposals of every active slot, logits for each.
void PlanVerifyRows(ExecutionContext& ctx, const PlanRowsParams& params);

// Step `step` of the draft model, for every active slot that wants more than `step` proposals.
// Step 0 evaluates the committed tokens the draft model has not seen: one after a rejection, two
// after full acceptance, more if it paused; if they exceed the room of the plan's share of a slot,
// the slot only catches up and proposes nothing this round. A slot that wants no proposals is left
// alone. Later steps evaluate the last proposal.
// Logits for the last row of each sequence.
void PlanDraftRows(ExecutionContext& ctx, const PlanRowsParams& params, int32_t step,
                   int32_t max_catch_up);

// `num_rows` tokens of one sequence from its consumed position on, `tokens` being the sequence from
// position 0. They are committed: the checkpoint moves as far as the rule allows. Logits for all
// rows or none. num_rows = 0 settles the sequence.
struct PlanPrefillParams {
  const int32_t* tokens;
  int32_t slot;
  int32_t num_rows;
  bool logits;
  StateCursor* cursors;
  CheckpointRule rule;
  RowPlan plan;
};
void PlanPrefillRows(ExecutionContext& ctx, const PlanPrefillParams& params);

// After the pass: cursors of the plan's sequences move over its rows.
void AdvanceCursors(ExecutionContext& ctx, const RowPlan& plan, StateCursor* cursors);

// After FirstConflict: no model has consumed more than the committed tokens before the pending one.
void RollBackCursors(ExecutionContext& ctx, const ControlBlock& control, StateCursor* cursors);

// The backends of the above.
void PlanVerifyRowsCpu(ExecutionContext& ctx, const PlanRowsParams& params);
void PlanDraftRowsCpu(ExecutionContext& ctx, const PlanRowsParams& params, int32_t step,
                      int32_t max_catch_up);
void PlanPrefillRowsCpu(ExecutionContext& ctx, const PlanPrefillParams& params);
void AdvanceCursorsCpu(ExecutionContext& ctx, const RowPlan& plan, StateCursor* cursors);
void RollBackCursorsCpu(ExecutionContext& ctx, const ControlBlock& control, StateCursor* cursors);
CudaError LaunchPlanVerifyRows(CudaContext& ctx, const PlanRowsParams& params);
CudaError LaunchPlanDraftRows(CudaContext& ctx, const PlanRowsParams& params, int32_t step,
                              int32_t max_catch_up);
CudaError LaunchPlanPrefillRows(CudaContext& ctx, const PlanPrefillParams& params);
CudaError LaunchAdvanceCursors(CudaContext& ctx, const RowPlan& plan, StateCursor* cursors);
CudaError LaunchRollBackCursors(CudaContext& ctx, const ControlBlock& control,
                                StateCursor* cursors);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_PLAN_ROWS_H_
