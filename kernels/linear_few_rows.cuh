// y = W x for at most 16 rows, W packed in 16 bits: as fast as W can be read.
//
// Grid: block b owns the tiles of 16 outputs b, b + grid, ...; one block a multiprocessor. Two
// products may share a grid, each with blocks of its own (FewRowsPairKernel).
// Roles: 8 stream warps and a finisher. Stream warp w owns slice w of the reduction
// (linear_policy.h) in all tiles of its block. It copies its weights through a ring of its own in
// shared memory, one stream over all tiles that never stops at their boundaries, and feeds them to
// the tensor cores with the inputs as operand B (8 rows are the columns of one mma), which it keeps
// in registers, or in shared memory where slices are long. Stream warps never wait for each other:
// each leaves its sums of a tile in an exchange slot, and the finisher adds the eight and writes
// the outputs. A warp that both streamed and finished would let its weights wait.
// Weights depend on no other op, so the ring is full before the kernel waits for its inputs.
// Where a convolution follows (Mamba-1), the finisher runs it over the tile at hand: a lane has a
// channel, its window and its taps.
// A block takes so much memory and so many registers that the next product's wait until it is done:
// where two share a multiprocessor, both are slower (docs/benchmarks.md).
// Shared memory: see Layout. Barriers: one of the block before the wait; full and empty mbarriers
// of the exchange slots. Bound: PackedBytes / bandwidth.
#ifndef SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_
#define SIDEWINDER_KERNELS_LINEAR_FEW_ROWS_CUH_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/causal_conv.cuh"
#include "kernels/common/async_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/linear_operand.cuh"
#include "kernels/linear_packed.cuh"

namespace sidewinder {

inline constexpr int kFewRowsThreads{(kSlices + 1) * kWarpSize};
inline constexpr int kFusedConvWidth{4};

// K-steps that a stream warp asks the second-level cache for beyond its ring: over all warps of a
// GPU well below the size of that cache.
inline constexpr int kAheadSteps{8};

// Tiles that stream warps may be ahead of the finisher.
template <int kRowTiles>
inline constexpr int kExchangeSlots{4 / kRowTiles};

// Offsets into dynamic shared memory, in bytes.
template <int kRowTiles, int kSteps, class Ring>
struct FewRowsLayout {
  int exchange, squares, outputs, barriers, operand, size;

