// What the kernels of Attention share: where the cache has a position, how partial softmaxes are
// joined, and which part of the work a block takes.
#ifndef SIDEWINDER_KERNELS_ATTENTION_CUH_
#define SIDEWINDER_KERNELS_ATTENTION_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/common/host_device.h"
#include "kernels/common/math.cuh"

namespace sidewinder {

constexpr int kSegment{static_cast<int>(kKvSegment)};
constexpr int kGroupSegments{static_cast<int>(kKvGroupSegments)};
constexpr int kPage{static_cast<int>(kKvPagePositions)};

// A pointer in memory that other ops write.
__device__ __forceinline__ char* LoadPointer(const void* at) {
  return reinterpret_cast<char*>(__ldcg(static_cast<const unsigned long long*>(at)));
}
// A slot's pages.
__device__ __forceinline__ char* const* PagesOf(const KvCache& cache, int slot) {
  return reinterpret_cast<char* const*>(LoadPointer(cache.tables + slot));
}

// What of a sequence's rows the op needs.
struct SequenceView {
  int slot, first_row, num_rows, consumed;
};
__device__ __forceinline__ SequenceView LoadSequence(const SequenceRows* sequence) {
  return {__ldcg(&sequence->slot), __ldcg(&sequence->first_row), __ldcg(&sequence->num_rows),
          __ldcg(&sequence->consumed)};
}

// A lane's sequence among those from `base` on, without rows beyond the last. The first 32 are
// loaded before it is known how many there are.
__device__ __forceinline__ SequenceView LaneSequence(const RowPlan& plan, int base, int count) {
  const int index = base + static_cast<int>(threadIdx.x) % 32;
  SequenceView sequence = {};
  if (index < (base == 0 ? plan.max_sequences : count)) {
    sequence = LoadSequence(plan.sequences + index);
  }
  if (index >= count) sequence.num_rows = 0;
  return sequence;
}
__device__ __forceinline__ SequenceView FromLane(const SequenceView& sequence, int lane) {
  return {__shfl_sync(~0u, sequence.slot, lane), __shfl_sync(~0u, sequence.first_row, lane),
          __shfl_sync(~0u, sequence.num_rows, lane), __shfl_sync(~0u, sequence.consumed, lane)};
}

// The sequence of a row that the plan has; the calling warp looks together.
__device__ inline SequenceView SequenceOfRow(const RowPlan& plan, int row) {
  const int count = __ldcg(plan.num_sequences);
  for (int base = 0;; base += 32) {
    const SequenceView own = LaneSequence(plan, base, count);
    const unsigned owners =
        __ballot_sync(~0u, row >= own.first_row && row < own.first_row + own.num_rows);
    if (owners != 0 || base + 32 >= count)
      return FromLane(own, owners != 0 ? __ffs(owners) - 1 : 0);
  }
}

// Joining what two sets of positions give: factors of what is kept and of what is added. Scores are
// exponents of two. Joining to or with nothing (a maximum of -infinity) changes no bits.
struct JoinFactors {
  float keep, add;
};
__device__ __forceinline__ JoinFactors JoinMaxima(float& max, float other) {
  const float joined = fmaxf(max, other);
  const bool nothing = joined == -INFINITY;
  const JoinFactors factors = {nothing ? 0.0f : Exp2(__fsub_rn(max, joined)),
                               nothing ? 0.0f : Exp2(__fsub_rn(other, joined))};
  max = joined;
  return factors;
}
__device__ __forceinline__ float Joined(float kept, JoinFactors f, float added) {
  return __fmaf_rn(kept, f.keep, __fmul_rn(added, f.add));
}
__device__ __forceinline__ float Quotient(float sum, float inverse) {
  return __fmul_rn(sum, inverse);
}

// Scratch in the context's workspace.
struct AttentionScratch {
  uint32_t* counters;  // zero between ops
  float* partials;
  int num_counters;
  int64_t num_floats;
};

// What a block does: columns (rows x query heads of one head of the cache, heads fastest) of one
// sequence, and some of the segments that they see. `pair` numbers (columns, head of the cache).
struct AttentionWork {
  SequenceView sequence;
  int kv_head;
  int first_column, num_columns;
  int first_position, last_position;  // what any of the columns sees
  int first_segment, last_segment;    // the same
  int log_share;                      // a block takes the segments s with one s >> log_share
  int part, num_parts;                // this block's place among those of its pair
  uint32_t* counters;
  float* partials;
  int partial_stride;  // floats

