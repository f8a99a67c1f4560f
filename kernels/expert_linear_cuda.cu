// Products with the experts' matrices on CUDA. 16-bit weights: few rows an expert stream weights
// (expert_linear.cuh); more rows, as in a prefill, share them:
//
// Grid: blocks take work items (expert that rows chose, 128 outputs, 64 of its rows) in turn, rows
// fastest, so that weights read for one block of rows are in the second-level cache for the next.
// Roles: 8 warps, a tile of 16 outputs each, and all slices of its reduction one after the other. A
// chunk of 8 k-steps of the inputs at a time, packed as operand B, is in shared memory for all
// warps; the warp's weights of the chunk come straight into registers meanwhile.
// Shared memory: the chunk, the rows' choices, the hits. Barriers: two of the block a chunk.
// Bound: tensor cores; a block stalls where it packs, another one works then.
//
// float32 weights, the path of tests and tiny models: as in linear_cuda.cu, one warp an output and
// 4 rows. Grid: (8 outputs, expert).
#include <cub/warp/warp_reduce.cuh>

#include "kernels/expert_linear.cuh"
#include "kernels/linear_async_ring.cuh"
#include "kernels/pack_weights.h"

namespace sidewinder {
namespace {

constexpr int kFloatRows{4};
constexpr int kFloatWarps{8};

// Rows an expert, on average, up to which weights are streamed.
constexpr int64_t kMaxStreamedRows{16};

constexpr int kManyWarps{8};
static_assert(kManyWarps == kTokenTile);  // a warp packs one row of a row tile
constexpr int kManyThreads{kManyWarps * kWarpSize};
constexpr int kManyRowTiles{8};
constexpr int kManyRows{kManyRowTiles * kTokenTile};
constexpr int kManyBlocks{2};  // a multiprocessor

// Words between k-steps of operand B: its 64, and 8 that move k-steps to different banks.
constexpr int kStepPitch{2 * kWarpSize + 8};

struct ManyShared {
  uint32_t operand[kManyRowTiles][kChunkSteps][kStepPitch];
  int32_t choices[kManyRows];  // -1 for none
  int warp_counts[kManyWarps];
};

// K-steps [step, min(step + kChunkSteps, end)) of the block's rows as operand B. A warp packs one
// row of every row tile, a lane four inputs of it.
template <DType kDType>
__device__ void PackChunk(const PackedExperts& p, int row_tiles, int step, int end,
                          ManyShared& shared) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int at = step + lane / 4;
  const int k = at < end ? at * static_cast<int>(kPackedTile) + lane % 4 * 4 : p.in_dim;
#pragma unroll 4  // more loads in flight would spill
  for (int r = 0; r < kManyRowTiles; ++r) {
    if (r >= row_tiles) break;
    const int32_t choice = shared.choices[r * kTokenTile + warp];
    const float* row = p.InputOf(choice < 0 ? 0 : choice);
    const int in_dim = choice < 0 ? 0 : p.in_dim;
    const float4 v =
        p.wide_loads ? LoadItem<true>(row, k, in_dim) : LoadItem<false>(row, k, in_dim);
    uint32_t* const words = shared.operand[r][lane / 4] + FirstWordOfItem(warp);
    words[0] = PackInputs<kDType>({v.x, v.y});
    words[2] = PackInputs<kDType>({v.z, v.w});
  }
}

// Adds the products of a slice's k-steps [begin, end) with the warp's tile to `sums`. `weights`: of
// this lane; null if the warp has no tile.
template <DType kDType>
__device__ void MultiplySlice(const PackedExperts& p, const char* weights, int row_tiles, int begin,
                              int end, ManyShared& shared, float (&sums)[kManyRowTiles][4]) {
  const int lane = threadIdx.x % kWarpSize;
  for (int step = begin; step < end; step += kChunkSteps) {
    uint4 fragments[kChunkSteps] = {};
#pragma unroll
    for (int j = 0; j < kChunkSteps; ++j) {
      if (weights == nullptr || step + j >= end) break;
      fragments[j] = __ldg(reinterpret_cast<const uint4*>(weights + (step + j) * kTileBytes));
    }
    PackChunk<kDType>(p, row_tiles, step, end, shared);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kChunkSteps; ++j) {
      if (step + j >= end) break;
#pragma unroll
      for (int r = 0; r < kManyRowTiles; ++r) {
        if (r >= row_tiles) break;
        const uint2 inputs = *reinterpret_cast<const uint2*>(shared.operand[r][j] + 2 * lane);
        MultiplyAdd<kDType>(sums[r], fragments[j], inputs.x, inputs.y);
      }
    }
    __syncthreads();
  }
}

