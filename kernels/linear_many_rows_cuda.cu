// Y = X W^T for more than 16 rows, W packed in 16 bits, with the bits that linear_few_rows.cuh
// gives every row.
//
// Two kernels a chunk of rows, as large as the workspace allows. PackRowsKernel: grid (8 rows), a
// warp packs a slice of the rows as operand B of the tensor cores into the workspace, with the
// function that the other kernel packs with. ManyRowsKernel: grid (64 rows, 128 outputs, slices or
// 1); warp w of 8 owns 32 outputs x 32 rows, operands come through a ring of stages of 4 k-steps in
// shared memory that all threads fill (one barrier a stage). It adds up slices in the order of
// linear_policy.h, which takes two sets of sums in registers. If the rows give too few blocks, each
// takes one slice, and the last of a tile's blocks adds them up.
// Shared memory: 72 KB. Bound: tensor cores; in practice the bandwidth of the second-level cache.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/last_block.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int kBlockTiles{8};     // of 16 outputs
constexpr int kBlockRowTiles{8};  // of 8 rows
constexpr int kBlockRows{kBlockRowTiles * kTokenTile};
constexpr int kWarpTiles{2};
constexpr int kWarpRowTiles{4};
constexpr int kStages{3};
constexpr int kStageSteps{4};
constexpr int kTileBytes{512};
constexpr int kRowTileBytes{256};
constexpr int kWeightBytes{kBlockTiles * kStageSteps * kTileBytes};  // of a stage
constexpr int kStageBytes{kWeightBytes + kBlockRowTiles * kStageSteps * kRowTileBytes};
constexpr int kSharedBytes{kStages * kStageBytes};
constexpr size_t kPartialBytes{kBlockTiles * kPackedTile * kBlockRows * sizeof(float)};

using Sums = float[kWarpTiles][kWarpRowTiles][4];

// The rows of a chunk, a multiple of kBlockRows, and what of it lies where.
struct Chunk {
  int32_t rows;
  size_t packed_bytes, squares_bytes;
};

template <DType kDType, InputKind kKind>
__global__ void __launch_bounds__(kThreads) PackRowsKernel(const __grid_constant__ PackedLinear p) {
  LaunchDependents();
  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  const int row_tile = p.first_row / kTokenTile + static_cast<int>(blockIdx.x);
  if (p.first_row + static_cast<int>(blockIdx.x) / kBlockRowTiles * kBlockRows >= num_rows) return;
  const int lane = threadIdx.x % kWarpSize;
  const int slice = threadIdx.x / kWarpSize;
  const int begin = SliceBegin(slice, p.k_steps);
  const int steps = SliceBegin(slice + 1, p.k_steps) - begin;
  uint32_t* packed = static_cast<uint32_t*>(p.packed) +
                     (static_cast<int64_t>(blockIdx.x) * p.k_steps + begin) * kWarpSize * 2;
  const TokenRows rows(p, row_tile, num_rows);
  const auto store = [&](int step, int r, unsigned first, unsigned second) {
    uint32_t* const words = packed + step * kWarpSize * 2 + FirstWordOfItem(r);
    words[0] = first;
    words[2] = second;
  };
  const float squares = p.wide_loads
                            ? PackSlice<kDType, kKind, true>(p, rows, begin, steps, store)
                            : PackSlice<kDType, kKind, false>(p, rows, begin, steps, store);
  if (kKind != InputKind::kPlain && lane < kTokenTile) {
    const int pitch = gridDim.x * kTokenTile;
    p.squares[static_cast<int64_t>(slice) * pitch + blockIdx.x * kTokenTile + lane] = squares;
  }
}

// Where a block stands in the order of additions.
struct SliceSums {
  Sums slice = {}, total = {};
  int index, end;  // of the slice at hand, and the k-step behind it

