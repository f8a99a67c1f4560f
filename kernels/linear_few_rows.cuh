// y = W x for at most 16 rows, W packed in 16 bits: as fast as W can be read.
//
// Grid: block b owns the units b, b + grid, ...; unit u is part u % parts of the 16 outputs of tile
// u / parts (linear_policy.h). The grid is a multiple of parts, so a block stays with one part.
// Roles: 8 warps; warp w owns slice w of the part in all units of its block. It copies its weights
// through a ring of its own in shared memory, one stream over all units that never stops at their
// boundaries, and feeds them to the tensor cores with the inputs as operand B (8 rows are the
// columns of one mma), which it packed into shared memory once. Warps never wait for each other on
// the way: each leaves its sums of a tile in an exchange slot, and one warp, another for every
// tile, adds the eight, combines parts through the workspace (the last block to arrive does) and
// writes the outputs.
// Weights depend on no other op: the ring is full before the kernel waits for its inputs, and when
// the last copy of a warp is under way it prefetches its share of the next product's weights, so
// that the memory stays busy through the end of this kernel and the prologue of the next.
// Shared memory: see Layout. Bound: PackedBytes / bandwidth.
#ifndef SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_
#define SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {

inline constexpr int kFewRowsThreads{kSlicesPerPart * kWarpSize};
inline constexpr int kTileBytes{512};
inline constexpr int kExchangeSlots{2};

// Floats of a part of a tile in the workspace: the sums of the fragment, then the rows' squares.
template <int kRowTiles>
inline constexpr int kRecordFloats{kRowTiles * (4 * kWarpSize + kTokenTile)};

// Offsets into dynamic shared memory, in bytes.
template <int kRowTiles, class Ring>
struct FewRowsLayout {
  int operand, exchange, norm_weight, squares, barriers, size;
  // `part_steps`: k-steps of the longest part.
  __host__ __device__ FewRowsLayout(int part_steps, bool normed) {
    operand = Ring::kBytes * kSlicesPerPart;
    exchange = operand + part_steps * kRowTiles * kTileBytes / 2;
    norm_weight = exchange + kExchangeSlots * kSlicesPerPart * kRowTiles * kTileBytes;
    squares = norm_weight + (normed ? part_steps * static_cast<int>(kPackedTile * 4) : 0);
    barriers = squares + (normed ? kSlicesPerPart * kRowTiles * kTokenTile * 4 : 0);
    size = barriers + 2 * kExchangeSlots * static_cast<int>(sizeof(uint64_t));
  }
};

// One warp's weights, in the order in which it needs them.
template <class Ring>
class WeightStream {
 public:
  // `steps` of `p` from k-step `begin` in each of `num_tiles` tiles, tile_stride apart.
  __device__ WeightStream(const PackedLinear& p, char* ring, int first_tile, int tile_stride,
                          int num_tiles, int begin, int steps)
      : ring_(ring),
        tile_(static_cast<const char*>(p.weight) +
              (static_cast<int64_t>(first_tile) * p.k_steps + begin) * kTileBytes),
        tile_pitch_(static_cast<int64_t>(tile_stride) * p.k_steps * kTileBytes),
        steps_(steps),
        tiles_left_(steps > 0 ? num_tiles : 0) {
#pragma unroll 1
    for (int i = 0; i < Ring::kGroups; ++i) CopyGroup(p);
  }

  // The next group's weights of this lane, one tile of 16 x 16 every kWarpSize.
  __device__ const uint4* Wait() { return ring_.Wait(); }

  // The whole warp has read the group: its place is filled anew.
  __device__ void Refill(const PackedLinear& p) {
    ring_.Release();
    CopyGroup(p);
  }

  __device__ void Drain() { ring_.Drain(); }

 private:
  __device__ void CopyGroup(const PackedLinear& p) {
    if (tiles_left_ == 0) {
      ring_.CopyNothing();
      return;
    }
    if (step_ == 0 && tiles_left_ > p.units_ahead && threadIdx.x % kWarpSize == 0) {
      PrefetchToL2(tile_ + p.units_ahead * tile_pitch_, steps_ * kTileBytes);
    }
    const int count = min(Ring::kGroupSteps, steps_ - step_);
    ring_.Copy(tile_ + step_ * kTileBytes, count);
    step_ += count;
    if (step_ < steps_) return;
    step_ = 0;
    tile_ += tile_pitch_;
    if (--tiles_left_ == 0) PrefetchNextProduct(p);
  }

