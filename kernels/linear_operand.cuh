// The inputs of a product with few rows, as a warp that streams weights keeps them: operand B of
// the tensor cores for its slice of the reduction, in registers, or in shared memory where slices
// are long. The inputs are loaded as whole lines, all in flight at once, and staged in shared
// memory on their way to the lanes that need them.
#ifndef SIDEWINDER_KERNELS_LINEAR_OPERAND_CUH_
#define SIDEWINDER_KERNELS_LINEAR_OPERAND_CUH_

#include <cstdint>

#include "kernels/linear_packed.cuh"

namespace sidewinder {

inline constexpr int kTileBytes{512};  // of packed weights, 16 x 16
inline constexpr int kInShared{0};     // kSteps: the operand is in shared memory

// Bytes of a warp's exchange slots. Its inputs are staged there on their way to registers, a chunk
// of k-steps at a time, before the first tile is done.
inline constexpr int kExchangeBytes{4 * kTileBytes};
static_assert(kExchangeBytes >= kChunkSteps * kWarpSize * static_cast<int>(sizeof(uint2)));

// A stream warp's inputs as operand B.
template <DType kDType, InputKind kKind, int kRowTiles, int kSteps>
class Operand {
  static constexpr bool kNormed{kKind != InputKind::kPlain};
  static constexpr int kChunks{(kSteps + kChunkSteps - 1) / kChunkSteps};
  static constexpr int kStepWords{2 * kWarpSize};

 public:
  // `memory`: the warp's staging area, or its share of the operand for kInShared.
  __device__ Operand(const PackedLinear& p, int begin, int steps, void* memory)
      : begin_(begin), steps_(steps), memory_(static_cast<uint32_t*>(memory)) {
    if constexpr (kSteps != kInShared) {  // rows that nothing is loaded for
      for (int i = threadIdx.x % kWarpSize; i < kChunkSteps * kStepWords; i += kWarpSize) {
        memory_[i] = 0;
      }
    }
    if constexpr (kSteps != kInShared && kNormed) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        norm_weights_[c] = LoadNormWeight<true>(p, ItemOfLane(p, begin, steps, c * kChunkSteps));
      }
    }
  }

  // `limit`: rows from it on do not exist. `squares`: [kRowTiles * kTokenTile] of the warp.
  __device__ void Load(const PackedLinear& p, int limit, float* squares) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const TokenRows rows(p, r, limit);
      if constexpr (kSteps == kInShared) {
        LoadToShared(p, r, rows, squares);
      } else if (limit <= 1) {
        LoadToRegisters<1, kChunks>(p, r, rows, squares);
      } else if (limit <= 5 && kKind != InputKind::kGated) {
        LoadToRegisters<5, 2>(p, r, rows, squares);
      } else {
        LoadToRegisters<kTokenTile, 1>(p, r, rows, squares);
      }
    }
  }

  __device__ uint2 Get(int i, int r) const {
    if constexpr (kSteps != kInShared) {
      return registers_[r][i];
    } else {
      return reinterpret_cast<const uint2*>(
          memory_)[(i * kRowTiles + r) * kWarpSize + threadIdx.x % kWarpSize];
    }
  }

 private:
  // Moves the words of k-steps to different banks.
  __device__ static int Swizzle(int step) { return step % 4 * 8; }

  // kBatch chunks of kRows rows are in flight at a time.
  template <int kRows, int kBatch>
  __device__ void LoadToRegisters(const PackedLinear& p, int row_tile, const TokenRows& rows,
                                  float* squares) {
    const int lane = threadIdx.x % kWarpSize;
    float sums[kRows] = {};
#pragma unroll
    for (int batch = 0; batch < kChunks; batch += kBatch) {
      Chunk<kKind, kRows> chunks[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (batch + i >= kChunks) break;
        const int k = ItemOfLane(p, begin_, steps_, (batch + i) * kChunkSteps);
        chunks[i].template Load<true>(p, rows, k);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int c = batch + i;
        if (c >= kChunks) break;
        chunks[i].template Pack<kDType>(norm_weights_[kNormed ? c : 0], sums,
                                        [&](int r, unsigned first, unsigned second) {
                                          uint32_t* const words = memory_ + lane / 4 * kStepWords;
                                          const int at = FirstWordOfItem(r) ^ Swizzle(lane / 4);
                                          words[at] = first;
                                          words[at ^ 2] = second;
                                        });
        __syncwarp();
#pragma unroll
        for (int step = 0; step < kChunkSteps; ++step) {
          if (c * kChunkSteps + step >= kSteps) break;
          registers_[row_tile][c * kChunkSteps + step] = *reinterpret_cast<const uint2*>(
              memory_ + step * kStepWords + (lane * 2 ^ Swizzle(step)));
        }
        __syncwarp();
      }
    }
    if constexpr (kNormed) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float sum = SumOverWarp(sums[r]);
        if (lane == r) squares[row_tile * kTokenTile + r] = sum;
      }
    }
  }

  __device__ void LoadToShared(const PackedLinear& p, int row_tile, const TokenRows& rows,
                               float* squares) {
    const int lane = threadIdx.x % kWarpSize;
    const auto store = [&](int step, int r, unsigned first, unsigned second) {
      uint32_t* const words =
          memory_ + (step * kRowTiles + row_tile) * kWarpSize * 2 + FirstWordOfItem(r);
      words[0] = first;
      words[2] = second;
    };
    const float sum = p.wide_loads
                          ? PackSlice<kDType, kKind, true, false>(p, rows, begin_, steps_, store)
                          : PackSlice<kDType, kKind, false, false>(p, rows, begin_, steps_, store);
    if (kNormed && lane < kTokenTile) squares[row_tile * kTokenTile + lane] = sum;
    __syncwarp();
  }

  int begin_, steps_;
  uint32_t* memory_;
  uint2 registers_[kRowTiles][kSteps != kInShared ? kSteps : 1];
  float4 norm_weights_[kSteps != kInShared && kNormed ? kChunks : 1];
};

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_OPERAND_CUH_