// Rows [first_row, first_row + kManyRows) of those that chose an expert, the tile of each warp.
template <DType kDType>
__device__ void MultiplyItem(const PackedExperts& p, const Hit& hit, int tile, int first_row,
                             ManyShared& shared) {
  const int lane = threadIdx.x % kWarpSize;
  const int rows = min(hit.count - first_row, kManyRows);
  const int row_tiles = (rows + kTokenTile - 1) / kTokenTile;
  __syncthreads();  // the choices of the item before have been read
  for (int i = threadIdx.x; i < kManyRows; i += kManyThreads) {
    shared.choices[i] = i < rows ? __ldcg(p.order + hit.first + first_row + i) : -1;
  }
  __syncthreads();
  const char* weights = nullptr;
  if (tile < p.tiles) {
    weights = hit.weights + static_cast<int64_t>(tile) * p.k_steps * kTileBytes + lane * 16;
  }
  float totals[kManyRowTiles][4] = {};
  for (int slice = 0; slice < kSlices; ++slice) {
    float sums[kManyRowTiles][4] = {};
    MultiplySlice<kDType>(p, weights, row_tiles, SliceBegin(slice, p.k_steps),
                          SliceBegin(slice + 1, p.k_steps), shared, sums);
#pragma unroll
    for (int r = 0; r < kManyRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) totals[r][i] = __fadd_rn(totals[r][i], sums[r][i]);
    }
  }
  if (weights == nullptr) return;
#pragma unroll
  for (int r = 0; r < kManyRowTiles; ++r) {
    const int32_t* of_lane = shared.choices + r * kTokenTile + lane % 4 * 2;
    const int32_t choices[2] = {of_lane[0], of_lane[1]};
    WriteExpertOutputs(p, tile, choices, totals[r]);
  }
}

template <DType kDType>
__global__ void __launch_bounds__(kManyThreads, kManyBlocks)
    ManyExpertRowsKernel(const __grid_constant__ PackedExperts p) {
  extern __shared__ __align__(16) char many_expert_rows_shared[];
  __shared__ ManyShared shared;
  LaunchDependents();
  WaitForDependencies();
  Hit* const hits = reinterpret_cast<Hit*>(many_expert_rows_shared);
  const int num_hits = FindHits<kManyThreads>(p, hits, shared.warp_counts);
  const int groups = (p.tiles + kManyWarps - 1) / kManyWarps;
  int item = blockIdx.x;  // of those of the hit at hand and all behind it
  for (int h = 0; h < num_hits; ++h) {
    const Hit hit = hits[h];
    const int row_blocks = (hit.count + kManyRows - 1) / kManyRows;
    const int items = row_blocks * groups;
    for (; item < items; item += gridDim.x) {
      const int tile = item / row_blocks * kManyWarps + static_cast<int>(threadIdx.x) / kWarpSize;
      MultiplyItem<kDType>(p, hit, tile, item % row_blocks * kManyRows, shared);
    }
    item -= items;
  }
}

cudaError_t LaunchManyExpertRows(const CudaContext& ctx, DType dtype, const PackedExperts& args) {
  const int64_t choices = int64_t{args.max_rows} * args.num_chosen;
  const int64_t groups = (args.tiles + kManyWarps - 1) / kManyWarps;
  const int64_t items = (args.max_hits + choices / kManyRows) * groups;
  const auto kernel = dtype == DType::kBFloat16 ? ManyExpertRowsKernel<DType::kBFloat16>
                                                : ManyExpertRowsKernel<DType::kFloat16>;
  return LaunchKernel(ctx, kernel,
                      {.grid = dim3(static_cast<unsigned>(
                           std::min<int64_t>(items, kManyBlocks * ctx.num_multiprocessors))),
                       .block = dim3(kManyThreads),
                       .shared_bytes = args.max_hits * sizeof(Hit)},
                      args);
}

