#include <algorithm>

#include "kernels/plan_rows.h"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

void Clear(const RowPlan& plan) {
  *plan.num_rows = 0;
  *plan.num_sequences = 0;
  *plan.num_logit_rows = 0;
}

// Appends one sequence's rows; the caller fills in the tokens it returns.
int32_t* Append(const RowPlan& plan, const RowShare& share) {
  const int32_t first_row = *plan.num_rows;
  SequenceRows& sequence = plan.sequences[(*plan.num_sequences)++];
  sequence = share.rows;
  sequence.first_row = first_row;
  *plan.num_rows += sequence.num_rows;
  for (int32_t r = *plan.num_rows - share.num_logits; r < *plan.num_rows; ++r) {
    plan.logit_rows[(*plan.num_logit_rows)++] = r;
  }
  return plan.tokens + first_row;
}

}  // namespace

void PlanVerifyRowsCpu(ExecutionContext&, const PlanRowsParams& params) {
  Clear(params.plan);
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    const SlotControl& slot = params.control.slots[i];
    const RowShare share = VerifyShare(slot, i, params.cursors[i], params.rule);
    if (!share.takes_part) continue;
    int32_t* tokens = Append(params.plan, share);
    for (int32_t r = 0; r < share.rows.num_rows; ++r) tokens[r] = VerifyToken(slot, r);
  }
}

void PlanDraftRowsCpu(ExecutionContext&, const PlanRowsParams& params, int32_t step,
                      int32_t max_catch_up) {
  Clear(params.plan);
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    const SlotControl& slot = params.control.slots[i];
    const RowShare share = DraftShare(slot, i, params.cursors[i], params.rule, step, max_catch_up);
    if (!share.takes_part) continue;
    int32_t* tokens = Append(params.plan, share);
    for (int32_t r = 0; r < share.rows.num_rows; ++r) {
      tokens[r] = DraftToken(slot, share.rows.consumed, step, r);
    }
  }
}

void PlanPrefillRowsCpu(ExecutionContext&, const PlanPrefillParams& params) {
  Clear(params.plan);
  const SequenceRows rows =
      PrefillShare(params.slot, params.cursors[params.slot], params.rule, params.num_rows);
  int32_t* tokens =
      Append(params.plan,
             {.rows = rows, .takes_part = true, .num_logits = params.logits ? params.num_rows : 0});
  std::copy_n(params.tokens + rows.consumed, params.num_rows, tokens);
}

void AdvanceCursorsCpu(ExecutionContext&, const RowPlan& plan, StateCursor* cursors) {
  for (int32_t i = 0; i < *plan.num_sequences; ++i) {
    cursors[plan.sequences[i].slot] = Advanced(plan.sequences[i]);
  }
}

void RollBackCursorsCpu(ExecutionContext&, const ControlBlock& control, StateCursor* cursors) {
  for (int32_t i = 0; i < control.num_slots; ++i) RollBack(control.slots[i], cursors[i]);
}

}  // namespace sidewinder