  // The slice is complete.
  __device__ void Next(const PackedLinear& p) {
#pragma unroll
    for (int m = 0; m < kWarpTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kWarpRowTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[m][n][i] = __fadd_rn(total[m][n][i], slice[m][n][i]);
          slice[m][n][i] = 0;
        }
      }
    }
    ++index;
    end = SliceBegin(index + 1, p.k_steps);
  }
};

// Starts the copies of k-steps [step, step + kStageSteps), zeros from `end` on.
__device__ __forceinline__ void CopyStage(const PackedLinear& p, char* stage, int first_tile,
                                          int first_row_tile, int step, int end) {
  constexpr int kWeightUnits{kWeightBytes / 16}, kUnits{kStageBytes / 16};
  const uint4* weight = static_cast<const uint4*>(p.weight);
  const uint4* packed = static_cast<const uint4*>(p.packed);
#pragma unroll
  for (int first = 0; first < kUnits; first += kThreads) {
    const int unit = first + threadIdx.x;
    const bool is_weight = first < kWeightUnits;  // kThreads divides both
    const int of_step = is_weight ? kTileBytes / 16 : kRowTileBytes / 16;
    const int local = is_weight ? unit : unit - kWeightUnits;
    const int tile = local / (kStageSteps * of_step), rest = local % (kStageSteps * of_step);
    const int from_step = step + rest / of_step;
    const bool wanted = from_step < end && (!is_weight || first_tile + tile < p.tiles);
    const uint4* base = is_weight ? weight : packed;
    const int64_t row = (is_weight ? first_tile : first_row_tile) + tile;
    const uint4* from = base + (row * p.k_steps + from_step) * of_step + rest % of_step;
    CopyAsync16OrZero(SharedAddress(stage) + unit * 16, wanted ? from : base, wanted);
  }
}

template <DType kDType>
__device__ __forceinline__ void MultiplyStep(const char* stage, int s, int warp_tile,
                                             int warp_row_tile, Sums& sums) {
  const int lane = threadIdx.x % kWarpSize;
  uint4 weights[kWarpTiles];
  uint2 inputs[kWarpRowTiles];
#pragma unroll
  for (int m = 0; m < kWarpTiles; ++m) {
    const char* tile = stage + ((warp_tile + m) * kStageSteps + s) * kTileBytes;
    weights[m] = reinterpret_cast<const uint4*>(tile)[lane];
  }
#pragma unroll
  for (int n = 0; n < kWarpRowTiles; ++n) {
    const char* tile =
        stage + kWeightBytes + ((warp_row_tile + n) * kStageSteps + s) * kRowTileBytes;
    inputs[n] = reinterpret_cast<const uint2*>(tile)[lane];
  }
#pragma unroll
  for (int m = 0; m < kWarpTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kWarpRowTiles; ++n) {
      MultiplyAdd<kDType>(sums[m][n], weights[m], inputs[n].x, inputs[n].y);
    }
  }
}

// The sum of a slice of the block's outputs goes to the workspace; whoever is last gets true and
// the sums of all slices.
__device__ __forceinline__ bool CombineSlices(const PackedLinear& p, int slice, Sums& sums) {
  constexpr int kFloats{kWarpTiles * kWarpRowTiles * 4};
  const int block = blockIdx.y * gridDim.x + blockIdx.x;
  float4* records = reinterpret_cast<float4*>(p.partials) +
                    static_cast<int64_t>(block) * kSlices * (kFloats / 4) * kThreads + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kFloats / 4; ++i) {
    const float* from = sums[i / kWarpRowTiles][i % kWarpRowTiles];
    __stcg(records + (slice * (kFloats / 4) + i) * kThreads,
           make_float4(from[0], from[1], from[2], from[3]));
  }
  __shared__ bool last;
  __syncthreads();
  if (!ArrivesLast(p.counters + block, kSlices, &last)) return false;
