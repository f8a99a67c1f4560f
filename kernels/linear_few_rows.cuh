// y = W x for at most 16 rows, W packed in 16 bits: as fast as W can be read.
//
// Grid: block b owns the tiles of 16 outputs b, b + grid, ...; one block a multiprocessor.
// Roles: 8 stream warps and a finisher. Stream warp w owns slice w of the reduction
// (linear_policy.h) in all tiles of its block. It copies its weights through a ring of its own in
// shared memory, one stream over all tiles that never stops at their boundaries, and feeds them to
// the tensor cores with the inputs as operand B (8 rows are the columns of one mma), which it keeps
// in registers, or in shared memory where slices are long. Stream warps never wait for each other:
// each leaves its sums of a tile in an exchange slot, and the finisher adds the eight and writes
// the outputs. A warp that both streamed and finished would let its weights wait.
// Weights depend on no other op, so the ring is full before the kernel waits for its inputs.
// A block leaves room for one of the next kernel, whose ring then fills while this one ends.
// Shared memory: see Layout. Barriers: one __syncthreads before the wait; full and empty mbarriers
// of the exchange slots. Bound: PackedBytes / bandwidth.
#ifndef SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_
#define SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {

inline constexpr int kFewRowsThreads{(kSlices + 1) * kWarpSize};
inline constexpr int kTileBytes{512};
inline constexpr int kInShared{0};  // kSteps: the operand is in shared memory

// Tiles that stream warps may be ahead of the finisher.
template <int kRowTiles>
inline constexpr int kExchangeSlots{4 / kRowTiles};

// Offsets into dynamic shared memory, in bytes.
template <int kRowTiles, int kSteps, class Ring>
struct FewRowsLayout {
  int exchange, squares, barriers, operand, size;

  __host__ __device__ explicit FewRowsLayout(int k_steps) {
    exchange = Ring::kBytes * kSlices;
    squares = exchange + kExchangeSlots<kRowTiles> * kSlices * kRowTiles * kTileBytes;
    barriers = squares + kSlices * kRowTiles * kTokenTile * static_cast<int>(sizeof(float));
    operand = barriers + 2 * kExchangeSlots<kRowTiles> * static_cast<int>(sizeof(uint64_t));
    size = operand + (kSteps == kInShared ? k_steps * kRowTiles * kTileBytes / 2 : 0);
  }
};

// One stream warp's weights, in the order in which it needs them.
template <class Ring>
class WeightStream {
 public:
  __device__ WeightStream(const PackedLinear& p, char* ring, int begin, int steps)
      : ring_(ring),
        tile_(static_cast<const char*>(p.weight) +
              (static_cast<int64_t>(blockIdx.x) * p.k_steps + begin) * kTileBytes),
        tile_pitch_(static_cast<int64_t>(gridDim.x) * p.k_steps * kTileBytes),
        steps_(steps),
        tiles_left_(
            steps > 0
                ? (p.tiles - 1 - static_cast<int>(blockIdx.x)) / static_cast<int>(gridDim.x) + 1
                : 0) {
    for (int i = 0; i < Ring::kGroups; ++i) CopyGroup();
  }

  // The next group's weights of this lane, one tile of 16 x 16 every kWarpSize.
  __device__ const uint4* Wait() { return ring_.Wait(); }

  // The whole warp has read the group: its place is filled anew.
  __device__ void Refill() {
    ring_.Release();
    CopyGroup();
  }

  __device__ void Drain() { ring_.Drain(); }

 private:
  __device__ void CopyGroup() {
    if (tiles_left_ == 0) {
      ring_.CopyNothing();
      return;
    }
    const int count = min(Ring::kGroupSteps, steps_ - step_);
    ring_.Copy(tile_ + step_ * kTileBytes, count);
    step_ += count;
    if (step_ < steps_) return;
    step_ = 0;
    tile_ += tile_pitch_;
    --tiles_left_;
  }

