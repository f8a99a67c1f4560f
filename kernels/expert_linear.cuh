// y[choice] = W[expert of the choice] x for few rows an expert, W packed in 16 bits: as fast as the
// matrices that were chosen can be read. Bits as in linear_few_rows.cuh: slices of the reduction
// (linear_policy.h) by warps, added in their order, rows as columns of an mma.
//
// Grid: kFewExpertBlocks blocks a multiprocessor; work items (expert that rows chose, tile of 16
// outputs) b, b + grid, ... are block b's. An item's weights pass once for every 8 kRowTiles of the
// rows that chose the expert; from the second time on they come from the second-level cache.
// Roles: 8 stream warps, each with its slice in a ring of its own that runs ahead over items, and a
// finisher, as in linear_few_rows.cuh. Rows differ from item to item and a slice of them may be
// large, so inputs are not kept: each lane loads its four of a k-step in float32, from rows that
// exist only, while the weights are on their way. What to stream is known only after the wait.
// Shared memory: see ExpertLayout. Barriers: those of FindHits, which every warp takes part in;
// full and empty mbarriers of the exchange slots. Bound: PackedBytes of the experts hit /
// bandwidth.
#ifndef SIDEWINDER_KERNELS_EXPERT_LINEAR_CUH_
#define SIDEWINDER_KERNELS_EXPERT_LINEAR_CUH_

#include <algorithm>
#include <cstdint>

#include "kernels/common/launch.cuh"
#include "kernels/experts.h"
#include "kernels/linear_few_rows.cuh"

namespace sidewinder {

inline constexpr int kFewExpertBlocks{2};

// Argument of the kernels.
struct PackedExperts {
  const void* const* weights;  // [num_experts]
  const int32_t* order;
  const int32_t* offsets;  // [num_experts + 1]
  const float* input;
  float* output;
  int64_t input_stride;
  int32_t in_dim, out_dim;
  int32_t k_steps;  // PackedTiles(in_dim)
  int32_t tiles;    // PackedTiles(out_dim)
  int32_t num_experts, num_chosen;
  int32_t max_rows, max_hits;
  bool input_per_choice;
  bool pair_loads;  // inputs can be read 8 bytes at a time
  bool wide_loads;  // ... 16 bytes

  __device__ __forceinline__ const float* InputOf(int32_t choice) const {
    return input + (input_per_choice ? choice : choice / num_chosen) * input_stride;
  }
};

CudaError LaunchFewExpertRows(CudaContext& ctx, DType dtype, const PackedExperts& args);
CudaError LaunchFewExpertRowsSm90(CudaContext& ctx, DType dtype, const PackedExperts& args);

// An expert that rows chose: choices order[first], ..., order[first + count - 1].
struct Hit {
  const char* weights;
  int32_t first, count;
};

// Writes the hits into shared memory, ascending, and returns how many there are. The whole block,
// which meets here. `warp_counts`: [kThreads / kWarpSize] shared memory.
template <int kThreads>
__device__ int FindHits(const PackedExperts& p, Hit* hits, int* warp_counts) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  int total = 0;
  for (int base = 0; base < p.num_experts; base += kThreads) {
    const int e = base + static_cast<int>(threadIdx.x);
    Hit hit = {nullptr, 0, 0};
    if (e < p.num_experts) {
      hit.first = __ldcg(p.offsets + e);
      hit.count = __ldcg(p.offsets + e + 1) - hit.first;
      hit.weights = static_cast<const char*>(p.weights[e]);
    }
    const unsigned mask = __ballot_sync(0xffffffffu, hit.count > 0);
    if (lane == 0) warp_counts[warp] = __popc(mask);
    __syncthreads();
    int at = total;
    for (int w = 0; w < kThreads / kWarpSize; ++w) {
      if (w < warp) at += warp_counts[w];
      total += warp_counts[w];
    }
    if (hit.count > 0) hits[at + __popc(mask & ((1u << lane) - 1))] = hit;
    __syncthreads();
  }
  return total;
}

// Offsets into dynamic shared memory, in bytes.
template <class Ring>
struct ExpertLayout {
  int exchange, hits, barriers, warp_counts, size;

  __host__ __device__ explicit ExpertLayout(int max_hits) {
    exchange = Ring::kBytes * kSlices;
    hits = exchange + kSlices * kExchangeBytes;
    barriers = hits + max_hits * static_cast<int>(sizeof(Hit));
    warp_counts = barriers + 2 * kExchangeSlots<1> * static_cast<int>(sizeof(uint64_t));
    size = warp_counts + kFewRowsThreads / kWarpSize * static_cast<int>(sizeof(int));
  }
};

