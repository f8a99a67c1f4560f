// What the kernels for many rows share: the inputs as operand B in the workspace.
//
// 16 rows and a k-step are a tile of 512 bytes: four matrices of 8 rows and 8 inputs, the lower and
// upper inputs of the lower rows, then those of the upper rows. Row blocks of some tiles lie one
// behind the other, in each the k-steps, and in these the tiles. Rows that do not exist hold
// anything: a column of a product depends on that column of the inputs alone.
#ifndef SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_CUH_
#define SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_CUH_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/linear_packed.h"

namespace sidewinder {

inline constexpr int kOperandTile{16};  // rows
inline constexpr int kStepBytes{512};   // of a k-step of a tile, weights and inputs

// Bytes of the workspace that a row takes.
inline size_t PackedRowBytes(const PackedLinear& args) {
  return static_cast<size_t>(args.k_steps) * (kStepBytes / kOperandTile);
}
inline size_t RowSquaresBytes(InputKind kind) {
  return kind == InputKind::kPlain ? 0 : kSlices * sizeof(float);
}

// Packs rows [args.first_row, args.first_row + rows) into args.packed. With a norm, the sums of
// their squares go to args.squares[slice * pitch + row - args.first_row].
cudaError_t LaunchPackRows(const CudaContext& ctx, DType dtype, InputKind kind,
                           const PackedLinear& args, int32_t rows, int32_t pitch,
                           int32_t block_tiles);

// As LaunchManyRows. NotSupported: too many inputs for the workspace.
cudaError_t LaunchManyRowsSm90(const CudaContext& ctx, DType dtype, InputKind kind,
                               PackedLinear args);

// Sum of the squares of row `row` of a chunk: slices in order, as in the kernel for few rows.
__device__ __forceinline__ float RowSquares(const PackedLinear& p, int row, int pitch) {
  float slices[kSlices];
#pragma unroll
  for (int i = 0; i < kSlices; ++i) slices[i] = __ldcg(p.squares + i * pitch + row);
  float total = 0;
#pragma unroll
  for (int i = 0; i < kSlices; ++i) total = __fadd_rn(total, slices[i]);
  return total;
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_MANY_ROWS_CUH_
