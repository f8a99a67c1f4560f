#include <algorithm>

#include "kernels/plan_rows.h"

namespace sidewinder {
namespace {

// Where the checkpoint goes in a pass that brings the committed positions to `committed` and the
// consumed ones, with the rest of its round, up by `num_rows`.
int32_t NextCheckpoint(const CheckpointRule& rule, const StateCursor& cursor, int32_t committed,
                       int32_t num_rows) {
  if (rule.every_round) return committed;
  const bool full = cursor.consumed + num_rows - cursor.checkpoint > rule.log_rows - rule.max_rows;
  return full ? std::max(cursor.checkpoint, committed / rule.stride * rule.stride)
              : cursor.checkpoint;
}

void Clear(const RowPlan& plan) {
  *plan.num_rows = 0;
  *plan.num_sequences = 0;
  *plan.num_logit_rows = 0;
}

// Appends one sequence's rows; the caller fills in the tokens it returns.
int32_t* Append(const RowPlan& plan, int32_t slot, const StateCursor& cursor,
                int32_t new_checkpoint, int32_t num_rows) {
  const int32_t first_row = *plan.num_rows;
  plan.sequences[(*plan.num_sequences)++] = {.slot = slot,
                                             .first_row = first_row,
                                             .num_rows = num_rows,
                                             .checkpoint = cursor.checkpoint,
                                             .consumed = cursor.consumed,
                                             .new_checkpoint = new_checkpoint};
  *plan.num_rows += num_rows;
  return plan.tokens + first_row;
}

void WantLogits(const RowPlan& plan, int32_t first_row, int32_t num_rows) {
  for (int32_t r = 0; r < num_rows; ++r) {
    plan.logit_rows[(*plan.num_logit_rows)++] = first_row + r;
  }
}

}  // namespace

void PlanVerifyRowsCpu(ExecutionContext&, const PlanRowsParams& params) {
  Clear(params.plan);
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    const SlotControl& slot = params.control.slots[i];
    if (!slot.active) continue;
    const StateCursor& cursor = params.cursors[i];
    const int32_t num_rows = 1 + slot.num_drafted;
    const int32_t first_row = *params.plan.num_rows;
    // The pending token is committed already, so the checkpoint may move over its row: plain
    // decoding replays nothing.
    int32_t* tokens =
        Append(params.plan, i, cursor,
               NextCheckpoint(params.rule, cursor, cursor.consumed + 1, num_rows), num_rows);
    tokens[0] = slot.tokens[slot.num_tokens - 1];
    std::copy_n(slot.draft, slot.num_drafted, tokens + 1);
    WantLogits(params.plan, first_row, num_rows);
  }
}

void PlanDraftRowsCpu(ExecutionContext&, const PlanRowsParams& params, int32_t step,
                      int32_t max_catch_up) {
  Clear(params.plan);
  for (int32_t i = 0; i < params.control.num_slots; ++i) {
    const SlotControl& slot = params.control.slots[i];
    if (!slot.active) continue;
    const StateCursor& cursor = params.cursors[i];
    if (step > 0) {
      if (slot.draft_limit <= step || slot.num_drafted != step) continue;
      const int32_t row = *params.plan.num_rows;
      *Append(params.plan, i, cursor, cursor.checkpoint, 1) = slot.draft[step - 1];
      WantLogits(params.plan, row, 1);
      continue;
    }
    const int32_t unseen = slot.num_tokens - cursor.consumed;
    const bool drafts = slot.draft_limit > 0 && unseen <= max_catch_up;
    if (!drafts && unseen < max_catch_up) continue;
    const int32_t num_rows = std::min(unseen, max_catch_up);
    const int32_t first_row = *params.plan.num_rows;
    // All these rows are committed tokens. The checkpoint makes room for the whole round here:
    // later steps only append.
    const int32_t appended = num_rows + std::max(0, slot.draft_limit - 1);
    int32_t* tokens =
        Append(params.plan, i, cursor,
               NextCheckpoint(params.rule, cursor, cursor.consumed + num_rows, appended), num_rows);
    std::copy_n(slot.tokens + cursor.consumed, num_rows, tokens);
    if (drafts) WantLogits(params.plan, first_row + num_rows - 1, 1);
  }
}

void PlanPrefillRowsCpu(ExecutionContext&, const PlanPrefillParams& params) {
  Clear(params.plan);
  const StateCursor& cursor = params.cursors[params.slot];
  const int32_t end = cursor.consumed + params.num_rows;
  const int32_t new_checkpoint =
      params.rule.every_round || params.num_rows == 0
          ? end
          : std::max(cursor.checkpoint, end / params.rule.stride * params.rule.stride);
  int32_t* tokens = Append(params.plan, params.slot, cursor, new_checkpoint, params.num_rows);
  std::copy_n(params.tokens + cursor.consumed, params.num_rows, tokens);
  if (params.logits) WantLogits(params.plan, 0, params.num_rows);
}

void AdvanceCursorsCpu(ExecutionContext&, const RowPlan& plan, StateCursor* cursors) {
  for (int32_t i = 0; i < *plan.num_sequences; ++i) {
    const SequenceRows& sequence = plan.sequences[i];
    cursors[sequence.slot] = {.checkpoint = sequence.new_checkpoint,
                              .consumed = sequence.consumed + sequence.num_rows};
  }
}

void RollBackCursorsCpu(ExecutionContext&, const ControlBlock& control, StateCursor* cursors) {
  for (int32_t i = 0; i < control.num_slots; ++i) {
    const SlotControl& slot = control.slots[i];
    if (slot.num_tokens == 0) continue;
    cursors[i].consumed = std::min(cursors[i].consumed, slot.num_tokens - 1);
  }
}

}  // namespace sidewinder
