// Y = X W^T for many rows by products of warps (mma_m16n8k16.cuh), with the bits that
// linear_few_rows.cuh gives every row.
//
// Grid: tiles of kTiles x 16 outputs and kRows rows; tiles of the same outputs are neighbours, so
// that weights leave memory once. A tile belongs to a cluster of kCluster blocks, in each of
// which 8 warps form kGroups groups: a group for every slice of the reduction (linear_policy.h), so
// that few outputs keep many multiprocessors busy. The warps of a group share the tile's rows; a
// warp multiplies kTiles x 16 outputs and kWarpRowTiles x 8 rows.
// Every group has a ring of stages in shared memory. Its warps share the bulk copies of a stage,
// one for each tile of weights and one for all inputs, and start them when the group has read what
// was there; weights depend on no other op, so the first ones are on their way before the kernel
// waits for its inputs.
// All leave the sums of their slices in shared memory, and every thread of the cluster adds up its
// part of the outputs.
// Barriers: full and empty mbarriers of stages; the block's or cluster's where sums meet.
// Bound: the bytes of W for up to some 100 rows, then tensor cores and the reads of shared memory
// that feed them.
#ifndef SIDEWINDER_KERNELS_LINEAR_WARP_TILES_CUH_
#define SIDEWINDER_KERNELS_LINEAR_WARP_TILES_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/bulk_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/load_matrix.cuh"
#include "kernels/linear_many_rows_sm90.cuh"

namespace sidewinder {

inline constexpr int kTileWarps{8};
inline constexpr int kTileSumBytes{kWarpSize *
                                   static_cast<int>(sizeof(float4))};  // 16 outputs, 8 rows

template <DType kDType, class T>
__global__ void WarpRowsKernel(const __grid_constant__ ManyRows a);

// Outputs / 16 and rows / 8 of a warp, warps of a group, cluster, blocks of a multiprocessor.
template <int kTilesOfWarp, int kRowTilesOfWarp, int kWarpsOfGroup, int kBlocksOfCluster,
          int kBlocks = 1>
struct WarpTile {
  static constexpr int kTiles{kTilesOfWarp}, kWarpRowTiles{kRowTilesOfWarp};
  static constexpr int kCluster{kBlocksOfCluster};
  static constexpr int kBlocksPerMultiprocessor{kBlocks};
  static constexpr int kThreads{kTileWarps * kWarpSize};
  static constexpr int kGroupWarps{kWarpsOfGroup}, kGroups{kTileWarps / kGroupWarps};
  static constexpr int kRowTiles{kWarpRowTiles * kGroupWarps};
  static constexpr int kRows{kRowTiles * kTokenTile}, kOperandTiles{kRowTiles / 2};
  static constexpr int kStageTiles{kTiles + kOperandTiles};

  // Shared memory: rings or, when they are empty, sums that meet; scales; barriers.
  static constexpr int kStageSteps{2};
  static constexpr int kStageTileBytes{kStageSteps * kStepBytes};
  static constexpr int kStageBytes{kStageTiles * kStageTileBytes};
  static constexpr int kSumBytes{kTiles * kRowTiles * kTileSumBytes};
  static constexpr int kScaleBytes{kRows * static_cast<int>(sizeof(float))};
  static constexpr int kStageBarrierBytes{16};
  static constexpr int kStages{
      std::min(kMostStages, (kMultiprocessorBytes / kBlocks - kReservedBytes - kScaleBytes) /
                                (kGroups * (kStageBytes + kStageBarrierBytes)))};
  static constexpr int kRingBytes{kStages * kStageBytes};  // of a group
  static constexpr int kScales{kGroups * kRingBytes};
  static constexpr int kFull{kScales + kScaleBytes};
  static constexpr int kEmpty{kFull + kGroups * kStages * 8};
  static constexpr int kSharedBytes{kEmpty + kGroups * kStages * 8};

  static_assert(kGroups * kGroupWarps == kTileWarps && kCluster * kGroups == kSlices);
  static_assert(kRowTiles % 2 == 0 && kMostRows % kRows == 0);
  static_assert(kStages >= 2 && kSumBytes <= kRingBytes);

  template <DType kDType>
  static constexpr auto Kernel() {
    return WarpRowsKernel<kDType, WarpTile>;
  }
};

// Which part of the product a thread's block, group and warp have.
template <class T>
struct Place {
  int rank;  // in the cluster
  int row_block, first_tile;
  int group, group_warp, lane;

