// The product with few rows on Hopper: linear_few_rows.cuh with a ring that the bulk copy engine
// fills, 2 KB an instruction. One lane of a warp starts a copy and a barrier object counts its
// bytes; the other lanes only wait.
#include "kernels/linear_few_rows.cuh"

namespace sidewinder {
namespace {

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
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      policy_ = EvictFirstPolicy();
    }
    __syncwarp();
  }

  __device__ void Copy(const char* from, int steps) {
    if (IsLeader()) {
      const uint32_t bytes = steps * kTileBytes;
      const uint32_t barrier = SharedAddress(barriers_ + copy_slot_);
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                   "r"(bytes)
                   : "memory");
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
          "[%0], [%1], %2, [%3], %4;" ::"r"(SharedAddress(groups_ + copy_slot_ * kGroupBytes)),
          "l"(from), "r"(bytes), "r"(barrier), "l"(policy_)
          : "memory");
    }
    copy_slot_ = copy_slot_ + 1 == kGroups ? 0 : copy_slot_ + 1;
    ++in_flight_;
  }
  __device__ void CopyNothing() {}

  __device__ const uint4* Wait() {
    const uint32_t barrier = SharedAddress(barriers_ + slot_);
    uint32_t done;
    do {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(barrier), "r"(parity_)
          : "memory");
    } while (done == 0);
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

}  // namespace

CudaError LaunchFewRowsSm90(CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args) {
  return DispatchFewRows<BulkRing<6>, BulkRing<2>>(ctx, dtype, kind, args);
}

}  // namespace sidewinder