  __host__ __device__ explicit FewRowsLayout(int k_steps) {
    exchange = Ring::kBytes * kSlices;
    squares = exchange + kSlices * kExchangeBytes;
    outputs = squares + kSlices * kRowTiles * kTokenTile * static_cast<int>(sizeof(float));
    barriers = outputs + kRowTiles * kTileBytes;
    operand = barriers + 2 * kExchangeSlots<kRowTiles> * static_cast<int>(sizeof(uint64_t));
    size = operand + (kSteps == kInShared ? k_steps * kRowTiles * kTileBytes / 2 : 0);
  }
};

// Which of the blocks that a product has this one is.
struct BlockOf {
  int index, count;
};

// One stream warp's weights, in the order in which it needs them.
template <class Ring>
class WeightStream {
 public:
  __device__ WeightStream(const PackedLinear& p, BlockOf block, char* ring, int begin, int steps)
      : ring_(ring),
        tile_(static_cast<const char*>(p.weight) +
              (static_cast<int64_t>(block.index) * p.k_steps + begin) * kTileBytes),
        tile_pitch_(static_cast<int64_t>(block.count) * p.k_steps * kTileBytes),
        steps_(steps),
        tiles_left_(steps > 0 ? (p.tiles - 1 - block.index) / block.count + 1 : 0) {
    for (int i = 0; i < Ring::kGroups; ++i) CopyGroup();
    if (threadIdx.x % kWarpSize == 0) PrefetchBehindRing();
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
  // What follows the ring's weights comes into the second-level cache while the kernel waits for
  // its inputs.
  __device__ void PrefetchBehindRing() const {
    int left = kAheadSteps, step = step_;
    const char* tile = tile_;
    for (int tiles = tiles_left_; tiles > 0 && left > 0; --tiles) {
      const int count = min(left, steps_ - step);
      PrefetchToL2(tile + step * kTileBytes, count * kTileBytes);
      left -= count;
      step = 0;
      tile += tile_pitch_;
    }
  }

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
  float4* slots;  // [kSlices, kSlots, kRowTiles, kWarpSize]
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
    return slots + ((slice * kSlots + tile_idx % kSlots) * kRowTiles + row_tile) * kWarpSize +
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

template <DType kDType, InputKind kKind, int kRowTiles, int kSteps, class Ring>
__device__ void StreamTiles(const PackedLinear& p, BlockOf block, int num_rows, int steps,
                            WeightStream<Ring>& stream, const Exchange<kRowTiles>& exchange,
                            Operand<kDType, kKind, kRowTiles, kSteps>& operand, float* squares) {
  const int warp = threadIdx.x / kWarpSize;
  // Rows of the pass that do not exist this time are read as well: it saves waiting for num_rows.
  operand.Load(p, p.row_index != nullptr ? num_rows : p.max_rows, squares);
  if (num_rows <= 0) {
    stream.Drain();
    return;
  }
  for (int tile = block.index, idx = 0; tile < p.tiles; tile += block.count, ++idx) {
    float sums[kRowTiles][4] = {};
#pragma unroll
    for (int step = 0; step < (kSteps != kInShared ? kSteps : steps); step += Ring::kGroupSteps) {
      if (step >= steps) break;
      const uint4* weights = stream.Wait();
      uint4 fragments[Ring::kGroupSteps];
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) fragments[j] = weights[j * kWarpSize];
#pragma unroll
      for (int j = 0; j < Ring::kGroupSteps; ++j) {
        if (kSteps != kInShared && step + j >= kSteps) break;
        if (step + j < steps) {
#pragma unroll
          for (int r = 0; r < kRowTiles; ++r) {
            const uint2 inputs = operand.Get(step + j, r);
            MultiplyAdd<kDType>(sums[r], fragments[j], inputs.x, inputs.y);
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
  // `outputs`: [rows, 16] shared memory of the finisher.
  __device__ Finisher(const PackedLinear& p, BlockOf block, int num_rows, float* outputs)
      : p_(p), block_(block), num_rows_(num_rows), outputs_(outputs) {}

  __device__ void Run(const Exchange<kRowTiles>& exchange, const float* squares) const {
    float2 scales[kRowTiles];
    SequenceRows sequence = {};
    const Ring ring(p_.conv.ring_rows);
    if (HasConv()) sequence = p_.conv.plan.sequences[0];
    for (int tile = block_.index, idx = 0; tile < p_.tiles; tile += block_.count, ++idx) {
      float old[kRowTiles][4];
      LoadOld(tile, old);
      ConvChannel channel;
      const bool convolves = HasConv() && tile * kPackedTile < p_.conv.dim;
      if (convolves) channel.Load(p_.conv, ring, sequence, tile);
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
      if (convolves) {
        __syncwarp();
        if (Lane() < kPackedTile) channel.Run(p_.conv, ring, sequence, tile, outputs_ + Lane());
        __syncwarp();
      }
    }
  }

 private:
  // What one channel's convolution needs of memory; loaded ahead of the tile's sums.
  struct ConvChannel {
    float weight[kFusedConvWidth], window[kFusedConvWidth - 1], bias;

    __device__ static int64_t Channel(int tile) {
      return static_cast<int64_t>(tile) * kPackedTile + Lane() % kPackedTile;
    }

    __device__ void Load(const CausalConvParams& conv, Ring ring, const SequenceRows& sequence,
                         int tile) {
      const int64_t channel = Channel(tile);
      const ConvInputs inputs(conv, ring, sequence);
      bias = conv.bias != nullptr ? conv.bias[channel] : 0.0f;
#pragma unroll
      for (int k = 0; k < kFusedConvWidth; ++k) weight[k] = conv.weight[k * conv.dim + channel];
#pragma unroll
      for (int k = 0; k < kFusedConvWidth - 1; ++k) {
        window[k] = inputs.At(sequence.consumed - kFusedConvWidth + 1 + k, channel);
      }
    }

    // `raw`: the channel's outputs of the product, a row every 16 floats.
    __device__ void Run(const CausalConvParams& conv, Ring ring, const SequenceRows& sequence,
                        int tile, const float* raw) const {
      const int64_t channel = Channel(tile);
      const ConvInputs inputs(conv, ring, sequence);
      float u[kFusedConvWidth] = {window[0], window[1], window[2], 0};
      for (int r = 0; r < sequence.num_rows; ++r) {
        u[3] = raw[r * kPackedTile];
        conv.output[(sequence.first_row + r) * conv.output_stride + channel] =
            ConvOutput<kFusedConvWidth>(bias, weight, u);
        const int position = sequence.consumed + r;
        if (inputs.Kept(position)) inputs.RingRow(position)[channel] = u[3];
        u[0] = u[1];
        u[1] = u[2];
        u[2] = u[3];
      }
    }
  };

  __device__ static int Lane() { return threadIdx.x % kWarpSize; }

  __device__ bool HasConv() const { return kKind == InputKind::kNorm && p_.conv.output != nullptr; }

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
      const float value =
          FinishOutput<kKind>(p_, values[i], i % 2 == 0 ? scale.x : scale.y, o, old[i]);
      *to = value;
      if (HasConv()) {
        const int row = r * kTokenTile + Lane() % 4 * 2 + i % 2;
        outputs_[row * kPackedTile + Lane() / 4 + i / 2 * 8] = value;
      }
    }
  }

  const PackedLinear& p_;
  BlockOf block_;
  int num_rows_;
  float* outputs_;
};

// A barrier of the whole block that the finisher and the stream warps reach at different places,
// which __syncthreads does not allow.
__device__ __forceinline__ void MeetBlock() {
  asm volatile("bar.sync 1, %0;" ::"n"(kFewRowsThreads) : "memory");
}

// A block's part of a product, in `shared` memory of FewRowsLayout's size.
template <DType kDType, int kRowTiles, InputKind kKind, int kSteps, class Ring>
__device__ __forceinline__ void MultiplyFewRows(const PackedLinear& p, BlockOf block,
                                                char* shared) {
  const int warp = threadIdx.x / kWarpSize;
  const FewRowsLayout<kRowTiles, kSteps, Ring> layout(p.k_steps);
  const Exchange<kRowTiles> exchange(shared + layout.exchange, shared + layout.barriers);
  float* squares = reinterpret_cast<float*>(shared + layout.squares);
  if (warp == kSlices) {
    exchange.InitBarriers();
    MeetBlock();
    WaitForDependencies();
    const int num_rows = __ldcg(p.num_rows);
    float* const outputs = reinterpret_cast<float*>(shared + layout.outputs);
    if (num_rows > 0) {
      Finisher<kKind, kRowTiles>(p, block, num_rows, outputs).Run(exchange, squares);
    }
    return;
  }
  const int begin = SliceBegin(warp, p.k_steps);
  const int steps = SliceBegin(warp + 1, p.k_steps) - begin;
  WeightStream<Ring> stream(p, block, shared + warp * Ring::kBytes, begin, steps);
  using Inputs = Operand<kDType, kKind, kRowTiles, kSteps>;
  char* const memory = shared + layout.operand;
  Inputs operand(p, begin, steps,
                 kSteps == kInShared ? memory + begin * kRowTiles * kTileBytes / 2
                                     : shared + layout.exchange + warp * kExchangeBytes);
  MeetBlock();
  WaitForDependencies();
  StreamTiles<kDType, kKind, kRowTiles, kSteps>(p, block, __ldcg(p.num_rows), steps, stream,
                                                exchange, operand,
                                                squares + warp * kRowTiles * kTokenTile);
}

template <DType kDType, int kRowTiles, InputKind kKind, int kSteps, class Ring>
__global__ void __launch_bounds__(kFewRowsThreads)
    FewRowsKernel(const __grid_constant__ PackedLinear p) {
  extern __shared__ __align__(128) char few_rows_shared[];
  LaunchDependents();
  MultiplyFewRows<kDType, kRowTiles, kKind, kSteps, Ring>(
      p, {static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)}, few_rows_shared);
}

// Two products that do not depend on each other: the few tiles of `small`, a block each, take about
// as long as any block takes for its inputs and its sums, and that time passes while the others
// stream the weights of `large`.
template <DType kDType, InputKind kKind, int kSteps, InputKind kSmallKind, int kSmallSteps,
          class Ring, class SmallRing>
__global__ void __launch_bounds__(kFewRowsThreads)
    FewRowsPairKernel(const __grid_constant__ PackedLinear large,
                      const __grid_constant__ PackedLinear small) {
  extern __shared__ __align__(128) char few_rows_shared[];
  LaunchDependents();
  const int block = static_cast<int>(blockIdx.x);
  if (block < small.tiles) {
    MultiplyFewRows<kDType, 1, kSmallKind, kSmallSteps, SmallRing>(small, {block, small.tiles},
                                                                   few_rows_shared);
  } else {
    MultiplyFewRows<kDType, 1, kKind, kSteps, Ring>(
        large, {block - small.tiles, static_cast<int>(gridDim.x) - small.tiles}, few_rows_shared);
  }
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

template <DType kDType, InputKind kKind, int kSteps, InputKind kSmallKind, int kSmallSteps,
          class Ring, class SmallRing>
cudaError_t LaunchFewRowsPairKernel(const CudaContext& ctx, const PackedLinear& large,
                                    const PackedLinear& small) {
  const int size = std::max(FewRowsLayout<1, kSteps, Ring>(large.k_steps).size,
                            FewRowsLayout<1, kSmallSteps, SmallRing>(small.k_steps).size);
  if (size > MaxSharedBytes(ctx.compute_capability)) return cudaErrorNotSupported;
  const int blocks = std::min(large.tiles, ctx.num_multiprocessors - small.tiles);
  return LaunchKernel(
      ctx, FewRowsPairKernel<kDType, kKind, kSteps, kSmallKind, kSmallSteps, Ring, SmallRing>,
      {.grid = dim3(small.tiles + blocks),
       .block = dim3(kFewRowsThreads),
       .shared_bytes = static_cast<size_t>(size)},
      large, small);
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