  __device__ explicit Place(const ManyRows& a) {
    const int warp = threadIdx.x / kWarpSize;
    rank = static_cast<int>(blockIdx.x) % T::kCluster;
    const int tile = static_cast<int>(blockIdx.x) / T::kCluster;
    row_block = tile % a.row_blocks;
    first_tile = tile / a.row_blocks * T::kTiles;
    group = warp / T::kGroupWarps;
    group_warp = warp % T::kGroupWarps;
    lane = threadIdx.x % kWarpSize;
  }
  __device__ int Slice() const { return rank * T::kGroups + group; }
};

// In a block's tile: the n-th tile of rows of a warp of a group. Rows come in pairs of tiles; if
// warps have an odd number, the last ones are halves of pairs.
template <class T>
__device__ __forceinline__ int RowTileOf(int group_warp, int n) {
  constexpr int kPaired{T::kWarpRowTiles / 2 * 2};
  return n < kPaired ? group_warp * kPaired + n : T::kGroupWarps * kPaired + group_warp;
}

// The copies of a group. A stage takes one for each tile of weights and one for the inputs; a lane
// has at most one of them. Weights lie in a stage tile by tile, inputs step by step.
template <class T>
class Copies {
 public:
  __device__ Copies(const ManyRows& a, const Place<T>& place, char* ring, uint64_t* full,
                    uint64_t* empty)
      : place_(place), ring_(ring), full_(full), empty_(empty) {
    const int k_steps = a.linear.k_steps;
    const int copy = place.lane * T::kGroupWarps + place.group_warp;
    is_weight_ = copy < T::kTiles;
    is_inputs_ = copy == T::kTiles;
    if (is_weight_) is_weight_ = place.first_tile + copy < a.linear.tiles;
    step_bytes_ = is_inputs_ ? T::kOperandTiles * kStepBytes : kStepBytes;
    const void* base = is_inputs_ ? a.linear.packed : a.linear.weight;
    const int64_t row = is_inputs_ ? place.row_block : place.first_tile + copy;
    from_ = static_cast<const char*>(base) + row * k_steps * step_bytes_;
    to_ = SharedAddress(ring) + copy * T::kStageTileBytes;
    policy_ = is_weight_ && a.row_blocks == 1 ? EvictFirstPolicy() : EvictNormalPolicy();
    const bool has_inputs = __any_sync(0xffffffffu, is_inputs_);
    warp_step_bytes_ =
        (__popc(__ballot_sync(0xffffffffu, is_weight_)) + has_inputs * T::kOperandTiles) *
        kStepBytes;
    step_ = SliceBegin(place.Slice(), k_steps);
    end_ = SliceBegin(place.Slice() + 1, k_steps);
  }

  // By one warp of the group.
  __device__ void InitBarriers() const {
    if (place_.lane < T::kStages) {
      InitBarrier(full_ + place_.lane, T::kGroupWarps);
      InitBarrier(empty_ + place_.lane, T::kGroupWarps);
      FenceBarrierInit();
    }
  }

  // First all stages' weights, then their inputs.
  __device__ void FillWeights() {
    Copies at_start = *this;
    for (int slot = 0; slot < T::kStages && at_start.MoreToCopy(); ++slot) {
      at_start.Expect(slot);
      at_start.Copy(slot, is_weight_);
      at_start.Advance();
    }
  }
  __device__ void FillInputs() {
    for (; filled_ < T::kStages && MoreToCopy(); ++filled_) {
      Copy(filled_, is_inputs_);
      Advance();
    }
  }

  // Fills the oldest stage anew that the group has read, kLag stages behind the one at hand. Warps
  // wait for each other here, so it must not be the last one if they can help it.
  __device__ void Refill() {
    if (to_read_ > 0) {
      --to_read_;
      return;
    }
    if (!MoreToCopy()) return;
    if constexpr (T::kGroupWarps > 1) WaitForBarrier(empty_ + copy_slot_, copy_parity_);
    Expect(copy_slot_);
    Copy(copy_slot_, is_weight_ || is_inputs_);
    Advance();
    if (++copy_slot_ == T::kStages) {
      copy_slot_ = 0;
      copy_parity_ ^= 1;
    }
  }

  // The stage at hand.
  __device__ const char* Wait() const {
    WaitForBarrier(full_ + slot_, parity_);
    return ring_ + slot_ * T::kStageBytes;
  }
  // The warp has read it.
  __device__ void Release() {
    __syncwarp();
    if (T::kGroupWarps > 1 && place_.lane == 0) ArriveAtBarrier(empty_ + slot_);
    if (++slot_ == T::kStages) {
      slot_ = 0;
      parity_ ^= 1;
    }
  }

