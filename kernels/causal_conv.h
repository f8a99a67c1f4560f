// Causal depthwise convolution with SiLU over the rows of a plan:
//   out[r][c] = silu(bias[c] + sum_k weight[c][k] * u(p - width + 1 + k)[c])     p = position of r
// u(q) is the raw input at position q: a row of this pass, or what an earlier pass left in the
// ring, or zero for q < 0. The raw inputs of this pass are written to the ring. An entry belongs to
// a position, so a rejected row needs no undoing: the next row at its position overwrites it.
#ifndef SIDEWINDER_KERNELS_CAUSAL_CONV_H_
#define SIDEWINDER_KERNELS_CAUSAL_CONV_H_

#include <cstdint>

#include "kernels/common/execution.h"
#include "kernels/row_plan.h"

namespace sidewinder {

struct CausalConvParams {
  const float* input;   // [rows, dim] raw inputs
  const float* weight;  // [width, dim]: tap-major, tap width-1 multiplies the newest input
  const float* bias;    // [dim], may be null
  float* output;        // [rows, dim]; must not overlap input
  float* ring;          // [slots, ring_rows, dim]: entry of position q is q % ring_rows.
                        // All zeros in a slot whose sequence has consumed nothing.
  int64_t dim;
  int64_t width;         // >= 1
  int64_t input_stride;  // elements between input rows
  int64_t output_stride;
  int64_t ring_rows;  // >= width - 1 + max rows a sequence can roll back; rows of a pass may
                      // exceed it (prefill), then its last ring_rows rows are kept
  RowPlan plan;
};

void CausalConv(ExecutionContext& ctx, const CausalConvParams& params);
void CausalConvCpu(ExecutionContext& ctx, const CausalConvParams& params);
// Channels [begin, end) of one sequence, for ops that go on with them.
void ConvChannelsCpu(const CausalConvParams& params, const SequenceRows& sequence, int64_t begin,
                     int64_t end);
CudaError LaunchCausalConv(CudaContext& ctx, const CausalConvParams& params);
void CausalConvRef(const CausalConvParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_CAUSAL_CONV_H_
