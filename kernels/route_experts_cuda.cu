// RouteExperts on CUDA: rows choose experts, then the choices are sorted by expert.
//
// Grid: one block for few rows, otherwise one for every kWarps; a warp routes a row at a time, its
// lane l the experts l, l + 32, ... (softmax sums: those in order, then a fixed tree over lanes).
// The best is taken out num_chosen times. The last block to arrive sorts by counting: its warps
// count a part of the choices each, from which follows where each expert's of each part go.
// Shared memory: scores and their keys, [kWarps, num_experts] each, keys of groups; the counts take
// the keys' place. Bound: latency, a few trips to the second-level cache and num_chosen reductions.
#include <cub/block/block_scan.cuh>

#include <algorithm>
#include <cstdint>

#include "kernels/common/arg_max.cuh"
#include "kernels/common/last_block.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/math.cuh"
#include "kernels/experts.h"

namespace sidewinder {
namespace {

constexpr unsigned kFullWarp{0xffffffffu};
constexpr int kWarpSize{32};
constexpr int kWarps{8};
constexpr int kThreads{kWarps * kWarpSize};
constexpr int kMaxBlocks{64};
constexpr int kOneBlockRows{2 * kWarps};  // meeting costs as much as a second row
constexpr int kExpertsAThread{kMaxExperts / kThreads};
static_assert(kMaxChosenExperts == kWarpSize && kExpertsAThread * kThreads == kMaxExperts);

// A value as a number in the same order, -0 as +0, NaN below all; kOut is below every key and
// kTaken above.
constexpr uint32_t kOut{0}, kNanKey{1}, kTaken{0xffffffffu};

__device__ uint32_t ToKey(float value) {
  if (isnan(value)) return kNanKey;
  const uint32_t bits = __float_as_uint(__fadd_rn(value, 0.0f));
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

__device__ float FromKey(uint32_t key) {
  if (key == kNanKey) return NAN;
  return __uint_as_float(key >> 31 != 0 ? key & 0x7fffffffu : ~key);
}

__device__ float WarpLargest(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

__device__ float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = __fadd_rn(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

__device__ int Lane() { return threadIdx.x % kWarpSize; }
__device__ unsigned LanesBelow() { return (1u << Lane()) - 1; }

// Marks the `count` largest of the warp's keys as taken; ties go to the lower number.
__device__ void TakeLargest(uint32_t* keys, int size, int count) {
  for (int i = 0; i < count; ++i) {
    uint64_t best = 0;
    for (int at = Lane(); at < size; at += kWarpSize) {
      if (keys[at] == kTaken) continue;
      const uint64_t key = uint64_t{keys[at]} << 32 | ~static_cast<uint32_t>(at);
      best = max(best, key);
    }
    const int winner = static_cast<int>(~static_cast<uint32_t>(WarpMax(best)));
    if (winner % kWarpSize == Lane()) keys[winner] = kTaken;
  }
}

// The warp's row as it is worked on, in shared memory.
struct RowScores {
  float* scores;         // [num_experts]
  uint32_t* keys;        // [num_experts] of corrected scores
  uint32_t* group_keys;  // [num_groups]
  int32_t* chosen;       // [kMaxChosenExperts]
};

__device__ void Score(const RouteExpertsParams& p, int64_t row, const RowScores& shared) {
  const int num_experts = static_cast<int>(p.choices.num_experts);
  const float* logits = p.logits + row * num_experts;
  float largest = -INFINITY;
  for (int e = Lane(); e < num_experts; e += kWarpSize) {
    const float logit = __ldcg(logits + e);
    shared.scores[e] =
        p.score == ExpertScore::kSigmoid ? __frcp_rn(__fadd_rn(1.0f, Exp(-logit))) : logit;
    largest = fmaxf(largest, logit);
  }
  if (p.score == ExpertScore::kSoftmax) {
    largest = WarpLargest(largest);
    float sum = 0;
    for (int e = Lane(); e < num_experts; e += kWarpSize) {
      shared.scores[e] = Exp(__fsub_rn(shared.scores[e], largest));
      sum = __fadd_rn(sum, shared.scores[e]);
    }
    sum = WarpSum(sum);
    for (int e = Lane(); e < num_experts; e += kWarpSize) {
      shared.scores[e] = __fdiv_rn(shared.scores[e], sum);
    }
  }
  for (int e = Lane(); e < num_experts; e += kWarpSize) {
    const float score = shared.scores[e];
    shared.keys[e] = ToKey(p.correction != nullptr ? __fadd_rn(score, p.correction[e]) : score);
  }
}

// Leaves the experts of groups that are not considered out.
__device__ void ConsiderGroups(const RouteExpertsParams& p, const RowScores& shared) {
  const int num_groups = static_cast<int>(p.num_groups);
  const int size = static_cast<int>(p.choices.num_experts) / num_groups;
  __syncwarp();
  for (int g = Lane(); g < num_groups; g += kWarpSize) {
    uint32_t best = kOut, second = kOut;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      const uint32_t key = shared.keys[e];
      second = max(second, min(key, best));
      best = max(best, key);
    }
    const float sum = size > 1 ? __fadd_rn(FromKey(best), FromKey(second)) : FromKey(best);
    shared.group_keys[g] = ToKey(sum);
  }
  TakeLargest(shared.group_keys, num_groups, static_cast<int>(p.num_chosen_groups));
  __syncwarp();
  for (int e = Lane(); e < size * num_groups; e += kWarpSize) {
    if (shared.group_keys[e / size] != kTaken) shared.keys[e] = kOut;
  }
}

// The numbers of the experts taken, ascending, to shared.chosen.
__device__ void ListTaken(int num_experts, const RowScores& shared) {
  int count = 0;
  for (int base = 0; base < num_experts; base += kWarpSize) {
    const int e = base + Lane();
    const bool taken = e < num_experts && shared.keys[e] == kTaken;
    const unsigned mask = __ballot_sync(kFullWarp, taken);
    if (taken) shared.chosen[count + __popc(mask & LanesBelow())] = e;
    count += __popc(mask);
  }
  __syncwarp();
}

__device__ void RouteRow(const RouteExpertsParams& p, int64_t row, const RowScores& shared) {
  const int num_experts = static_cast<int>(p.choices.num_experts);
  const int num_chosen = static_cast<int>(p.choices.num_chosen);
  Score(p, row, shared);
  if (p.num_groups > 1) ConsiderGroups(p, shared);
  TakeLargest(shared.keys, num_experts, num_chosen);
  ListTaken(num_experts, shared);
  const bool has = Lane() < num_chosen;
  const int32_t expert = has ? shared.chosen[Lane()] : 0;
  float weight = has ? shared.scores[expert] : 0.0f;
  if (p.score == ExpertScore::kSoftmaxChosen) {
    const float largest = WarpLargest(has ? weight : -INFINITY);
    weight = has ? Exp(__fsub_rn(weight, largest)) : 0.0f;
    weight = __fdiv_rn(weight, WarpSum(weight));
  }
  if (p.normalize) weight = __fdiv_rn(weight, __fadd_rn(WarpSum(weight), 1e-20f));
  if (has) {
    p.choices.experts[row * num_chosen + Lane()] = expert;
    p.choices.weights[row * num_chosen + Lane()] = __fmul_rn(weight, p.scale);
  }
  __syncwarp();  // the next row is written over this one
}

// By one block. `counts`: [kWarps, num_experts] shared memory.
__device__ void SortChoices(const ExpertChoices& c, int num_choices, int32_t* counts) {
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage storage;
  const int num_experts = static_cast<int>(c.num_experts);
  for (int i = threadIdx.x; i < kWarps * num_experts; i += kThreads) counts[i] = 0;
  __syncthreads();
  const int part = (num_choices + kThreads - 1) / kThreads * kWarpSize;  // choices of a warp
  const int warp = threadIdx.x / kWarpSize;
  const int begin = min(warp * part, num_choices), end = min(begin + part, num_choices);
  int32_t* const of_warp = counts + warp * num_experts;
  for (int i = begin + Lane(); i < end; i += kWarpSize) {
    atomicAdd(of_warp + __ldcg(c.experts + i), 1);
  }
  __syncthreads();

  // From counts to where the first choice of each expert and warp goes.
  const int first = static_cast<int>(threadIdx.x) * kExpertsAThread;
  const int last = min(first + kExpertsAThread, num_experts);
  int at = 0;
  for (int e = first; e < last; ++e) {
    for (int w = 0; w < kWarps; ++w) at += counts[w * num_experts + e];
  }
  Scan(storage).ExclusiveSum(at, at);
  for (int e = first; e < last; ++e) {
    c.offsets[e] = at;
    for (int w = 0; w < kWarps; ++w) {
      const int count = counts[w * num_experts + e];
      counts[w * num_experts + e] = at;
      at += count;
    }
  }
  if (threadIdx.x == 0) c.offsets[num_experts] = num_choices;
  __syncthreads();

  for (int base = begin; base < end; base += kWarpSize) {
    const int i = base + Lane();
    const int expert = i < end ? __ldcg(c.experts + i) : -1;
    const unsigned alike = __match_any_sync(kFullWarp, expert);
    const int rank = __popc(alike & LanesBelow());
    const int to = expert >= 0 ? of_warp[expert] + rank : 0;
    __syncwarp();
    if (expert >= 0 && rank == 0) of_warp[expert] += __popc(alike);
    __syncwarp();
    if (expert >= 0) c.order[to] = i;
  }
}

__global__ void __launch_bounds__(kThreads)
    RouteExpertsKernel(const __grid_constant__ RouteExpertsParams p, uint32_t* counter) {
  extern __shared__ uint32_t route_shared[];
  __shared__ int32_t chosen[kWarps][kMaxChosenExperts];
  __shared__ bool is_last;
  LaunchDependents();
  WaitForDependencies();
  const int warp = threadIdx.x / kWarpSize, num_experts = static_cast<int>(p.choices.num_experts);
  uint32_t* const keys = route_shared;
  const RowScores shared = {
      .scores = reinterpret_cast<float*>(route_shared + (kWarps + warp) * num_experts),
      .keys = keys + warp * num_experts,
      .group_keys = route_shared + 2 * kWarps * num_experts + warp * p.num_groups,
      .chosen = chosen[warp]};
  const int num_rows = __ldcg(p.num_rows);
  for (int row = blockIdx.x * kWarps + warp; row < num_rows; row += gridDim.x * kWarps) {
    RouteRow(p, row, shared);
  }
  __threadfence();
  __syncthreads();
  if (gridDim.x > 1 && !ArrivesLast(counter, gridDim.x, &is_last)) return;
  SortChoices(p.choices, num_rows * static_cast<int>(p.choices.num_chosen),
              reinterpret_cast<int32_t*>(keys));
}

bool IsLegal(const RouteExpertsParams& p) {
  const ExpertChoices& c = p.choices;
  return c.num_experts >= 1 && c.num_experts <= kMaxExperts && c.num_chosen >= 1 &&
         c.num_chosen <= std::min<int64_t>(c.num_experts, kMaxChosenExperts) && p.num_groups >= 1 &&
         c.num_experts % p.num_groups == 0 && p.num_chosen_groups >= 1 &&
         p.num_chosen_groups <= p.num_groups &&
         c.num_chosen <= c.num_experts / p.num_groups * p.num_chosen_groups;
}

}  // namespace

CudaError LaunchRouteExperts(CudaContext& ctx, const RouteExpertsParams& p) {
  if (!IsLegal(p)) return cudaErrorInvalidValue;
  const int blocks =
      p.max_rows <= kOneBlockRows ? 1 : std::min((p.max_rows + kWarps - 1) / kWarps, kMaxBlocks);
  const int64_t words_a_row = 2 * p.choices.num_experts + (p.num_groups > 1 ? p.num_groups : 0);
  return LaunchKernel(ctx, RouteExpertsKernel,
                      {.grid = dim3(blocks),
                       .block = kThreads,
                       .shared_bytes = kWarps * words_a_row * sizeof(uint32_t)},
                      p, static_cast<uint32_t*>(ctx.workspace));
}

}  // namespace sidewinder