__global__ void __launch_bounds__(kFloatWarps* kWarpSize)
    FloatExpertLinearKernel(const __grid_constant__ PackedExperts p) {
  using Reduce = cub::WarpReduce<float>;
  __shared__ typename Reduce::TempStorage storage[kFloatWarps];
  LaunchDependents();
  WaitForDependencies();
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int64_t o = static_cast<int64_t>(blockIdx.x) * kFloatWarps + warp;
  const int begin = __ldcg(p.offsets + blockIdx.y), end = __ldcg(p.offsets + blockIdx.y + 1);
  if (o >= p.out_dim || begin == end) return;
  const float* weight = static_cast<const float*>(p.weights[blockIdx.y]) + o * p.in_dim;
  for (int first = begin; first < end; first += kFloatRows) {
    const float* inputs[kFloatRows];
    int32_t choices[kFloatRows];
    float sums[kFloatRows] = {};
#pragma unroll
    for (int r = 0; r < kFloatRows; ++r) {
      choices[r] = __ldcg(p.order + min(first + r, end - 1));
      inputs[r] = p.InputOf(choices[r]);
    }
    for (int k = lane; k < p.in_dim; k += kWarpSize) {
      const float w = weight[k];
#pragma unroll
      for (int r = 0; r < kFloatRows; ++r) sums[r] = __fmaf_rn(w, __ldcg(inputs[r] + k), sums[r]);
    }
#pragma unroll
    for (int r = 0; r < kFloatRows; ++r) {
      const float sum = Reduce(storage[warp]).Sum(sums[r]);
      __syncwarp();
      if (lane == 0 && first + r < end) p.output[choices[r] * int64_t{p.out_dim} + o] = sum;
    }
  }
}

bool IsAligned(const float* pointer, int64_t stride, int64_t in_dim, int elements) {
  return reinterpret_cast<uintptr_t>(pointer) % (elements * sizeof(float)) == 0 &&
         stride % elements == 0 && in_dim % elements == 0;
}

PackedExperts ToArgs(const ExpertLinearParams& p) {
  PackedExperts args = {};
  args.weights = p.weights;
  args.order = p.choices.order;
  args.offsets = p.choices.offsets;
  args.input = p.input;
  args.output = p.output;
  args.input_stride = p.input_stride;
  args.in_dim = static_cast<int32_t>(p.in_dim);
  args.out_dim = static_cast<int32_t>(p.out_dim);
  args.k_steps = static_cast<int32_t>(PackedTiles(p.in_dim));
  args.tiles = static_cast<int32_t>(PackedTiles(p.out_dim));
  args.num_experts = static_cast<int32_t>(p.choices.num_experts);
  args.num_chosen = static_cast<int32_t>(p.choices.num_chosen);
  args.max_rows = p.max_rows;
  args.max_hits = static_cast<int32_t>(
      std::min<int64_t>(p.choices.num_experts, p.max_rows * p.choices.num_chosen));
  args.input_per_choice = p.input_per_choice;
  args.pair_loads = IsAligned(p.input, p.input_stride, p.in_dim, 2);
  args.wide_loads = IsAligned(p.input, p.input_stride, p.in_dim, 4);
  return args;
}

}  // namespace

CudaError LaunchFewExpertRows(CudaContext& ctx, DType dtype, const PackedExperts& args) {
  return DispatchFewExpertRows<AsyncRing>(ctx, dtype, args);
}

CudaError LaunchExpertLinear(CudaContext& ctx, const ExpertLinearParams& params) {
  if (params.max_rows <= 0) return cudaSuccess;
  if (params.choices.num_experts > kMaxExperts) return cudaErrorNotSupported;
  const PackedExperts args = ToArgs(params);
  if (params.weight_dtype == DType::kFloat32) {
    const dim3 grid(static_cast<unsigned>((params.out_dim + kFloatWarps - 1) / kFloatWarps),
                    static_cast<unsigned>(args.num_experts));
    return LaunchKernel(ctx, FloatExpertLinearKernel,
                        {.grid = grid, .block = kFloatWarps * kWarpSize}, args);
  }
  const int64_t choices = int64_t{args.max_rows} * args.num_chosen;
  if (args.pair_loads && choices <= kMaxStreamedRows * args.num_experts) {
    const auto launch =
        ctx.compute_capability == 90 ? LaunchFewExpertRowsSm90 : LaunchFewExpertRows;
    const CudaError error = launch(ctx, params.weight_dtype, args);
    if (error != cudaErrorNotSupported) return error;
  }
  return LaunchManyExpertRows(ctx, params.weight_dtype, args);
}

}  // namespace sidewinder