  __device__ int first_group() const { return first_segment / kGroupSegments; }
  __device__ int num_groups() const { return last_segment / kGroupSegments - first_group() + 1; }
  __device__ int num_segments() const { return last_segment - first_segment + 1; }
  // The first segment that could be this block's.
  __device__ int share_begin() const { return ((first_segment >> log_share) + part) << log_share; }
  // A block that is alone with its columns stores no partials; blocks of less than a group store
  // one for each segment, and others one for each group.
  __device__ bool IsAlone() const { return num_parts == 1; }
  __device__ bool StoresSegments() const {
    return num_parts > 1 && 1 << log_share < kGroupSegments;
  }
  __device__ float* SegmentPartial(int segment) const {
    return partials + int64_t{segment - first_segment} * partial_stride;
  }
  __device__ float* GroupPartial(int group) const {
    const int before = StoresSegments() ? num_segments() : 0;
    return partials + int64_t{before + group - first_group()} * partial_stride;
  }
};

// Finds the block's work among tiles of `columns` columns; the same for all its threads. False if
// there is none. Everything depends on what the plan has, not on its maxima: few pairs are split
// over many blocks.
__device__ inline bool FindWork(const AttentionParams& p, const AttentionScratch& scratch,
                                int columns, int padded_dim, AttentionWork* work) {
  const int lane = threadIdx.x % 32, count = __ldcg(p.plan.num_sequences);
  const int heads = static_cast<int>(p.num_heads / p.num_kv_heads);
  const int kv_heads = static_cast<int>(p.num_kv_heads);
  const auto tiles_of = [&](int rows) { return (rows * heads + columns - 1) / columns; };
  SequenceView own = LaneSequence(p.plan, 0, count);
  int tiles = tiles_of(own.num_rows);
  for (int s = lane + 32; s < count; s += 32) {
    tiles += tiles_of(__ldcg(&p.plan.sequences[s].num_rows));
  }
  tiles = __reduce_add_sync(~0u, tiles);
  const int pairs = tiles * kv_heads;
  if (pairs == 0) return false;
  const int block = static_cast<int>(blockIdx.x);
  const int pair = block % pairs, split = block / pairs;
  int parts = static_cast<int>(gridDim.x) / pairs;
  if (split >= parts) return false;
  work->kv_head = pair % kv_heads;
  // The last tile of a long sequence sees the most, so it goes first.
  int tile = tiles - 1 - pair / kv_heads;
  for (int base = 0;; base += 32) {
    if (base > 0) own = LaneSequence(p.plan, base, count);
    const int own_tiles = tiles_of(own.num_rows);
    int stop = own_tiles;
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(~0u, stop, step);
      if (lane >= step) stop += before;
    }
    const unsigned behind = __ballot_sync(~0u, tile < stop);
    if (behind != 0) {
      const int owner = __ffs(behind) - 1;
      tile -= __shfl_sync(~0u, stop - own_tiles, owner);
      work->sequence = FromLane(own, owner);
      break;
    }
    tile -= __shfl_sync(~0u, stop, 31);
  }

  work->first_column = tile * columns;
  work->num_columns = min(columns, work->sequence.num_rows * heads - work->first_column);
  const int first_row = work->first_column / heads;
  const int last_row = (work->first_column + work->num_columns - 1) / heads;
  work->last_position = work->sequence.consumed + last_row;
  work->first_position =
      p.window > 0 ? max(0, work->sequence.consumed + first_row + 1 - static_cast<int>(p.window))
                   : 0;
  const int first = work->first_position / kSegment, last = work->last_position / kSegment;
  work->first_segment = first;
  work->last_segment = last;

  const int counters = scratch.num_counters / pairs;
  const int64_t floats = scratch.num_floats / pairs / 4 * 4;
  work->partial_stride = (work->num_columns * (padded_dim + 2) + 3) / 4 * 4;
  const int64_t room = floats / work->partial_stride;
  if (counters < 1 || work->num_groups() > room) parts = 1;
  int log_share = 0;
  if (1 + work->num_groups() > counters || work->num_segments() + work->num_groups() > room) {
    while (1 << log_share < kGroupSegments) ++log_share;
  }
  while ((last >> log_share) - (first >> log_share) >= parts) ++log_share;
  work->log_share = log_share;
  work->part = split;
  work->num_parts = (last >> log_share) - (first >> log_share) + 1;
  work->counters = scratch.counters + int64_t{pair} * counters;
  work->partials = scratch.partials + pair * floats;
  return split < work->num_parts;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_ATTENTION_CUH_
