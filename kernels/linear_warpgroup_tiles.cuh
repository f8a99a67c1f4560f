// Y = X W^T for many rows by products of warpgroups (warpgroup_mma.cuh), with the bits that
// linear_few_rows.cuh gives every row.
//
// Grid: tiles of kGroups x 64 outputs and kRows rows; tiles of the same outputs are neighbours, so
// that weights leave memory once. In a block, kGroups warpgroups have 64 outputs each, and the
// warps of a further one start the copies: a single warp would take longer to start those of a
// stage than they and the products take. Slices are summed one after the other, their sum and the
// total in registers. Barriers: full and empty mbarriers of the stages. Weights depend on no other
// op: the first ones are on their way before the kernel waits for its inputs. Bound: the bytes of W
// for up to some 100 rows, then the second-level cache that gives a tile its inputs and weights.
#ifndef SIDEWINDER_KERNELS_LINEAR_WARPGROUP_TILES_CUH_
#define SIDEWINDER_KERNELS_LINEAR_WARPGROUP_TILES_CUH_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/common/bulk_copy.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/warpgroup_mma.cuh"
#include "kernels/linear_many_rows_sm90.cuh"

namespace sidewinder {

inline constexpr int kCopyWarps{4};

template <DType kDType, class T>
__global__ void WarpgroupRowsKernel(const __grid_constant__ ManyRows a);

// Rows, warpgroups along the outputs, blocks of a multiprocessor.
template <int kRowsOfTile, int kGroupsOfBlock, int kBlocks>
struct WarpgroupTile {
  static constexpr int kRows{kRowsOfTile}, kGroups{kGroupsOfBlock}, kCluster{1};
  static constexpr int kBlocksPerMultiprocessor{kBlocks};
  static constexpr int kTiles{kGroups * 4}, kRowTiles{kRows / kTokenTile};
  static constexpr int kOperandTiles{kRows / kOperandTile};
  static constexpr int kConsumers{kGroups * kWarpgroupSize};
  static constexpr int kThreads{kConsumers + kWarpgroupSize};
  // Sums and totals that are more than the registers of a thread: those that copy give theirs up.
  static constexpr bool kMoveRegisters{kRows >= 128};

  static constexpr int kStageSteps{4};
  static constexpr int kStageTileBytes{kStageSteps * kStepBytes};
  static constexpr int kInputStepBytes{kOperandTiles * kStepBytes};
  static constexpr int kStageTiles{kTiles + kOperandTiles};
  static constexpr int kStageBytes{kStageTiles * kStageTileBytes};
  static constexpr int kScaleBytes{kRows * static_cast<int>(sizeof(float))};
  static constexpr int kStages{std::min(
      kMostStages,
      (kMultiprocessorBytes / kBlocks - kReservedBytes - kScaleBytes) / (kStageBytes + 16))};
  static constexpr int kScales{kStages * kStageBytes};
  static constexpr int kFull{kScales + kScaleBytes};
  static constexpr int kEmpty{kFull + kStages * 8};
  static constexpr int kSharedBytes{kEmpty + kStages * 8};

  static_assert(kMostRows % kRows == 0 && kStages >= 2);

  template <DType kDType>
  static constexpr auto Kernel() {
    return WarpgroupRowsKernel<kDType, WarpgroupTile>;
  }
};

// The stages of all slices, in order.
template <class T>
class StageWalk {
 public:
  __device__ explicit StageWalk(int k_steps) : k_steps_(k_steps) { StartSlice(0); }

