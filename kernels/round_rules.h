// The rules of a round, slot by slot, as plain functions: both backends call them, so what a round
// decides is the same on both, to the bit.
#ifndef SIDEWINDER_KERNELS_ROUND_RULES_H_
#define SIDEWINDER_KERNELS_ROUND_RULES_H_

#include <cstdint>

#include "kernels/begin_round.h"
#include "kernels/common/host_device.h"
#include "kernels/common/philox.h"
#include "kernels/control_block.h"
#include "kernels/draft_length.h"
#include "kernels/plan_rows.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// Opens a slot's round; `wanted` proposals if it is active.
SW_HOST_DEVICE inline void OpenRound(SlotControl& slot, int32_t max_draft, int32_t wanted) {
  slot.round_start = slot.num_tokens;
  slot.draft_limit = slot.active ? Larger(0, Smaller(wanted, DraftRoom(slot, max_draft))) : 0;
  slot.num_drafted = 0;
  slot.num_accepted = 0;
  slot.draft_is_sampled = 0;
}

// Where the checkpoint goes in a pass that brings the committed positions to `committed` and the
// consumed ones, with the rest of its round, up by `num_rows`.
SW_HOST_DEVICE inline int32_t NextCheckpoint(const CheckpointRule& rule, const StateCursor& cursor,
                                             int32_t committed, int32_t num_rows) {
  if (rule.every_round) return committed;
  const bool full = cursor.consumed + num_rows - cursor.checkpoint > rule.log_rows - rule.max_rows;
  return full ? Larger(cursor.checkpoint, committed / rule.stride * rule.stride)
              : cursor.checkpoint;
}

// The share of a sequence in a pass; `first_row` is left to the caller.
struct RowShare {
  SequenceRows rows;
  bool takes_part;
  int32_t num_logits;  // of its last rows
};

// The verifier's pass. The pending token is committed already, so the checkpoint may move over its
// row: plain decoding replays nothing.
SW_HOST_DEVICE inline RowShare VerifyShare(const SlotControl& slot, int32_t slot_idx,
                                           const StateCursor& cursor, const CheckpointRule& rule) {
  if (!slot.active) return {};
  const int32_t num_rows = 1 + slot.num_drafted;
  return {.rows = {.slot = slot_idx,
                   .first_row = 0,
                   .num_rows = num_rows,
                   .checkpoint = cursor.checkpoint,
                   .consumed = cursor.consumed,
                   .new_checkpoint = NextCheckpoint(rule, cursor, cursor.consumed + 1, num_rows)},
          .takes_part = true,
          .num_logits = num_rows};
}

SW_HOST_DEVICE inline int32_t VerifyToken(const SlotControl& slot, int32_t row) {
  return row == 0 ? slot.tokens[slot.num_tokens - 1] : slot.draft[row - 1];
}

// Step `step` of the draft model. See plan_rows.h.
SW_HOST_DEVICE inline RowShare DraftShare(const SlotControl& slot, int32_t slot_idx,
                                          const StateCursor& cursor, const CheckpointRule& rule,
                                          int32_t step, int32_t max_catch_up) {
  if (!slot.active) return {};
  RowShare share = {.rows = {.slot = slot_idx,
                             .first_row = 0,
                             .num_rows = 1,
                             .checkpoint = cursor.checkpoint,
                             .consumed = cursor.consumed,
                             .new_checkpoint = cursor.checkpoint},
                    .takes_part = true,
                    .num_logits = 1};
  if (step > 0) {
    share.takes_part = slot.draft_limit > step && slot.num_drafted == step;
    return share;
  }
  const int32_t unseen = slot.num_tokens - cursor.consumed;
  const bool drafts = unseen <= max_catch_up;
  share.takes_part = slot.draft_limit > 0;
  share.num_logits = drafts ? 1 : 0;
  const int32_t num_rows = Smaller(unseen, max_catch_up);
  share.rows.num_rows = num_rows;
  // All these rows are committed tokens. The checkpoint makes room for the whole round here: later
  // steps only append.
  share.rows.new_checkpoint = NextCheckpoint(rule, cursor, cursor.consumed + num_rows,
                                             num_rows + Larger(0, slot.draft_limit - 1));
  return share;
}

