// out[r][c] = in[r][column[c]]: heads that several others share, written out for each of them.
#ifndef SIDEWINDER_KERNELS_GATHER_COLUMNS_H_
#define SIDEWINDER_KERNELS_GATHER_COLUMNS_H_

#include <cstdint>

#include "kernels/common/execution.h"

namespace sidewinder {

struct GatherColumnsParams {
  const float* input;     // [rows, any]
  const int32_t* column;  // [dim] device memory
  float* output;          // [rows, dim]; must not overlap input
  int64_t dim;
  int64_t input_stride, output_stride;  // elements between rows
  const int32_t* num_rows;              // [1]
  int32_t max_rows;                     // *num_rows never exceeds this; sizes launches (CUDA)
};

void GatherColumns(ExecutionContext& ctx, const GatherColumnsParams& params);
void GatherColumnsCpu(ExecutionContext& ctx, const GatherColumnsParams& params);
CudaError LaunchGatherColumns(CudaContext& ctx, const GatherColumnsParams& params);
void GatherColumnsRef(const GatherColumnsParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_GATHER_COLUMNS_H_
