#include "kernels/rms_norm.h"

namespace sidewinder {

void RmsNorm(ExecutionContext& ctx, const RmsNormParams& params) {
  Dispatch(
      ctx, "RmsNorm", [&] { RmsNormCpu(ctx, params); },
      [&](auto& cuda) { return LaunchRmsNorm(cuda, params); });
}

void RmsNorm3(ExecutionContext& ctx, const RmsNorm3Params& params) {
  Dispatch(
      ctx, "RmsNorm3",
      [&] {
        for (const RmsNormParams& norm : params.norms) RmsNormCpu(ctx, norm);
      },
      [&](auto& cuda) { return LaunchRmsNorm3(cuda, params); });
}

}  // namespace sidewinder