  Ring ring_;
  const char* tile_;
  int64_t tile_pitch_;
  int steps_;
  int step_ = 0;
  int tiles_left_;
};

// Full and empty barriers of the exchange slots.
template <int kRowTiles>
struct Exchange {
  static constexpr int kSlots{kExchangeSlots<kRowTiles>};
  float4* slots;  // [kSlots, kSlices, kRowTiles, kWarpSize]
  uint64_t* full;
  uint64_t* empty;

  __device__ Exchange(char* memory, char* barriers)
      : slots(reinterpret_cast<float4*>(memory)),
        full(reinterpret_cast<uint64_t*>(barriers)),
        empty(full + kSlots) {}

  __device__ void InitBarriers() const {
    const int lane = threadIdx.x % kWarpSize;
    if (lane >= kSlots) return;
    InitBarrier(full + lane, kSlices);
    InitBarrier(empty + lane, 1);
  }

  __device__ float4* Slot(int tile_idx, int slice, int row_tile) const {
    return slots + ((tile_idx % kSlots * kSlices + slice) * kRowTiles + row_tile) * kWarpSize +
           threadIdx.x % kWarpSize;
  }

  __device__ void WaitEmpty(int tile_idx) const {
    if (tile_idx >= kSlots) WaitForBarrier(empty + tile_idx % kSlots, (tile_idx / kSlots - 1) & 1);
  }
  __device__ void WaitFull(int tile_idx) const {
    WaitForBarrier(full + tile_idx % kSlots, (tile_idx / kSlots) & 1);
  }
  // By a whole warp, which is done with the slot.
  __device__ void Arrive(uint64_t* barriers, int tile_idx) const {
    __syncwarp();
    if (threadIdx.x % kWarpSize == 0) ArriveAtBarrier(barriers + tile_idx % kSlots);
  }
};

__device__ __forceinline__ float4 Plus(float4 a, float4 b) {
  return {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
}

// A stream warp's inputs as operand B.
template <DType kDType, InputKind kKind, int kRowTiles, int kSteps>
class Operand {
 public:
  // `shared`: of the warp, for kInShared. `squares`: [kRowTiles * kTokenTile] of the warp.
  __device__ void Load(const PackedLinear& p, int num_rows, int begin, int steps, uint2* shared,
                       float* squares) {
    constexpr int kBatch{kKind == InputKind::kGated ? 5 : 10};
    const int lane = threadIdx.x % kWarpSize;
    shared_ = shared + lane;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const OperandRow row(p, r, num_rows);
      float sum;
      if constexpr (kSteps != kInShared) {
        sum = PackSlice<kDType, kKind, true, kBatch>(
            p, row, begin, steps, kSteps, [&](int i, uint2 pair) { registers_[r][i] = pair; });
      } else {
        const auto store = [&](int i, uint2 pair) {
          shared_[(i * kRowTiles + r) * kWarpSize] = pair;
        };
        sum = p.wide_loads
                  ? PackSlice<kDType, kKind, true, kBatch>(p, row, begin, steps, steps, store)
                  : PackSlice<kDType, kKind, false, kBatch>(p, row, begin, steps, steps, store);
      }
      if (kKind != InputKind::kPlain && lane % 4 == 0) squares[r * kTokenTile + lane / 4] = sum;
    }
  }

  __device__ uint2 Get(int i, int r) const {
    if constexpr (kSteps != kInShared) {
      return registers_[r][i];
    } else {
      return shared_[(i * kRowTiles + r) * kWarpSize];
    }
  }

 private:
  uint2 registers_[kRowTiles][kSteps != kInShared ? kSteps : 1];
  uint2* shared_ = nullptr;
};