#pragma unroll
  for (int i = 0; i < kFloats / 4; ++i) {
    float* to = sums[i / kWarpRowTiles][i % kWarpRowTiles];
    for (int j = 0; j < 4; ++j) to[j] = 0;
    for (int q = 0; q < kSlices; ++q) {
      const float4 more = __ldcg(records + (q * (kFloats / 4) + i) * kThreads);
      to[0] = __fadd_rn(to[0], more.x);
      to[1] = __fadd_rn(to[1], more.y);
      to[2] = __fadd_rn(to[2], more.z);
      to[3] = __fadd_rn(to[3], more.w);
    }
  }
  return true;
}

// Slices in order, as in the other kernel.
__device__ __forceinline__ float RowSquares(const PackedLinear& p, int row, int pitch) {
  float total = 0;
  for (int slice = 0; slice < kSlices; ++slice) {
    total = __fadd_rn(total, __ldcg(p.squares + static_cast<int64_t>(slice) * pitch + row));
  }
  return total;
}

template <DType kDType, InputKind kKind, bool kSplit>
__global__ void __launch_bounds__(kThreads, 2)
    ManyRowsKernel(const __grid_constant__ PackedLinear p) {
  extern __shared__ __align__(128) char many_rows_shared[];
  LaunchDependents();
  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  const int first_row = p.first_row + static_cast<int>(blockIdx.x) * kBlockRows;
  if (first_row >= num_rows) return;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int first_tile = blockIdx.y * kBlockTiles, first_row_tile = blockIdx.x * kBlockRowTiles;
  const int warp_tile = warp / 2 * kWarpTiles, warp_row_tile = warp % 2 * kWarpRowTiles;
  const int slice = kSplit ? static_cast<int>(blockIdx.z) : 0;
  const int begin = SliceBegin(slice, p.k_steps);
  const int end = SliceBegin(slice + (kSplit ? 1 : kSlices), p.k_steps);

  for (int s = 0; s < kStages - 1; ++s) {
    CopyStage(p, many_rows_shared + s * kStageBytes, first_tile, first_row_tile,
              begin + s * kStageSteps, end);
    CommitCopies();
  }
  SliceSums sums;
  sums.index = slice;
  sums.end = SliceBegin(slice + 1, p.k_steps);
  int stage = 0, copy_stage = kStages - 1;
  for (int step = begin; step < end; step += kStageSteps) {
    WaitForCopyGroups<kStages - 2>();
    __syncthreads();
    CopyStage(p, many_rows_shared + copy_stage * kStageBytes, first_tile, first_row_tile,
              step + (kStages - 1) * kStageSteps, end);
    CommitCopies();
    copy_stage = copy_stage + 1 == kStages ? 0 : copy_stage + 1;
    const int last = min(kStageSteps, end - step);
#pragma unroll 1
    for (int s = 0; s < last; ++s) {
      while (step + s == sums.end) sums.Next(p);
      MultiplyStep<kDType>(many_rows_shared + stage * kStageBytes, s, warp_tile, warp_row_tile,
                           sums.slice);
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  WaitForCopyGroups<0>();
  if constexpr (!kSplit) {
    while (sums.index < kSlices) sums.Next(p);
  }
  Sums& result = kSplit ? sums.slice : sums.total;
  if (kSplit && !CombineSlices(p, slice, result)) return;
  float* scales = reinterpret_cast<float*>(many_rows_shared);
  if constexpr (kKind != InputKind::kPlain) {
    __syncthreads();
    const int row = static_cast<int>(blockIdx.x) * kBlockRows + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kBlockRows) {
      scales[threadIdx.x] =
          RowScale(p, RowSquares(p, row, static_cast<int>(gridDim.x) * kBlockRows));
    }
    __syncthreads();
  }
#pragma unroll
  for (int n = 0; n < kWarpRowTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int local_row = (warp_row_tile + n) * kTokenTile + lane % 4 * 2 + i % 2;
      if (first_row + local_row >= num_rows) continue;
      const float scale = kKind != InputKind::kPlain ? scales[local_row] : 1.0f;
      float* row = p.output + (first_row + local_row) * p.output_stride;
#pragma unroll
      for (int m = 0; m < kWarpTiles; ++m) {
        const int o =
            (first_tile + warp_tile + m) * static_cast<int>(kPackedTile) + lane / 4 + i / 2 * 8;
        if (o >= p.out_dim) continue;
        const float old = p.accumulate ? __ldcg(row + o) : 0.0f;
        row[o] = FinishOutput<kKind>(result[m][n][i], scale, p.bias, o, old, p.accumulate);
      }
    }
  }
}

