// Y = X W^T for more than 16 rows, W packed in 16 bits, with the bits that linear_few_rows.cuh
// gives every row. Hopper has a kernel of its own (linear_many_rows_sm90.cu) for all but the first
// of the two kernels that a chunk of rows, as large as the workspace allows, needs.
//
// PackRowsKernel: grid (8 rows, parts of slices or 1), a warp packs a slice of the rows, or a part
// of it if no squares are to be summed, as operand B of the tensor cores into the workspace, with
// the function that the kernel for few rows packs with. ManyRowsKernel:
// grid (64 rows, 128 outputs, slices or 1); warp w of 8 owns 32 outputs x 32 rows, operands come
// through a ring of stages of 4 k-steps in shared memory that all threads fill (one barrier a
// stage). It adds up slices in the order of linear_policy.h, which takes two sets of sums in
// registers. If the rows give too few blocks, each takes one slice, and the last of a tile's blocks
// adds them up.
// Shared memory: 72 KB. Bound: tensor cores; in practice the bandwidth of the second-level cache.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/last_block.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_matrix.cuh"
#include "kernels/linear_many_rows.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {
namespace {

constexpr int kThreads{256};
constexpr int kBlockTiles{8};     // of 16 outputs
constexpr int kBlockRowTiles{8};  // of 8 rows
constexpr int kBlockRows{kBlockRowTiles * kTokenTile};
constexpr int kWarpTiles{2};
constexpr int kWarpRowTiles{4};
// K-steps of inputs that a warp packs where slices are shared.
inline constexpr int kBatch{2 * kChunkSteps};
constexpr int kFreeRows{64};  // reading their number costs more time than they do
constexpr int kStages{3};
constexpr int kStageSteps{4};
constexpr int kBlockOperandTiles{kBlockRows / kOperandTile};
constexpr int kStageTileBytes{kStageSteps * kStepBytes};
constexpr int kStageBytes{(kBlockTiles + kBlockOperandTiles) * kStageTileBytes};
constexpr int kSharedBytes{kStages * kStageBytes};
constexpr size_t kPartialBytes{kBlockTiles * kPackedTile * kBlockRows * sizeof(float)};

using Sums = float[kWarpTiles][kWarpRowTiles][4];

// The rows of a chunk, a multiple of kBlockRows, and what of it lies where.
struct Chunk {
  int32_t rows;
  size_t packed_bytes, squares_bytes;
};

// Rows that may be read, if they are worth a look at all: rows up to max_rows are memory, but what
// row_index holds behind num_rows is no row.
__device__ __forceinline__ int ReadableRows(const PackedLinear& p) {
  return p.row_index == nullptr && p.max_rows <= kFreeRows ? p.max_rows : __ldcg(p.num_rows);
}

// Where the lane's item of a row begins in the two matrices of the row's tile.
__device__ __forceinline__ int WordOfItem(int row) {
  const int j = threadIdx.x % 4;
  return j / 2 * kWarpSize + row * 4 + j % 2 * 2;
}

template <DType kDType, InputKind kKind>
__global__ void __launch_bounds__(kThreads)
    PackRowsKernel(const __grid_constant__ PackedLinear p, int pitch, int block_tiles) {
  LaunchDependents();
  WaitForDependencies();
  const int num_rows = ReadableRows(p);
  const int local_tile = blockIdx.x;
  const int row_tile = p.first_row / kTokenTile + local_tile;
  if (row_tile * kTokenTile >= num_rows) return;
  const int lane = threadIdx.x % kWarpSize;
  const int slice = threadIdx.x / kWarpSize;
  const int begin = SliceBegin(slice, p.k_steps) + static_cast<int>(blockIdx.y) * kBatch;
  const int left = SliceBegin(slice + 1, p.k_steps) - begin;
  const int steps = gridDim.y > 1 ? min(left, kBatch) : left;
  const int tile = local_tile / 2;
  const int64_t first =
      (int64_t{tile / block_tiles} * p.k_steps + begin) * block_tiles + tile % block_tiles;
  uint32_t* const packed = static_cast<uint32_t*>(p.packed) + first * (kStepBytes / 4) +
                           local_tile % 2 * (kStepBytes / 8);
  const int step_words = block_tiles * (kStepBytes / 4);
  const TokenRows rows(p, row_tile, num_rows);
  const auto store = [&](int step, int r, unsigned low, unsigned high) {
    *reinterpret_cast<uint2*>(packed + step * step_words + WordOfItem(r)) = make_uint2(low, high);
  };
  const float squares = p.wide_loads
                            ? PackSlice<kDType, kKind, true, true>(p, rows, begin, steps, store)
                            : PackSlice<kDType, kKind, false, true>(p, rows, begin, steps, store);
  if (kKind != InputKind::kPlain && lane < kTokenTile) {
    p.squares[slice * pitch + local_tile * kTokenTile + lane] = squares;
  }
}

template <DType kDType, InputKind kKind>
cudaError_t LaunchPack(const CudaContext& ctx, const PackedLinear& args, int32_t rows,
                       int32_t pitch, int32_t block_tiles) {
  const unsigned blocks = (rows + kTokenTile - 1) / kTokenTile;
  const unsigned batches = (MaxSliceSteps(args.k_steps) + kBatch - 1) / kBatch;
  const unsigned parts = kKind == InputKind::kPlain ? batches : 1;
  return LaunchKernel(ctx, PackRowsKernel<kDType, kKind>,
                      {.grid = dim3(blocks, parts), .block = dim3(kThreads)}, args, pitch,
                      block_tiles);
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
                                          int first_operand_tile, int step, int end) {
  constexpr int kStepUnits{kStepBytes / 16}, kTileUnits{kStageTileBytes / 16};
  const uint4* weight = static_cast<const uint4*>(p.weight);
  const uint4* packed = static_cast<const uint4*>(p.packed);
#pragma unroll
  for (int first = 0; first < kStageBytes / 16; first += kThreads) {
    const int unit = first + threadIdx.x;
    const int tile = unit / kTileUnits, rest = unit % kTileUnits;
    const bool is_weight = first < kBlockTiles * kTileUnits;  // kThreads divides it
    const int from_step = step + rest / kStepUnits;
    const bool wanted = from_step < end && (!is_weight || first_tile + tile < p.tiles);
    const uint4* base = is_weight ? weight : packed;
    const int64_t row = is_weight ? first_tile + tile : first_operand_tile + tile - kBlockTiles;
    const uint4* from = base + (row * p.k_steps + from_step) * kStepUnits + rest % kStepUnits;
    CopyAsync16OrZero(SharedAddress(stage) + unit * 16, wanted ? from : base, wanted);
  }
}

template <DType kDType>
__device__ __forceinline__ void MultiplyStep(const char* stage, int s, int warp_tile,
                                             int warp_row_tile, Sums& sums) {
  const auto of_lane = [&](int tile) {
    return stage + tile * kStageTileBytes + s * kStepBytes + threadIdx.x % kWarpSize * 16;
  };
  uint4 weights[kWarpTiles];
  uint2 inputs[kWarpRowTiles];
#pragma unroll
  for (int m = 0; m < kWarpTiles; ++m) {
    weights[m] = *reinterpret_cast<const uint4*>(of_lane(warp_tile + m));
  }
#pragma unroll
  for (int n = 0; n < kWarpRowTiles; n += 2) {
    const uint4 pair = LoadMatrices4(SharedAddress(of_lane(kBlockTiles + (warp_row_tile + n) / 2)));
    inputs[n] = make_uint2(pair.x, pair.y);
    inputs[n + 1] = make_uint2(pair.z, pair.w);
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
  const int first_tile = blockIdx.y * kBlockTiles;
  const int first_operand_tile = blockIdx.x * kBlockOperandTiles;
  const int warp_tile = warp / 2 * kWarpTiles, warp_row_tile = warp % 2 * kWarpRowTiles;
  const int slice = kSplit ? static_cast<int>(blockIdx.z) : 0;
  const int begin = SliceBegin(slice, p.k_steps);
  const int end = SliceBegin(slice + (kSplit ? 1 : kSlices), p.k_steps);

  for (int s = 0; s < kStages - 1; ++s) {
    CopyStage(p, many_rows_shared + s * kStageBytes, first_tile, first_operand_tile,
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
    CopyStage(p, many_rows_shared + copy_stage * kStageBytes, first_tile, first_operand_tile,
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
        row[o] = FinishOutput<kKind>(p, result[m][n][i], scale, o, old);
      }
    }
  }
}

// The largest chunk that fits into `space` bytes.
Chunk ChooseChunk(const PackedLinear& args, InputKind kind, int32_t max_rows, size_t space) {
  const size_t row_bytes = PackedRowBytes(args), row_squares = RowSquaresBytes(kind);
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
  const LaunchShape shape{.grid = dim3(row_blocks, output_blocks, split ? kSlices : 1),
                          .block = dim3(kThreads),
                          .shared_bytes = kSharedBytes};
  for (args.first_row = 0; args.first_row < max_rows; args.first_row += chunk.rows) {
    cudaError_t error =
        LaunchPack<kDType, kKind>(ctx, args, chunk.rows, chunk.rows, /*block_tiles=*/1);
    if (error != cudaSuccess) return error;
    error = split ? LaunchKernel(ctx, ManyRowsKernel<kDType, kKind, true>, shape, args)
                  : LaunchKernel(ctx, ManyRowsKernel<kDType, kKind, false>, shape, args);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Calls run.operator()<dtype, kind>() for what there are kernels for.
template <class Run>
cudaError_t DispatchKind(DType dtype, InputKind kind, const Run& run) {
  if (dtype == DType::kFloat16 && kind == InputKind::kPlain) {
    return run.template operator()<DType::kFloat16, InputKind::kPlain>();
  }
  if (dtype != DType::kBFloat16) return cudaErrorNotSupported;
  switch (kind) {
    case InputKind::kPlain:
      return run.template operator()<DType::kBFloat16, InputKind::kPlain>();
    case InputKind::kNorm:
      return run.template operator()<DType::kBFloat16, InputKind::kNorm>();
    case InputKind::kGated:
      return run.template operator()<DType::kBFloat16, InputKind::kGated>();
  }
  return cudaErrorNotSupported;
}

}  // namespace

cudaError_t LaunchPackRows(const CudaContext& ctx, DType dtype, InputKind kind,
                           const PackedLinear& args, int32_t rows, int32_t pitch,
                           int32_t block_tiles) {
  return DispatchKind(dtype, kind, [&]<DType kDType, InputKind kKind>() {
    return LaunchPack<kDType, kKind>(ctx, args, rows, pitch, block_tiles);
  });
}

CudaError LaunchManyRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args) {
  if (ctx.compute_capability == 90) {
    const cudaError_t error = LaunchManyRowsSm90(ctx, dtype, kind, args);
    if (error != cudaErrorNotSupported) return error;
  }
  return DispatchKind(dtype, kind, [&]<DType kDType, InputKind kKind>() {
    return LaunchChunks<kDType, kKind>(ctx, args);
  });
}

}  // namespace sidewinder
