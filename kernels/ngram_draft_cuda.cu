// Prompt lookup on a GPU: one block a slot. Every thread tries some positions e behind which an
// earlier occurrence of the text's end could end, and counts how many tokens, up to max_ngram,
// agree going backwards from there. The most tokens win, and of those the latest position: exactly
// the longest n that occurs and its latest occurrence, in one pass over the text. A maximum over
// the block of (agreeing tokens, position) decides; two barriers. Bound: 4 bytes a token of the
// text.
#include <cub/block/block_reduce.cuh>

#include "kernels/common/host_device.h"
#include "kernels/common/launch.cuh"
#include "kernels/ngram_draft.h"
#include "kernels/round_rules.h"

namespace sidewinder {
namespace {

constexpr int kThreads{512};
constexpr int32_t kAtOnce{4};  // positions a thread looks at together

struct Latest {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return Larger(a, b); }
};

// How many tokens before `end` agree with the last ones of the text, at most `limit`.
__device__ int32_t Agreement(const int32_t* tokens, int32_t num_tokens, int32_t end,
                             int32_t limit) {
  const int32_t most = Smaller(limit, end);
  int32_t n = 0;
  while (n < most && tokens[end - 1 - n] == tokens[num_tokens - 1 - n]) ++n;
  return n;
}

__global__ void __launch_bounds__(kThreads)
    NgramDraftKernel(const __grid_constant__ NgramDraftParams params) {
  using Reduce = cub::BlockReduce<uint64_t, kThreads>;
  __shared__ typename Reduce::TempStorage storage;
  __shared__ uint64_t winner;
  LaunchDependents();
  WaitForDependencies();
  SlotControl& slot = params.control.slots[blockIdx.x];
  const int32_t draft_limit = slot.draft_limit;
  if (!slot.active || draft_limit == 0) return;
  const int32_t* tokens = slot.tokens;
  const int32_t num_tokens = slot.num_tokens;

  uint64_t best = 0;
  const int32_t last = num_tokens > 0 ? tokens[num_tokens - 1] : 0;
  for (int32_t first = 1 + threadIdx.x; first < num_tokens; first += kAtOnce * kThreads) {
    bool agrees[kAtOnce];
#pragma unroll
    for (int32_t k = 0; k < kAtOnce; ++k) {  // loads that do not wait for each other
      const int32_t end = first + k * kThreads;
      agrees[k] = end < num_tokens && tokens[end - 1] == last;
    }
#pragma unroll
    for (int32_t k = 0; k < kAtOnce; ++k) {
      if (!agrees[k]) continue;
      const int32_t end = first + k * kThreads;
      const uint64_t n = Agreement(tokens, num_tokens, end, params.max_ngram);
      best = Larger(best, n << 32 | static_cast<uint32_t>(end));
    }
  }
  best = Reduce(storage).Reduce(best, Latest());
  if (threadIdx.x == 0) winner = best;
  __syncthreads();
  const bool found = static_cast<int32_t>(winner >> 32) >= params.min_ngram;
  if (!found && !AcceptsByLot(slot)) return;

  // Past the end of the text the proposals themselves go on: a repetition repeats.
  const int32_t source = found ? static_cast<int32_t>(winner & 0xffffffffu) : num_tokens - 1;
  const int32_t period = num_tokens - source;
  for (int32_t k = threadIdx.x; k < draft_limit; k += kThreads) {
    slot.draft[k] = tokens[source + k % period];
  }
  if (threadIdx.x == 0) slot.num_drafted = draft_limit;
}

}  // namespace

CudaError LaunchNgramDraft(CudaContext& ctx, const NgramDraftParams& params) {
  if (params.control.num_slots == 0) return cudaSuccess;
  return LaunchKernel(ctx, NgramDraftKernel,
                      {static_cast<unsigned>(params.control.num_slots), kThreads}, params);
}

}  // namespace sidewinder