SW_HOST_DEVICE inline int32_t DraftToken(const SlotControl& slot, int32_t consumed, int32_t step,
                                         int32_t row) {
  return step > 0 ? slot.draft[step - 1] : slot.tokens[consumed + row];
}

// `num_rows` committed tokens of one sequence. The checkpoint lies behind the last whole chunk,
// which cannot be replayed in part, whatever the stride.
SW_HOST_DEVICE inline SequenceRows PrefillShare(int32_t slot_idx, const StateCursor& cursor,
                                                const CheckpointRule& rule, int32_t num_rows) {
  const int32_t end = cursor.consumed + num_rows;
  const int32_t aligned = Larger(end / rule.stride * rule.stride, end / kScanChunk * kScanChunk);
  return {.slot = slot_idx,
          .first_row = 0,
          .num_rows = num_rows,
          .checkpoint = cursor.checkpoint,
          .consumed = cursor.consumed,
          .new_checkpoint =
              rule.every_round || num_rows == 0 ? end : Larger(cursor.checkpoint, aligned)};
}

SW_HOST_DEVICE inline StateCursor Advanced(const SequenceRows& sequence) {
  return {.checkpoint = sequence.new_checkpoint, .consumed = sequence.consumed + sequence.num_rows};
}

SW_HOST_DEVICE inline void RollBack(const SlotControl& slot, StateCursor& cursor) {
  if (slot.num_tokens == 0) return;
  cursor.consumed = Smaller(cursor.consumed, slot.num_tokens - 1);
}

// The random number of one purpose at one position of the slot's text.
SW_HOST_DEVICE inline float RandomFor(const SlotControl& slot, int32_t position,
                                      RandomPurpose purpose, int32_t index = 0) {
  return RandomUniform(slot.seed, slot.sequence, static_cast<uint32_t>(position), purpose,
                       static_cast<uint32_t>(index));
}

// Whether lots and not the verifier decide which proposals are accepted.
SW_HOST_DEVICE inline bool AcceptsByLot(const SlotControl& slot) {
  return slot.synthetic_acceptance[0] >= 0.0f;
}

// Whether they accept proposal `j` of the round.
SW_HOST_DEVICE inline bool SyntheticAccepts(const SlotControl& slot, int32_t j) {
  return RandomFor(slot, slot.num_tokens + j, RandomPurpose::kSynthetic) <
         slot.synthetic_acceptance[j];
}

SW_HOST_DEVICE inline bool IsStop(const SlotControl& slot, int32_t token) {
  for (int32_t i = 0; i < slot.num_stop_tokens; ++i) {
    if (slot.stop_tokens[i] == token) return true;
  }
  return false;
}

// Appends the first `accepted` proposals and `next`, up to the end of the text.
SW_HOST_DEVICE inline void CommitTokens(SlotControl& slot, int32_t accepted, int32_t next) {
  int32_t* text = slot.tokens + slot.num_tokens;
  const int32_t room = slot.max_tokens - slot.num_tokens;
  SlotFinish finish = slot.finish;
  int32_t committed = 0;
  while (committed <= accepted && finish == SlotFinish::kRunning) {
    const int32_t token = committed < accepted ? slot.draft[committed] : next;
    text[committed++] = token;
    if (IsStop(slot, token)) {
      finish = SlotFinish::kStop;
    } else if (committed >= room) {
      finish = SlotFinish::kLength;
    }
  }
  slot.num_tokens += committed;
  slot.finish = finish;
  slot.num_accepted = Smaller(committed, accepted);
  slot.active = finish == SlotFinish::kRunning;
}

SW_HOST_DEVICE inline void CountRound(SlotControl& slot) {
  const int32_t num_drafted = slot.num_drafted, num_accepted = slot.num_accepted;
  for (int32_t j = 0; j < num_drafted; ++j) {
    ++slot.drafted_at[j];
    if (j < num_accepted) ++slot.accepted_at[j];
  }
  CountAcceptance(slot);
  ++slot.rounds;
  slot.drafted += num_drafted;
  slot.accepted += num_accepted;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_ROUND_RULES_H_
