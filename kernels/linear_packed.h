// What the launchers of products with packed weights pass to each other and to their kernels.
#ifndef SIDEWINDER_KERNELS_LINEAR_PACKED_H_
#define SIDEWINDER_KERNELS_LINEAR_PACKED_H_

#include <cstdint>

#include "kernels/causal_conv.h"
#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"
#include "kernels/linear.h"
#include "kernels/linear_policy.h"
#include "kernels/pack_weights.h"
#include "kernels/rms_norm.h"

namespace sidewinder {

enum class InputKind : uint8_t {
  kPlain,
  kNorm,   // RMSNorm of the whole row
  kGated,  // of the row times silu(gate)
};

// Argument of the kernels.
struct PackedLinear {
  const void* weight;
  const float* bias;         // may be null
  const float* scale;        // [out_dim], may be null
  const float* input;        // [rows, in_dim]
  const float* gate;         // [rows, in_dim], kGated
  const float* norm_weight;  // [in_dim], may be null
  const int32_t* row_index;  // may be null
  float* output;
  const int32_t* num_rows;
  int64_t input_stride, gate_stride, output_stride;
  int32_t in_dim, out_dim;
  int32_t k_steps;    // PackedTiles(in_dim)
  int32_t tiles;      // PackedTiles(out_dim)
  int32_t max_rows;   // of the pass
  int32_t first_row;  // many rows: of the chunk at hand
  float eps;
  bool accumulate;
  bool wide_loads;  // inputs, gates and norm weights can be read 16 bytes at a time

  // The convolution that follows; its output is null if none does (few rows, kNorm).
  CausalConvParams conv;

  // Workspace (many rows).
  void* packed;     // a chunk of the inputs as operand B
  float* squares;   // [kSlices, rows of a chunk] sums of squares
  float* partials;  // sums of slices, where blocks share a tile
  uint32_t* counters;
};

// Both params must agree: linear.input = norm.output, which is not touched. Null norm: a plain
// product. 16-bit weights; group_dim must equal dim.
CudaError LaunchPackedLinear(CudaContext& ctx, const RmsNormParams* norm,
                             const LinearParams& linear);

// The same with few rows of one sequence, and a convolution of 4 taps over the first conv.dim
// outputs. NotSupported: more rows, more sequences, other taps.
CudaError LaunchPackedLinearConv(CudaContext& ctx, const RmsNormParams& norm,
                                 const LinearParams& linear, const CausalConvParams& conv);

// in_proj and convolution of Mamba-1, and the product of what was convolved: the outputs behind
// those that are convolved wait for nothing but the norm, so they share a launch with that product.
// bfloat16; `linear.input` = conv.output. NotSupported as LaunchPackedLinearConv, and for more than
// one token tile, without Hopper, and for shapes that are not built.
CudaError LaunchPackedLinearConvLinear(CudaContext& ctx, const RmsNormParams& norm,
                                       const LinearParams& in_proj, const CausalConvParams& conv,
                                       const LinearParams& linear);

// By number of rows; both give a row the same bits. NotSupported: the inputs do not fit into shared
// memory.
inline constexpr int32_t kMaxFewRows{16};
CudaError LaunchFewRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args);
CudaError LaunchFewRowsSm90(CudaContext& ctx, DType dtype, InputKind kind,
                            const PackedLinear& args);
// One token tile each, wide loads; a plain product with few tiles beside a normed one. Where rows
// are short it does not pay: the launches are as long as what a block does besides streaming.
bool IsFewRowsPairSm90(const CudaContext& ctx, const PackedLinear& normed,
                       const PackedLinear& plain);
CudaError LaunchFewRowsPairSm90(CudaContext& ctx, const PackedLinear& normed,
                                const PackedLinear& plain);
CudaError LaunchManyRows(CudaContext& ctx, DType dtype, InputKind kind, const PackedLinear& args);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_PACKED_H_
