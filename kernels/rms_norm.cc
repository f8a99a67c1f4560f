#include "kernels/rms_norm.h"

namespace sidewinder {

void RmsNorm(ExecutionContext& ctx, const RmsNormParams& params) {
  Dispatch(
      ctx, "RmsNorm", [&] { RmsNormCpu(ctx, params); },
      [&](auto& cuda) { return LaunchRmsNorm(cuda, params); });
}

}  // namespace sidewinder