  __device__ bool More() const { return slice_ < kSlices; }
  __device__ int step() const { return step_; }
  __device__ int Count() const { return min(T::kStageSteps, end_ - step_); }
  __device__ int slot() const { return slot_; }
  __device__ uint32_t parity() const { return parity_; }
  __device__ void Next() {
    step_ += T::kStageSteps;
    if (step_ >= end_) StartSlice(slice_ + 1);
    if (++slot_ == T::kStages) {
      slot_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  // The first slice from this one on that is not empty.
  __device__ void StartSlice(int slice) {
    for (slice_ = slice; slice_ < kSlices; ++slice_) {
      step_ = SliceBegin(slice_, k_steps_);
      end_ = SliceBegin(slice_ + 1, k_steps_);
      if (step_ < end_) return;
    }
  }

  int k_steps_;
  int slice_, step_ = 0, end_ = 0;
  int slot_ = 0;
  uint32_t parity_ = 0;
};

// What the copying warps do. A stage takes a copy for each tile of weights and one for the inputs;
// a lane has at most one of them.
template <class T>
class StageCopies {
 public:
  __device__ StageCopies(const ManyRows& a, int row_block, int first_tile, char* ring,
                         uint64_t* full, uint64_t* empty)
      : walk_(a.linear.k_steps), full_(full), empty_(empty) {
    const PackedLinear& p = a.linear;
    const int warp = threadIdx.x / kWarpSize % kCopyWarps, lane = threadIdx.x % kWarpSize;
    const int copy = lane * kCopyWarps + warp;
    is_weight_ = copy < min(T::kTiles, p.tiles - first_tile);
    is_inputs_ = copy == T::kTiles;
    step_bytes_ = is_inputs_ ? T::kInputStepBytes : kStepBytes;
    const int64_t row = is_inputs_ ? row_block : first_tile + copy;
    from_ =
        static_cast<const char*>(is_inputs_ ? p.packed : p.weight) + row * p.k_steps * step_bytes_;
    to_ = SharedAddress(ring) + copy * T::kStageTileBytes;
    policy_ = is_weight_ && a.row_blocks == 1 ? EvictFirstPolicy() : EvictNormalPolicy();
    warp_step_bytes_ = __popc(__ballot_sync(~0u, is_weight_)) * kStepBytes +
                       __any_sync(~0u, is_inputs_) * T::kInputStepBytes;
  }

  // First all stages' weights, then their inputs.
  __device__ void FillWeights() {
    StageWalk<T> walk = walk_;
    for (; filled_ < T::kStages && walk.More(); ++filled_, walk.Next()) {
      Expect(walk);
      Copy(walk, is_weight_);
    }
  }
  __device__ void FillInputs() {
    for (int i = 0; i < filled_; ++i, walk_.Next()) Copy(walk_, is_inputs_);
  }
  // The rest, as slots become empty.
  __device__ void Run() {
    for (; walk_.More(); walk_.Next()) {
      WaitForBarrier(empty_ + walk_.slot(), walk_.parity() ^ 1);
      Expect(walk_);
      Copy(walk_, is_weight_ || is_inputs_);
    }
  }
  // Copies must not arrive after the block has gone.
  __device__ void DrainFill() const {
    for (int i = 0; i < filled_; ++i) WaitForBarrier(full_ + i, 0);
  }

 private:
  __device__ void Expect(const StageWalk<T>& walk) const {
    if (threadIdx.x % kWarpSize == 0) {
      ArriveAndExpectBytes(full_ + walk.slot(), warp_step_bytes_ * walk.Count());
    }
    __syncwarp();
  }
  __device__ void Copy(const StageWalk<T>& walk, bool wanted) const {
    if (!wanted) return;
    CopyBulk(to_ + walk.slot() * T::kStageBytes,
             from_ + static_cast<int64_t>(walk.step()) * step_bytes_, walk.Count() * step_bytes_,
             full_ + walk.slot(), policy_);
  }

  StageWalk<T> walk_;
  uint64_t* full_;
  uint64_t* empty_;
  bool is_weight_, is_inputs_;
  int step_bytes_, warp_step_bytes_;
  const char* from_;
  uint32_t to_;
  uint64_t policy_;
  int filled_ = 0;
};

// The sums of a warp of a warpgroup.
template <class T>
using WarpgroupSums = float[T::kRows / 2];

// Where a warp reads.
template <class T>
class StageReader {
 public:
  __device__ StageReader(const char* ring, uint64_t* full, uint64_t* empty)
      : ring_(ring), full_(full), empty_(empty) {}

  // The sum of a slice of `steps` k-steps. Products of two stages are under way at a time, so that
  // the tensor cores go on while weights of the next stage come to registers.
  template <DType kDType>
  __device__ __forceinline__ void MultiplySlice(int steps, WarpgroupSums<T>& sums) {
#pragma unroll
    for (int j = 0; j < T::kRows / 2; ++j) sums[j] = 0;
    uint4 weights[2][T::kStageSteps];
    int left = steps;
    bool first = true;
#pragma unroll 1
    while (left >= T::kStageSteps) {
      StartStage<kDType>(weights[0], sums);
      if (!first) {
        WaitForProducts<1>();
        Release();
      }
      first = false;
      left -= T::kStageSteps;
      if (left < T::kStageSteps) break;
      StartStage<kDType>(weights[1], sums);
      WaitForProducts<1>();
      Release();
      left -= T::kStageSteps;
    }
    WaitForProducts<0>();
    if (!first) Release();
    if (left == 0) return;
    WaitForBarrier(full_ + slot_, parity_);  // a stage that is not full
#pragma unroll 1
    for (int s = 0; s < left; ++s) {
      weights[0][0] = Weights(s);
      BeginProducts();
      StartProduct<kDType, T::kRows>(sums, weights[0][0], Inputs() + s * kInputStep);
      CommitProducts();
      WaitForProducts<0>();
    }
    Next();
    Release();
  }

 private:
  static constexpr uint64_t kInputStep{T::kInputStepBytes >> 4};

  __device__ __forceinline__ uint4 Weights(int s) const {
    const int lane = threadIdx.x % kWarpSize, tile = threadIdx.x / kWarpSize;
    return *reinterpret_cast<const uint4*>(ring_ + slot_ * T::kStageBytes +
                                           tile * T::kStageTileBytes + s * kStepBytes + lane * 16);
  }
  __device__ __forceinline__ uint64_t Inputs() const {
    return InputsDescriptor(SharedAddress(ring_) + slot_ * T::kStageBytes +
                            T::kTiles * T::kStageTileBytes);
  }

  template <DType kDType>
  __device__ __forceinline__ void StartStage(uint4 (&weights)[T::kStageSteps],
                                             WarpgroupSums<T>& sums) {
    WaitForBarrier(full_ + slot_, parity_);
#pragma unroll
    for (int s = 0; s < T::kStageSteps; ++s) weights[s] = Weights(s);
    const uint64_t inputs = Inputs();
    BeginProducts();
#pragma unroll
    for (int s = 0; s < T::kStageSteps; ++s) {
      StartProduct<kDType, T::kRows>(sums, weights[s], inputs + s * kInputStep);
    }
    CommitProducts();
    Next();
  }

  // To the next stage.
  __device__ __forceinline__ void Next() {
    if (++slot_ == T::kStages) {
      slot_ = 0;
      parity_ ^= 1;
    }
  }
  // The warp has read the oldest stage that it has not released.
  __device__ __forceinline__ void Release() {
    if (threadIdx.x % kWarpSize == 0) ArriveAtBarrier(empty_ + read_slot_);
    if (++read_slot_ == T::kStages) read_slot_ = 0;
  }

  const char* ring_;
  uint64_t* full_;
  uint64_t* empty_;
  int slot_ = 0, read_slot_ = 0;
  uint32_t parity_ = 0;
};

template <DType kDType, class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerMultiprocessor)
    WarpgroupRowsKernel(const __grid_constant__ ManyRows a) {
  extern __shared__ __align__(128) char warpgroup_shared[];
  LaunchDependents();
  const PackedLinear& p = a.linear;
  const int row_block = static_cast<int>(blockIdx.x) % a.row_blocks;
  const int first_tile = static_cast<int>(blockIdx.x) / a.row_blocks * T::kTiles;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  float* const scales = reinterpret_cast<float*>(warpgroup_shared + T::kScales);
  uint64_t* const full = reinterpret_cast<uint64_t*>(warpgroup_shared + T::kFull);
  uint64_t* const empty = reinterpret_cast<uint64_t*>(warpgroup_shared + T::kEmpty);
  const bool copies = threadIdx.x >= T::kConsumers;
  if (threadIdx.x < T::kStages) {
    InitBarrier(full + threadIdx.x, kCopyWarps);
    InitBarrier(empty + threadIdx.x, T::kConsumers / kWarpSize);
    FenceBarrierInit();
  }
  __syncthreads();
  StageCopies<T> stages(a, row_block, first_tile, warpgroup_shared, full, empty);
  if (copies) stages.FillWeights();
  WaitForDependencies();
  const int num_rows = __ldcg(p.num_rows);
  if (copies) stages.FillInputs();
  const int first_row = p.first_row + row_block * T::kRows;
  if (first_row >= num_rows) {
    if (copies) stages.DrainFill();
    return;
  }
  for (int i = threadIdx.x; i < T::kRows; i += T::kThreads) {
    scales[i] = a.ScaleOf(row_block * T::kRows + i);
  }
  __syncthreads();

  if (copies) {
    if constexpr (T::kMoveRegisters) GiveUpRegisters<40>();
    stages.Run();
  } else {
    if constexpr (T::kMoveRegisters) TakeRegisters<232>();
    StageReader<T> reader(warpgroup_shared, full, empty);
    WarpgroupSums<T> totals = {}, sums;
#pragma unroll 1
    for (int slice = 0; slice < kSlices; ++slice) {
      reader.template MultiplySlice<kDType>(
          SliceBegin(slice + 1, p.k_steps) - SliceBegin(slice, p.k_steps), sums);
#pragma unroll
      for (int j = 0; j < T::kRows / 2; ++j) totals[j] = __fadd_rn(totals[j], sums[j]);
    }
    const TileOutputs outputs(p, scales, first_tile + warp, first_row, lane, num_rows);
    constexpr int kAtOnce{4};
#pragma unroll
    for (int n = 0; n < T::kRowTiles; n += kAtOnce) {
      float4 old[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) old[i] = outputs.Old(n + i);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        outputs.Write(n + i, ToFloat4(totals + (n + i) * 4), old[i]);
      }
    }
  }
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_WARPGROUP_TILES_CUH_