// The largest chunk that fits into `space` bytes.
Chunk ChooseChunk(const PackedLinear& args, InputKind kind, int32_t max_rows, size_t space) {
  const size_t row_bytes = static_cast<size_t>(args.k_steps) * kPackedTile * sizeof(uint16_t);
  const size_t row_squares = kind == InputKind::kPlain ? 0 : kSlices * sizeof(float);
  const int64_t most = static_cast<int64_t>(space / (row_bytes + row_squares)) / kBlockRows;
  const int64_t wanted = (int64_t{max_rows} + kBlockRows - 1) / kBlockRows;
  const int32_t rows = static_cast<int32_t>(std::min(most, wanted)) * kBlockRows;
  return {rows, rows * row_bytes, rows * row_squares};
}

template <DType kDType, InputKind kKind>
cudaError_t LaunchChunks(const CudaContext& ctx, PackedLinear args) {
  const int32_t max_rows = args.max_rows;
  char* memory = static_cast<char*>(ctx.workspace) + kWorkspaceCounterBytes;
  const size_t space = ctx.workspace_bytes - kWorkspaceCounterBytes;
  const Chunk chunk = ChooseChunk(args, kKind, max_rows, space);
  if (chunk.rows == 0) return cudaErrorNotSupported;
  const unsigned row_blocks = chunk.rows / kBlockRows;
  const unsigned output_blocks = (args.tiles + kBlockTiles - 1) / kBlockTiles;
  const size_t blocks = size_t{row_blocks} * output_blocks;
  const size_t used = chunk.packed_bytes + chunk.squares_bytes;
  const bool split = 2 * blocks <= static_cast<size_t>(ctx.num_multiprocessors) &&
                     blocks * kSlices * kPartialBytes <= space - used;
  args.counters = static_cast<uint32_t*>(ctx.workspace);
  args.packed = memory;
  args.squares = reinterpret_cast<float*>(memory + chunk.packed_bytes);
  args.partials = reinterpret_cast<float*>(memory + used);
  const LaunchShape pack_shape{.grid = dim3(row_blocks * kBlockRowTiles), .block = dim3(kThreads)};
  const LaunchShape shape{.grid = dim3(row_blocks, output_blocks, split ? kSlices : 1),
                          .block = dim3(kThreads),
                          .shared_bytes = kSharedBytes};
  for (args.first_row = 0; args.first_row < max_rows; args.first_row += chunk.rows) {
    cudaError_t error = LaunchKernel(ctx, PackRowsKernel<kDType, kKind>, pack_shape, args);
    if (error != cudaSuccess) return error;
    error = split ? LaunchKernel(ctx, ManyRowsKernel<kDType, kKind, true>, shape, args)
                  : LaunchKernel(ctx, ManyRowsKernel<kDType, kKind, false>, shape, args);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

CudaError LaunchManyRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args) {
  if (dtype == DType::kFloat16 && kind == InputKind::kPlain) {
    return LaunchChunks<DType::kFloat16, InputKind::kPlain>(ctx, args);
  }
  if (dtype != DType::kBFloat16) return cudaErrorNotSupported;
  switch (kind) {
    case InputKind::kPlain:
      return LaunchChunks<DType::kBFloat16, InputKind::kPlain>(ctx, args);
    case InputKind::kNorm:
      return LaunchChunks<DType::kBFloat16, InputKind::kNorm>(ctx, args);
    case InputKind::kGated:
      return LaunchChunks<DType::kBFloat16, InputKind::kGated>(ctx, args);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder
