// DraftSample and FirstConflict on a GPU. The rules are those of round_rules.h, distributions and
// draws those of block_sampling.cuh.
//
// Greedy (no slot samples): a block takes a chunk of one row and leaves the key of its largest
// logit in the workspace; the last block of a sequence to arrive takes the maximum over the chunks
// and finishes, so that there is one launch. Grid: (chunk, row) or (chunk, row of a sequence,
// sequence). kGreedyThreads threads, 16-byte loads where the rows allow them. The maximum does not
// depend on how a row is cut. Bound: 4 bytes a logit, and for few rows a chain of about six trips
// to the second-level cache.
//
// Sampling (some slot may): one block of kSamplingThreads a row reduces it to a verdict on its
// proposal (the proposal stands, or what is to stand in its place), the same way for greedy slots;
// the last block of a sequence finishes. Grid: (row) or (row of a sequence, sequence). Bound:
// passes over the row in the first-level cache, 3 without filters, about 9 with all of them.
//
// The finish of FirstConflict works on a copy of the slot in shared memory, of which the part that
// the host does not write goes back.
#include <cstddef>
#include <cstdint>

#include "kernels/common/arg_max.cuh"
#include "kernels/common/block_sampling.cuh"
#include "kernels/common/host_device.h"
#include "kernels/common/last_block.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/round_rules.h"
#include "kernels/sampling.h"

namespace sidewinder {
namespace {

constexpr int kGreedyThreads{256};
constexpr int kGreedyWarps{kGreedyThreads / 32};
constexpr int32_t kMaxChunks{32};           // a lane each when they are put together
constexpr int32_t kMinChunkLogits{2048};    // eight a thread
constexpr int32_t kMaxRows{kMaxDraft + 1};  // of a sequence
constexpr int32_t kMaxSequences{
    static_cast<int32_t>(kWorkspaceCounterBytes / sizeof(uint32_t))};  // a counter each

// Verdict on a row: the token that takes the place of its proposal, or that the proposal stands.
constexpr int32_t kStands{-1};

// Where blocks meet: counters, and behind them what blocks leave for the last one.
template <class T>
struct Meeting {
  uint32_t* counters;  // [sequences]
  T* parts;            // [sequences, rows of a sequence, chunks]
};

// The cut of a row into chunks.
struct Chunks {
  int32_t count;
  int32_t size;  // a multiple of 4
};

// Key of the largest logit of [begin, end), `begin` a multiple of 4, for all threads of the block.
template <bool kWide>
__device__ uint64_t ChunkArgMax(const float* logits, int32_t begin, int32_t end,
                                uint64_t (&shared)[kGreedyWarps]) {
  ThreadArgMax best;
#pragma unroll 2
  for (int32_t i = begin + 4 * static_cast<int32_t>(threadIdx.x); i < end;
       i += 4 * kGreedyThreads) {
    float values[4];
    if constexpr (kWide) {  // rows are padded to a multiple of 4
      *reinterpret_cast<float4*>(values) = *reinterpret_cast<const float4*>(logits + i);
    } else {
#pragma unroll
      for (int32_t e = 0; e < 4; ++e) values[e] = i + e < end ? logits[i + e] : -INFINITY;
    }
#pragma unroll
    for (int32_t e = 0; e < 4; ++e) {
      if (i + e < end) best.Add(values[e], i + e);
    }
  }
  return BlockMax<kGreedyThreads>(best.Key(), shared);
}

// The maximum over the chunks of one row, for a whole warp.
__device__ uint64_t RowMax(const uint64_t* parts, int32_t num_chunks) {
  const int32_t lane = threadIdx.x % 32;
  return WarpMax(
      lane < num_chunks ? __ldcg(reinterpret_cast<const unsigned long long*>(parts) + lane) : 0);
}

// Slot of the sequence whose last row is logits row `logit_row` of the plan; a sequence stands at
// its logits row's place or behind it. Threads `thread` of `num_threads` call it and pass a barrier
// before `shared_slot` is read.
__device__ void FindSlot(const RowPlan& plan, int32_t logit_row, int32_t thread,
                         int32_t num_threads, int32_t* shared_slot) {
  const int32_t row = plan.logit_rows[logit_row];
  const int32_t num_sequences = *plan.num_sequences;
  for (int32_t s = logit_row + thread; s < num_sequences; s += num_threads) {
    const SequenceRows& sequence = plan.sequences[s];
    if (sequence.num_rows > 0 && sequence.first_row + sequence.num_rows - 1 == row) {
      *shared_slot = sequence.slot;
    }
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kGreedyThreads)
    GreedyDraftKernel(const __grid_constant__ DraftSampleParams params, const Chunks chunks,
                      const Meeting<uint64_t> meeting) {
  __shared__ uint64_t warp_max[kGreedyWarps];
  __shared__ int32_t slot_idx;
  __shared__ bool is_last;
  LaunchDependents();
  WaitForDependencies();
  const int32_t chunk = blockIdx.x, row = blockIdx.y;
  if (row >= *params.plan.num_logit_rows) return;
  const int32_t begin = chunk * chunks.size;
  const uint64_t key =
      ChunkArgMax<kWide>(params.logits + int64_t{row} * params.logits_stride, begin,
                         Smaller(begin + chunks.size, params.control.vocab_limit), warp_max);
  uint64_t* parts = meeting.parts + int64_t{row} * chunks.count;
  if (threadIdx.x == 0) parts[chunk] = key;
  if (threadIdx.x >= 32) {  // while thread 0 arrives
    FindSlot(params.plan, row, threadIdx.x - 32, kGreedyThreads - 32, &slot_idx);
  }
  if (!ArrivesLast(meeting.counters + row, chunks.count, &is_last)) return;
  if (threadIdx.x >= 32) return;
  const uint64_t best = RowMax(parts, chunks.count);
  if (threadIdx.x == 0) {
    SlotControl& slot = params.control.slots[slot_idx];
    slot.draft[params.step] = ArgMaxIndex(best);
    slot.num_drafted = params.step + 1;
  }
}

__global__ void __launch_bounds__(kSamplingThreads)
    SamplingDraftKernel(const __grid_constant__ DraftSampleParams params) {
  __shared__ BlockSampler::Storage storage;
  __shared__ int32_t slot_idx;
  LaunchDependents();
  WaitForDependencies();
  const int32_t row = blockIdx.x;
  if (row >= *params.plan.num_logit_rows) return;
  FindSlot(params.plan, row, threadIdx.x, kSamplingThreads, &slot_idx);
  __syncthreads();
  const ControlBlock& control = params.control;
  SlotControl& slot = control.slots[slot_idx];
  const float* logits = params.logits + int64_t{row} * params.logits_stride;
  const bool samples = slot.temperature > 0.0f;
  const int32_t position = slot.num_tokens + params.step;
  BlockSampler sampler(storage);
  int32_t token;
  if (!samples) {
    token = sampler.ArgMax(logits, control.vocab_limit);
  } else {
    const Distribution d = sampler.MakeDistribution(slot, logits, control.vocab_limit);
    if (slot.coupled) {
      token = sampler.DrawCoupled(slot, d, position);
    } else {
      float* probs = control.draft_probs +
                     (int64_t{slot_idx} * control.max_draft + params.step) * control.vocab_size;
      for (int32_t i = threadIdx.x; i < control.vocab_size; i += kSamplingThreads) {
        probs[i] = i < control.vocab_limit ? d.Probability(i) : 0.0f;
      }
      token = sampler.Draw(d, RandomFor(slot, position, RandomPurpose::kDraft));
    }
  }
  if (threadIdx.x == 0) {
    slot.draft[params.step] = token;
    slot.num_drafted = params.step + 1;
    if (samples) slot.draft_is_sampled = 1;
  }
}

// Words [begin, end) of a slot, in 32 bits; threads `thread` of `num_threads`.
__device__ void CopySlot(SlotControl* to, const SlotControl* from, int32_t begin, int32_t thread,
                         int32_t num_threads) {
  static_assert(sizeof(SlotControl) % sizeof(uint32_t) == 0);
  constexpr int32_t kWords{sizeof(SlotControl) / sizeof(uint32_t)};
  for (int32_t w = begin + thread; w < kWords; w += num_threads) {
    reinterpret_cast<uint32_t*>(to)[w] = reinterpret_cast<const uint32_t*>(from)[w];
  }
}

// The part of a slot that the host does not write.
constexpr int32_t kFirstOwnWord{offsetof(SlotControl, active) / sizeof(uint32_t)};

// What the last block of a sequence works on.
struct Finish {
  SlotControl slot;
  int32_t verdicts[kMaxRows];
};

// Commits what the verdicts of a sequence's rows say; all threads of the block.
__device__ void Commit(Finish& finish, SlotControl& slot) {
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t accepted = 0;
    while (finish.verdicts[accepted] == kStands) ++accepted;
    CommitTokens(finish.slot, accepted, finish.verdicts[accepted]);
    CountRound(finish.slot);
  }
  __syncthreads();
  CopySlot(&slot, &finish.slot, kFirstOwnWord, threadIdx.x, blockDim.x);
}

// The verdict on row `j` of a slot whose own token there is `own`, if no distribution is needed.
__device__ int32_t JudgeToken(const SlotControl& slot, int32_t j, int32_t own) {
  if (j >= slot.num_drafted) return own;
  const bool stands = AcceptsByLot(slot) ? SyntheticAccepts(slot, j) : slot.draft[j] == own;
  return stands ? kStands : own;
}

template <bool kWide>
__global__ void __launch_bounds__(kGreedyThreads)
    GreedyConflictKernel(const __grid_constant__ FirstConflictParams params, const Chunks chunks,
                         const Meeting<uint64_t> meeting) {
  __shared__ uint64_t warp_max[kGreedyWarps];
  __shared__ Finish finish;
  __shared__ bool is_last;
  LaunchDependents();
  WaitForDependencies();
  const int32_t chunk = blockIdx.x, j = blockIdx.y, s = blockIdx.z;
  const SequenceRows sequence = params.plan.sequences[s];  // stale if there are not so many
  if (s >= *params.plan.num_sequences || j >= sequence.num_rows) return;
  const ControlBlock& control = params.control;
  SlotControl& slot = control.slots[sequence.slot];
  const int32_t begin = chunk * chunks.size;
  const uint64_t key =
      ChunkArgMax<kWide>(params.logits + int64_t{sequence.first_row + j} * control.vocab_size,
                         begin, Smaller(begin + chunks.size, control.vocab_limit), warp_max);
  uint64_t* parts = meeting.parts + int64_t{s} * gridDim.y * chunks.count;
  if (threadIdx.x == 0) parts[j * chunks.count + chunk] = key;
  if (threadIdx.x >= 32) {  // while thread 0 arrives
    CopySlot(&finish.slot, &slot, 0, threadIdx.x - 32, kGreedyThreads - 32);
  }
  const uint32_t expected = sequence.num_rows * chunks.count;
  if (!ArrivesLast(meeting.counters + s, expected, &is_last)) return;
  for (int32_t row = threadIdx.x / 32; row < sequence.num_rows; row += kGreedyWarps) {
    const int32_t own = ArgMaxIndex(RowMax(parts + row * chunks.count, chunks.count));
    if (threadIdx.x % 32 == 0) finish.verdicts[row] = JudgeToken(finish.slot, row, own);
  }
  Commit(finish, slot);
}

// Rejection sampling of proposal `j`, whose distribution was `drafted` (null: it was certain).
__device__ int32_t JudgeByRejection(BlockSampler& sampler, const SlotControl& slot,
                                    const Distribution& d, const float* drafted, int32_t j) {
  const int32_t proposal = slot.draft[j];
  const int32_t position = slot.num_tokens + j;
  const float p = proposal < d.size ? d.Probability(proposal) : 0.0f;
  const float q = drafted != nullptr ? drafted[proposal] : 1.0f;
  if (__fmul_rn(RandomFor(slot, position, RandomPurpose::kAccept), q) < p) return kStands;
  const float uniform = RandomFor(slot, position, RandomPurpose::kSample);
  const int32_t correction = sampler.Draw(d.size, uniform, [&](int32_t i) {
    const float taken = drafted != nullptr ? drafted[i] : (i == proposal ? 1.0f : 0.0f);
    return Mass(fmaxf(0.0f, __fsub_rn(d.Probability(i), taken)));
  });
  // p and q equal up to rounding: rejection has probability zero, and p itself is as good.
  return correction >= 0 ? correction : sampler.Draw(d, uniform);
}

// The verdict on row `j` of a slot, for all threads of the block.
__device__ int32_t JudgeRow(BlockSampler& sampler, const ControlBlock& control, int32_t slot_idx,
                            int32_t j, const float* logits) {
  const SlotControl& slot = control.slots[slot_idx];
  if (slot.temperature <= 0.0f) {
    return JudgeToken(slot, j, sampler.ArgMax(logits, control.vocab_limit));
  }
  const Distribution d = sampler.MakeDistribution(slot, logits, control.vocab_limit);
  const int32_t position = slot.num_tokens + j;
  if (slot.coupled) return JudgeToken(slot, j, sampler.DrawCoupled(slot, d, position));
  if (j >= slot.num_drafted || AcceptsByLot(slot)) {
    const float uniform = RandomFor(slot, position, RandomPurpose::kSample);
    return JudgeToken(slot, j, sampler.Draw(d, uniform));
  }
  const float* drafted =
      slot.draft_is_sampled
          ? control.draft_probs + (int64_t{slot_idx} * control.max_draft + j) * control.vocab_size
          : nullptr;
  return JudgeByRejection(sampler, slot, d, drafted, j);
}

__global__ void __launch_bounds__(kSamplingThreads)
    SamplingConflictKernel(const __grid_constant__ FirstConflictParams params,
                           const Meeting<int32_t> meeting) {
  __shared__ BlockSampler::Storage storage;
  __shared__ Finish finish;
  __shared__ bool is_last;
  LaunchDependents();
  WaitForDependencies();
  const int32_t j = blockIdx.x, s = blockIdx.y;
  const SequenceRows sequence = params.plan.sequences[s];  // stale if there are not so many
  if (s >= *params.plan.num_sequences || j >= sequence.num_rows) return;
  BlockSampler sampler(storage);
  const int32_t verdict =
      JudgeRow(sampler, params.control, sequence.slot, j,
               params.logits + int64_t{sequence.first_row + j} * params.control.vocab_size);
  int32_t* verdicts = meeting.parts + s * gridDim.x;
  if (threadIdx.x == 0) verdicts[j] = verdict;
  if (!ArrivesLast(meeting.counters + s, sequence.num_rows, &is_last)) return;
  SlotControl& slot = params.control.slots[sequence.slot];
  CopySlot(&finish.slot, &slot, 0, threadIdx.x, kSamplingThreads);
  if (threadIdx.x < sequence.num_rows) {
    finish.verdicts[threadIdx.x] = __ldcg(verdicts + threadIdx.x);
  }
  Commit(finish, slot);
}

// A row in one piece if there are rows enough to fill the GPU twice, else in more.
Chunks CutRow(const CudaContext& ctx, int32_t vocab, int32_t max_rows) {
  const int32_t wanted = 2 * ctx.num_multiprocessors / max_rows;
  const int32_t sensible = (vocab + kMinChunkLogits - 1) / kMinChunkLogits;
  const int32_t count = Larger(1, Smaller(wanted, Smaller(sensible, kMaxChunks)));
  const int32_t size = ((vocab + count - 1) / count + 3) / 4 * 4;
  return {(vocab + size - 1) / size, size};
}

// False if the workspace is too small for `num_parts` of them.
template <class T>
bool Arrange(const CudaContext& ctx, int32_t num_sequences, int64_t num_parts,
             Meeting<T>* meeting) {
  const size_t bytes = kWorkspaceCounterBytes + num_parts * sizeof(T);
  if (num_sequences > kMaxSequences || bytes > ctx.workspace_bytes) return false;
  meeting->counters = static_cast<uint32_t*>(ctx.workspace);
  meeting->parts = reinterpret_cast<T*>(static_cast<char*>(ctx.workspace) + kWorkspaceCounterBytes);
  return true;
}

bool RowsAreWide(const float* logits, int32_t stride) {
  return reinterpret_cast<uintptr_t>(logits) % 16 == 0 && stride % 4 == 0;
}

}  // namespace

CudaError LaunchDraftSample(CudaContext& ctx, const DraftSampleParams& params) {
  const int32_t max_rows = Smaller(params.plan.max_sequences, params.plan.max_rows);
  if (max_rows <= 0) return cudaSuccess;
  if (params.sampling) {
    if (params.control.vocab_limit > kMaxSamplingVocab) return cudaErrorNotSupported;
    return LaunchKernel(ctx, SamplingDraftKernel,
                        {static_cast<unsigned>(max_rows), kSamplingThreads}, params);
  }
  const Chunks chunks = CutRow(ctx, params.control.vocab_limit, max_rows);
  Meeting<uint64_t> meeting;
  if (!Arrange(ctx, max_rows, int64_t{max_rows} * chunks.count, &meeting)) {
    return cudaErrorInvalidValue;
  }
  const bool wide = RowsAreWide(params.logits, params.logits_stride);
  const dim3 grid(chunks.count, max_rows);
  return LaunchKernel(ctx, wide ? GreedyDraftKernel<true> : GreedyDraftKernel<false>,
                      {grid, kGreedyThreads}, params, chunks, meeting);
}

CudaError LaunchFirstConflict(CudaContext& ctx, const FirstConflictParams& params) {
  const ControlBlock& control = params.control;
  const int32_t sequences = params.plan.max_sequences;
  const int32_t rows = Smaller(control.max_draft + 1, params.plan.max_rows);  // of a sequence
  if (sequences <= 0 || rows <= 0) return cudaSuccess;
  if (params.sampling) {
    if (control.vocab_limit > kMaxSamplingVocab) return cudaErrorNotSupported;
    Meeting<int32_t> meeting;
    if (!Arrange(ctx, sequences, int64_t{sequences} * rows, &meeting)) return cudaErrorInvalidValue;
    return LaunchKernel(ctx, SamplingConflictKernel, {dim3(rows, sequences), kSamplingThreads},
                        params, meeting);
  }
  const int32_t max_rows = Smaller(params.plan.max_rows, sequences * rows);
  const Chunks chunks = CutRow(ctx, control.vocab_limit, max_rows);
  Meeting<uint64_t> meeting;
  if (!Arrange(ctx, sequences, int64_t{sequences} * rows * chunks.count, &meeting)) {
    return cudaErrorInvalidValue;
  }
  const bool wide = RowsAreWide(params.logits, control.vocab_size);
  const dim3 grid(chunks.count, rows, sequences);
  return LaunchKernel(ctx, wide ? GreedyConflictKernel<true> : GreedyConflictKernel<false>,
                      {grid, kGreedyThreads}, params, chunks, meeting);
}

}  // namespace sidewinder
