// A norm in front of a product, a convolution behind it.
//
// With bfloat16 weights the norm is part of the product: a row's factor 1 / rms is applied to its
// sums, not to its inputs, so that the inputs can be rounded before the sum of their squares is
// known (linear_packed.cuh). bfloat16 has the range of float32; float16 does not, and there the
// norm runs first, as it does for float32, for norms over groups or of a sum, and with a late gate.
#include "kernels/common/launch.cuh"
#include "kernels/fused.h"
#include "kernels/linear_packed.h"

namespace sidewinder {
namespace {

bool IsFused(const RmsNormParams& norm, const LinearParams& linear) {
  return linear.weight_dtype == DType::kBFloat16 && norm.group_dim == norm.dim &&
         norm.addend == nullptr && (norm.gate == nullptr || !norm.gate_last);
}

}  // namespace

CudaError LaunchNormLinear(CudaContext& ctx, const RmsNormParams& norm,
                           const LinearParams& linear) {
  if (!IsFused(norm, linear)) {
    const CudaError error = LaunchRmsNorm(ctx, norm);
    return error != cudaSuccess ? error : LaunchLinear(ctx, linear);
  }
  if (linear.max_rows <= 0) return cudaSuccess;
  return LaunchPackedLinear(ctx, &norm, linear);
}

CudaError LaunchNormLinearConv(CudaContext& ctx, const RmsNormParams& norm,
                               const LinearParams& linear, const CausalConvParams& conv) {
  if (IsFused(norm, linear)) {
    const CudaError error = LaunchPackedLinearConv(ctx, norm, linear, conv);
    if (error != cudaErrorNotSupported) return error;
  }
  const CudaError error = LaunchNormLinear(ctx, norm, linear);
  return error != cudaSuccess ? error : LaunchCausalConv(ctx, conv);
}

CudaError LaunchNormLinearConvLinear(CudaContext& ctx, const RmsNormParams& norm,
                                     const LinearParams& in_proj, const CausalConvParams& conv,
                                     const LinearParams& linear) {
  if (IsFused(norm, in_proj)) {
    const CudaError error = LaunchPackedLinearConvLinear(ctx, norm, in_proj, conv, linear);
    if (error != cudaErrorNotSupported) return error;
  }
  const CudaError error = LaunchNormLinearConv(ctx, norm, in_proj, conv);
  return error != cudaSuccess ? error : LaunchLinear(ctx, linear);
}

}  // namespace sidewinder