// A block's work, one step for each item and kRows of its expert's rows.
template <int kRows>
class ExpertWalk {
 public:
  __device__ ExpertWalk(const Hit* hits, int num_hits, int tiles)
      : hits_(hits), tiles_(tiles), num_items_(num_hits * tiles), item_(blockIdx.x) {
    Locate();
  }

  __device__ bool Done() const { return item_ >= num_items_; }
  __device__ void Next() {
    row_ += kRows;
    if (row_ < hit_.count) return;
    row_ = 0;
    item_ += gridDim.x;
    Locate();
  }

  __device__ const char* weights() const { return hit_.weights; }
  __device__ int tile() const { return tile_; }

  // The choice that is row `i` of the step; -1 if there is none.
  __device__ int32_t Choice(const int32_t* order, int i) const {
    return row_ + i < hit_.count ? __ldcg(order + hit_.first + row_ + i) : -1;
  }

 private:
  __device__ void Locate() {
    if (Done()) return;
    const int hit = item_ / tiles_;
    hit_ = hits_[hit];
    tile_ = item_ - hit * tiles_;
  }

  const Hit* hits_;
  int tiles_, num_items_, item_;
  int row_ = 0, tile_ = 0;
  Hit hit_ = {};
};

// One stream warp's weights, in the order in which it needs them.
template <class Ring, int kRows>
class ExpertStream {
 public:
  __device__ ExpertStream(Ring& ring, const ExpertWalk<kRows>& walk, int k_steps, int begin,
                          int steps)
      : ring_(ring), walk_(walk), k_steps_(k_steps), begin_(begin), steps_(steps) {
    for (int i = 0; i < Ring::kGroups; ++i) CopyGroup();
  }

  // The next group's weights of this lane, one tile of 16 x 16 every kWarpSize.
  __device__ const uint4* Wait() { return ring_.Wait(); }

  // The whole warp has read the group: its place is filled anew.
  __device__ void Refill() {
    ring_.Release();
    CopyGroup();
  }

 private:
  __device__ void CopyGroup() {
    if (steps_ == 0 || walk_.Done()) {
      ring_.CopyNothing();
      return;
    }
    const int count = min(Ring::kGroupSteps, steps_ - step_);
    const int64_t tile = static_cast<int64_t>(walk_.tile()) * k_steps_ + begin_ + step_;
    ring_.Copy(walk_.weights() + tile * kTileBytes, count);
    step_ += count;
    if (step_ < steps_) return;
    step_ = 0;
    walk_.Next();
  }

  Ring& ring_;
  ExpertWalk<kRows> walk_;
  int k_steps_, begin_, steps_;
  int step_ = 0;
};

// Inputs k, k + 1 of a row; zeros beyond its end and if there is no row.
__device__ __forceinline__ float2 LoadPair(const float* row, int k, int in_dim) {
  if (row == nullptr || k >= in_dim) return {0, 0};
  return __ldcg(reinterpret_cast<const float2*>(row + k));
}

template <DType kDType, int kRowTiles, class Ring>
__device__ void StreamExperts(const PackedExperts& p, Ring& ring,
                              ExpertWalk<kRowTiles * kTokenTile> walk,
                              const Exchange<kRowTiles>& exchange) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int begin = SliceBegin(warp, p.k_steps);
  const int steps = SliceBegin(warp + 1, p.k_steps) - begin;
  ExpertStream<Ring, kRowTiles * kTokenTile> stream(ring, walk, p.k_steps, begin, steps);
  for (int idx = 0; !walk.Done(); walk.Next(), ++idx) {
    const float* rows[kRowTiles];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const int32_t choice = walk.Choice(p.order, r * kTokenTile + lane / 4);
      rows[r] = choice >= 0 ? p.InputOf(choice) : nullptr;
    }
    float sums[kRowTiles][4] = {};
    for (int step = 0; step < steps; step += Ring::kGroupSteps) {
      float2 inputs[Ring::kGroupSteps][kRowTiles][2];
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) {
        const int k = step + j < steps
                          ? (begin + step + j) * static_cast<int>(kPackedTile) + lane % 4 * 2
                          : p.in_dim;
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          inputs[j][r][0] = LoadPair(rows[r], k, p.in_dim);
          inputs[j][r][1] = LoadPair(rows[r], k + 8, p.in_dim);
        }
      }
      const uint4* weights = stream.Wait();
      uint4 fragments[Ring::kGroupSteps];
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) fragments[j] = weights[j * kWarpSize];
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) {
        if (step + j >= steps) break;
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          MultiplyAdd<kDType>(sums[r], fragments[j], PackInputs<kDType>(inputs[j][r][0]),
                              PackInputs<kDType>(inputs[j][r][1]));
        }
      }
      stream.Refill();
    }
    exchange.WaitEmpty(idx);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      *exchange.Slot(idx, warp, r) = {sums[r][0], sums[r][1], sums[r][2], sums[r][3]};
    }
    exchange.Arrive(exchange.full, idx);
  }
}

