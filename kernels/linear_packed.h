// Products with packed weights on CUDA, with or without a norm in front: what LaunchLinear and
// LaunchNormLinear have in common. Internal to them.
#ifndef SIDEWINDER_KERNELS_LINEAR_PACKED_H_
#define SIDEWINDER_KERNELS_LINEAR_PACKED_H_

#include <cstddef>
#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"
#include "kernels/linear.h"
#include "kernels/linear_policy.h"
#include "kernels/rms_norm.h"

namespace sidewinder {

// What stands between the input in memory and the product.
enum class InputKind : uint8_t {
  kPlain,  // nothing
  kNorm,   // RMS norm
  kGated,  // times silu(gate), then RMS norm
};

// What the kernels take.
struct PackedLinear {
  const void* weight;
  const float* bias;         // may be null
  const float* input;        // [rows, in_dim]
  const float* gate;         // [rows, in_dim], kGated
  const float* norm_weight;  // [in_dim], may be null
  const int32_t* row_index;  // may be null
  float* output;
  const int32_t* num_rows;
  int64_t input_stride, gate_stride, output_stride;
  int32_t in_dim, out_dim;
  int32_t k_steps;  // PackedTiles(in_dim)
  int32_t tiles;    // PackedTiles(out_dim)
  int32_t parts;
  int32_t first_row;  // many rows: of the chunk at hand
  float eps;
  bool accumulate;
  bool wide_loads;  // inputs, gates and norm weights can be read 16 bytes at a time

  // Workspace.
  uint32_t* counters;
  float* partials;  // sums of parts
  float* squares;   // many rows: [slices, rows of a chunk] sums of squares
  void* packed;     // many rows: a chunk of the inputs as operand B

  // Prefetching (few rows): units ahead of what is being copied, and what comes after the last one.
  int32_t units_ahead;
  const char* next_weight;
  int64_t next_bytes;
};

// Both params must agree: linear.input = norm.output, which is not touched. Null norm: a plain
// product. 16-bit weights; group_dim must equal dim.
CudaError LaunchPackedLinear(CudaContext& ctx, const RmsNormParams* norm,
                             const LinearParams& linear, const LinearPolicy& policy);

// By number of rows; both give a row the same bits.
inline constexpr int32_t kMaxFewRows{16};
CudaError LaunchFewRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args,
                        int32_t blocks, int32_t max_rows);
CudaError LaunchFewRowsSm90(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args,
                            int32_t blocks, int32_t max_rows);
CudaError LaunchManyRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args,
                         int32_t max_rows);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_PACKED_H_
