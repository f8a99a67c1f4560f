// y = (W x + bias) * scale (+ y): the weight-streaming matrix product. Weights are read once for
// all rows.
//
// Contract that speculation rests on: the bits of an output row depend on that row's input, the
// weights and the shape of W alone, never on how many rows travel together, on the number of
// threads, or on the row's index.
#ifndef SIDEWINDER_KERNELS_LINEAR_H_
#define SIDEWINDER_KERNELS_LINEAR_H_

#include <cstdint>

#include "kernels/common/dtype.h"
#include "kernels/common/execution.h"

namespace sidewinder {

struct LinearParams {
  // [out_dim, in_dim], aligned to its element only. CPU: row-major. CUDA: float32 row-major, 16-bit
  // types packed (pack_weights.h).
  const void* weight;
  DType weight_dtype;
  const float* bias;             // [out_dim], may be null
  const float* scale = nullptr;  // [out_dim]; null: ones
  const float* input;        // [rows, in_dim]; on CUDA memory of max_rows rows, unless row_index is
                             // given: rows that do not exist may be read, and do not matter
  const int32_t* row_index;  // [rows] input row of each output row; null: the same row
  float* output;             // [rows, out_dim]; must not overlap input
  int64_t in_dim;            // >= 1
  int64_t out_dim;           // >= 1
  int64_t input_stride;      // elements between input rows, >= in_dim
  int64_t output_stride;     // elements between output rows, >= out_dim
  bool accumulate;           // add to what output holds (the residual stream)
  const int32_t* num_rows;   // [1] device memory; 0 is legal
  int32_t max_rows;          // *num_rows never exceeds this; sizes launches (CUDA)
};

void Linear(ExecutionContext& ctx, const LinearParams& params);
void LinearCpu(ExecutionContext& ctx, const LinearParams& params);
CudaError LaunchLinear(CudaContext& ctx, const LinearParams& params);
void LinearRef(const LinearParams& params);  // plain loops, double sums; linked by tests only

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_LINEAR_H_
