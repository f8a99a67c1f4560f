// What the plain references of the recurrences share: the order in which a state takes its rows,
// and what is kept of it. Linked by tests only.
#ifndef SIDEWINDER_KERNELS_MULTISTEP_REF_H_
#define SIDEWINDER_KERNELS_MULTISTEP_REF_H_

#include <cstdint>
#include <vector>

#include "kernels/multistep.h"
#include "kernels/row_plan.h"

namespace sidewinder {

// One position of a sequence.
struct ReferenceStep {
  bool is_new;    // a row of this pass; else one of the log
  bool append;    // a new row that the log gets
  int64_t row;    // of the pass
  int64_t entry;  // of the log, over all slots
};

// Calls take(double* state, ReferenceStep) for every position of every sequence, replayed ones
// first, and stores checkpoints or snapshots of the state.
template <class Take>
void ReplayAndDecodeRef(const RecurrentState& st, const RowPlan& plan, int64_t state_elements,
                        const Take& take) {
  const bool snaps = st.snapshots != nullptr;
  for (int s = 0; s < *plan.num_sequences; ++s) {
    const SequenceRows& seq = plan.sequences[s];
    const auto snapshot = [&](int64_t position) {
      return st.snapshots +
             (seq.slot * st.snapshot_rows + position % st.snapshot_rows) * state_elements;
    };
    float* checkpoint = st.checkpoint + seq.slot * state_elements;
    const float* start = snaps ? snapshot(seq.consumed) : checkpoint;
    std::vector<double> state(start, start + state_elements);
    const auto store = [&](float* to) {
      for (int64_t i = 0; i < state_elements; ++i) to[i] = static_cast<float>(state[i]);
    };
    const int64_t end = seq.consumed + seq.num_rows;
    for (int64_t pos = snaps ? seq.consumed : seq.checkpoint; pos < end; ++pos) {
      const bool is_new = pos >= seq.consumed;
      take(state.data(),
           ReferenceStep{.is_new = is_new,
                         .append = is_new && !snaps && pos >= seq.new_checkpoint,
                         .row = seq.first_row + pos - seq.consumed,
                         .entry = snaps ? 0 : seq.slot * st.log_rows + pos % st.log_rows});
      if (snaps) store(snapshot(pos + 1));
      if (!snaps && pos + 1 == seq.new_checkpoint) store(checkpoint);
    }
  }
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_MULTISTEP_REF_H_
