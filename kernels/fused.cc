#include "kernels/fused.h"

namespace sidewinder {

void NormLinear(ExecutionContext& ctx, const RmsNormParams& norm, const LinearParams& linear) {
  Dispatch(
      ctx, "NormLinear",
      [&] {
        RmsNormCpu(ctx, norm);
        LinearCpu(ctx, linear);
      },
      [&](auto& cuda) { return LaunchNormLinear(cuda, norm, linear); });
}

void NormLinearConv(ExecutionContext& ctx, const RmsNormParams& norm, const LinearParams& linear,
                    const CausalConvParams& conv) {
  Dispatch(
      ctx, "NormLinearConv",
      [&] {
        RmsNormCpu(ctx, norm);
        LinearCpu(ctx, linear);
        CausalConvCpu(ctx, conv);
      },
      [&](auto& cuda) { return LaunchNormLinearConv(cuda, norm, linear, conv); });
}

void NormLinearConvLinear(ExecutionContext& ctx, const RmsNormParams& norm,
                          const LinearParams& in_proj, const CausalConvParams& conv,
                          const LinearParams& x_proj) {
  Dispatch(
      ctx, "NormLinearConvLinear",
      [&] {
        RmsNormCpu(ctx, norm);
        LinearCpu(ctx, in_proj);
        CausalConvCpu(ctx, conv);
        LinearCpu(ctx, x_proj);
      },
      [&](auto& cuda) { return LaunchNormLinearConvLinear(cuda, norm, in_proj, conv, x_proj); });
}

void LinearMultiStepMamba1(ExecutionContext& ctx, const LinearParams& linear,
                           const MultiStepMamba1Params& multistep) {
  Dispatch(
      ctx, "LinearMultiStepMamba1",
      [&] {
        LinearCpu(ctx, linear);
        MultiStepMamba1Cpu(ctx, multistep);
      },
      [&](auto& cuda) { return LaunchLinearMultiStepMamba1(cuda, linear, multistep); });
}

void ConvMultiStepMamba2(ExecutionContext& ctx, const CausalConvParams& conv,
                         const MultiStepMamba2Params& multistep) {
  Dispatch(
      ctx, "ConvMultiStepMamba2", [&] { ConvMultiStepMamba2Cpu(ctx, conv, multistep); },
      [&](auto& cuda) { return LaunchConvMultiStepMamba2(cuda, conv, multistep); });
}

}  // namespace sidewinder