// What a lane holds of a tile's sums (mma_m16n8k16.cuh) goes to the rows of their choices:
// `choices` are those of columns 2 (lane % 4) and the next one, -1 for none.
__device__ __forceinline__ void WriteExpertOutputs(const PackedExperts& p, int tile,
                                                   const int32_t (&choices)[2],
                                                   const float (&sums)[4]) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int o = tile * static_cast<int>(kPackedTile) + lane / 4 + i / 2 * 8;
    if (choices[i % 2] < 0 || o >= p.out_dim) continue;
    p.output[static_cast<int64_t>(choices[i % 2]) * p.out_dim + o] = sums[i];
  }
}

template <int kRowTiles>
__device__ void FinishExperts(const PackedExperts& p, ExpertWalk<kRowTiles * kTokenTile> walk,
                              const Exchange<kRowTiles>& exchange) {
  const int lane = threadIdx.x % kWarpSize;
  for (int idx = 0; !walk.Done(); walk.Next(), ++idx) {
    int32_t choices[kRowTiles][2];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        choices[r][i] = walk.Choice(p.order, r * kTokenTile + lane % 4 * 2 + i);
      }
    }
    exchange.WaitFull(idx);
    float4 sums[kRowTiles];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      sums[r] = {0, 0, 0, 0};
#pragma unroll
      for (int w = 0; w < kSlices; ++w) sums[r] = Plus(sums[r], *exchange.Slot(idx, w, r));
    }
    exchange.Arrive(exchange.empty, idx);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const float values[4] = {sums[r].x, sums[r].y, sums[r].z, sums[r].w};
      WriteExpertOutputs(p, walk.tile(), choices[r], values);
    }
  }
}

template <DType kDType, int kRowTiles, class Ring>
__global__ void __launch_bounds__(kFewRowsThreads, kFewExpertBlocks)
    FewExpertRowsKernel(const __grid_constant__ PackedExperts p) {
  extern __shared__ __align__(128) char few_expert_rows_shared[];
  LaunchDependents();
  const int warp = threadIdx.x / kWarpSize;
  const ExpertLayout<Ring> layout(p.max_hits);
  const Exchange<kRowTiles> exchange(few_expert_rows_shared + layout.exchange,
                                     few_expert_rows_shared + layout.barriers);
  Hit* const hits = reinterpret_cast<Hit*>(few_expert_rows_shared + layout.hits);
  if (warp == kSlices) exchange.InitBarriers();
  WaitForDependencies();
  const int num_hits = FindHits<kFewRowsThreads>(
      p, hits, reinterpret_cast<int*>(few_expert_rows_shared + layout.warp_counts));
  const ExpertWalk<kRowTiles * kTokenTile> walk(hits, num_hits, p.tiles);
  if (warp == kSlices) {
    FinishExperts<kRowTiles>(p, walk, exchange);
    return;
  }
  Ring ring(few_expert_rows_shared + warp * Ring::kBytes);
  StreamExperts<kDType, kRowTiles>(p, ring, walk, exchange);
}

template <DType kDType, int kRowTiles, class Ring>
cudaError_t LaunchFewExpertRowsKernel(const CudaContext& ctx, const PackedExperts& args) {
  const ExpertLayout<Ring> layout(args.max_hits);
  if (layout.size > MaxSharedBytes(ctx.compute_capability)) return cudaErrorNotSupported;
  const int64_t items = int64_t{args.max_hits} * args.tiles;
  const int64_t blocks = std::min<int64_t>(items, kFewExpertBlocks * ctx.num_multiprocessors);
  return LaunchKernel(ctx, FewExpertRowsKernel<kDType, kRowTiles, Ring>,
                      {.grid = dim3(static_cast<unsigned>(blocks)),
                       .block = dim3(kFewRowsThreads),
                       .shared_bytes = static_cast<size_t>(layout.size)},
                      args);
}

template <class Ring>
cudaError_t DispatchFewExpertRows(const CudaContext& ctx, DType dtype, const PackedExperts& args) {
  const bool one_tile = args.max_rows <= kTokenTile;
  if (dtype == DType::kBFloat16) {
    return one_tile ? LaunchFewExpertRowsKernel<DType::kBFloat16, 1, Ring>(ctx, args)
                    : LaunchFewExpertRowsKernel<DType::kBFloat16, 2, Ring>(ctx, args);
  }
  return one_tile ? LaunchFewExpertRowsKernel<DType::kFloat16, 1, Ring>(ctx, args)
                  : LaunchFewExpertRowsKernel<DType::kFloat16, 2, Ring>(ctx, args);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_EXPERT_LINEAR_CUH_