  __device__ void PrefetchNextProduct(const PackedLinear& p) const {
    constexpr int64_t kLine{128};
    if (p.next_weight == nullptr || threadIdx.x % kWarpSize != 0) return;
    const int64_t shares = static_cast<int64_t>(gridDim.x) * kSlicesPerPart;
    const int64_t share = (p.next_bytes + shares * kLine - 1) / (shares * kLine) * kLine;
    const int64_t begin =
        (static_cast<int64_t>(blockIdx.x) * kSlicesPerPart + threadIdx.x / kWarpSize) * share;
    const int64_t bytes = min(share, p.next_bytes - begin);
    if (bytes > 0) PrefetchToL2(p.next_weight + begin, static_cast<uint32_t>(bytes));
  }

  Ring ring_;
  const char* tile_;
  int64_t tile_pitch_;
  int steps_;
  int step_ = 0;
  int tiles_left_;
};

__device__ __forceinline__ float4 Plus(float4 a, float4 b) {
  return {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
}

// What a warp needs to finish tiles; `lane` holds rows 8 r + 2 (lane % 4) and the next one of
// outputs lane / 4 and lane / 4 + 8.
template <int kRowTiles, InputKind kKind>
class TileFinisher {
 public:
  __device__ TileFinisher(const PackedLinear& p, int part, int num_rows, const float* squares)
      : p_(p), part_(part), num_rows_(num_rows), squares_(squares) {}

  // `slices`: the sums of the eight slices in shared memory. Calls `release` when they are read.
  template <class Wait, class Release>
  __device__ void Finish(int tile, const float4* slices, const Wait& wait, const Release& release) {
    float old[kRowTiles][4];
    LoadOld(tile, old);
    wait();
    float4 sums[kRowTiles];
    float2 row_squares[kRowTiles];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      sums[r] = {0, 0, 0, 0};
      for (int w = 0; w < kSlicesPerPart; ++w) {
        sums[r] = Plus(sums[r], slices[(w * kRowTiles + r) * kWarpSize + Lane()]);
      }
      row_squares[r] = PartSquares(r);
    }
    release();
    if (p_.parts > 1 && !CombineParts(tile, sums, row_squares)) return;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) Write(tile, r, sums[r], row_squares[r], old[r]);
  }

 private:
  __device__ static int Lane() { return threadIdx.x % kWarpSize; }

  __device__ float* OutputOf(int tile, int r, int i) const {
    const int row = r * kTokenTile + Lane() % 4 * 2 + i % 2;
    const int o = tile * static_cast<int>(kPackedTile) + Lane() / 4 + i / 2 * 8;
    return row < num_rows_ && o < p_.out_dim ? p_.output + row * p_.output_stride + o : nullptr;
  }

  __device__ void LoadOld(int tile, float (&old)[kRowTiles][4]) const {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* from = p_.accumulate ? OutputOf(tile, r, i) : nullptr;
        old[r][i] = from != nullptr ? __ldcg(from) : 0.0f;
      }
    }
  }

  __device__ float2 PartSquares(int r) const {
    float2 sum = {0, 0};
    if constexpr (kKind != InputKind::kPlain) {
      for (int w = 0; w < kSlicesPerPart; ++w) {
        const float2 slice = *reinterpret_cast<const float2*>(
            squares_ + (w * kRowTiles + r) * kTokenTile + Lane() % 4 * 2);
        sum = {__fadd_rn(sum.x, slice.x), __fadd_rn(sum.y, slice.y)};
      }
    }
    return sum;
  }

  // Leaves the part's sums in the workspace. The last part of a tile gets true and the sums of all.
  __device__ bool CombineParts(int tile, float4 (&sums)[kRowTiles],
                               float2 (&row_squares)[kRowTiles]) const {
    constexpr int kRecord{kRecordFloats<kRowTiles>};
    float* records = p_.partials + static_cast<int64_t>(tile) * p_.parts * kRecord;
    float* record = records + part_ * kRecord;
    const int sums_at = Lane() * 4;
    const int squares_at = kRowTiles * 4 * kWarpSize + Lane() % 4 * 2;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      __stcg(reinterpret_cast<float4*>(record + r * 4 * kWarpSize + sums_at), sums[r]);
      if (kKind != InputKind::kPlain && Lane() < 4) {
        __stcg(reinterpret_cast<float2*>(record + squares_at + r * kTokenTile), row_squares[r]);
      }
    }
    __syncwarp();
    bool last = false;
    if (Lane() == 0) last = IsLastPart(p_, p_.counters + tile);
    if (!__shfl_sync(0xffffffffu, last, 0)) return false;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      sums[r] = {0, 0, 0, 0};
      row_squares[r] = {0, 0};
    }
    for (int q = 0; q < p_.parts; ++q) {
      record = records + q * kRecord;
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const float* from = record + r * 4 * kWarpSize + sums_at;
        sums[r] = Plus(sums[r], __ldcg(reinterpret_cast<const float4*>(from)));
        if constexpr (kKind != InputKind::kPlain) {
          const float2 more =
              __ldcg(reinterpret_cast<const float2*>(record + squares_at + r * kTokenTile));
          row_squares[r] = {__fadd_rn(row_squares[r].x, more.x),
                            __fadd_rn(row_squares[r].y, more.y)};
        }
      }
    }
    return true;
  }

  __device__ void Write(int tile, int r, float4 sums, float2 row_squares,
                        const float (&old)[4]) const {
    float2 scale = {1, 1};
    if constexpr (kKind != InputKind::kPlain) {
      scale = {RowScale(p_, row_squares.x), RowScale(p_, row_squares.y)};
    }
    const float values[4] = {sums.x, sums.y, sums.z, sums.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float* to = OutputOf(tile, r, i);
      if (to == nullptr) continue;
      const int o = tile * static_cast<int>(kPackedTile) + Lane() / 4 + i / 2 * 8;
      *to = FinishOutput<kKind>(values[i], i % 2 == 0 ? scale.x : scale.y, p_.bias, o, old[i],
                                p_.accumulate);
    }
  }

  const PackedLinear& p_;
  int part_, num_rows_;
  const float* squares_;
};

