// The non-linearity of a feed-forward layer: out = act(gate) * up, element by element; without `up`
// out = act(gate). The bits of an element depend on its inputs alone.
//   silu(a) = a / (1 + e^-a);  gelu(a) = a / 2 * (1 + erf(a / sqrt(2)));  relu2(a) = max(a, 0)^2
#ifndef SIDEWINDER_KERNELS_GATED_ACTIVATION_H_
#define SIDEWINDER_KERNELS_GATED_ACTIVATION_H_

#include <cstdint>

#include "kernels/common/execution.h"

namespace sidewinder {

enum class Activation : uint8_t { kSilu, kGelu, kRelu2, kSigmoid };

struct GatedActivationParams {
  const float* gate;  // [rows, dim]
  const float* up;    // [rows, dim], may be null
  float* output;      // [rows, dim]; may equal gate or up
  int64_t dim;
  int64_t gate_stride, up_stride, output_stride;  // elements between rows
  Activation activation;
  const int32_t* num_rows;  // [1]
  int32_t rows_factor = 1;  // rows of the buffers that a row of the plan has: chosen experts
  int32_t max_rows;         // *num_rows never exceeds this; sizes launches (CUDA)
};

void GatedActivation(ExecutionContext& ctx, const GatedActivationParams& params);
void GatedActivationCpu(ExecutionContext& ctx, const GatedActivationParams& params);
CudaError LaunchGatedActivation(CudaContext& ctx, const GatedActivationParams& params);
void GatedActivationRef(const GatedActivationParams& params);

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_GATED_ACTIVATION_H_