template <DType kDType, InputKind kKind, int kRowTiles, int kSteps, class Ring>
__device__ void StreamTiles(const PackedLinear& p, int num_rows, int begin, int steps,
                            WeightStream<Ring>& stream, const Exchange<kRowTiles>& exchange,
                            uint2* operand_memory, float* squares) {
  const int warp = threadIdx.x / kWarpSize;
  Operand<kDType, kKind, kRowTiles, kSteps> operand;
  operand.Load(p, p.row_index != nullptr ? num_rows : p.max_rows, begin, steps, operand_memory,
               squares);
  if (num_rows <= 0) {
    stream.Drain();
    return;
  }
  for (int tile = blockIdx.x, idx = 0; tile < p.tiles; tile += gridDim.x, ++idx) {
    float sums[kRowTiles][4] = {};
#pragma unroll
    for (int step = 0; step < (kSteps != kInShared ? kSteps : steps); step += Ring::kGroupSteps) {
      if (step >= steps) break;
      const uint4* weights = stream.Wait();
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) {
        if (kSteps != kInShared && step + j >= kSteps) break;
        if (step + j < steps) {
          const uint4 fragment = weights[j * kWarpSize];
#pragma unroll
          for (int r = 0; r < kRowTiles; ++r) {
            const uint2 inputs = operand.Get(step + j, r);
            MultiplyAdd<kDType>(sums[r], fragment, inputs.x, inputs.y);
          }
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

// The finisher's lane holds rows 8 r + 2 (lane % 4) and the next one of outputs lane / 4 and
// lane / 4 + 8 of a tile.
template <InputKind kKind, int kRowTiles>
class Finisher {
 public:
  __device__ Finisher(const PackedLinear& p, int num_rows) : p_(p), num_rows_(num_rows) {}

  __device__ void Run(const Exchange<kRowTiles>& exchange, const float* squares) const {
    float2 scales[kRowTiles];
    for (int tile = blockIdx.x, idx = 0; tile < p_.tiles; tile += gridDim.x, ++idx) {
      float old[kRowTiles][4];
      LoadOld(tile, old);
      exchange.WaitFull(idx);
      if (idx == 0) LoadScales(squares, scales);
      float4 sums[kRowTiles];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        sums[r] = {0, 0, 0, 0};
#pragma unroll
        for (int w = 0; w < kSlices; ++w) sums[r] = Plus(sums[r], *exchange.Slot(idx, w, r));
      }
      exchange.Arrive(exchange.empty, idx);
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) Write(tile, r, sums[r], scales[r], old[r]);
    }
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

  __device__ void LoadScales(const float* squares, float2 (&scales)[kRowTiles]) const {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      scales[r] = {1, 1};
      if constexpr (kKind != InputKind::kPlain) {
        float2 sum = {0, 0};
        for (int w = 0; w < kSlices; ++w) {
          const float2 slice = *reinterpret_cast<const float2*>(
              squares + (w * kRowTiles + r) * kTokenTile + Lane() % 4 * 2);
          sum = {__fadd_rn(sum.x, slice.x), __fadd_rn(sum.y, slice.y)};
        }
        scales[r] = {RowScale(p_, sum.x), RowScale(p_, sum.y)};
      }
    }
  }

  __device__ void Write(int tile, int r, float4 sums, float2 scale, const float (&old)[4]) const {
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
  int num_rows_;
};

template <DType kDType, int kRowTiles, InputKind kKind, int kSteps, class Ring>
__global__ void __launch_bounds__(kFewRowsThreads)
    FewRowsKernel(const __grid_constant__ PackedLinear p) {
  extern __shared__ __align__(128) char few_rows_shared[];
  LaunchDependents();
  const int warp = threadIdx.x / kWarpSize;
  const FewRowsLayout<kRowTiles, kSteps, Ring> layout(p.k_steps);
  const Exchange<kRowTiles> exchange(few_rows_shared + layout.exchange,
                                     few_rows_shared + layout.barriers);
  float* squares = reinterpret_cast<float*>(few_rows_shared + layout.squares);
  if (warp == kSlices) {
    exchange.InitBarriers();
    __syncthreads();
    WaitForDependencies();
    const int num_rows = __ldcg(p.num_rows);
    if (num_rows > 0) Finisher<kKind, kRowTiles>(p, num_rows).Run(exchange, squares);
    return;
  }
  const int begin = SliceBegin(warp, p.k_steps);
  const int steps = SliceBegin(warp + 1, p.k_steps) - begin;
  WeightStream<Ring> stream(p, few_rows_shared + warp * Ring::kBytes, begin, steps);
  __syncthreads();
  WaitForDependencies();
  StreamTiles<kDType, kKind, kRowTiles, kSteps>(
      p, __ldcg(p.num_rows), begin, steps, stream, exchange,
      reinterpret_cast<uint2*>(few_rows_shared + layout.operand) + begin * kRowTiles * kWarpSize,
      squares + warp * kRowTiles * kTokenTile);
}

constexpr int MaxSharedBytes(int32_t compute_capability) {
  if (compute_capability >= 90) return 227 << 10;
  return compute_capability == 80 ? 163 << 10 : 99 << 10;
}

template <DType kDType, int kRowTiles, InputKind kKind, int kSteps, class Ring>
cudaError_t LaunchFewRowsKernel(const CudaContext& ctx, const PackedLinear& args) {
  const FewRowsLayout<kRowTiles, kSteps, Ring> layout(args.k_steps);
  if (layout.size > MaxSharedBytes(ctx.compute_capability)) return cudaErrorNotSupported;
  return LaunchKernel(ctx, FewRowsKernel<kDType, kRowTiles, kKind, kSteps, Ring>,
                      {.grid = dim3(std::min(args.tiles, ctx.num_multiprocessors)),
                       .block = dim3(kFewRowsThreads),
                       .shared_bytes = static_cast<size_t>(layout.size)},
                      args);
}

// Where the operand is kept: in registers if a slice is short enough.
template <class Ring, class SmallRing, DType kDType, InputKind kKind, int kRowTiles>
cudaError_t DispatchSteps(const CudaContext& ctx, const PackedLinear& args) {
  const int steps = args.wide_loads ? MaxSliceSteps(args.k_steps) : 0;
  if (steps >= 1 && steps <= 8) {
    return LaunchFewRowsKernel<kDType, kRowTiles, kKind, 8, Ring>(ctx, args);
  }
  if (steps >= 1 && steps <= 20) {
    return LaunchFewRowsKernel<kDType, kRowTiles, kKind, 20, Ring>(ctx, args);
  }
  if constexpr (kRowTiles == 1) {
    if (steps >= 1 && steps <= 40) {
      return LaunchFewRowsKernel<kDType, kRowTiles, kKind, 40, Ring>(ctx, args);
    }
  }
  return LaunchFewRowsKernel<kDType, kRowTiles, kKind, kInShared, SmallRing>(ctx, args);
}

template <class Ring, class SmallRing, DType kDType, InputKind kKind>
cudaError_t DispatchRowTiles(const CudaContext& ctx, const PackedLinear& args) {
  return args.max_rows <= kTokenTile ? DispatchSteps<Ring, SmallRing, kDType, kKind, 1>(ctx, args)
                                     : DispatchSteps<Ring, SmallRing, kDType, kKind, 2>(ctx, args);
}

template <class Ring, class SmallRing>
cudaError_t DispatchFewRows(const CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args) {
  if (dtype == DType::kFloat16 && kind == InputKind::kPlain) {
    return DispatchRowTiles<Ring, SmallRing, DType::kFloat16, InputKind::kPlain>(ctx, args);
  }
  if (dtype != DType::kBFloat16) return cudaErrorNotSupported;
  switch (kind) {
    case InputKind::kPlain:
      return DispatchRowTiles<Ring, SmallRing, DType::kBFloat16, InputKind::kPlain>(ctx, args);
    case InputKind::kNorm:
      return DispatchRowTiles<Ring, SmallRing, DType::kBFloat16, InputKind::kNorm>(ctx, args);
    case InputKind::kGated:
      return DispatchRowTiles<Ring, SmallRing, DType::kBFloat16, InputKind::kGated>(ctx, args);
  }
  return cudaErrorNotSupported;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_
