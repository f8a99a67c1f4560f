// A warp's ring of packed weights that its lanes fill.
#ifndef SIDEWINDER_KERNELS_LINEAR_ASYNC_RING_CUH_
#define SIDEWINDER_KERNELS_LINEAR_ASYNC_RING_CUH_

#include <cstdint>

#include "kernels/common/async_copy.cuh"
#include "kernels/linear_operand.cuh"

namespace sidewinder {

// The ring of architectures before Hopper: every lane copies, and later reads, 16 bytes of a tile,
// so that a warp needs no barrier.
class AsyncRing {
 public:
  static constexpr int kGroupSteps{2};
  static constexpr int kGroups{6};
  static constexpr int kGroupBytes{kGroupSteps * kTileBytes};
  static constexpr int kBytes{kGroups * kGroupBytes};  // of a warp

  // The address comes out of a shuffle because ptxas 13.0 must not see that part of it is uniform:
  // for Hopper it would put that part into a uniform register, and a copy with a cache hint then
  // reads its hint from a register that nothing was written to, an illegal instruction.
  __device__ explicit AsyncRing(char* shared)
      : groups_(shared + LaneOffset()),
        address_(__shfl_sync(0xffffffffu, SharedAddress(groups_), threadIdx.x % kWarpSize)),
        policy_(EvictFirstPolicy()) {}

  __device__ void Copy(const char* from, int steps) {
    const uint32_t to = address_ + copy_slot_ * kGroupBytes;
#pragma unroll
    for (int j = 0; j < kGroupSteps; ++j) {
      if (j >= steps) break;
      CopyAsync16(to + j * kTileBytes, from + LaneOffset() + j * kTileBytes, policy_);
    }
    CommitCopies();
    copy_slot_ = copy_slot_ + 1 == kGroups ? 0 : copy_slot_ + 1;
  }
  // Groups are counted from the last one, so there must be one.
  __device__ void CopyNothing() { CommitCopies(); }

  __device__ const uint4* Wait() {
    WaitForCopyGroups<kGroups - 1>();
    return reinterpret_cast<const uint4*>(groups_ + slot_ * kGroupBytes);
  }
  __device__ void Release() { slot_ = slot_ + 1 == kGroups ? 0 : slot_ + 1; }
  __device__ void Drain() { WaitForCopyGroups<0>(); }

 private:
  __device__ static int LaneOffset() { return threadIdx.x % kWarpSize * 16; }

  char* groups_;
  uint32_t address_;
  uint64_t policy_;
  int copy_slot_ = 0, slot_ = 0;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_ASYNC_RING_CUH_