template <DType kDType, int kRowTiles, InputKind kKind, class Ring>
__global__ void __launch_bounds__(kFewRowsThreads, 3)
    FewRowsKernel(const __grid_constant__ PackedLinear p) {
  constexpr bool kNormed{kKind != InputKind::kPlain};
  extern __shared__ __align__(128) char few_rows_shared[];
  LaunchDependents();
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int part = blockIdx.x % p.parts;
  const int first_tile = blockIdx.x / p.parts, tile_stride = gridDim.x / p.parts;
  const int num_tiles = (p.tiles - first_tile + tile_stride - 1) / tile_stride;
  const int num_slices = p.parts * kSlicesPerPart, slice = part * kSlicesPerPart + warp;
  const int part_begin = SliceBegin(part, p.parts, p.k_steps);
  const int begin = SliceBegin(slice, num_slices, p.k_steps);
  const int steps = SliceBegin(slice + 1, num_slices, p.k_steps) - begin;

  const FewRowsLayout<kRowTiles, Ring> layout((p.k_steps + p.parts - 1) / p.parts, kNormed);
  uint64_t* full = reinterpret_cast<uint64_t*>(few_rows_shared + layout.barriers);
  uint64_t* empty = full + kExchangeSlots;
  WeightStream<Ring> stream(p, few_rows_shared + warp * Ring::kBytes, first_tile, tile_stride,
                            num_tiles, begin, steps);
  if (threadIdx.x < kExchangeSlots) {
    InitBarrier(full + threadIdx.x, kSlicesPerPart);
    InitBarrier(empty + threadIdx.x, 1);
  }
  float* norm_weight = reinterpret_cast<float*>(few_rows_shared + layout.norm_weight);
  if constexpr (kNormed) {  // the warp's own slice; a null norm weight is ones
    constexpr int kTile{static_cast<int>(kPackedTile)};
    for (int k = begin * kTile + lane; k < (begin + steps) * kTile; k += kWarpSize) {
      const bool given = p.norm_weight != nullptr && k < p.in_dim;
      norm_weight[k - part_begin * kTile] = given ? p.norm_weight[k] : 1.0f;
    }
  }
  __syncthreads();

  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  if (num_rows <= 0) {
    stream.Drain();
    return;
  }

  float* squares = reinterpret_cast<float*>(few_rows_shared + layout.squares);
  uint2* operand = reinterpret_cast<uint2*>(few_rows_shared + layout.operand) +
                   (begin - part_begin) * kRowTiles * kWarpSize;
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    if (r * kTokenTile >= num_rows) break;
    const float sum = PackSlice<kDType, kKind>(
        p, r, num_rows, begin, begin + steps,
        [&](int k) {
          return *reinterpret_cast<const float4*>(norm_weight + k -
                                                  part_begin * static_cast<int>(kPackedTile));
        },
        [&](int step, int owner, uint2 pair) {
          operand[((step - begin) * kRowTiles + r) * kWarpSize + owner] = pair;
        });
    if (kNormed && lane % 4 == 0) squares[(warp * kRowTiles + r) * kTokenTile + lane / 4] = sum;
  }
  __syncwarp();

  TileFinisher<kRowTiles, kKind> finisher(p, part, num_rows, squares);
  float4* exchange = reinterpret_cast<float4*>(few_rows_shared + layout.exchange);
  for (int i = 0; i < num_tiles; ++i) {
    float sums[kRowTiles][4] = {};
    for (int step = 0; step < steps; step += Ring::kGroupSteps) {
      const uint4* weights = stream.Wait();
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) {
        if (step + j >= steps) break;
        const uint4 tile = weights[j * kWarpSize];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          const uint2 inputs = operand[((step + j) * kRowTiles + r) * kWarpSize + lane];
          MultiplyAdd<kDType>(sums[r], tile, inputs.x, inputs.y);
        }
      }
      stream.Refill(p);
    }
    const int slot = i % kExchangeSlots, use = i / kExchangeSlots;
    float4* slices = exchange + slot * kSlicesPerPart * kRowTiles * kWarpSize;
    if (use > 0) WaitForBarrier(empty + slot, (use - 1) & 1);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      slices[(warp * kRowTiles + r) * kWarpSize + lane] = {sums[r][0], sums[r][1], sums[r][2],
                                                           sums[r][3]};
    }
    __syncwarp();
    if (lane == 0) ArriveAtBarrier(full + slot);
    if (i % kSlicesPerPart != warp) continue;
    finisher.Finish(
        first_tile + i * tile_stride, slices, [&] { WaitForBarrier(full + slot, use & 1); },
        [&] {
          __syncwarp();
          if (lane == 0) ArriveAtBarrier(empty + slot);
        });
  }
}

