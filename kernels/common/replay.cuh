// Which rows a MultiStep pass runs over a sequence's state (the device twin of replay.h), and how
// log rows that blocks share are appended without overtaking a block that still replays.
#ifndef SIDEWINDER_KERNELS_COMMON_REPLAY_CUH_
#define SIDEWINDER_KERNELS_COMMON_REPLAY_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/ring.cuh"
#include "kernels/multistep.h"

namespace sidewinder {

// The positions [begin, end) of one sequence: log rows below `first_new`, rows of the pass from it.
struct DeviceReplay {
  __device__ DeviceReplay(const RecurrentState& state, Ring log, const SequenceRows& sequence)
      : slot(sequence.slot),
        begin(state.snapshots != nullptr ? sequence.consumed : sequence.checkpoint),
        first_new(sequence.consumed),
        end(sequence.consumed + sequence.num_rows),
        row_offset(sequence.first_row - sequence.consumed),
        log(log),
        store_at(state.snapshots == nullptr && sequence.new_checkpoint != sequence.checkpoint
                     ? sequence.new_checkpoint
                     : -1),
        first_append(state.snapshots != nullptr ? end
                                                : max(sequence.consumed, sequence.new_checkpoint)) {
  }

  __device__ int64_t Row(int position) const { return row_offset + position; }
  __device__ int64_t LogEntry(int position) const {
    return static_cast<int64_t>(slot) * log.rows + log.Entry(position);
  }

  // Whether a row that is appended may take the log entry of one that is replayed. Never if the
  // positions of the pass have an entry each, which holds for decoding (multistep.h).
  __device__ bool AppendsOntoReplayed() const {
    const bool both = begin < first_new && first_append < end;
    return both && end - begin > static_cast<int>(log.rows);
  }

  // Past the last of the positions from `position` on, and below `stop`, that are all of one kind
  // (replayed or new) and are run without storing the state in between.
  __device__ int RunEnd(int position, int stop, bool stores_every_row) const {
    if (stores_every_row) return position + 1;
    if (position < first_new) stop = min(stop, first_new);
    return position < store_at ? min(stop, store_at) : stop;
  }

  int slot;
  int begin, first_new, end;
  int row_offset;
  Ring log;
  int store_at;  // position at which the state goes to the checkpoint, or -1
  int first_append;
};

// Element of the snapshots at which the one of `position` begins.
__device__ __forceinline__ int64_t SnapshotOffset(Ring snapshots, int slot, int position,
                                                  int64_t elements) {
  return (static_cast<int64_t>(slot) * snapshots.rows + snapshots.Entry(position)) * elements;
}

// True in the last of `blocks` blocks that call this with one counter, which is zero before and
// after. What the other blocks read before the call has been read when the last one returns, so it
// may overwrite that. Called by all threads of a block.
__device__ __forceinline__ bool ArrivesLast(unsigned* counter, unsigned blocks) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(counter, 1u) == blocks - 1;
    if (last) *counter = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_REPLAY_CUH_