  // Copies must not arrive after the block has gone.
  __device__ void DrainFill() const {
    for (int i = 0; i < filled_; ++i) WaitForBarrier(full_ + i, 0);
  }

 private:
  static constexpr int kLag{T::kGroupWarps == 1 ? 0 : T::kStages > 3 ? 2 : 1};

  __device__ bool MoreToCopy() const { return step_ < end_; }
  __device__ int Count() const { return min(T::kStageSteps, end_ - step_); }

  __device__ void Advance() { step_ += T::kStageSteps; }

  __device__ void Expect(int slot) const {
    if (place_.lane == 0) ArriveAndExpectBytes(full_ + slot, warp_step_bytes_ * Count());
    __syncwarp();
  }
  __device__ void Copy(int slot, bool wanted) const {
    if (!wanted) return;
    CopyBulk(to_ + slot * T::kStageBytes, from_ + static_cast<int64_t>(step_) * step_bytes_,
             Count() * step_bytes_, full_ + slot, policy_);
  }

  const Place<T>& place_;
  char* ring_;
  uint64_t* full_;
  uint64_t* empty_;

  // The lane's copy.
  bool is_weight_, is_inputs_;
  int step_bytes_;
  const char* from_;
  uint32_t to_;
  uint64_t policy_;
  int warp_step_bytes_;

  // The stage at hand.
  int slot_ = 0;
  uint32_t parity_ = 0;
  // The next one to copy.
  int step_, end_;
  int filled_ = 0, copy_slot_ = 0;
  uint32_t copy_parity_ = 0;
  int to_read_ = kLag;
};

template <class T>
using Sums = float[T::kTiles][T::kWarpRowTiles][4];

// Step s of a stage; `stage` is the stage's address for this lane.
template <DType kDType, class T>
__device__ __forceinline__ void MultiplyStep(const char* stage, int s, int group_warp,
                                             Sums<T>& sums) {
  const char* weight = stage + s * kStepBytes;
  const auto operand = [&](int row_tile) {
    return stage + T::kTiles * T::kStageTileBytes +
           (s * T::kOperandTiles + row_tile / 2) * kStepBytes;
  };
  uint2 inputs[T::kWarpRowTiles];
#pragma unroll
  for (int n = 0; n + 1 < T::kWarpRowTiles; n += 2) {
    const uint4 pair = LoadMatrices4(SharedAddress(operand(RowTileOf<T>(group_warp, n))));
    inputs[n] = make_uint2(pair.x, pair.y);
    inputs[n + 1] = make_uint2(pair.z, pair.w);
  }
  if constexpr (T::kWarpRowTiles % 2 != 0) {
    const int last = RowTileOf<T>(group_warp, T::kWarpRowTiles - 1);
    inputs[T::kWarpRowTiles - 1] =
        LoadMatrices2(SharedAddress(operand(last)) + last % 2 * (kStepBytes / 2));
  }
#pragma unroll
  for (int m = 0; m < T::kTiles; ++m) {
    const uint4 weights = *reinterpret_cast<const uint4*>(weight + m * T::kStageTileBytes);
#pragma unroll
    for (int n = 0; n < T::kWarpRowTiles; ++n) {
      MultiplyAdd<kDType>(sums[m][n], weights, inputs[n].x, inputs[n].y);
    }
  }
}

// The sum of the group's slice.
template <DType kDType, class T>
__device__ __forceinline__ void MultiplySlice(const Place<T>& place, int k_steps, Copies<T>& copies,
                                              Sums<T>& sums) {
  const int slice = place.Slice();
  const int steps = SliceBegin(slice + 1, k_steps) - SliceBegin(slice, k_steps);
#pragma unroll
  for (int m = 0; m < T::kTiles; ++m) {
#pragma unroll
    for (int n = 0; n < T::kWarpRowTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[m][n][j] = 0;
    }
  }
#pragma unroll 1
  for (int step = 0; step < steps; step += T::kStageSteps) {
    const char* stage = copies.Wait() + place.lane * 16;
    if constexpr (T::kGroupWarps > 1) copies.Refill();
    if (steps - step >= T::kStageSteps) {
#pragma unroll
      for (int s = 0; s < T::kStageSteps; ++s) {
        MultiplyStep<kDType, T>(stage, s, place.group_warp, sums);
      }
    } else {
#pragma unroll 1
      for (int s = 0; s < steps - step; ++s) {
        MultiplyStep<kDType, T>(stage, s, place.group_warp, sums);
      }
    }
    copies.Release();
    if constexpr (T::kGroupWarps == 1) copies.Refill();
  }
}

// Where sums of a warp are in the tile of sums of a block.
template <class T>
__device__ __forceinline__ int SumIndex(const Place<T>& place, int m, int n) {
  return ((place.group_warp * T::kTiles + m) * T::kWarpRowTiles + n) * kWarpSize + place.lane;
}

// Of the m-th tile of outputs.
template <class T>
__device__ __forceinline__ TileOutputs OutputsOf(const ManyRows& a, const Place<T>& place,
                                                 const float* scales, int num_rows, int m,
                                                 int lane) {
  return TileOutputs(a.linear, scales, place.first_tile + m,
                     a.linear.first_row + place.row_block * T::kRows, lane, num_rows);
}

// `meeting` was the rings.
template <class T>
__device__ __forceinline__ void MeetAndWrite(const ManyRows& a, const Place<T>& place,
                                             const float* scales, int num_rows, char* meeting,
                                             const Sums<T>& sums) {
  constexpr int kItems{T::kSumBytes / static_cast<int>(sizeof(float4))};
  constexpr int kStride{T::kCluster * T::kThreads}, kMine{(kItems + kStride - 1) / kStride};
  const auto outputs = [&](int item) {
    return OutputsOf(a, place, scales, num_rows, item / kWarpSize / T::kWarpRowTiles % T::kTiles,
                     item % kWarpSize);
  };
  const auto row_tile = [&](int item) {
    const int tile = item / kWarpSize;
    return RowTileOf<T>(tile / T::kWarpRowTiles / T::kTiles, tile % T::kWarpRowTiles);
  };
  const int first = place.rank * T::kThreads + static_cast<int>(threadIdx.x);
  float4 old[kMine] = {};
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int item = first + i * kStride;
    if (item < kItems) old[i] = outputs(item).Old(row_tile(item));
  }
  __syncthreads();  // nobody reads a ring any more
  float4* mine = reinterpret_cast<float4*>(meeting) + place.group * kItems;
#pragma unroll
  for (int m = 0; m < T::kTiles; ++m) {
#pragma unroll
    for (int n = 0; n < T::kWarpRowTiles; ++n) {
      mine[SumIndex(place, m, n)] = ToFloat4(sums[m][n]);
    }
  }
  if constexpr (T::kCluster > 1) {
    ArriveAtCluster();
    WaitForCluster();
  } else {
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int item = first + i * kStride;
    if (item >= kItems) break;
    float4 slices[kSlices];
#pragma unroll
    for (int q = 0; q < kSlices; ++q) {
      const float4* from =
          reinterpret_cast<const float4*>(meeting) + q % T::kGroups * kItems + item;
      if constexpr (T::kCluster > 1) {
        slices[q] = LoadFromCluster(SharedAddress(from), q / T::kGroups);
      } else {
        slices[q] = *from;
      }
    }
    float4 total = {0, 0, 0, 0};
#pragma unroll
    for (int q = 0; q < kSlices; ++q) total = Plus(total, slices[q]);
    outputs(item).Write(row_tile(item), total, old[i]);
  }
  if constexpr (T::kCluster > 1) {  // a block must stay while others read its sums
    ArriveAtCluster();
    WaitForCluster();
  }
}

