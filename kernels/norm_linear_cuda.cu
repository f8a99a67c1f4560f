// A norm or a convolution in front of a product.
//
// With bfloat16 weights the norm is part of the product: a row's factor 1 / rms is applied to its
// sums, not to its inputs, so that the inputs can be rounded before the sum of their squares is
// known (linear_packed.cuh). bfloat16 has the range of float32; float16 does not, and there the
// norm runs first, as it does for norms over groups and for float32.
#include "kernels/common/launch.cuh"
#include "kernels/fused.h"
#include "kernels/linear_packed.h"

namespace sidewinder {

CudaError LaunchNormLinear(CudaContext& ctx, const RmsNormParams& norm,
                           const LinearParams& linear) {
  if (linear.weight_dtype != DType::kBFloat16 || norm.group_dim != norm.dim) {
    const CudaError error = LaunchRmsNorm(ctx, norm);
    return error != cudaSuccess ? error : LaunchLinear(ctx, linear);
  }
  if (linear.max_rows <= 0) return cudaSuccess;
  return LaunchPackedLinear(ctx, &norm, linear);
}

CudaError LaunchConvLinear(CudaContext& ctx, const CausalConvParams& conv,
                           const LinearParams& linear) {
  const CudaError error = LaunchCausalConv(ctx, conv);
  return error != cudaSuccess ? error : LaunchLinear(ctx, linear);
}

}  // namespace sidewinder