template <DType kDType, int kRowTiles, InputKind kKind, class Ring>
cudaError_t LaunchFewRowsKernel(const CudaContext& ctx, const PackedLinear& args, int32_t blocks) {
  const FewRowsLayout<kRowTiles, Ring> layout((args.k_steps + args.parts - 1) / args.parts,
                                              kKind != InputKind::kPlain);
  return LaunchKernel(ctx, FewRowsKernel<kDType, kRowTiles, kKind, Ring>,
                      {.grid = dim3(blocks),
                       .block = dim3(kFewRowsThreads),
                       .shared_bytes = static_cast<size_t>(layout.size)},
                      args);
}

// In chunks of the outputs, if one launch has too few counters or too little workspace for all.
template <DType kDType, int kRowTiles, InputKind kKind, class Ring>
cudaError_t LaunchFewRowsChunks(const CudaContext& ctx, const PackedLinear& args, int32_t blocks) {
  if (args.parts == 1) {
    return LaunchFewRowsKernel<kDType, kRowTiles, kKind, Ring>(ctx, args, blocks);
  }
  const size_t tile_bytes = kRecordFloats<kRowTiles> * sizeof(float) * args.parts;
  const size_t space = ctx.workspace_bytes - kWorkspaceCounterBytes;
  const int32_t max_tiles =
      static_cast<int32_t>(std::min(space / tile_bytes, kWorkspaceCounterBytes / sizeof(uint32_t)));
  for (int32_t tile = 0; tile < args.tiles; tile += max_tiles) {
    PackedLinear chunk = args;
    const int64_t first_output = int64_t{tile} * kPackedTile;
    chunk.tiles = std::min(max_tiles, args.tiles - tile);
    chunk.out_dim = static_cast<int32_t>(
        std::min<int64_t>(args.out_dim - first_output, int64_t{chunk.tiles} * kPackedTile));
    chunk.weight =
        static_cast<const char*>(args.weight) + int64_t{tile} * args.k_steps * kTileBytes;
    chunk.output = args.output + first_output;
    if (args.bias != nullptr) chunk.bias = args.bias + first_output;
    const cudaError_t error = LaunchFewRowsKernel<kDType, kRowTiles, kKind, Ring>(
        ctx, chunk, std::min(blocks, chunk.tiles * args.parts));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <class Ring, DType kDType, InputKind kKind>
cudaError_t DispatchRowTiles(const CudaContext& ctx, const PackedLinear& args, int32_t blocks,
                             int32_t max_rows) {
  return max_rows <= kTokenTile ? LaunchFewRowsChunks<kDType, 1, kKind, Ring>(ctx, args, blocks)
                                : LaunchFewRowsChunks<kDType, 2, kKind, Ring>(ctx, args, blocks);
}

template <class Ring>
cudaError_t DispatchFewRows(const CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args, int32_t blocks, int32_t max_rows) {
  if (dtype == DType::kFloat16 && kind == InputKind::kPlain) {
    return DispatchRowTiles<Ring, DType::kFloat16, InputKind::kPlain>(ctx, args, blocks, max_rows);
  }
  if (dtype != DType::kBFloat16) return cudaErrorNotSupported;
  switch (kind) {
    case InputKind::kPlain:
      return DispatchRowTiles<Ring, DType::kBFloat16, InputKind::kPlain>(ctx, args, blocks,
                                                                         max_rows);
    case InputKind::kNorm:
      return DispatchRowTiles<Ring, DType::kBFloat16, InputKind::kNorm>(ctx, args, blocks,
                                                                        max_rows);
    case InputKind::kGated:
      return DispatchRowTiles<Ring, DType::kBFloat16, InputKind::kGated>(ctx, args, blocks,
                                                                         max_rows);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_
