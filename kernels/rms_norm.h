// RMSNorm: out = weight * x / sqrt(mean(x^2) + eps), per row; and its gated form after a Mamba-2
// mixer, with a mean per group: gate first, then norm (r = y * silu(z), out = weight * r /
// sqrt(mean over group (r^2) + eps)), or the norm of y first, then times silu(z). The bits of a row
// depend on that row alone.
#ifndef SIDEWINDER_KERNELS_RMS_NORM_H_
#define SIDEWINDER_KERNELS_RMS_NORM_H_

#include <cstdint>

#include "kernels/common/execution.h"

namespace sidewinder {

struct RmsNormParams {
  const float* input;             // [rows, dim]
  const float* addend = nullptr;  // [rows, dim] the plain form norms input + addend
  const float* gate;              // [rows, dim] z of the gated form, null for the plain one
  bool gate_last = false;         // norm first, then gate
  const float* weight;            // [dim]; null: ones
  float* output;                  // [rows, dim]; may equal input
  int64_t dim;
  int64_t group_dim;     // divides dim; elements that share one mean. Plain form: dim
  int64_t input_stride;  // elements between rows, >= dim
  int64_t addend_stride = 0;
  int64_t gate_stride;
  int64_t output_stride;
  float eps;
  const int32_t* num_rows;  // [1]
  int32_t max_rows;         // *num_rows never exceeds this; sizes launches (CUDA)
};

void RmsNorm(ExecutionContext& ctx, const RmsNormParams& params);
void RmsNormCpu(ExecutionContext& ctx, const RmsNormParams& params);
CudaError LaunchRmsNorm(CudaContext& ctx, const RmsNormParams& params);
void RmsNormRef(const RmsNormParams& params);

// Three norms over parts of the same rows, in one launch on a GPU; none reads what another writes.
// num_rows and max_rows are those of the first; each has one group.
struct RmsNorm3Params {
  RmsNormParams norms[3];
};

void RmsNorm3(ExecutionContext& ctx, const RmsNorm3Params& params);
CudaError LaunchRmsNorm3(CudaContext& ctx, const RmsNorm3Params& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_RMS_NORM_H_
