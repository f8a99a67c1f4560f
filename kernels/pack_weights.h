// Weights of 16-bit types as the tensor cores take them: the order in which CUDA kernels stream a
// matrix, and what they store it in.
//
// W [out_dim, in_dim] is cut into tiles of 16 outputs by 16 inputs, zeros beyond its edges. The
// tiles of 16 outputs lie one behind the other, and in each the 16 inputs at a time:
//   tile(o, k) = ((o / 16) * ceil(in_dim / 16) + k / 16), 512 bytes each.
// Within a tile, the 16 bytes of lane l are the operand A of mma.m16n8k16 of that lane:
//   elements (row, column) of the tile, with g = l / 4 and t = l % 4:
//   (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1) (g, 2t+8) (g, 2t+9) (g+8, 2t+8) (g+8, 2t+9)
// so that a warp reads a tile with one 16-byte load a lane, and a slice of in_dim is contiguous.
#ifndef SIDEWINDER_KERNELS_PACK_WEIGHTS_H_
#define SIDEWINDER_KERNELS_PACK_WEIGHTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"

namespace sidewinder {

inline constexpr int64_t kPackedTile{16};  // outputs and inputs of a tile

constexpr int64_t PackedTiles(int64_t dim) { return (dim + kPackedTile - 1) / kPackedTile; }

// Bytes of a packed matrix of a 16-bit type.
constexpr size_t PackedBytes(int64_t out_dim, int64_t in_dim) {
  return static_cast<size_t>(PackedTiles(out_dim) * PackedTiles(in_dim)) * 512;
}

// Where element (row, column) of a matrix lies in its packed form, in elements.
constexpr int64_t PackedIndex(int64_t row, int64_t column, int64_t in_dim) {
  const int64_t tile = row / kPackedTile * PackedTiles(in_dim) + column / kPackedTile;
  const int64_t r = row % kPackedTile, c = column % kPackedTile;
  const int64_t lane = r % 8 * 4 + c % 8 / 2;
  return tile * 256 + lane * 8 + c / 8 * 4 + r / 8 * 2 + c % 2;
}

// Both in device memory; `packed` is aligned to 512 bytes. CUDA only.
struct PackWeightsParams {
  const void* row_major;  // [out_dim, in_dim] of a 16-bit type
  void* packed;           // [PackedBytes(out_dim, in_dim)]
  int64_t out_dim;
  int64_t in_dim;
};
void PackWeights(ExecutionContext& ctx, const PackWeightsParams& params);
CudaError LaunchPackWeights(CudaContext& ctx, const PackWeightsParams& params);

// Random weights, uniform in [-scale, scale), a function of seed and index alone; 16-bit types
// packed, float32 row-major. CUDA only.
struct RandomWeightsParams {
  void* weights;
  DType dtype;
  int64_t out_dim;
  int64_t in_dim;
  float scale;
  uint64_t seed;
};
void RandomWeights(ExecutionContext& ctx, const RandomWeightsParams& params);
CudaError LaunchRandomWeights(CudaContext& ctx, const RandomWeightsParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_PACK_WEIGHTS_H_
