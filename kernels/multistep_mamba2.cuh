// What the kernels of Mamba-2's recurrence share: its time step, and how a pass is divided between
// them. A prefill goes through three launches, of which each works on its part of every sequence:
//
//   rows in token order up to the first whole chunk -> whole chunks -> the rest in token order
//
// The state waits in the checkpoint, or in a snapshot, from one to the next.
#ifndef SIDEWINDER_KERNELS_MULTISTEP_MAMBA2_CUH_
#define SIDEWINDER_KERNELS_MULTISTEP_MAMBA2_CUH_

#include <cuda_runtime.h>

#include "kernels/common/math.cuh"
#include "kernels/multistep.h"

namespace sidewinder {

// Time step of a new row.
__device__ __forceinline__ float TimeStep(const MultiStepMamba2Params& p, float raw, float bias) {
  return fminf(fmaxf(Softplus(__fadd_rn(raw, bias)), p.delta_min), p.delta_max);
}

// The positions [begin, end) of the whole chunks among a sequence's new rows; none behind the new
// checkpoint, where rows go to the log.
struct ChunkSpan {
  __device__ explicit ChunkSpan(const SequenceRows& s)
      : begin((s.consumed + kScanChunk - 1) / kScanChunk * kScanChunk),
        end(min(s.consumed + s.num_rows, s.new_checkpoint) / kScanChunk * kScanChunk) {}

  __device__ bool empty() const { return begin >= end; }

  int begin, end;
};

enum class RowsPart { kAll, kBeforeChunks, kBehindChunks };

// What is left of a sequence for one launch. A sequence without whole chunks is all before them.
__device__ __forceinline__ SequenceRows PartOf(SequenceRows s, RowsPart part) {
  if (part == RowsPart::kAll) return s;
  const ChunkSpan chunks(s);
  const int end = s.consumed + s.num_rows;
  if (part == RowsPart::kBeforeChunks) {
    if (chunks.empty()) return s;
    s.num_rows = chunks.begin - s.consumed;
    s.new_checkpoint = chunks.begin;
    return s;
  }
  const int begin = chunks.empty() ? end : chunks.end;
  s.first_row += begin - s.consumed;
  s.num_rows = end - begin;
  s.checkpoint = s.consumed = begin;
  s.new_checkpoint = max(s.new_checkpoint, begin);
  return s;
}

// The whole chunks of all sequences, for a shape that has them (MultiStepMamba2Chunk).
cudaError_t LaunchMultiStepMamba2Chunks(CudaContext& ctx, const MultiStepMamba2Params& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_MULTISTEP_MAMBA2_CUH_
