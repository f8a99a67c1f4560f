// Which rows a MultiStep pass runs over a sequence's state, and where they come from.
#ifndef SIDEWINDER_KERNELS_COMMON_REPLAY_H_
#define SIDEWINDER_KERNELS_COMMON_REPLAY_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/common/check.h"
#include "kernels/multistep.h"

namespace sidewinder {

// The positions [begin, end) of one sequence: log rows below `first_new`, rows of the pass from it.
struct Replay {
  Replay(const RecurrentState& state, const SequenceRows& sequence)
      : begin(state.snapshots != nullptr ? sequence.consumed : sequence.checkpoint),
        first_new(sequence.consumed),
        end(int64_t{sequence.consumed} + sequence.num_rows),
        row_offset(int64_t{sequence.first_row} - sequence.consumed),
        log_offset(sequence.slot * state.log_rows),
        log_rows(state.log_rows),
        // Position at which the state goes to the checkpoint; none if that is where it stands.
        store_at(state.snapshots == nullptr && sequence.new_checkpoint != sequence.checkpoint
                     ? sequence.new_checkpoint
                     : -1),
        first_append(state.snapshots != nullptr
                         ? end
                         : std::max<int64_t>(sequence.consumed, sequence.new_checkpoint)) {
    // What is replayed and what stays in the log after the pass must fit.
    SW_CHECK(state.snapshots != nullptr ||
             (begin <= first_new && first_new - begin <= log_rows &&
              end - std::max(begin, int64_t{sequence.new_checkpoint}) <= log_rows))
        << "checkpoint=" << sequence.checkpoint << " consumed=" << sequence.consumed
        << " num_rows=" << sequence.num_rows << " new_checkpoint=" << sequence.new_checkpoint
        << " log_rows=" << state.log_rows;
  }

  int64_t Row(int64_t position) const { return row_offset + position; }
  int64_t LogEntry(int64_t position) const { return log_offset + position % log_rows; }

  int64_t begin, first_new, end;
  int64_t row_offset, log_offset, log_rows;
  int64_t store_at;
  int64_t first_append;
};

// Entry of the snapshot of `position`.
inline int64_t SnapshotEntry(const RecurrentState& state, const SequenceRows& sequence,
                             int64_t position) {
  return sequence.slot * state.snapshot_rows + position % state.snapshot_rows;
}

// Appends the B rows of a pass. Heads and channels share them, so this runs after all of them have
// replayed.
inline void AppendLogB(const RecurrentState& state, const RowPlan& plan, const float* b,
                       int64_t b_stride, int64_t b_dim) {
  for (int s = 0; s < *plan.num_sequences; ++s) {
    const Replay replay(state, plan.sequences[s]);
    for (int64_t position = replay.first_append; position < replay.end; ++position) {
      std::memcpy(state.log_b + replay.LogEntry(position) * b_dim,
                  b + replay.Row(position) * b_stride, b_dim * sizeof(float));
    }
  }
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_REPLAY_H_
