// A warp's ring of packed weights that Hopper's bulk copy engine fills, 2 KB an instruction. One
// lane of a warp starts a copy and a barrier object counts its bytes; the other lanes only wait.
#ifndef SIDEWINDER_KERNELS_LINEAR_BULK_RING_CUH_
#define SIDEWINDER_KERNELS_LINEAR_BULK_RING_CUH_

#include <cstdint>

#include "kernels/common/bulk_copy.cuh"
#include "kernels/linear_operand.cuh"

namespace sidewinder {

template <int kNumGroups>
class BulkRing {
 public:
  static constexpr int kGroupSteps{4};
  static constexpr int kGroups{kNumGroups};
  static constexpr int kGroupBytes{kGroupSteps * kTileBytes};
  static constexpr int kBytes{kGroups * kGroupBytes + 128};  // of a warp, with its barriers

  __device__ explicit BulkRing(char* shared)
      : groups_(shared), barriers_(reinterpret_cast<uint64_t*>(shared + kGroups * kGroupBytes)) {
    if (IsLeader()) {
      for (int i = 0; i < kGroups; ++i) InitBarrier(barriers_ + i, 1);
      FenceBarrierInit();
      policy_ = EvictFirstPolicy();
    }
    __syncwarp();
  }

  __device__ void Copy(const char* from, int steps) {
    if (IsLeader()) {
      const uint32_t bytes = steps * kTileBytes;
      ArriveAndExpectBytes(barriers_ + copy_slot_, bytes);
      CopyBulk(SharedAddress(groups_ + copy_slot_ * kGroupBytes), from, bytes,
               barriers_ + copy_slot_, policy_);
    }
    copy_slot_ = copy_slot_ + 1 == kGroups ? 0 : copy_slot_ + 1;
    ++in_flight_;
  }
  __device__ void CopyNothing() {}

  __device__ const uint4* Wait() {
    WaitForBarrier(barriers_ + slot_, parity_);
    return reinterpret_cast<const uint4*>(groups_ + slot_ * kGroupBytes) + threadIdx.x % kWarpSize;
  }

  __device__ void Release() {
    __syncwarp();
    --in_flight_;
    if (++slot_ == kGroups) {
      slot_ = 0;
      parity_ ^= 1;
    }
  }

  // Copies must not arrive after the block has gone.
  __device__ void Drain() {
    while (in_flight_ > 0) {
      Wait();
      Release();
    }
  }

 private:
  __device__ static bool IsLeader() { return threadIdx.x % kWarpSize == 0; }

  char* groups_;
  uint64_t* barriers_;
  uint64_t policy_ = 0;
  int copy_slot_ = 0, slot_ = 0, in_flight_ = 0;
  uint32_t parity_ = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_BULK_RING_CUH_