template <DType kDType, class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerMultiprocessor)
    WarpRowsKernel(const __grid_constant__ ManyRows a) {
  extern __shared__ __align__(128) char warp_tiles_shared[];
  LaunchDependents();
  const PackedLinear& p = a.linear;
  const Place<T> place(a);
  float* scales = reinterpret_cast<float*>(warp_tiles_shared + T::kScales);
  Copies<T> copies(
      a, place, warp_tiles_shared + place.group * T::kRingBytes,
      reinterpret_cast<uint64_t*>(warp_tiles_shared + T::kFull) + place.group * T::kStages,
      reinterpret_cast<uint64_t*>(warp_tiles_shared + T::kEmpty) + place.group * T::kStages);
  if (place.group_warp == 0) copies.InitBarriers();
  if constexpr (T::kGroupWarps > 1) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  copies.FillWeights();
  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  copies.FillInputs();
  const int first_local_row = place.row_block * T::kRows;
  if (p.first_row + first_local_row >= num_rows) {
    copies.DrainFill();
    return;
  }
  if (threadIdx.x < T::kRows) {
    scales[threadIdx.x] = a.ScaleOf(first_local_row + static_cast<int>(threadIdx.x));
  }
  __syncthreads();

  Sums<T> sums;
  MultiplySlice<kDType, T>(place, p.k_steps, copies, sums);
  MeetAndWrite(a, place, scales, num_rows, warp_tiles_shared, sums);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_WARP_TILES_CUH_
